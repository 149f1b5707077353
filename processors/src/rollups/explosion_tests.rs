//! More groups in one window than anybody meant: what the two stages keep stays within its limits, and the answer is the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_pipeline::data::{Control, Decoded, Decoder, RowKind, content_type, ipc, time};
use highwater_pipeline::log::{Record, StoredRecord};
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::{At, Effects, Input, Processor, Rows, StageRows};

use super::panes::BUCKET_ROWS;
use super::{FoldLimits, FoldProcessor, FoldTopics, PartialsProcessor, RollupConfig, RollupPlan};

const START_US: i64 = 1_772_362_800_000_000;
const RECORDS: usize = 40;
/// Rows of a record, each of a group of its own.
const ROWS: usize = 8_000;
/// Groups that come twice, in the first record and in the last.
const TWICE: usize = 100;

fn stored(record: Record) -> StoredRecord {
    let Record { key, value, headers, .. } = record;
    StoredRecord { offset: 0, timestamp_ms: START_US / 1_000, key, value, headers }
}

fn rows(index: usize) -> RecordBatch {
    let at = time::format(START_US + index as i64);
    let mut body = String::new();
    for row in 0..ROWS {
        let again = index + 1 == RECORDS && row < TWICE;
        let key = if again { row } else { index * ROWS + row };
        body.push_str(&format!(r#"{{"timestamp":"{at}","message":"m","request_id":"request-{key}"}}"#));
        body.push('\n');
    }
    let headers = vec![content_type::header(content_type::NDJSON)];
    let value = Some(Bytes::from(body));
    let record = StoredRecord { offset: index as i64, timestamp_ms: START_US / 1_000, key: None, value, headers };
    match Decoder::new(RowKind::Logs).decode(0, &record) {
        Decoded::Rows { batch, refused } => {
            assert_eq!((batch.num_rows(), refused.len()), (ROWS, 0));
            batch
        }
        other => panic!("{other:?}"),
    }
}

fn at(position: i64) -> At {
    At { position, append_time_us: START_US, watermark_us: Some(START_US), idle: false }
}

/// Everything that stage 1 sends: the partials in many records, then how far it is once the window is over.
fn partials(plan: &Arc<RollupPlan>) -> Vec<Record> {
    let mut stage = PartialsProcessor::new("logs/0", "partials", "requests", 1, [Arc::clone(plan)]);
    let mut effects = Effects::new();
    for index in 0..RECORDS {
        let batch = rows(index);
        let watermarks_us = vec![START_US; batch.num_rows()];
        let rows = Rows { batch: &batch, watermarks_us: &watermarks_us };
        stage.process(at(index as i64), Input::Rows(rows), &mut effects).unwrap();
        if index % 8 == 7 {
            // Silence: what is open is passed on, and more of it comes later.
            let clock = Control::Clock { base_offset: index as i64, event_time_us: Some(START_US), idle: true };
            stage.process(At { idle: true, ..at(index as i64) }, Input::Control(&clock), &mut effects).unwrap();
        }
    }
    let over_us = Some(START_US + 120_000_000);
    let clock = Control::Clock { base_offset: 0, event_time_us: over_us, idle: true };
    stage
        .process(At { watermark_us: over_us, idle: true, ..at(RECORDS as i64) }, Input::Control(&clock), &mut effects)
        .unwrap();
    effects.take().into_iter().map(|effect| effect.record).collect()
}

fn fold(plan: &Arc<RollupPlan>, limits: FoldLimits) -> FoldProcessor {
    let topics = FoldTopics { rules: "rules", partials: "partials" };
    FoldProcessor::new("partials/0", 0, 1, topics, &[Arc::clone(plan)], |_| false).within(limits)
}

/// What stage 2 closes, as (groups, rows, sum); `moved` restores it from a snapshot somewhere in the middle.
fn closed(
    plan: &Arc<RollupPlan>,
    records: &[Record],
    limits: FoldLimits,
    moved: bool,
) -> (Vec<Bytes>, (usize, i64, f64)) {
    let mut stage = fold(plan, limits);
    let mut effects = Effects::new();
    for (position, record) in (0..).zip(records) {
        let record = stored(record.clone());
        if content_type::of(&record) == Some(content_type::CONTROL) {
            let control = Control::parse(record.value.as_deref().unwrap()).unwrap();
            stage.process(at(position), Input::Control(&control), &mut effects).unwrap();
        } else {
            stage.process(at(position), Input::Stage(StageRows::parse(&record).unwrap()), &mut effects).unwrap();
        }
        let (open_bytes, loose_bytes) = stage.open_bytes();
        // One record more than the limit, before it is looked at.
        assert!(loose_bytes <= limits.loose_bytes + (2 << 20), "{loose_bytes} bytes are loose");
        assert!(open_bytes <= limits.open_bytes, "{open_bytes} bytes are open");
        if moved && position % 17 == 11 {
            let mut writer = StateWriter::new();
            stage.process(at(position), Input::Barrier(&mut writer), &mut Effects::new()).unwrap();
            let state = StateReader::parse(&writer.finish(position, 1).unwrap()).unwrap();
            stage = fold(plan, limits);
            stage.restore(&state).unwrap();
        }
    }
    let values: Vec<Bytes> = effects.take().into_iter().map(|effect| effect.record.value.unwrap()).collect();
    let (mut groups, mut count, mut sum) = (0, 0, 0.0);
    for batch in values.iter().flat_map(|value| ipc::decode(value).unwrap()) {
        groups += batch.num_rows();
        count += batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().iter().sum::<i64>();
        sum += batch.column_by_name("s").unwrap().as_primitive::<Float64Type>().values().iter().sum::<f64>();
    }
    (values, (groups, count, sum))
}

#[test]
fn a_window_of_more_groups_than_fit_is_packed_and_closed_part_by_part() {
    let sql = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, request_id, count(*) AS n, sum(0.5) AS s FROM logs GROUP BY 1, 2";
    let plan = Arc::new(RollupPlan::new(&RollupConfig::new("r", sql)).unwrap());
    let records = partials(&plan);
    assert!(records.len() > RECORDS, "stage 1 has sent its partials in parts");
    let wanted = (RECORDS * ROWS - TWICE, (RECORDS * ROWS) as i64, 0.5 * (RECORDS * ROWS) as f64);
    assert!(wanted.0 > BUCKET_ROWS, "more than one part");
    let small = FoldLimits { loose_bytes: 2 << 20, open_bytes: 32 << 20 };
    let (packed, answer) = closed(&plan, &records, small, false);
    assert_eq!(answer, wanted);
    let (moved, answer) = closed(&plan, &records, small, true);
    assert_eq!(answer, wanted);
    assert!(moved == packed, "to the byte, whatever was restored");
}
