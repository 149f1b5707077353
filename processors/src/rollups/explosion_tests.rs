//! More groups in one window than anybody meant: what the two stages keep stays within its limits, and the answer is the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use highwater_pipeline::data::{Control, Decoded, Decoder, RowKind, content_type, ipc, time};
use highwater_pipeline::log::{Record, StoredRecord};
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::{At, Effect, Effects, Input, Processor, Rows, Scratch, ScratchDirectory, StageRows};

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
    let batch = decoded(index as i64, body);
    assert_eq!(batch.num_rows(), ROWS);
    batch
}

fn decoded(offset: i64, ndjson: String) -> RecordBatch {
    let headers = vec![content_type::header(content_type::NDJSON)];
    let value = Some(Bytes::from(ndjson));
    let record = StoredRecord { offset, timestamp_ms: START_US / 1_000, key: None, value, headers };
    match Decoder::new(RowKind::Logs).decode(0, &record) {
        Decoded::Rows { batch, refused } => {
            assert_eq!(refused.len(), 0);
            batch
        }
        other => panic!("{other:?}"),
    }
}

fn at(position: i64) -> At {
    At { position, append_time_us: START_US, watermark_us: Some(START_US), idle: false }
}

/// Everything that stage 1 sends: the partials in many records, then how far it is once the window is over.
fn partials(plan: &Arc<RollupPlan>, records: usize) -> Vec<Record> {
    let mut stage = PartialsProcessor::new("logs/0", "partials", "requests", 1, [Arc::clone(plan)]);
    let mut effects = Effects::new();
    for index in 0..records {
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
        .process(At { watermark_us: over_us, idle: true, ..at(records as i64) }, Input::Control(&clock), &mut effects)
        .unwrap();
    effects.take().into_iter().map(|effect| effect.record).collect()
}

fn fold(plan: &Arc<RollupPlan>, limits: FoldLimits) -> FoldProcessor {
    let topics = FoldTopics { rules: "rules", partials: "partials" };
    FoldProcessor::new("partials/0", 0, 1, topics, &[Arc::clone(plan)], |_| false).within(limits)
}

/// A place to put state aside, with so much room in memory.
fn scratch(memory_bytes: usize) -> (tempfile::TempDir, Arc<ScratchDirectory>) {
    let place = tempfile::tempdir().unwrap();
    let scratch = ScratchDirectory::open(place.path(), memory_bytes, 1 << 30).unwrap();
    (place, Arc::new(scratch))
}

/// How one run of stage 2 differs from another; what it closes is the same.
#[derive(Clone, Copy, Default)]
struct Run<'a> {
    limits: FoldLimits,
    scratch: Option<&'a Arc<ScratchDirectory>>,
    /// It is restored from a snapshot, now and then.
    moved: bool,
}

impl Run<'_> {
    fn stage(&self, plan: &Arc<RollupPlan>) -> FoldProcessor {
        let mut stage = fold(plan, self.limits);
        if let Some(scratch) = self.scratch {
            stage.use_scratch(&(Arc::clone(scratch) as Arc<dyn Scratch>));
        }
        stage
    }
}

/// What stage 2 closes: its records, and how much was put aside at most.
fn closed(plan: &Arc<RollupPlan>, records: &[Record], run: Run<'_>) -> (Vec<Bytes>, u64) {
    let limits = run.limits;
    let mut stage = run.stage(plan);
    let mut effects = Effects::new();
    let mut aside = 0;
    for (position, record) in (0..).zip(records) {
        let append_time_us = record.timestamp_ms.map_or(START_US, |ms| ms * 1_000);
        let at = |position| At { append_time_us, ..at(position) };
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
        assert!(open_bytes <= limits.open_bytes + (2 << 20), "{open_bytes} bytes are open");
        aside = aside.max(run.scratch.map_or(0, |scratch| scratch.size_bytes()));
        if run.moved && position % 17 == 11 {
            let mut writer = StateWriter::new();
            stage.process(at(position), Input::Barrier(&mut writer), &mut Effects::new()).unwrap();
            let state = StateReader::parse(&writer.finish(position, 1).unwrap()).unwrap();
            stage = run.stage(plan);
            stage.restore(&state).unwrap();
        }
    }
    (effects.take().into_iter().map(|effect| effect.record.value.unwrap()).collect(), aside)
}

/// Groups, rows and sum of what was closed.
fn answer(values: &[Bytes]) -> (usize, i64, f64) {
    let (mut groups, mut count, mut sum) = (0, 0, 0.0);
    for batch in values.iter().flat_map(|value| ipc::decode(value).unwrap()) {
        groups += batch.num_rows();
        count += batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().iter().sum::<i64>();
        sum += batch.column_by_name("s").unwrap().as_primitive::<Float64Type>().values().iter().sum::<f64>();
    }
    (groups, count, sum)
}

#[test]
fn a_window_of_more_groups_than_fit_is_packed_and_closed_part_by_part() {
    let sql = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, request_id, count(*) AS n, sum(0.5) AS s FROM logs GROUP BY 1, 2";
    let plan = Arc::new(RollupPlan::new(&RollupConfig::new("r", sql)).unwrap());
    let records = partials(&plan, RECORDS);
    assert!(records.len() > RECORDS, "stage 1 has sent its partials in parts");
    let wanted = (RECORDS * ROWS - TWICE, (RECORDS * ROWS) as i64, 0.5 * (RECORDS * ROWS) as f64);
    assert!(wanted.0 > FoldLimits::default().bucket_rows, "more than one part");
    let limits = FoldLimits { loose_bytes: 2 << 20, open_bytes: 32 << 20, ..FoldLimits::default() };
    let (packed, _) = closed(&plan, &records, Run { limits, ..Run::default() });
    assert_eq!(answer(&packed), wanted);
    // With next to no memory: nearly all of it is on disk, and read back bucket by bucket.
    let (_place, scratch) = scratch(256 << 10);
    let (moved, aside) = closed(&plan, &records, Run { limits, scratch: Some(&scratch), moved: true });
    assert!(moved == packed, "to the byte, whatever was put aside and restored");
    assert!(aside > 1 << 20, "{aside} bytes were put aside");
}

#[test]
fn where_the_disk_is_full_as_well_rows_stay_in_memory_or_are_counted_as_missing() {
    let sql = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, request_id, count(*) AS n, sum(0.5) AS s FROM logs GROUP BY 1, 2";
    let plan = Arc::new(RollupPlan::new(&RollupConfig::new("r", sql)).unwrap());
    let some = RECORDS / 5;
    let records = partials(&plan, some);
    let place = tempfile::tempdir().unwrap();
    let full = Arc::new(ScratchDirectory::open(place.path(), 128 << 10, 200_000).unwrap());
    let limits = FoldLimits { loose_bytes: 256 << 10, bucket_rows: 10_000, ..FoldLimits::default() };
    let (values, aside) = closed(&plan, &records, Run { limits, scratch: Some(&full), moved: false });
    assert_eq!(answer(&values).1, (some * ROWS) as i64, "nothing is missing");
    assert!((1..=200_000).contains(&aside));
    // What the log's content alone decides: more than windows may take in all. No row is there in part.
    let limits = FoldLimits { open_bytes: 400 << 10, ..limits };
    let (_place, scratch) = scratch(16 << 10);
    let (values, _) = closed(&plan, &records, Run { limits, scratch: Some(&scratch), moved: false });
    let (groups, count, sum) = answer(&values);
    assert!((1_000..(some * ROWS) as i64).contains(&count), "{count} of {}", some * ROWS);
    assert!(groups as i64 <= count && sum == 0.5 * count as f64);
    let (again, _) = closed(&plan, &records, Run { limits, scratch: Some(&scratch), moved: true });
    assert!(again == values, "what is missing is a function of the log");
}

/// Every aggregate there is, over windows of each kind that can be put aside.
#[test]
fn every_aggregate_is_put_aside_and_comes_back_the_same() {
    let aggregates = "count(*) AS n, sum(severity_number) AS s, min(message) AS lo, max(CAST(request_id AS DOUBLE)) AS hi, avg(CAST(request_id AS DOUBLE)) AS mean,
        stddev(CAST(request_id AS DOUBLE)) AS sd, stddev_pop(CAST(request_id AS DOUBLE)) AS sp, var(CAST(request_id AS DOUBLE)) AS va, var_pop(CAST(request_id AS DOUBLE)) AS vp,
        bool_and(level = 'ERROR') AS ba, bool_or(level = 'ERROR') AS bo, bit_and(CAST(request_id AS BIGINT)) AS bia, bit_or(CAST(request_id AS BIGINT)) AS bio, bit_xor(CAST(request_id AS BIGINT)) AS bix,
        first(message) AS f, last(message) AS l, quantile(CAST(request_id AS DOUBLE), 0.9) AS q, approx_distinct(message) AS ad, count(DISTINCT message) AS cd,
        top_k(CAST(request_id AS BIGINT), 3) AS tk, bottom_k(message, 2) AS bk,
        increase(CAST(request_id AS DOUBLE), timestamp, 1) AS inc, rate(CAST(request_id AS DOUBLE), timestamp, 1) AS ra,
        histogram_quantile(0.5, CASE severity_number WHEN 9 THEN '1' ELSE '+Inf' END, CAST(request_id AS DOUBLE), timestamp, 1) AS hq,
        count(*) FILTER (WHERE level = 'ERROR') AS e";
    for window in [
        "tumble(timestamp, INTERVAL '10 seconds')",
        "hop(timestamp, INTERVAL '5 seconds', INTERVAL '20 seconds')",
        "hop(timestamp, INTERVAL '4 seconds', INTERVAL '10 seconds')",
        "session(timestamp, INTERVAL '5 seconds')",
    ] {
        let sql = format!("SELECT {window} AS window_start, service, {aggregates} FROM logs GROUP BY 1, 2");
        let plan = Arc::new(RollupPlan::new(&RollupConfig::new("r", sql)).unwrap_or_else(|e| panic!("{window}: {e}")));
        let records = many_windows(&plan);
        let (plain, _) = closed(&plan, &records, Run::default());
        assert!(plain.len() > 5, "{window}: {} records", plain.len());
        let rows: i64 = plain
            .iter()
            .filter_map(|value| ipc::decode(value).ok())
            .flatten()
            .map(|batch| batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().iter().sum::<i64>())
            .sum();
        assert!(rows >= 16 * 24, "{window}: {rows} rows");
        let (_place, scratch) = scratch(0);
        // Nothing that can be put aside is in memory, of open windows and of closed ones.
        let limits = FoldLimits { loose_bytes: 0, ..FoldLimits::default() };
        let (spilled, aside) = closed(&plan, &records, Run { limits, scratch: Some(&scratch), moved: true });
        assert!(spilled == plain, "{window}");
        // In buckets of a few groups it is the same answer, in other records.
        let limits = FoldLimits { bucket_rows: 2, ..limits };
        let (bucketed, _) = closed(&plan, &records, Run { limits, scratch: Some(&scratch), moved: true });
        let (ours, whole) = (lines(&bucketed), lines(&plain));
        assert_eq!(ours, whole, "{window}");
        assert_eq!(
            bucketed.len() > plain.len(),
            !window.starts_with("session"),
            "{window}: {} records",
            bucketed.len()
        );
        assert_eq!(aside > 0, !window.starts_with("session"), "{window}: {aside} bytes aside");
        assert_eq!(scratch.size_bytes() > 0, aside > 0, "closed windows stay, for late rows");
    }
}

/// All rows that were closed, as lines in order; sums of floats to nine digits, as their order in the last bits is that of the fold.
fn lines(values: &[Bytes]) -> Vec<String> {
    let batches: Vec<RecordBatch> = values.iter().filter_map(|value| ipc::decode(value).ok()).flatten().collect();
    let mut lines = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let text = batch.columns().iter().map(|column| {
                let value = array_value_to_string(column, row).unwrap();
                value.parse::<f64>().ok().filter(|_| value.contains('.')).map_or(value, |f| format!("{f:.6e}"))
            });
            lines.push(text.collect::<Vec<_>>().join(" "));
        }
    }
    lines.sort();
    lines
}

/// What stage 1 sends of a minute and a half of rows, every fifth a quarter of a minute late.
fn many_windows(plan: &Arc<RollupPlan>) -> Vec<Record> {
    let mut stage = PartialsProcessor::new("logs/0", "partials", "requests", 1, [Arc::clone(plan)]);
    let mut sent = Vec::new();
    // Stage 2 goes by the time of what it reads.
    let mut send = |mut effects: Effects, now_us: i64| {
        let timed = |effect: Effect| Record { timestamp_ms: Some(now_us / 1_000), ..effect.record };
        sent.extend(effects.take().into_iter().map(timed));
    };
    for second in 0..16_i64 {
        let mut body = String::new();
        for row in 0..24_i64 {
            let behind = if row % 5 == 0 { 15 } else { 0 };
            let at = time::format(START_US + (second - behind) * 1_500_000 + row);
            let level = if row % 3 == 0 { "ERROR" } else { "INFO" };
            let (service, number) = (row % 6, (row * 7_919 + second * 104_729) % 1_000);
            body.push_str(&format!(
                r#"{{"timestamp":"{at}","message":"m{}","service":"s{service}","level":"{level}","request_id":"{number}"}}"#,
                number % 50
            ));
            body.push('\n');
        }
        let batch = decoded(second, body);
        let now_us = START_US + second * 1_500_000 + 23;
        let running = vec![now_us; batch.num_rows()];
        let at = At { position: second, append_time_us: now_us, watermark_us: Some(now_us), idle: false };
        let rows = Rows { batch: &batch, watermarks_us: &running };
        let mut effects = Effects::new();
        stage.process(at, Input::Rows(rows), &mut effects).unwrap();
        send(effects, now_us);
    }
    for after in [40, 70, 100] {
        let now_us = START_US + after * 1_000_000;
        let clock = Control::Clock { base_offset: 15, event_time_us: Some(now_us), idle: true };
        let at = At { position: after, append_time_us: now_us, watermark_us: Some(now_us), idle: true };
        let mut effects = Effects::new();
        stage.process(at, Input::Control(&clock), &mut effects).unwrap();
        send(effects, now_us);
    }
    sent
}
