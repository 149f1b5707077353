//! Receivers of alerts that change while the server runs: a reload is enough, each goes on where it was, and those that did not change are not told again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::end_to_end::START_S;
use crate::support::{Server, Site, eventually, signal};

const RULES: &str = "
groups:
  - name: rooms
    rules:
      - alert: Hot
        expr: temperature > 30
";

/// `who state room`, in order.
type Told = Arc<Mutex<Vec<String>>>;

async fn desk() -> (String, Told) {
    let told = Told::default();
    let take = |State(told): State<Told>, Path(who): Path<String>, Json(body): Json<Value>| async move {
        for alert in body["alerts"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            told.lock().push(format!("{who} {} {}", text(&alert["status"]), text(&alert["labels"]["room"])));
        }
    };
    let router = Router::new().route("/{who}", post(take)).with_state(Arc::clone(&told));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, told)
}

/// The configuration with these receivers: name, and path.
fn config(url: &str, receivers: &[(&str, &str)]) -> String {
    let hooks: String =
        receivers.iter().map(|(name, path)| format!("    - {{ name: {name}, url: \"{url}/{path}\" }}\n")).collect();
    let notify = if receivers.is_empty() { String::new() } else { format!("notify:\n  webhook:\n{hooks}") };
    format!("rule_files: [rules.yaml]\n{notify}")
}

/// Ten seconds from this one on it is hot in these rooms.
async fn hot(server: &Server, rooms: &[&str], second: i64) {
    let sample = |at: i64, room: &str| json!({"name": "temperature", "value": 40, "timestamp": START_S + at, "labels": {"room": room}});
    let samples: Vec<Value> =
        (second..second + 10).flat_map(|at| rooms.iter().map(move |room| sample(at, room))).collect();
    server.accepted("/metrics", json!({"metrics": samples}).to_string()).await;
}

async fn heard(told: &Told, expected: &[&str]) {
    let mut expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
    expected.sort();
    eventually("who is told of what", expected, async || {
        let mut told = told.lock().clone();
        told.sort();
        told
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_change_at_a_reload_and_go_on_where_they_were() {
    let (url, told) = desk().await;
    let site = Site::with_config(&config(&url, &[("stays", "stays"), ("moves", "old"), ("goes", "goes")]));
    site.write("rules.yaml", RULES);
    let server = site.start().await;
    hot(&server, &["one"], 0).await;
    heard(&told, &["stays firing one", "old firing one", "goes firing one"]).await;
    eventually("all have noted how far they are", 3, async || {
        let status = server.get("/api/v1/status").await.json();
        let tasks = status["tasks"].as_array().unwrap().iter();
        tasks
            .filter(|task| task["task"].as_str().unwrap().starts_with("notify/") && task["offset"].as_i64() >= Some(1))
            .count()
    })
    .await;

    // One has moved, one is gone, one is new: it begins with what fires.
    told.lock().clear();
    site.configure(&config(&url, &[("stays", "stays"), ("moves", "new"), ("comes", "comes")]));
    let reply = server.post("/-/reload", "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let tasks = async || -> Vec<String> {
        let status = server.get("/api/v1/status").await.json();
        let names = status["tasks"].as_array().unwrap().iter().map(|task| task["task"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("notify/")).collect()
    };
    assert_eq!(tasks().await, ["notify/comes", "notify/moves", "notify/stays"]);
    heard(&told, &["comes firing one"]).await;
    hot(&server, &["one", "two"], 10).await;
    heard(&told, &["comes firing one", "stays firing two", "new firing two", "comes firing two"]).await;

    // What cannot be a receiver changes nothing, and says why.
    site.configure(&config(&url, &[("no name", "x")]));
    let reply = server.post("/-/reload", "").await;
    assert!(reply.status == 500 && reply.text.contains("webhook[0]") && reply.text.contains("no name"), "{reply:?}");
    assert_eq!(tasks().await, ["notify/comes", "notify/moves", "notify/stays"]);

    // By signal as well. The one that was away goes on where it was.
    told.lock().clear();
    site.configure(&config(&url, &[("goes", "back")]));
    signal(server.pid(), "HUP").await;
    eventually("only one is left", vec!["notify/goes".to_owned()], async || tasks().await).await;
    heard(&told, &["back firing two"]).await;
    site.configure(&config(&url, &[]));
    assert_eq!(server.post("/-/reload", "").await.status, 200);
    assert_eq!(tasks().await, Vec::<String>::new());
    server.stop().await;
    site.verify().await;
}
