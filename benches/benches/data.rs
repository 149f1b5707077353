//! The data model: JSON into Arrow rows, Arrow rows into a record's value, and a record's value back into rows.
//!
//! `cargo bench -p highwater-benches --bench data`. Throughput is in bytes of NDJSON for all of them, so that they compare.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use highwater_benches::logs::LogGenerator;
use highwater_broker::{Header, StoredRecord};
use highwater_pipeline::data::{Decoded, Decoder, RowKind, content_type, identity, ipc};

/// One HTTP request's worth.
const ROWS: usize = 2_000;

fn ndjson() -> Bytes {
    let mut body = Vec::new();
    LogGenerator::new(1, 50, 10, 1_772_323_200_000, 100).ndjson(ROWS, &mut body).unwrap();
    Bytes::from(body)
}

fn record(value: Bytes, headers: Vec<Header>) -> StoredRecord {
    StoredRecord { offset: 17, timestamp_ms: 1_772_323_260_000, key: None, value: Some(value), headers }
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

fn data(criterion: &mut Criterion) {
    let decoder = Decoder::new(RowKind::Logs);
    let body = ndjson();
    let json = record(body.clone(), vec![content_type::header(content_type::NDJSON)]);
    let wire = identity::strip(&rows(&decoder, &json));
    let arrow = record(ipc::encode(&wire).unwrap(), vec![content_type::header(content_type::ARROW)]);

    let mut group = criterion.benchmark_group("logs");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("JSON to Arrow rows", |bencher| bencher.iter(|| rows(&decoder, &json)));
    group.bench_function("Arrow rows to IPC with LZ4", |bencher| bencher.iter(|| ipc::encode(&wire).unwrap()));
    group.bench_function("IPC with LZ4 to rows with identity", |bencher| {
        bencher.iter_batched(|| arrow.clone(), |record| rows(&decoder, &record), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, data);
criterion_main!(benches);
