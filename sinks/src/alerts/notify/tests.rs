//! Receivers beside real sockets: what they are sent, in which order, and what becomes of those that are away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Json, Router, routing::post};
use highwater_broker::SystemClock;
use highwater_pipeline::data::alerts::{State as AlertState, Transition};
use highwater_pipeline::log::{Clock, Log, TopicPartition};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{NotifyConfig, receivers, runs};
use crate::alerts::TOPIC;
use crate::testing::MemoryLog;

mod away;

/// Its key, and its body.
type Message = (Option<String>, Value);

#[derive(Clone, Default)]
struct Inbox {
    messages: Arc<Mutex<Vec<Message>>>,
    /// Answers to give before `200`.
    refuse: Arc<Mutex<Vec<StatusCode>>>,
}

impl Inbox {
    async fn serve(&self) -> String {
        let take = |State(inbox): State<Inbox>, headers: HeaderMap, Json(body): Json<Value>| async move {
            if let Some(status) = inbox.refuse.lock().pop() {
                return status;
            }
            let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
            inbox.messages.lock().push((key, body));
            StatusCode::OK
        };
        let router = Router::new().route("/{*path}", post(take)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }

    async fn wait_for(&self, count: usize) -> Vec<Value> {
        for _ in 0..600 {
            if self.messages.lock().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.messages.lock().iter().map(|(_, body)| body.clone()).collect()
    }
}

fn transition(name: &str, state: AlertState, second: i64) -> Transition {
    let us = second * 1_000_000;
    let labels = [("alertname", name), ("service", "web"), ("severity", "page")];
    Transition {
        timestamp_us: us,
        fingerprint: format!("{:016x}", name.len()),
        alertname: name.to_owned(),
        group_name: "g".to_owned(),
        state,
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        annotations: BTreeMap::from([("summary".to_owned(), format!("{name} is wrong"))]),
        value: Some(1.0),
        starts_at_us: Some(0),
        fired_at_us: Some(60_000_000),
        ends_at_us: (state == AlertState::Resolved).then_some(us),
        rule: json!({"expr": "up == 0"}),
        source: Value::Null,
        tenant: "default".to_owned(),
    }
}

fn push(log: &MemoryLog, transition: &Transition) {
    log.push(TOPIC, 0, transition.to_record().unwrap());
}

struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<bool>,
}

fn start(log: &Arc<MemoryLog>, yaml: Value) -> Running {
    start_on(log, yaml, Arc::new(SystemClock))
}

fn start_on(log: &Arc<MemoryLog>, yaml: Value, clock: Arc<dyn Clock>) -> Running {
    let config: NotifyConfig = serde_json::from_value(yaml).unwrap();
    let external = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    let mut all = receivers(&config, "http://hw", &external).unwrap();
    assert_eq!(all.len(), 1);
    let owned = TopicPartition { topic: TOPIC.into(), partition: 0 };
    let make = runs(all.remove(0), Arc::clone(log) as Arc<dyn Log>, clock, owned);
    let stop = CancellationToken::new();
    let task = tokio::spawn(make(stop.clone()).is_fenced);
    Running { stop, task }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        assert!(!self.task.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_gets_alertmanagers_payload_in_order_and_once_after_it_was_away() {
    let log = MemoryLog::with_topic(TOPIC, 1);
    let inbox = Inbox::default();
    *inbox.refuse.lock() = vec![StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND];
    let url = format!("{}/hook", inbox.serve().await);
    push(&log, &transition("Up", AlertState::Firing, 60));
    push(&log, &transition("Gone", AlertState::Firing, 60));
    push(&log, &transition("Gone", AlertState::Resolved, 70));
    let config = json!({"webhook": [{"name": "ops", "url": url, "match": ["severity=\"page\""]}]});
    let running = start(&log, config.clone());
    // A new receiver is told of what fires, not of the history.
    let first = inbox.wait_for(1).await.remove(0);
    assert_eq!((first["version"].as_str(), first["status"].as_str()), (Some("4"), Some("firing")));
    assert_eq!((&first["receiver"], &first["externalURL"]), (&json!("ops"), &json!("http://hw")));
    assert_eq!(first["groupLabels"], json!({"alertname": "Up"}));
    let alert = &first["alerts"][0];
    assert_eq!(alert["labels"], json!({"alertname": "Up", "service": "web", "severity": "page", "region": "eu"}));
    assert_eq!(alert["annotations"], json!({"summary": "Up is wrong"}));
    assert_eq!(
        (&alert["startsAt"], &alert["endsAt"]),
        (&json!("1970-01-01T00:01:00.000000Z"), &json!("0001-01-01T00:00:00Z"))
    );
    assert_eq!(alert["generatorURL"], "http://hw/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
    assert_eq!(alert["dedupeKey"], "0000000000000002-firing-0:0");
    running.stop().await;
    // Away: what comes meanwhile waits.
    push(&log, &transition("Up", AlertState::Resolved, 80));
    push(&log, &transition("Other", AlertState::Pending, 80));
    push(&log, &transition("Other", AlertState::Firing, 90));
    let mut quiet = transition("Other", AlertState::Firing, 91);
    quiet.labels.insert("severity".to_owned(), "info".to_owned());
    push(&log, &quiet);
    let running = start(&log, config);
    let all = inbox.wait_for(3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(inbox.messages.lock().len(), 3, "each once");
    let told: Vec<_> = all
        .iter()
        .map(|m| {
            format!("{} {}", m["status"].as_str().unwrap(), m["alerts"][0]["labels"]["alertname"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told, ["firing Up", "resolved Up", "firing Other"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alertmanagers_are_told_again_and_one_that_answers_is_enough() {
    let log = MemoryLog::with_topic(TOPIC, 1);
    let inbox = Inbox::default();
    let url = inbox.serve().await;
    // Nobody listens there.
    let dead = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let running = start(&log, json!({"alertmanager": [{"urls": [dead, url], "resend_delay": "300ms"}]}));
    push(&log, &transition("Up", AlertState::Firing, 60));
    let messages = inbox.wait_for(3).await;
    for message in &messages {
        assert_eq!(message[0]["labels"]["alertname"], "Up");
        assert_eq!(message[0]["startsAt"], "1970-01-01T00:01:00.000000Z");
        assert!(message[0]["endsAt"].as_str().unwrap() > "2020", "{message}");
    }
    push(&log, &transition("Up", AlertState::Resolved, 70));
    let mut ended = false;
    for _ in 0..200 {
        ended = inbox.messages.lock().iter().any(|(_, m)| m[0]["endsAt"] == "1970-01-01T00:01:10.000000Z");
        if ended {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(ended, "the end is told");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_and_pagerduty_are_told_in_their_words() {
    let log = MemoryLog::with_topic(TOPIC, 1);
    let (slack, pager) = (Inbox::default(), Inbox::default());
    let first = start(
        &log,
        json!({"slack": [{"url": format!("{}/s", slack.serve().await), "channel": "#a", "send_resolved": false}]}),
    );
    let second =
        start(&log, json!({"pagerduty": [{"url": format!("{}/v2/enqueue", pager.serve().await), "routing_key": "k"}]}));
    push(&log, &transition("Up", AlertState::Firing, 60));
    push(&log, &transition("Up", AlertState::Resolved, 70));
    let told = slack.wait_for(1).await;
    let attachment = &told[0]["attachments"][0];
    assert_eq!(
        (&told[0]["channel"], &attachment["title"], &attachment["color"]),
        (&json!("#a"), &json!("[FIRING:1] Up web"), &json!("danger"))
    );
    assert!(attachment["text"].as_str().unwrap().contains("Up is wrong"), "{attachment}");
    let told = pager.wait_for(2).await;
    assert_eq!((&told[0]["event_action"], &told[1]["event_action"]), (&json!("trigger"), &json!("resolve")));
    assert_eq!(told[0]["dedup_key"], told[1]["dedup_key"]);
    let payload = &told[0]["payload"];
    assert_eq!(
        (&payload["summary"], &payload["source"], &payload["severity"]),
        (&json!("Up is wrong"), &json!("web"), &json!("critical"))
    );
    first.stop().await;
    second.stop().await;
    assert_eq!(slack.messages.lock().len(), 1, "ends are not wanted there");
}

/// As much of SMTP as a client needs to be rid of a message.
async fn mail_server() -> (String, Arc<Mutex<Vec<String>>>) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mails: Arc<Mutex<Vec<String>>> = Arc::default();
    let taken = Arc::clone(&mails);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let taken = Arc::clone(&taken);
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                write.write_all(b"220 test\r\n").await.unwrap();
                while let Ok(Some(line)) = lines.next_line().await {
                    let verb = line.split(' ').next().unwrap_or("").to_uppercase();
                    let answer: &[u8] = match verb.as_str() {
                        "EHLO" => b"250-test\r\n250 8BITMIME\r\n",
                        "DATA" => {
                            write.write_all(b"354 go on\r\n").await.unwrap();
                            let mut mail = String::new();
                            while let Ok(Some(line)) = lines.next_line().await {
                                if line == "." {
                                    break;
                                }
                                mail.push_str(&line);
                                mail.push('\n');
                            }
                            taken.lock().push(mail);
                            b"250 taken\r\n"
                        }
                        "QUIT" => b"221 bye\r\n",
                        _ => b"250 fine\r\n",
                    };
                    if write.write_all(answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, mails)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_is_sent() {
    let log = MemoryLog::with_topic(TOPIC, 1);
    let (address, mails) = mail_server().await;
    let running = start(
        &log,
        json!({"email": [{"to": ["ops@example.org"], "from": "Highwater <hw@example.org>", "smarthost": address, "tls": "none"}]}),
    );
    push(&log, &transition("Up", AlertState::Firing, 60));
    for _ in 0..400 {
        if !mails.lock().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mail = mails.lock().first().cloned().expect("a mail");
    for part in [
        "To: ops@example.org",
        "Subject: [FIRING:1] Up web",
        "Up is wrong",
        "Message-ID: <0000000000000002-firing-0.0@highwater>",
    ] {
        assert!(mail.contains(part), "{part} in {mail}");
    }
    running.stop().await;
}

#[test]
fn what_cannot_be_a_receiver_is_refused_with_its_place() {
    let refused = |yaml: Value| {
        let config: NotifyConfig = serde_json::from_value(yaml).unwrap();
        receivers(&config, "", &BTreeMap::new()).unwrap_err().to_string()
    };
    for (yaml, expected) in [
        (json!({"alertmanager": [{}]}), "notify.alertmanager[0]: it has no url"),
        (json!({"webhook": [{"url": "ftp://x"}]}), "notify.webhook[0]: url"),
        (json!({"webhook": [{"url": {"env": "HIGHWATER_NO_SUCH"}}]}), "the environment has no HIGHWATER_NO_SUCH"),
        (json!({"slack": [{"url": {"file": "/no/such"}}]}), "cannot read /no/such"),
        (json!({"slack": [{"url": "http://x", "title": "{{ nosuch }}"}]}), "\"nosuch\" not defined"),
        (json!({"webhook": [{"url": "http://x", "match": ["a"]}]}), "match: `a` is no matcher"),
        (
            json!({"webhook": [{"name": "a", "url": "http://x"}, {"name": "a", "url": "http://x"}]}),
            "two receivers \"a\"",
        ),
        (json!({"email": [{"to": [], "from": "a@b.c", "smarthost": "x:1"}]}), "name at least one address"),
        (json!({"email": [{"to": ["a@b.c"], "from": "a@b.c", "smarthost": "x"}]}), "is not HOST:PORT"),
    ] {
        let error = refused(yaml.clone());
        assert!(error.contains(expected), "{yaml}: {error}");
    }
    assert!(serde_json::from_value::<NotifyConfig>(json!({"webhooks": []})).is_err());
    let shown =
        format!("{:?}", serde_json::from_value::<NotifyConfig>(json!({"slack": [{"url": "http://secret"}]})).unwrap());
    assert!(!shown.contains("http://secret"), "{shown}");
}
