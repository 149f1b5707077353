//! NDJSON logs into Arrow: our reader and builders, beside what other JSON libraries cost for less than the whole work.
//!
//! `cargo bench -p highwater-benches --bench json_to_arrow`. Throughput is in bytes of NDJSON, on one core. The rivals only parse
//! (or, arrow-json, fill a fixed schema: no aliases, no attributes, no refusals); ours ends with rows of the logs table.
//! `docs/decisions/0003-json-reader.md` draws the conclusion.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::json::ReaderBuilder;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use highwater_benches::logs::LogGenerator;
use highwater_broker::StoredRecord;
use highwater_pipeline::data::{Decoded, Decoder, RowKind, content_type};

/// About 1 MiB: larger than the caches near the core.
const ROWS: usize = 3_500;

fn ndjson() -> Bytes {
    let mut body = Vec::new();
    LogGenerator::new(1, 50, 10, 1_772_323_200_000, 100).ndjson(ROWS, &mut body).unwrap();
    Bytes::from(body)
}

fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

fn fixed_schema() -> Arc<Schema> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let labels: Fields = ["region", "version", "request_id"].iter().map(|name| text(name)).collect();
    let columns = ["timestamp", "level", "service", "host", "message"].iter().map(|name| text(name));
    Arc::new(Schema::new(columns.chain([Field::new("labels", DataType::Struct(labels), true)]).collect::<Fields>()))
}

fn json_to_arrow(criterion: &mut Criterion) {
    let body = ndjson();
    let mut group = criterion.benchmark_group("json_to_arrow");
    group.throughput(Throughput::Bytes(body.len() as u64));

    let decoder = Decoder::new(RowKind::Logs);
    let headers = vec![content_type::header(content_type::NDJSON)];
    let record = StoredRecord { offset: 0, timestamp_ms: 0, key: None, value: Some(body.clone()), headers };
    group.bench_function("highwater: rows of the logs table", |bencher| {
        bencher.iter(|| match decoder.decode(0, &record) {
            Decoded::Rows { batch, .. } => assert_eq!(batch.num_rows(), ROWS),
            other => panic!("{other:?}"),
        });
    });

    let schema = fixed_schema();
    group.bench_function("arrow-json: a fixed schema", |bencher| {
        bencher.iter(|| {
            let reader =
                ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(ROWS).build(Cursor::new(&body)).unwrap();
            assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), ROWS);
        });
    });
    group.bench_function("serde_json: validate only", |bencher| {
        bencher.iter(|| {
            for line in lines(&body) {
                black_box(serde_json::from_slice::<&serde_json::value::RawValue>(line).unwrap());
            }
        });
    });
    group.bench_function("serde_json: a tree", |bencher| {
        bencher.iter(|| {
            for line in lines(&body) {
                black_box(serde_json::from_slice::<serde_json::Value>(line).unwrap());
            }
        });
    });
    group.bench_function("sonic-rs: a tree", |bencher| {
        bencher.iter(|| {
            for line in lines(&body) {
                black_box(sonic_rs::from_slice::<sonic_rs::Value>(line).unwrap());
            }
        });
    });
    group.bench_function("sonic-rs: members of the outer object", |bencher| {
        bencher.iter(|| {
            for member in lines(&body).flat_map(sonic_rs::to_object_iter) {
                black_box(member.unwrap());
            }
        });
    });
    group.finish();
}

criterion_group!(benches, json_to_arrow);
criterion_main!(benches);
