//! Stored rows for tasks, in memory: a table has every record of its topic below the cut, whatever has been committed of it, as a query over files and
//! tail sees it.

use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use async_trait::async_trait;
use highwater_pipeline::data::{Decoded, Decoder, RowKind};
use highwater_pipeline::log::{EmbeddedLog, Log, StoredRecord};
use highwater_pipeline::runtime::{History, HistoryError, Slice, SliceRequest};
use parking_lot::Mutex;

use crate::bugs::Bug;
use crate::coverage::Coverage;
use crate::random::Random;
use crate::time::Time;

/// Slices are no wider than this, so that filling takes several.
const MAX_WIDTH_US: i64 = 7_000_000;

/// The rows that a request must be given, out of all records of its partition.
///
/// # Errors
/// Where there are not all the records that it asks for, or no such table.
pub fn slice(records: &[StoredRecord], request: &SliceRequest) -> Result<Slice, String> {
    let kind = match request.table.as_str() {
        "logs" => RowKind::Logs,
        "metrics" => RowKind::Metrics,
        "spans" => RowKind::Spans,
        other => return Err(format!("there is no table {other}")),
    };
    if request.topic.is_some() {
        // What rules recorded is asked for by time. How much of that is durable when the request is read no request says, so nothing is checked of it.
        return Ok(Slice { batches: Vec::new(), from_us: None, until_us: 0, next_us: None });
    }
    let below = usize::try_from(request.below_offset).map_err(|_| format!("{request:?} begins nowhere"))?;
    let records =
        records.get(..below).ok_or_else(|| format!("{request:?}, and there are {} records", records.len()))?;
    let decoder = Decoder::new(kind);
    let decoded = records.iter().filter_map(|record| match decoder.decode(request.partition, record) {
        Decoded::Rows { batch, .. } => Some(batch),
        _ => None,
    });
    let batches: Vec<RecordBatch> = decoded.collect();
    let all = || batches.iter().flat_map(|batch| times(batch).iter().copied());
    let Some(from_us) = request.from_us.or_else(|| all().min()) else {
        return Ok(Slice { batches: Vec::new(), from_us: None, until_us: 0, next_us: None });
    };
    let until_us = from_us.saturating_add(request.width_us.min(MAX_WIDTH_US));
    let mut within = Vec::new();
    for batch in &batches {
        let mask: BooleanArray = times(batch).iter().map(|us| Some((from_us..until_us).contains(us))).collect();
        let rows = filter_record_batch(batch, &mask).map_err(|error| error.to_string())?;
        if rows.num_rows() > 0 {
            within.push(rows);
        }
    }
    let next_us = all().filter(|us| *us >= until_us).min();
    Ok(Slice { batches: within, from_us: Some(from_us), until_us, next_us })
}

fn times(batch: &RecordBatch) -> &[i64] {
    let column = batch.column_by_name("timestamp").expect("rows have a time");
    column.as_primitive::<TimestampMicrosecondType>().values()
}

/// Where the tasks of a process read.
pub struct StoredRows {
    /// The log as it is.
    pub log: EmbeddedLog,
    /// The clock.
    pub time: Time,
    /// Chance.
    pub random: Mutex<Random>,
    /// A bug put in.
    pub bug: Option<Bug>,
    /// What is met.
    pub coverage: Coverage,
}

impl StoredRows {
    async fn read(&self, request: &SliceRequest) -> Result<Slice, String> {
        let (ms, fails) = {
            let mut random = self.random.lock();
            (random.between(0, 400), random.chance(100))
        };
        self.time.pause_ms(ms).await;
        if fails {
            self.coverage.met("stored rows that could not be read");
            return Err("injected".to_owned());
        }
        let mut records: Vec<StoredRecord> = Vec::new();
        loop {
            let offset = records.len() as i64;
            let fetched = self.log.read(&request.table, request.partition, offset, 1 << 20, Duration::ZERO).await;
            let fetched = fetched.map_err(|error| error.to_string())?;
            if fetched.next_offset == offset {
                break;
            }
            records.extend(fetched.records);
        }
        let mut request = request.clone();
        if self.bug == Some(Bug::ReadsPastTheCut) {
            request.below_offset = records.len() as i64;
        }
        let slice = slice(&records, &request)?;
        if !slice.batches.is_empty() {
            self.coverage.met("slices of stored rows");
        }
        Ok(slice)
    }
}

#[async_trait]
impl History for StoredRows {
    async fn slice(&self, request: &SliceRequest) -> Result<Slice, HistoryError> {
        let read = self.read(request).await;
        read.map_err(|error| HistoryError { table: request.table.clone(), source: error.into() })
    }
}
