//! What senders were told, against what is in the log.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use highwater_broker::IDEMPOTENCY_HORIZON_MS;
use highwater_pipeline::data::{Decoded, Decoder, RowKind};

use super::mirror::Mirror;
use crate::ledger::Ledger;

/// Where a row is: topic, partition, append time.
type Copies = Vec<(String, i32, i64)>;

/// Compares the ledger with the log. `latest_ms` is the furthest the wall clock ever was: keys are forgotten a day of it later.
///
/// # Errors
/// Where a sender was told what is not so.
pub fn check_rows(ledger: &Ledger, mirror: &Mirror, latest_ms: i64) -> Result<(), String> {
    if let Some(lie) = ledger.lies().first() {
        return Err(lie.clone());
    }
    let found = stored(mirror)?;
    let sent = ledger.rows();
    if let Some(stranger) = found.keys().find(|row| !sent.contains_key(*row)) {
        return Err(format!("row {stranger} is in the log and nobody sent it"));
    }
    for (row, sent) in &sent {
        let copies = found.get(row).map_or(&[][..], Vec::as_slice);
        if sent.acknowledged && copies.is_empty() {
            return Err(format!("row {row} was acknowledged and is not in the log"));
        }
        if copies.len() > sent.tries as usize {
            return Err(format!("row {row} was sent {} times and is in the log {} times", sent.tries, copies.len()));
        }
        let remembered = |at_ms: i64| latest_ms - at_ms < IDEMPOTENCY_HORIZON_MS;
        if sent.keyed && copies.len() > 1 && copies.iter().all(|&(.., at_ms)| remembered(at_ms)) {
            return Err(format!(
                "row {row} was sent under one key and is in the log {} times: {copies:?}",
                copies.len()
            ));
        }
    }
    Ok(())
}

fn stored(mirror: &Mirror) -> Result<BTreeMap<String, Copies>, String> {
    let mut found: BTreeMap<String, Copies> = BTreeMap::new();
    for (kind, topic) in [(RowKind::Logs, "logs"), (RowKind::Metrics, "metrics"), (RowKind::Spans, "spans")] {
        let decoder = Decoder::new(kind.clone());
        for ((_, partition), records) in mirror.partitions().filter(|((t, _), _)| &**t == topic) {
            for record in records {
                let Decoded::Rows { batch, .. } = decoder.decode(*partition, record) else { continue };
                for name in names(&kind, &batch)? {
                    found.entry(name).or_default().push((topic.to_owned(), *partition, record.timestamp_ms));
                }
            }
        }
    }
    Ok(found)
}

fn names(kind: &RowKind, batch: &RecordBatch) -> Result<Vec<String>, String> {
    let column = match kind {
        RowKind::Logs => "message",
        RowKind::Spans => "name",
        _ => "labels",
    };
    let texts = batch.column_by_name(column).and_then(|c| c.as_string_opt::<i32>());
    let texts = texts.ok_or_else(|| format!("rows without a text column {column}"))?;
    texts
        .iter()
        .map(|text| {
            let text = text.unwrap_or_default();
            if column != "labels" {
                return Ok(text.to_owned());
            }
            let labels: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("labels {text}: {e}"))?;
            Ok(labels["row"].as_str().unwrap_or_default().to_owned())
        })
        .collect()
}
