#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use futures::StreamExt;
use highwater_pipeline::log::{Log, Record};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::stream::{From, StreamConfig};
use crate::testing::{MemoryLog, clock_record};

fn alert(fingerprint: &str, state: &str, tenant: &str) -> Record {
    let value = json!({"fingerprint": fingerprint, "state": state, "tenant": tenant, "alertname": "A"});
    Record { key: Some(fingerprint.to_string().into()), value: Some(value.to_string().into()), ..Record::default() }
}

struct Door {
    log: Arc<MemoryLog>,
    shutdown: CancellationToken,
    config: StreamConfig,
}

impl Door {
    fn new(partitions: i32) -> Self {
        let config = StreamConfig { keep_alive_ms: 60_000, ..StreamConfig::default() };
        Self { log: MemoryLog::with_topic(TOPIC, partitions), shutdown: CancellationToken::new(), config }
    }

    fn router(&self) -> axum::Router {
        router(Arc::clone(&self.log) as Arc<dyn Log>, self.config.clone(), self.shutdown.clone())
    }

    async fn get(&self, query: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::get(format!("/api/v1/alerts/stream{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn stream(&self, query: &str, headers: &[(&str, &str)]) -> Events {
        let response = self.get(query, headers).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body().into_data_stream(), text: String::new() }
    }
}

struct Events {
    body: BodyDataStream,
    text: String,
}

impl Events {
    /// The next event as it is on the wire, without its empty line; `None` at the end of the stream.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.to_string();
                self.text = rest.to_string();
                return Some(event);
            }
            let chunk =
                tokio::time::timeout(Duration::from_secs(10), self.body.next()).await.expect("an event in time")?;
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    async fn id(&mut self) -> String {
        let event = self.next().await.unwrap();
        event.lines().find_map(|l| l.strip_prefix("id: ")).unwrap_or_else(|| panic!("{event}")).to_string()
    }
}

#[test]
fn starts_are_parsed_strictly() {
    assert_eq!(From::parse("earliest"), Some(From::Earliest));
    assert_eq!(From::parse("latest"), Some(From::Latest));
    assert_eq!(From::parse("0:41"), Some(From::After { partition: 0, offset: 41 }));
    for bad in ["", "41", "0:", ":1", "-1:0", "0:-1", "0:1:2", "now"] {
        assert_eq!(From::parse(bad), None, "{bad}");
    }
}

#[tokio::test]
async fn from_the_beginning_and_on() {
    let door = Door::new(1);
    door.log.push(TOPIC, 0, alert("a", "pending", "default"));
    door.log.push(TOPIC, 0, clock_record());
    let mut events = door.stream("?from=earliest", &[]).await;
    let first = events.next().await.unwrap();
    let mut lines: Vec<_> = first.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, [r#"data: {"alertname":"A","fingerprint":"a","state":"pending","tenant":"default"}"#, "id: 0:0"]);
    door.log.push(TOPIC, 0, alert("a", "firing", "default"));
    assert_eq!(events.id().await, "0:2", "a control record is no event");
}

#[tokio::test]
async fn by_default_only_what_comes_and_with_an_id_what_came_since() {
    let door = Door::new(1);
    for state in ["pending", "firing"] {
        door.log.push(TOPIC, 0, alert("a", state, "default"));
    }
    let mut latest = door.stream("", &[]).await;
    door.log.push(TOPIC, 0, alert("a", "resolved", "default"));
    assert_eq!(latest.id().await, "0:2");
    assert_eq!(door.stream("?from=0:0", &[]).await.id().await, "0:1");
    assert_eq!(door.stream("?from=earliest", &[("last-event-id", "0:1")]).await.id().await, "0:2", "the header wins");
}

#[tokio::test]
async fn filters_by_state_and_tenant() {
    let door = Door::new(1);
    for (state, tenant) in [("pending", "a"), ("firing", "b"), ("firing", "a"), ("resolved", "a")] {
        door.log.push(TOPIC, 0, alert("x", state, tenant));
    }
    let mut both = door.stream("?from=earliest&state=firing,resolved", &[("x-scope-orgid", "a")]).await;
    assert_eq!((both.id().await, both.id().await), ("0:2".to_string(), "0:3".to_string()));
}

#[tokio::test]
async fn several_partitions_are_one_stream() {
    let door = Door::new(2);
    door.log.push(TOPIC, 0, alert("a", "firing", "default"));
    door.log.push(TOPIC, 1, alert("b", "firing", "default"));
    let mut events = door.stream("?from=earliest", &[]).await;
    let mut ids = [events.id().await, events.id().await];
    ids.sort();
    assert_eq!(ids, ["0:0", "1:0"]);
}

#[tokio::test]
async fn a_reader_overtaken_by_retention_is_told_and_goes_on() {
    let door = Door::new(1);
    for _ in 0..4 {
        door.log.push(TOPIC, 0, alert("a", "firing", "default"));
    }
    door.log.trim(TOPIC, 0, 3);
    let mut events = door.stream("?from=0:0", &[]).await;
    let lost = events.next().await.unwrap();
    assert!(lost.contains("event: lost") && lost.contains(r#"{"from":1,"partition":0,"to":3}"#), "{lost}");
    assert_eq!(events.id().await, "0:3");
}

#[tokio::test]
async fn it_ends_at_shutdown_and_begins_before_the_topic() {
    let mut door = Door::new(1);
    door.log = Arc::new(MemoryLog::default());
    let mut events = door.stream("", &[]).await;
    let waiting = tokio::spawn(async move {
        let id = events.id().await;
        (id, events)
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    door.log.add_topic(TOPIC, 1);
    door.log.push(TOPIC, 0, alert("a", "firing", "default"));
    let (id, mut events) = waiting.await.unwrap();
    assert_eq!(id, "0:0");
    door.shutdown.cancel();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_a_reason() {
    let mut door = Door::new(1);
    for query in ["?from=yesterday", "?state=firing,unknown", "?sate=firing"] {
        let response = door.get(query, &[]).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
    }
    door.config.max_subscribers = 1;
    let router = door.router();
    let ask = || Request::get("/api/v1/alerts/stream").body(Body::empty()).unwrap();
    let first = router.clone().oneshot(ask()).await.unwrap();
    let second = router.clone().oneshot(ask()).await.unwrap();
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(second.headers()["retry-after"], "5");
    drop(first);
    assert_eq!(router.oneshot(ask()).await.unwrap().status(), StatusCode::OK, "a seat is free again");
}

#[tokio::test]
async fn idle_streams_are_kept_open_by_comments() {
    let mut door = Door::new(1);
    door.config.keep_alive_ms = 10;
    let mut events = door.stream("", &[]).await;
    assert_eq!(events.next().await.unwrap(), ": keep-alive");
}

#[tokio::test]
async fn the_newest_record_of_each_alert_is_its_state() {
    let log = MemoryLog::with_topic(TOPIC, 1);
    assert!(current_alerts(&MemoryLog::default()).await.unwrap().is_empty());
    for (fingerprint, state) in [("a", "pending"), ("b", "firing"), ("a", "firing"), ("c", "firing"), ("c", "resolved")]
    {
        log.push(TOPIC, 0, alert(fingerprint, state, "t"));
        log.push(TOPIC, 0, clock_record());
    }
    log.push(TOPIC, 0, alert("a", "pending", "another"));
    log.push(TOPIC, 0, Record { value: Some("not json".into()), ..Record::default() });
    let found: Vec<_> = current_alerts(log.as_ref()).await.unwrap();
    let states: Vec<_> =
        found.iter().map(|a| (a.tenant.as_str(), a.fingerprint.as_str(), a.state.as_str(), a.offset)).collect();
    assert_eq!(
        states,
        [("another", "a", "pending", 10), ("t", "a", "firing", 4), ("t", "b", "firing", 2), ("t", "c", "resolved", 8)]
    );
    assert_eq!(serde_json::from_str::<serde_json::Value>(found[0].json.get()).unwrap()["alertname"], "A");
}
