#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::ErrorKind;

use highwater_broker::IDEMPOTENCY_HEADER;
use highwater_broker::fs::{Crash, SimFs};

use super::*;
use crate::data::RowKind;
use crate::sources::EntryError;
use crate::sources::testing::World;

fn key(key: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey::new(key).unwrap())
}

/// Logs of many services, so that every partition gets some.
fn body(count: usize) -> Bytes {
    let lines: Vec<_> = (0..count).map(|i| format!(r#"{{"message":"m{i:05}","service":"s{}"}}"#, i % 40)).collect();
    Bytes::from(lines.join("\n"))
}

fn messages(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("m{i:05}")).collect()
}

fn accepted(count: u64, duplicate: bool) -> IngestReport {
    IngestReport { accepted: count, duplicate, ..IngestReport::default() }
}

#[tokio::test]
async fn rows_lie_in_the_partition_of_their_key_one_record_per_partition() {
    let world = World::new().await;
    let tenant = Tenant::new("acme").unwrap();
    assert_eq!(world.ingest.ingest_logs(&tenant, body(400), None).await.unwrap(), accepted(400, false));
    assert_eq!(world.messages().await, messages(400));
    for (partition, records) in world.records("logs").await.into_iter().enumerate() {
        assert_eq!(records.len(), 1, "partition {partition}");
        assert_eq!(content_type::of(&records[0]), Some(content_type::ARROW));
        assert_eq!(records[0].key, None);
    }
    for batch in world.rows("logs", RowKind::Logs).await {
        use arrow::array::AsArray;
        use arrow::datatypes::Int32Type;
        let services = batch.column_by_name("service").unwrap().as_string::<i32>();
        let partitions = batch.column_by_name("_partition").unwrap().as_primitive::<Int32Type>();
        for (service, partition) in services.iter().zip(partitions.values()) {
            let key = format!("acme\0{}\0", service.unwrap());
            assert_eq!(crate::data::partitioner::partition(key.as_bytes(), 4), *partition, "{key:?}");
        }
    }
    assert_eq!(world.texts("logs", RowKind::Logs, "tenant").await, vec!["acme"; 400]);
}

#[tokio::test]
async fn metrics_go_the_same_way() {
    let world = World::new().await;
    let body = Bytes::from_static(br#"[{"name":"up","value":1,"labels":{"job":"a"}},{"name":"up","value":null}]"#);
    let report = world.ingest.ingest_metrics(&Tenant::default(), body, None).await.unwrap();
    let reason = "`value` must be a number, or one of the strings NaN, +Inf and -Inf, not null".to_owned();
    let errors = vec![EntryError { index: 1, reason }];
    assert_eq!(report, IngestReport { accepted: 1, rejected: 1, errors, duplicate: false, series_refused: 0 });
    assert_eq!(world.texts("metrics", RowKind::Metrics, "labels").await, [r#"{"job":"a"}"#]);
}

#[tokio::test]
async fn a_retry_with_the_same_key_stores_nothing_and_answers_the_same() {
    let world = World::new().await;
    let tenant = Tenant::default();
    let mixed = Bytes::from([&body(100)[..], b"\n{}"].concat());
    let first = world.ingest.ingest_logs(&tenant, mixed.clone(), key("k")).await.unwrap();
    let again = world.ingest.ingest_logs(&tenant, mixed.clone(), key("k")).await.unwrap();
    assert_eq!((first.accepted, first.rejected, first.duplicate), (100, 1, false));
    assert_eq!(again, IngestReport { duplicate: true, ..first });
    assert_eq!(world.messages().await, messages(100));
    let headers = &world.records("logs").await[0][0].headers;
    assert!(
        headers.iter().any(|h| h.name == IDEMPOTENCY_HEADER && h.value.as_deref() == Some(b"default\0k")),
        "{headers:?}"
    );
    // Another key, another tenant or no key is another request.
    let other = Tenant::new("other").unwrap();
    assert!(!world.ingest.ingest_logs(&other, mixed.clone(), key("k")).await.unwrap().duplicate);
    assert!(!world.ingest.ingest_logs(&tenant, mixed.clone(), key("k2")).await.unwrap().duplicate);
    assert!(!world.ingest.ingest_logs(&tenant, mixed, None).await.unwrap().duplicate);
    assert_eq!(world.messages().await.len(), 400);
}

#[tokio::test]
async fn a_retry_after_a_partial_failure_stores_only_what_is_missing() {
    let world = World::new().await;
    let tenant = Tenant::default();
    world.fs.fail_next_write("topics/logs/2/", 10, ErrorKind::StorageFull);
    let error = world.ingest.ingest_logs(&tenant, body(100), key("k")).await.unwrap_err();
    let IngestError::Log { stored, accepted: 100, keyed: true, .. } = &error else { panic!("{error:?}") };
    assert!((1..100).contains(stored), "{stored}");
    assert!(error.is_retryable(), "{error}");
    let advice = format!("{stored} of 100 rows are stored: send it again with its key, and only the rest is added");
    assert!(error.to_string().ends_with(&advice), "{error}");
    assert_eq!(world.messages().await.len() as u64, *stored);
    // The retry itself was not all duplicate; the next one is.
    assert_eq!(world.ingest.ingest_logs(&tenant, body(100), key("k")).await.unwrap(), accepted(100, false));
    assert_eq!(world.ingest.ingest_logs(&tenant, body(100), key("k")).await.unwrap(), accepted(100, true));
    assert_eq!(world.messages().await, messages(100));
}

#[tokio::test]
async fn keys_survive_a_crash() {
    let fs = SimFs::new();
    let tenant = Tenant::default();
    let world = World::on(fs.clone(), IngestConfig::default()).await;
    world.ingest.ingest_logs(&tenant, body(100), key("k")).await.unwrap();
    drop(world);
    fs.crash(Crash::LoseUnsynced);
    let world = World::on(fs, IngestConfig::default()).await;
    assert_eq!(world.ingest.ingest_logs(&tenant, body(100), key("k")).await.unwrap(), accepted(100, true));
    assert_eq!(world.messages().await, messages(100));
}

#[tokio::test]
async fn a_large_request_becomes_several_records_and_is_still_retried_as_one() {
    let world = World::with(IngestConfig { max_value_size_bytes: 2 << 20, ..IngestConfig::default() }).await;
    let tenant = Tenant::default();
    let lines: Vec<_> =
        (0..30).map(|i| format!(r#"{{"message":"{}"}}"#, format!("{i:04}").repeat(256 << 10))).collect();
    let body = Bytes::from(format!("[{}]", lines.join(",")));
    assert_eq!(world.ingest.ingest_logs(&tenant, body.clone(), key("k")).await.unwrap(), accepted(30, false));
    let records: usize = world.records("logs").await.iter().map(Vec::len).sum();
    assert_eq!(records, 4, "30 MiB in records of about 8 MiB");
    assert_eq!(world.ingest.ingest_logs(&tenant, body, key("k")).await.unwrap(), accepted(30, true));
    assert_eq!(world.messages().await.len(), 30);
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let world = World::new().await;
    let tenant = Tenant::default();
    world.fs.set_capacity(Some(world.fs.used_bytes()));
    let error = world.ingest.ingest_logs(&tenant, body(40), None).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().starts_with("disk full: "), "{error}");
    assert!(error.to_string().ends_with("; nothing of the request is stored: send it again"), "{error}");
    world.fs.set_capacity(None);
    assert_eq!(world.ingest.ingest_logs(&tenant, body(40), None).await.unwrap(), accepted(40, false));
}

#[tokio::test]
async fn a_malformed_body_stores_nothing() {
    let world = World::new().await;
    let body = Bytes::from_static(br#"[{"message":"a"},{"message":}]"#);
    let error = world.ingest.ingest_logs(&Tenant::default(), body, None).await.unwrap_err();
    assert_eq!(error.to_string(), "malformed JSON at line 1, column 29 (byte 28): expected a value");
    assert_eq!(world.messages().await, [""; 0]);
}

#[tokio::test]
async fn reasons_are_capped_and_refusals_are_not() {
    let world = World::new().await;
    let body = Bytes::from("{}\n".repeat(5_000));
    let report = world.ingest.ingest_logs(&Tenant::default(), body, None).await.unwrap();
    assert_eq!((report.accepted, report.rejected, report.errors.len()), (0, 5_000, IngestReport::MAX_ERRORS));
    assert!(!report.duplicate);
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused() {
    for config in [
        IngestConfig { max_body_size_bytes: 0, ..IngestConfig::default() },
        IngestConfig { max_body_size_bytes: 2 << 30, max_in_flight_size_bytes: 8 << 30, ..IngestConfig::default() },
        IngestConfig { max_in_flight_size_bytes: 1 << 20, ..IngestConfig::default() },
        IngestConfig { max_attributes: 0, ..IngestConfig::default() },
    ] {
        let error = config.validate().unwrap_err();
        assert!(error.to_string().starts_with("invalid ingest setting: max_"), "{error}");
    }
    IngestConfig::default().validate().unwrap();
}

#[test]
fn keys_are_visible_ascii() {
    for bad in ["", "a b", "é", "a\0b", &"k".repeat(257)] {
        assert!(IdempotencyKey::new(bad).is_err(), "{bad:?}");
    }
    let key = IdempotencyKey::new("a-1").unwrap();
    let tenant = Tenant::default();
    assert_eq!(
        (key.scope(&tenant, 0), key.scope(&tenant, 2)),
        ("default\0a-1".to_owned(), "default\0a-1\x002".to_owned())
    );
}

#[test]
fn tenants_are_directory_names() {
    for bad in ["", ".", "..", "a/b", "a\\b", "a b", "a|b", "é", "a\0", &"t".repeat(129)] {
        assert!(Tenant::new(bad).is_err(), "{bad:?}");
    }
    for good in ["a", "acme-1", "A.b_c", "...", &"t".repeat(128)] {
        assert_eq!(Tenant::new(good).unwrap().as_str(), good);
    }
}
