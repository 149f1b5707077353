//! Storage and tables on a real S3 server, some of the time through a proxy that fails on purpose.
//!
//! Needs what `tests/s3/start` needs. Where the server cannot be had the tests say so and pass, unless `HIGHWATER_REQUIRE_S3` is set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../tests/s3/proxy.rs"]
mod proxy;
#[path = "../../tests/s3/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::join_all;
use highwater_broker::{Broker, BrokerConfig, RealFs, SystemClock};
use highwater_pipeline::log::{Append, EmbeddedLog, Guard, Log, Record, TopicConfig, TopicPartition};
use highwater_pipeline::storage::{Access, Storage, StorageError, connect};
use highwater_pipeline::tables::built_in_tables;
use highwater_sinks::tables::{Tables, TablesConfig};
use highwater_sinks::verify::verify;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use proxy::{FaultProxy, Faults};
use tokio_util::sync::CancellationToken;

const PARTITIONS: i32 = 4;

fn with(mut options: BTreeMap<String, String>, pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    options.extend(pairs.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())));
    options
}

async fn create(storage: &Storage, path: &str, body: String) -> object_store::Result<()> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    storage.objects().put_opts(&Path::from(path), body.into(), options).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_creators_one_is_told_that_it_was_first() {
    let Some(endpoint) = server::start() else { return };
    let storage = connect(&server::fresh_url(), &server::options(endpoint), Access::Write).await.unwrap();
    let left: Vec<_> = storage.objects().list(None).try_collect().await.unwrap();
    assert!(left.is_empty(), "opening leaves nothing behind: {left:?}");
    for version in 0..20 {
        let path = format!("tables/t/_delta_log/{version:020}.json");
        let attempts = join_all((0..8).map(|writer| create(&storage, &path, format!("writer {writer}")))).await;
        let winners: Vec<usize> = (0..8).filter(|&i| attempts[i].is_ok()).collect();
        let refused = attempts.iter().filter(|a| matches!(a, Err(object_store::Error::AlreadyExists { .. }))).count();
        assert_eq!((winners.len(), refused), (1, 7), "{attempts:?}");
        let content = storage.objects().get(&Path::from(path)).await.unwrap().bytes().await.unwrap();
        assert_eq!(content, format!("writer {}", winners[0]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_says_which_bucket_where_and_what_to_do() {
    let Some(endpoint) = server::start() else { return };
    let options = server::options(endpoint);
    let url = server::fresh_url();
    let failed = async |url: &str, options: &BTreeMap<String, String>| {
        let error = connect(url, options, Access::Write).await.unwrap_err();
        let text = error.to_string();
        (error, text)
    };

    let (error, text) = failed("s3://no-such-bucket/p", &options).await;
    assert!(matches!(error, StorageError::NoBucket { .. }), "{text}");
    assert!(text.contains(&format!("s3://no-such-bucket/p at {endpoint}")) && text.contains("Create it"), "{text}");

    let (error, text) = failed(&url, &with(options.clone(), &[("secret_access_key", "wrong")])).await;
    assert!(matches!(error, StorageError::Denied { .. }), "{text}");
    assert!(text.contains("AWS_SECRET_ACCESS_KEY") && !text.contains("wrong"), "{text}");

    let nobody = with(options.clone(), &[("endpoint", "http://127.0.0.1:9"), ("max_retries", "1")]);
    let (error, text) = failed(&url, &nobody).await;
    assert!(matches!(error, StorageError::Unreachable { .. }) && error.is_retryable(), "{text}");
    assert!(text.contains("http://127.0.0.1:9"), "{text}");

    // Only to read, nothing is asked for at opening.
    connect("s3://no-such-bucket/p", &options, Access::Read).await.unwrap();
}

/// A log of four partitions in a directory of its own.
async fn log(dir: &std::path::Path) -> Arc<dyn Log> {
    let broker = Broker::open(BrokerConfig::new(dir.join("log")), Arc::new(RealFs), Arc::new(SystemClock)).unwrap();
    let log = EmbeddedLog::new(Arc::new(broker));
    log.ensure_topic("logs", TopicConfig::with_partitions(PARTITIONS)).await.unwrap();
    Arc::new(log)
}

async fn append(log: &dyn Log, partition: i32, n: usize) {
    let value = serde_json::json!([
        {"message": format!("first of {n}"), "service": format!("s{}", n % 5), "timestamp": 1_700_000_000 + n},
        {"message": format!("second of {n}"), "level": "warn", "labels": {"a": "b"}},
    ]);
    let record = Record { value: Some(value.to_string().into()), ..Record::default() };
    let append = Append { topic: "logs".into(), partition, records: vec![record], guard: Guard::None };
    log.append(append).await.unwrap();
}

fn partitions(numbers: impl IntoIterator<Item = i32>) -> Vec<TopicPartition> {
    numbers.into_iter().map(|partition| TopicPartition { topic: "logs".into(), partition }).collect()
}

fn writer(log: &Arc<dyn Log>, storage: &Storage, shutdown: &CancellationToken) -> Tables {
    let config =
        TablesConfig { commit_interval_ms: 20, checkpoint_every: 10, max_backoff_ms: 100, ..TablesConfig::default() };
    let tables = Tables::new(Arc::clone(log), storage.clone(), config, Arc::new(SystemClock), shutdown.clone());
    tables.start(built_in_tables().remove(0));
    tables
}

/// Asserts that the table is, row by row, the log; the number of rows and the Delta version.
async fn assert_clean(storage: &Storage, log: &Arc<dyn Log>) -> (u64, u64) {
    let report = verify(storage, &[], || Ok(Some(Arc::clone(log)))).await.unwrap();
    assert!(report.is_clean(), "{report}");
    (report.tables[0].rows, report.tables[0].version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_on_s3_goes_through_checkpoints_and_restarts() {
    let Some(endpoint) = server::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path()).await;
    let storage = connect(&server::fresh_url(), &server::options(endpoint), Access::Write).await.unwrap();
    for run in 0..3 {
        let shutdown = CancellationToken::new();
        let tables = writer(&log, &storage, &shutdown);
        tables.assign(&partitions(0..PARTITIONS));
        for n in 0..5 {
            append(log.as_ref(), n % PARTITIONS, run).await;
            tables.flush().await.unwrap();
        }
        if run == 0 {
            tables.abort();
        } else {
            shutdown.cancel();
            tables.join().await.unwrap();
        }
    }
    let (rows, version) = assert_clean(&storage, &log).await;
    assert_eq!((rows, version), (30, 15));
    let checkpoint = Path::from("tables/logs/_delta_log/00000000000000000010.checkpoint.parquet");
    assert!(storage.objects().head(&checkpoint).await.is_ok());
}

/// Three writers on one table, through a store that refuses one request in ten and loses one reply in twenty, while partitions change hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_writers_through_a_failing_store_write_the_log_once() {
    const ROUNDS: usize = 60;
    let Some(endpoint) = server::start() else { return };
    let seed = std::env::var("HIGHWATER_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("HIGHWATER_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path()).await;
    let url = server::fresh_url();
    let proxy = FaultProxy::start(endpoint, seed).await;
    let (patient, hasty) = (server::options(proxy.url()), with(server::options(proxy.url()), &[("max_retries", "1")]));
    let shutdown = CancellationToken::new();
    let mut writers = Vec::new();
    // One leaves most retries to the client below it, two see many faults themselves.
    for options in [&patient, &hasty, &hasty] {
        let storage = connect(&url, options, Access::Write).await.unwrap();
        writers.push(writer(&log, &storage, &shutdown));
    }
    for (i, writer) in writers.iter().enumerate() {
        writer.assign(&partitions((0..PARTITIONS).filter(|p| *p as usize % 3 == i)));
    }
    proxy.set(Faults { refused: 0.10, lost_replies: 0.05 });
    for round in 0..ROUNDS {
        for partition in 0..PARTITIONS {
            append(log.as_ref(), partition, round).await;
        }
        if round % 4 == 0 {
            let moving = partitions([(round / 4) as i32 % PARTITIONS]);
            for writer in &writers {
                writer.revoke(&moving).await;
            }
            writers[round % 3].assign(&moving);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let flushed = join_all(writers.iter().map(Tables::flush)).await;
    assert!(flushed.iter().all(Result::is_ok), "{flushed:?}");
    shutdown.cancel();
    for writer in &writers {
        writer.join().await.unwrap();
    }
    let (passed, refused, lost) = proxy.counts();
    assert!(refused > 0 && lost > 0, "nothing went wrong: {passed} passed, {refused} refused, {lost} lost");

    let storage = connect(&url, &server::options(endpoint), Access::Read).await.unwrap();
    let (rows, version) = assert_clean(&storage, &log).await;
    println!("{version} commits; {passed} requests passed, {refused} refused, {lost} replies lost");
    assert_eq!(rows, 2 * PARTITIONS as u64 * ROUNDS as u64);
}
