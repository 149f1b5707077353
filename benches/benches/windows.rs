//! Windows: rows of one partition through the first stage of a rollup. Once the operator alone, as keys grow and slides shrink, and for the built-in
//! downsampling; and once the whole pure part of a task (decode, watermark, operator, partials of closed windows).
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
use highwater_processors::rollups::{PartialsProcessor, RollupConfig, RollupPlan, built_in};

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
    record_of(index, SERVICES)
}

/// The same with so many services, which are spread over all records.
fn record_of(index: usize, services: usize) -> StoredRecord {
    let mut body = String::new();
    for row in 0..ROWS {
        let at = START_MS + index as i64 * RECORD_MS + (row as i64 * RECORD_MS) / ROWS as i64;
        let (service, value) = ((index * ROWS + row) * 31 % services, (row * 7919 + index) % 1000);
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
    let plan = RollupPlan::new(&RollupConfig { lateness_ms: 0, ..RollupConfig::new("bench", sql) }).unwrap();
    PartialsProcessor::new("metrics/0", "__highwater.partials", "__highwater.backfill", 4, [Arc::new(plan)])
}

/// Passes batches through stage 1.
fn pass(mut processor: PartialsProcessor, batches: &[RecordBatch]) -> (PartialsProcessor, Effects) {
    let mut effects = Effects::new();
    for (position, batch) in (0..).zip(batches) {
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
}

fn operator(criterion: &mut Criterion) {
    let decoder = Decoder::new(RowKind::Metrics);
    let batches: Vec<_> = (0..RECORDS).map(|index| rows(&decoder, &record(index))).collect();
    let mut group = criterion.benchmark_group("tumble 10 s by 100 services, operator");
    group.throughput(Throughput::Elements((ROWS * RECORDS) as u64)).sample_size(20);
    for (name, sql) in QUERIES {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| processor(sql), |one| pass(one, &batches), BatchSize::PerIteration);
        });
    }
    for slide in ["10 seconds", "1 second", "100 milliseconds"] {
        let window = format!("hop(timestamp, INTERVAL '{slide}', INTERVAL '30 seconds')");
        let sql = format!("SELECT {window} AS window_start, service, count(*) AS n FROM metrics GROUP BY 1, 2");
        group.bench_function(format!("count, hop 30 s every {slide}"), |bencher| {
            bencher.iter_batched(|| processor(&sql), |one| pass(one, &batches), BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// Row 4 of the aims as keys grow, and what the built-in downsampling costs a sample.
fn keys(criterion: &mut Criterion) {
    let decoder = Decoder::new(RowKind::Metrics);
    let mut group = criterion.benchmark_group("tumble 10 s, operator");
    group.throughput(Throughput::Elements((ROWS * RECORDS) as u64)).sample_size(10);
    for services in [100, 10_000, 1_000_000] {
        let batches: Vec<_> = (0..RECORDS).map(|index| rows(&decoder, &record_of(index, services))).collect();
        for (name, aggregates) in [
            ("count, sum", "count(*) AS n, sum(value) AS s"),
            ("count, sum, p95", "count(*) AS n, sum(value) AS s, quantile(value, 0.95) AS p"),
        ] {
            let window = "tumble(timestamp, INTERVAL '10 seconds')";
            let sql = format!("SELECT {window} AS window_start, service, {aggregates} FROM metrics GROUP BY 1, 2");
            group.bench_function(format!("{name} by {services}"), |bencher| {
                bencher.iter_batched(|| processor(&sql), |one| pass(one, &batches), BatchSize::PerIteration);
            });
        }
        let built_in = built_in(|name| name == "metrics_1m", |_| false).remove(0);
        group.bench_function(format!("metrics_1m by {services} series"), |bencher| {
            bencher.iter_batched(|| processor(&built_in.sql), |one| pass(one, &batches), BatchSize::PerIteration);
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

criterion_group!(benches, operator, keys, task);
criterion_main!(benches);
