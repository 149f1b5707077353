//! What a table commit costs before it touches storage: rows sorted, split by tenant and date, and encoded as Parquet.
//!
//! `cargo bench -p highwater-benches --bench parquet_encode`. Throughput of logs is in bytes of the NDJSON they came from, as in the other
//! benches of logs; of metrics in rows.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use highwater_benches::logs::LogGenerator;
use highwater_broker::{Header, StoredRecord};
use highwater_pipeline::data::{Decoded, Decoder, content_type};
use highwater_pipeline::tables::{TableSpec, built_in_tables, stored_batch};
use highwater_sinks::tables::TablesConfig;
use highwater_sinks::tables::encode::encode;
use serde_json::json;

/// Rows per record, as an ingest flush has them.
const RECORD_ROWS: usize = 2_000;
/// Records per commit: 200,000 rows.
const RECORDS: usize = 100;

fn spec(table: &str) -> TableSpec {
    built_in_tables().into_iter().find(|t| t.name == table).unwrap()
}

/// Rows of a built-in table as its writer buffers them: one batch per record.
fn stored(spec: &TableSpec, records: impl Iterator<Item = Bytes>) -> Vec<RecordBatch> {
    let decoder = Decoder::new(spec.kind.clone());
    let headers: Vec<Header> = vec![content_type::header(content_type::NDJSON)];
    records
        .zip(0..)
        .map(|(value, offset)| {
            let headers = headers.clone();
            let record =
                StoredRecord { offset, timestamp_ms: 1_772_323_260_000, key: None, value: Some(value), headers };
            let Decoded::Rows { batch, refused } = decoder.decode(0, &record) else { panic!("rows") };
            assert_eq!((batch.num_rows(), refused.len()), (RECORD_ROWS, 0));
            stored_batch(spec, &spec.topics[0], &batch).unwrap()
        })
        .collect()
}

fn samples(record: usize) -> Bytes {
    let mut body = Vec::new();
    for i in 0..RECORD_ROWS {
        let n = record * RECORD_ROWS + i;
        let sample = json!({
            "name": format!("metric_{}_total", n % 50), "type": "counter", "value": (n * 997 % 100_000) as f64 / 8.0,
            "timestamp": 1_772_323_200 + n / 5_000 * 10,
            "labels": {"job": "node", "instance": format!("host-{}:9100", n / 50 % 100), "mode": "idle"},
        });
        body.extend_from_slice(sample.to_string().as_bytes());
        body.push(b'\n');
    }
    Bytes::from(body)
}

fn parquet_encode(criterion: &mut Criterion) {
    let config = TablesConfig::default();
    let mut group = criterion.benchmark_group("parquet_encode");
    group.sample_size(10);

    let mut generator = LogGenerator::new(1, 50, 10, 1_772_323_200_000, 100);
    let mut ndjson_bytes = 0;
    let records = std::iter::repeat_with(|| {
        let mut body = Vec::new();
        generator.ndjson(RECORD_ROWS, &mut body).unwrap();
        ndjson_bytes += body.len();
        Bytes::from(body)
    });
    let logs = spec("logs");
    let batches = stored(&logs, records.take(RECORDS));
    report("logs", &encode(&logs, &config, &batches).unwrap(), ndjson_bytes);
    group.throughput(Throughput::Bytes(ndjson_bytes as u64));
    group.bench_function("logs", |b| b.iter(|| encode(&logs, &config, &batches).unwrap()));

    let metrics = spec("metrics");
    let batches = stored(&metrics, (0..RECORDS).map(samples));
    report("metrics", &encode(&metrics, &config, &batches).unwrap(), (0..RECORDS).map(|r| samples(r).len()).sum());
    group.throughput(Throughput::Elements((RECORDS * RECORD_ROWS) as u64));
    group.bench_function("metrics", |b| b.iter(|| encode(&metrics, &config, &batches).unwrap()));
    group.finish();
}

/// What it comes to in bytes.
fn report(table: &str, files: &[highwater_sinks::tables::encode::EncodedFile], ndjson_bytes: usize) {
    let rows: u64 = files.iter().map(|f| f.rows).sum();
    let bytes: usize = files.iter().map(|f| f.bytes.len()).sum();
    println!(
        "{table}: {rows} rows in {} files, {ndjson_bytes} bytes of NDJSON, {bytes} of Parquet: {:.1} bytes a row",
        files.len(),
        bytes as f64 / rows as f64
    );
}

criterion_group!(benches, parquet_encode);
criterion_main!(benches);
