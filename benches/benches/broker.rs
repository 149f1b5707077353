//! The log: appends acknowledged after `fdatasync`, alone and many at once, and reading back.
//!
//! `cargo bench -p highwater-benches --bench broker`

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use highwater_broker::{Append, Broker, BrokerConfig, Guard, RealFs, Record, SystemClock, TopicConfig};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const VALUE_BYTES: usize = 16 << 10;
const PARTITIONS: i32 = 4;

struct Log {
    runtime: Runtime,
    broker: Broker,
    /// Deleted with the value. On the disk that builds are on: a temporary directory may be memory, where a sync is free.
    #[expect(dead_code, reason = "kept for its destructor")]
    directory: TempDir,
}

fn log() -> Log {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let broker = runtime.block_on(async {
        let config = BrokerConfig::new(directory.path());
        let broker = Broker::open(config, Arc::new(RealFs), Arc::new(SystemClock)).unwrap();
        broker.ensure_topic("bench", TopicConfig::with_partitions(PARTITIONS)).await.unwrap();
        broker
    });
    Log { runtime, broker, directory }
}

fn append_of(partition: i32) -> Append {
    // Not compressible, as an LZ4-compressed Arrow record is not.
    let value: Vec<u8> = (0..VALUE_BYTES as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let record = Record { value: Some(Bytes::from(value)), ..Record::default() };
    Append { topic: "bench".into(), partition, records: vec![record], guard: Guard::None }
}

fn append(criterion: &mut Criterion) {
    let log = log();
    let mut group = criterion.benchmark_group("append");
    for callers in [1, 16, 128] {
        group.throughput(Throughput::Bytes((callers * VALUE_BYTES) as u64));
        group.bench_function(format!("16 KiB, {callers} at once, synced"), |bencher| {
            bencher.iter(|| {
                log.runtime.block_on(async {
                    let appends = (0..callers).map(|caller| log.broker.append(append_of(caller as i32 % PARTITIONS)));
                    for appended in futures::future::join_all(appends).await {
                        appended.unwrap();
                    }
                });
            });
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let log = log();
    const RECORDS: i64 = 4096;
    log.runtime.block_on(async {
        for _ in 0..RECORDS / 64 {
            let mut append = append_of(0);
            append.records = vec![append.records[0].clone(); 64];
            log.broker.append(append).await.unwrap();
        }
    });
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Bytes(RECORDS as u64 * VALUE_BYTES as u64));
    group.bench_function("64 MiB in fetches of 1 MiB", |bencher| {
        bencher.iter(|| {
            log.runtime.block_on(async {
                let mut offset = 0;
                while offset < RECORDS {
                    let fetched = log.broker.read("bench", 0, offset, 1 << 20, Duration::ZERO).await.unwrap();
                    assert!(fetched.next_offset > offset);
                    offset = fetched.next_offset;
                }
            });
        });
    });
    group.finish();
}

criterion_group!(benches, append, read);
criterion_main!(benches);
