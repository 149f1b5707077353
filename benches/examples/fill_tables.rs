//! Fills tables `logs` and `metrics` as the table writer does, commit by commit, and compacts them: what they take up, and something to query.
//!
//! ```sh
//! cargo run --release -p highwater-benches --example fill_tables -- --dir /tmp/lake --ids --logs 20000000 --samples 100000000
//! benches/tables.py /tmp/lake          # 20 queries, beside DuckDB and chDB on the same files
//! ```
//!
//! Logs are those of `highwater-load`; with `--ids` eight in a row share a trace, and each is of one of 50,000 users. Samples are of 5,000 series on 100 targets, scraped every 15 s: counters of events, of bytes and of seconds, gauges
//! with two decimals, and flags that hardly ever change, a fifth each.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use clap::Parser;
use highwater_benches::logs::LogGenerator;
use highwater_broker::{StoredRecord, SystemClock};
use highwater_pipeline::data::{Decoded, Decoder, content_type};
use highwater_pipeline::storage::{self, Storage};
use highwater_pipeline::tables::{Cover, TableSpec, built_in_tables, stored_batch, table_path};
use highwater_sinks::tables::TablesConfig;
use highwater_sinks::tables::delta::{Attempt, DeltaLog};
use highwater_sinks::tables::encode::encode;
use highwater_sinks::tables::inspect;
use highwater_sinks::tables::maintenance::{Eagerness, Maintainer, Upkeep};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

/// 2026-03-01T00:00:00Z, Unix milliseconds.
const START_MS: i64 = 1_772_323_200_000;
const PARTITIONS: i32 = 4;
/// Rows of a log record, as an ingest flush has them.
const LOG_RECORD_ROWS: usize = 2_000;
const TARGETS: usize = 100;
const SERIES_OF_A_TARGET: usize = 50;
const SCRAPE_MS: i64 = 15_000;

#[derive(Debug, Parser)]
struct Args {
    /// An empty directory.
    #[arg(long)]
    dir: String,
    #[arg(long, default_value_t = 1_000_000)]
    logs: usize,
    #[arg(long, default_value_t = 1_000_000)]
    samples: usize,
    /// Gives logs the ids of traces and users: something to look for, at some bytes each.
    #[arg(long)]
    ids: bool,
    /// Rows of a commit, more or less.
    #[arg(long, default_value_t = 500_000)]
    commit_rows: usize,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let storage = storage::open(&args.dir).unwrap();

    let mut table = Table::open("logs", &storage, args.commit_rows).await;
    let mut generator = LogGenerator::new(1, 50, 10, START_MS, 1);
    for i in 0..args.logs / LOG_RECORD_ROWS {
        let mut body = Vec::new();
        generator.ndjson(LOG_RECORD_ROWS, &mut body).unwrap();
        if args.ids {
            body = with_ids(&body, i * LOG_RECORD_ROWS);
        }
        let appended_ms = START_MS + ((i + 1) * LOG_RECORD_ROWS) as i64;
        table.push(i32::try_from(i % 4).unwrap(), appended_ms, body).await;
    }
    table.finish(&storage).await;

    let mut table = Table::open("metrics", &storage, args.commit_rows).await;
    let mut samples = Samples::new();
    for scrape in 0..args.samples / (TARGETS * SERIES_OF_A_TARGET) {
        for target in 0..TARGETS {
            let (appended_ms, bodies) = samples.scrape(scrape, target);
            for (partition, body) in (0..).zip(bodies) {
                table.push(partition, appended_ms, body).await;
            }
        }
    }
    table.finish(&storage).await;
}

/// The same lines with ids; the first of them is line `first` of all.
fn with_ids(lines: &[u8], first: usize) -> Vec<u8> {
    let mixed = |n: usize| (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut body = Vec::with_capacity(lines.len() + lines.len() / 4);
    for (i, line) in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let (trace, user) = (mixed((first + i) / 8), mixed(first + i) >> 32);
        body.extend_from_slice(line.strip_suffix(b"}").unwrap());
        let rotated = trace.rotate_left(29);
        writeln!(body, r#","trace_id":"{trace:016x}{rotated:016x}","user_id":"user-{}"}}"#, user % 50_000).unwrap();
    }
    body
}

struct Samples {
    random: SmallRng,
    values: Vec<f64>,
}

impl Samples {
    fn new() -> Self {
        Self { random: SmallRng::seed_from_u64(1), values: vec![0.0; TARGETS * SERIES_OF_A_TARGET] }
    }

    /// One scrape of a target, in records by partition.
    fn scrape(&mut self, scrape: usize, target: usize) -> (i64, [Vec<u8>; PARTITIONS as usize]) {
        let mut bodies: [Vec<u8>; PARTITIONS as usize] = Default::default();
        let phase_ms = target as i64 * SCRAPE_MS / TARGETS as i64;
        let at_ms = START_MS + scrape as i64 * SCRAPE_MS + phase_ms + self.random.random_range(-3..=3);
        for i in 0..SERIES_OF_A_TARGET {
            let series = target * SERIES_OF_A_TARGET + i;
            let value = &mut self.values[series];
            let (name, kind) = match i % 5 {
                0 => {
                    *value += f64::from(self.random.random_range(0..40_u32));
                    ("requests_total", "counter")
                }
                1 => {
                    *value += f64::from(self.random.random_range(0..6_u32) * self.random.random_range(1..1_500_u32));
                    ("sent_bytes_total", "counter")
                }
                2 => {
                    *value += self.random.random::<f64>() * 0.05;
                    ("cpu_seconds_total", "counter")
                }
                3 => {
                    *value = (self.random.random_range(3_000..7_000_u32) as f64) / 100.0;
                    ("temperature_celsius", "gauge")
                }
                _ => {
                    *value = f64::from(u8::from(self.random.random_range(0..50_u32) > 0));
                    ("up", "gauge")
                }
            };
            let body = &mut bodies[series % PARTITIONS as usize];
            writeln!(
                body,
                r#"{{"name":"{name}","type":"{kind}","timestamp":{at_ms},"value":{value},"labels":{{"job":"node","instance":"host-{target}:9100","device":"d{}","zone":"eu-{}"}}}}"#,
                i / 5,
                target % 3,
            )
            .unwrap();
        }
        (at_ms + self.random.random_range(20..60_i64), bodies)
    }
}

/// A table, and what was not committed yet.
struct Table {
    spec: TableSpec,
    storage: Storage,
    config: TablesConfig,
    decoder: Decoder,
    delta: DeltaLog,
    topic_id: Uuid,
    commit_rows: usize,
    batches: Vec<RecordBatch>,
    rows: usize,
    /// Of each partition: where the next commit begins, where it ends, and how many rows that is.
    next: [(i64, i64, u64); PARTITIONS as usize],
    ndjson_bytes: usize,
}

impl Table {
    async fn open(name: &str, storage: &Storage, commit_rows: usize) -> Self {
        let spec = built_in_tables().into_iter().find(|t| t.name == name).unwrap();
        let delta = DeltaLog::open(&spec, storage, START_MS).await.unwrap();
        let decoder = Decoder::new(spec.kind.clone());
        let (config, topic_id) = (TablesConfig::default(), Uuid::new_v4());
        let (storage, batches) = (storage.clone(), Vec::new());
        let next = Default::default();
        Self { spec, storage, config, decoder, delta, topic_id, commit_rows, batches, rows: 0, next, ndjson_bytes: 0 }
    }

    async fn push(&mut self, partition: i32, timestamp_ms: i64, body: Vec<u8>) {
        let next = &mut self.next[partition as usize];
        self.ndjson_bytes += body.len();
        let headers = vec![content_type::header(content_type::NDJSON)];
        let value = Some(Bytes::from(body));
        let record = StoredRecord { offset: next.1, timestamp_ms, key: None, value, headers };
        let Decoded::Rows { batch, refused } = self.decoder.decode(partition, &record) else { panic!("rows") };
        assert!(refused.is_empty());
        *next = (next.0, next.1 + 1, next.2 + batch.num_rows() as u64);
        self.rows += batch.num_rows();
        self.batches.push(stored_batch(&self.spec, &self.spec.topics[0], &batch).unwrap());
        if self.rows >= self.commit_rows {
            self.commit().await;
        }
    }

    async fn commit(&mut self) {
        let mut covers = Vec::new();
        for (partition, (from, to, rows)) in (0..).zip(&mut self.next) {
            if from < to {
                let (topic, topic_id) = (self.spec.topics[0].clone(), self.topic_id);
                covers.push(Cover { topic, topic_id, partition, from: *from, to: *to, rows: *rows, gap: false });
                (*from, *rows) = (*to, 0);
            }
        }
        if covers.is_empty() {
            return;
        }
        let files = encode(&self.spec, &self.config, &std::mem::take(&mut self.batches)).unwrap();
        self.rows = 0;
        for file in &files {
            let path = table_path(&self.spec.name).parts().chain(Path::from(file.path.as_str()).parts()).collect();
            self.storage.objects().put(&path, file.bytes.clone().into()).await.unwrap();
        }
        let commit = self.delta.begin(covers, files).unwrap();
        assert!(matches!(self.delta.try_commit(&commit, START_MS).await.unwrap(), Attempt::Done(_)));
    }

    async fn finish(mut self, storage: &Storage) {
        self.commit().await;
        println!("{}: {} bytes of NDJSON", self.spec.name, self.ndjson_bytes);
        told("as committed", storage, &self.spec.name).await;
        let (spec, config) = (Arc::new(self.spec.clone()), Arc::new(self.config.clone()));
        let mut maintainer =
            Maintainer::open(spec, storage, config, Arc::new(SystemClock), Upkeep::new(0)).await.unwrap();
        maintainer.compact(Eagerness::Everything).await.unwrap();
        told("compacted", storage, &self.spec.name).await;
    }
}

async fn told(when: &str, storage: &Storage, table: &str) {
    let days = inspect::stored(storage, table).await.unwrap().days;
    let sum = |of: fn(&inspect::StoredDay) -> u64| days.iter().map(of).sum::<u64>();
    let (files, rows, bytes) = (sum(|d| d.files), sum(|d| d.rows), sum(|d| d.size_bytes));
    println!("  {when}: {rows} rows in {files} files, {bytes} bytes: {:.2} a row", bytes as f64 / rows as f64);
}
