#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::*;
use crate::data::Tenant;
use crate::sources::testing::World;
use crate::sources::{IdempotencyKey, IngestConfig};

/// Keeps counters by `name{label values}`.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    fn of(&self, name: &str) -> BTreeMap<String, u64> {
        let counters = self.0.lock().unwrap();
        let named = counters.iter().filter_map(|(key, value)| Some((key.strip_prefix(name)?, value)));
        named.map(|(labels, value)| (labels.to_owned(), value.load(Ordering::Relaxed))).collect()
    }

    fn sum(&self, name: &str) -> u64 {
        self.of(name).values().sum()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn received_is_stored_and_duplicate_and_rejected() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let world = World::with(IngestConfig { max_value_size_bytes: 100, ..IngestConfig::default() }).await;
    let tenant = Tenant::new("a-name-that-must-not-be-a-label").unwrap();
    let lines: Vec<_> = (0..100).map(|i| format!(r#"{{"message":"m","service":"s{i}"}}"#)).collect();
    let body = format!("{}\n{{}}\noops\n{{\"message\":\"{}\"}}", lines.join("\n"), "x".repeat(101));
    let key = || Some(IdempotencyKey::new("k").unwrap());
    world.fs.fail_next_write("topics/logs/1/", 10, ErrorKind::StorageFull);
    world.ingest.ingest_logs(&tenant, Bytes::from(body.clone()), key()).await.unwrap_err();
    world.ingest.ingest_logs(&tenant, Bytes::from(body.clone()), key()).await.unwrap();
    world.ingest.ingest_logs(&tenant, Bytes::from(body.clone()), key()).await.unwrap();
    world.ingest.ingest_logs(&tenant, Bytes::from_static(b"["), None).await.unwrap_err();

    let lost = counters.of(REJECTED)["{internal,logs,log}"];
    assert!((1..100).contains(&lost), "{lost}");
    assert_eq!(counters.of(RECEIVED), BTreeMap::from([("{internal,logs}".to_owned(), 309)]));
    assert_eq!(counters.of(STORED), BTreeMap::from([("{internal,logs}".to_owned(), 100)]));
    assert_eq!(counters.of(DUPLICATE), BTreeMap::from([("{internal,logs}".to_owned(), 200 - lost)]));
    for reason in ["missing_field", "malformed", "too_long"] {
        assert_eq!(counters.of(REJECTED)[&format!("{{internal,logs,{reason}}}")], 3);
    }
    assert_eq!(counters.sum(RECEIVED), counters.sum(STORED) + counters.sum(DUPLICATE) + counters.sum(REJECTED));
    assert_eq!(counters.of(REFUSED_REQUESTS)["{internal,logs,malformed}"], 1);
    assert_eq!(counters.sum(RECEIVED_SIZE), 3 * body.len() as u64);
    assert_eq!(world.messages().await.len(), 100);
    let names = counters.0.lock().unwrap();
    assert!(names.keys().all(|name| !name.contains(tenant.as_str())), "{:?}", names.keys());
}
