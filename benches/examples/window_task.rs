//! A rollup through the whole task, on one partition: records of a log on disk are read, decoded and rolled up, partials go through their topic, windows are folded and
//! closed, offsets are committed and snapshots written. Prints one line.
//!
//! ```sh
//! cargo build --release -p highwater-benches --example window_task
//! taskset -c 0 target/release/examples/window_task --rows 10000000 --keys 100 --query p95
//! ```
//!
//! The log is filled first, which is not counted; then the tasks start, and stop once everything is read and committed. The same rows as
//! `benches/windows_rivals.sh` gives to Kafka, as our own ingest writes them.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use highwater_broker::{Broker, BrokerConfig, Clock, RealFs, StoredRecord, SystemClock};
use highwater_pipeline::data::{Decoded, Decoder, RowKind, content_type, identity, ipc};
use highwater_pipeline::log::{Append, EmbeddedLog, Guard, Log, Record};
use highwater_pipeline::runtime::{DriverConfig, ScratchDirectory, Tasks};
use highwater_pipeline::storage;
use highwater_processors::rollups::RollupConfig;
use highwater_processors::{PARTIALS_TOPIC, ProcessorsConfig, topology};

/// 2026-03-01T00:00:00Z, Unix milliseconds.
const START_MS: i64 = 1_772_323_200_000;
/// Rows of a record.
const ROWS: usize = 8_192;
/// Event time that one record spans.
const RECORD_MS: i64 = 1_000;
const TOPIC: &str = "metrics";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Query {
    /// `hop` of a minute every ten seconds: count by key.
    Hop,
    /// The same every second.
    HopFine,
    /// `tumble` of ten seconds: count and sum by key.
    Sum,
    /// The same, and the 95th percentile.
    P95,
}

impl Query {
    fn sql(self) -> String {
        let (window, aggregates) = match self {
            Self::Hop => ("hop(timestamp, INTERVAL '10 seconds', INTERVAL '1 minute')", "count(*) AS n"),
            Self::HopFine => ("hop(timestamp, INTERVAL '1 second', INTERVAL '1 minute')", "count(*) AS n"),
            Self::Sum => ("tumble(timestamp, INTERVAL '10 seconds')", "count(*) AS n, sum(value) AS s"),
            Self::P95 => (
                "tumble(timestamp, INTERVAL '10 seconds')",
                "count(*) AS n, sum(value) AS s, quantile(value, 0.95) AS p",
            ),
        };
        format!("SELECT {window} AS window_start, service, {aggregates} FROM {TOPIC} GROUP BY 1, 2")
    }
}

#[derive(Debug, Parser)]
struct Args {
    /// Rounded up to whole records.
    #[arg(long, default_value_t = 10_000_000)]
    rows: usize,
    #[arg(long, default_value_t = 100)]
    keys: usize,
    #[arg(long, value_enum, default_value = "p95")]
    query: Query,
    #[arg(long, default_value_t = 1_000)]
    snapshot_interval_ms: i64,
    /// What packed state may take in memory; the rest is put aside.
    #[arg(long, default_value_t = 64 << 20)]
    state_memory_bytes: usize,
    /// Where the log and the snapshots go: a directory made for it, deleted afterwards. Not in memory.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

fn record(decoder: &Decoder, index: usize, keys: usize) -> Bytes {
    let mut body = String::new();
    for row in 0..ROWS {
        let at = START_MS + index as i64 * RECORD_MS + (row as i64 * RECORD_MS) / ROWS as i64;
        let number = index * ROWS + row;
        let (service, value) = (number * 31 % keys, number * 7_919 % 1_000);
        writeln!(body, r#"{{"name":"latency","value":{value},"service":"service-{service}","timestamp":{at}}}"#)
            .unwrap();
    }
    let json = StoredRecord {
        offset: 0,
        timestamp_ms: START_MS,
        key: None,
        value: Some(Bytes::from(body)),
        headers: vec![content_type::header(content_type::NDJSON)],
    };
    let Decoded::Rows { batch, .. } = decoder.decode(0, &json) else { panic!("rows") };
    ipc::encode(&identity::strip(&batch)).unwrap()
}

/// What this process has used, in seconds of CPU.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args = Args::parse();
    let place = tempfile::Builder::new().prefix("window-task-").tempdir_in(&args.dir).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rollup = RollupConfig { lateness_ms: 0, ..RollupConfig::new("bench", args.query.sql()) };
    let topology =
        topology(&ProcessorsConfig { rollups: vec![rollup], partitions: 1, ..ProcessorsConfig::default() }).unwrap();
    let config = BrokerConfig::new(place.path().join("log"));
    let broker = Arc::new(Broker::open(config, Arc::new(RealFs), Arc::clone(&clock)).unwrap());
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(Arc::clone(&broker)));
    for (name, config) in topology.topics {
        log.ensure_topic(&name, config).await.unwrap();
    }

    let decoder = Decoder::new(RowKind::Metrics);
    let records = args.rows.div_ceil(ROWS);
    for index in 0..records {
        let value = Some(record(&decoder, index, args.keys));
        let headers = vec![content_type::header(content_type::ARROW)];
        let records = vec![Record { value, headers, ..Record::default() }];
        log.append(Append { topic: TOPIC.into(), partition: 0, records, guard: Guard::None }).await.unwrap();
    }
    let (filled_mib, rows) = (peak_mib(), records * ROWS);

    let storage = storage::open(place.path().to_str().unwrap()).unwrap();
    let scratch = ScratchDirectory::open(&place.path().join("aside"), args.state_memory_bytes, 64 << 30).unwrap();
    let driver = DriverConfig { snapshot_interval_ms: args.snapshot_interval_ms, ..DriverConfig::default() };
    let tasks = Tasks::new(Arc::clone(&log), Arc::clone(storage.objects()), Arc::clone(&clock), driver);
    let tasks = tasks.putting_aside(Arc::new(scratch));
    let (begun_ms, begun_cpu_s) = (clock.now_ms(), cpu_s());
    topology.tasks.into_iter().for_each(|task| tasks.start(task));
    loop {
        let mut behind = false;
        for status in tasks.status() {
            assert!(status.state.is_healthy(), "{status:?}");
            if *status.topic == *TOPIC {
                behind |= status.committed_offset < records as i64;
            } else if *status.topic == *PARTIALS_TOPIC {
                let end = log.offsets(&status.topic, status.partition).await.unwrap().high_watermark;
                behind |= status.committed_offset < end;
            }
        }
        if !behind {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (took_s, cpu_s) = ((clock.now_ms() - begun_ms) as f64 / 1e3, cpu_s() - begun_cpu_s);
    let stopped = tasks.stop_all().await;
    let mut closed = 0;
    let end = log.offsets("rollup.bench", 0).await.unwrap().high_watermark;
    let mut at = 0;
    while at < end {
        let fetched = log.read("rollup.bench", 0, at, 8 << 20, Duration::ZERO).await.unwrap();
        at = fetched.next_offset;
        for record in &fetched.records {
            let batches = ipc::decode(record.value.as_deref().unwrap_or_default()).unwrap_or_default();
            closed += batches.iter().map(|batch| batch.num_rows()).sum::<usize>();
        }
    }
    let snapshots = |of: fn(&highwater_pipeline::runtime::Snapshots) -> u64| {
        stopped.iter().map(|status| of(&status.snapshots)).sum::<u64>()
    };
    let stall_ms = stopped.iter().map(|status| status.snapshots.slowest_ms).max().unwrap_or(0);
    println!(
        "highwater {:?} keys={} rows={rows} closed_rows={closed} rows/s={:.0} cpu_ns/row={:.1} rows/s/core={:.0} snapshots={} snapshot_bytes={} slowest_snapshot_ms={stall_ms} peak_rss_MiB={} (filled {filled_mib})",
        args.query,
        args.keys,
        rows as f64 / took_s,
        cpu_s * 1e9 / rows as f64,
        rows as f64 / cpu_s,
        snapshots(|s| s.count),
        snapshots(|s| s.written_bytes),
        peak_mib(),
    );
    broker.shutdown().await;
}
