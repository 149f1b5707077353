//! Windows: rows of one partition through the first stage of a rollup. Once the operator alone, and once the whole pure part of a
//! task (decode, watermark, operator, partials of closed windows).
//!
//! `cargo bench -p highwater-benches --bench windows`. Throughput is in rows.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use highwater_broker::StoredRecord;
use highwater_pipeline::data::{Decoded, Decoder, RowKind, content_type, identity, ipc};
use highwater_pipeline::log::TopicPartition;
use highwater_pipeline::runtime::{
    At, Effects, Input, InputKind, Processor, ProcessorFactory, Rows, TaskCore, TaskSpec,
};
use highwater_processors::rollups::{PartialsProcessor, RollupConfig, RollupPlan};

const ROWS: usize = 8_192;
const RECORDS: usize = 64;
const SERVICES: usize = 100;
/// 2026-03-01T00:00:00Z.
const START_MS: i64 = 1_772_323_200_000;
/// Event time that one record spans: 64 of them cross six windows.
const RECORD_MS: i64 = 1_000;

const QUERIES: [(&str, &str); 2] = [
    (
        "count, sum, max",
        "SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, service, count(*) AS samples, \
           sum(value) AS total, max(value) AS highest FROM metrics GROUP BY 1, 2",
    ),
    (
        "count where, avg",
        "SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, service, \
           count(*) FILTER (WHERE value > 500) AS high, avg(value) AS mean FROM metrics GROUP BY 1, 2",
    ),
];

/// One record of samples, as the log gives it back.
fn record(index: usize) -> StoredRecord {
    let mut body = String::new();
    for row in 0..ROWS {
        let at = START_MS + index as i64 * RECORD_MS + (row as i64 * RECORD_MS) / ROWS as i64;
        let (service, value) = (row * 31 % SERVICES, (row * 7919 + index) % 1000);
        writeln!(body, r#"{{"name":"latency","value":{value},"service":"service-{service}","timestamp":{at}}}"#)
            .unwrap();
    }
    let offset = index as i64;
    let timestamp_ms = START_MS + 60_000;
    let json = StoredRecord {
        offset,
        timestamp_ms,
        key: None,
        value: Some(Bytes::from(body)),
        headers: vec![content_type::header(content_type::NDJSON)],
    };
    let wire = identity::strip(&rows(&Decoder::new(RowKind::Metrics), &json));
    let headers = vec![content_type::header(content_type::ARROW)];
    StoredRecord { offset, timestamp_ms, key: None, value: Some(ipc::encode(&wire).unwrap()), headers }
}

fn rows(decoder: &Decoder, record: &StoredRecord) -> RecordBatch {
    match decoder.decode(0, record) {
        Decoded::Rows { batch, refused } => {
            assert_eq!((batch.num_rows(), refused.len()), (ROWS, 0));
            batch
        }
        _ => panic!("rows, not control and not undecodable"),
    }
}

fn processor(sql: &str) -> PartialsProcessor {
    let plan = RollupPlan::new(&RollupConfig::new("bench", sql)).unwrap();
    PartialsProcessor::new("metrics/0", "__highwater.partials", "__highwater.backfill", 4, [Arc::new(plan)])
}

fn operator(criterion: &mut Criterion) {
    let decoder = Decoder::new(RowKind::Metrics);
    let batches: Vec<_> = (0..RECORDS).map(|index| rows(&decoder, &record(index))).collect();
    let mut group = criterion.benchmark_group("tumble 10 s by 100 services, operator");
    group.throughput(Throughput::Elements((ROWS * RECORDS) as u64)).sample_size(20);
    for (name, sql) in QUERIES {
        group.bench_function(name, |bencher| {
            let run = |mut processor: PartialsProcessor| {
                let mut effects = Effects::new();
                for (position, batch) in (0..).zip(&batches) {
                    // In order, so the watermark after a row is its own time.
                    let times = batch.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>();
                    let watermarks_us = times.values();
                    let at = At {
                        position,
                        append_time_us: (START_MS + 60_000) * 1000,
                        watermark_us: watermarks_us.last().copied(),
                        idle: false,
                    };
                    let rows = Rows { batch, watermarks_us };
                    processor.process(at, Input::Rows(rows), &mut effects).unwrap();
                }
                assert!(!effects.as_slice().is_empty(), "windows close");
                (processor, effects)
            };
            bencher.iter_batched(|| processor(sql), run, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn task(criterion: &mut Criterion) {
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    let mut group = criterion.benchmark_group("tumble 10 s by 100 services, decode and operator");
    group.throughput(Throughput::Elements((ROWS * RECORDS) as u64)).sample_size(20);
    for (name, sql) in QUERIES {
        group.bench_function(name, |bencher| {
            let start = || {
                let input = TopicPartition { topic: "metrics".into(), partition: 0 };
                let factory: ProcessorFactory = Arc::new(move || Ok(Box::new(processor(sql))));
                TaskCore::new(&TaskSpec::new(input, InputKind::Table(RowKind::Metrics), factory), 0).unwrap()
            };
            let run = |mut core: TaskCore| {
                let mut effects = Effects::new();
                for record in &records {
                    core.step(record, &mut effects).unwrap();
                }
                assert!(!effects.as_slice().is_empty(), "windows close");
                (core, effects)
            };
            bencher.iter_batched(start, run, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, operator, task);
criterion_main!(benches);
