//! The Kafka port: where it is, who may come in, and what becomes of what clients write.

use serde_json::{Value, json};

use crate::end_to_end::{ALERTING, RULES, START_S};
use crate::support::{Server, Site, eventually, signal};

/// Writes lines to a topic, with more flags.
async fn produce(site: &Site, server: &Server, topic: &str, lines: &str, more: &[&str]) -> crate::support::Ran {
    let file = site.write("lines.txt", lines);
    let said = ["topic", "produce", topic, "--file", file.to_str().unwrap(), "--brokers", server.kafka()];
    site.run(&[&said, more].concat()).await
}

async fn produced(site: &Site, server: &Server, topic: &str, lines: &str, more: &[&str]) {
    produce(site, server, topic, lines, more).await.output();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_is_told_taken_or_closed() {
    let site = Site::new();
    let server = site.start().await;
    let url = server.url("");
    // Commands find it by asking the server.
    let listed = site.run(&["topic", "list", "--server", &url]).await.output();
    for topic in ["alerts", "dead-letter", "logs", "metrics"] {
        assert!(listed.lines().any(|line| line.starts_with(topic)), "no {topic} in {listed}");
    }
    assert_eq!(server.get("/api/v1/status").await.json()["kafka"], server.kafka());

    let other = site.subdirectory("other");
    let other = other.to_str().unwrap();
    let serve = ["serve", "--http-listen", "127.0.0.1:0", "--data-dir", other, "--kafka-listen", server.kafka()];
    let taken = site.run(&serve).await;
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.stderr.contains(server.kafka()) && taken.stderr.contains("--kafka-listen"), "{}", taken.stderr);
    server.stop().await;

    let closed = Site::with_config("kafka: { listen: off }\n");
    let server = closed.start().await;
    assert_eq!(server.get("/api/v1/status").await.json()["kafka"], Value::Null);
    let asked = closed.run(&["groups", "list", "--server", &server.url("")]).await;
    assert_eq!(asked.code, Some(1));
    assert!(asked.stderr.contains("has no Kafka port"), "{}", asked.stderr);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_produce_becomes_rows() {
    let site = Site::new();
    let mut server = site.start().await;
    let line =
        r#"{"timestamp": "2026-03-01T12:00:00Z", "level": "warn", "service": "shop", "message": "json", "order": 17}"#;
    produced(&site, &server, "logs", &format!("{line}\n"), &["--compression", "zstd"]).await;
    let array = r#"[{"message": "one", "service": "shop"}, {"message": "two", "service": "shop"}]"#;
    produced(&site, &server, "logs", &format!("{array}\n"), &["-H", "content-type=application/json"]).await;
    let text = "2026-03-01T12:00:01Z ERROR cannot pay\n";
    produced(&site, &server, "logs", text, &["-H", "content-type=text/plain", "-H", "tenant=acme"]).await;
    produced(&site, &server, "metrics", "{\"name\": \"m\", \"value\": 1.5, \"labels\": {\"job\": \"x\"}}\n", &[]).await;
    produced(&site, &server, "logs", "no log, and no JSON\n", &[]).await;

    // Acknowledged is visible: no waiting here.
    let shop = "SELECT message, level, attributes['order'] AS order FROM logs WHERE service = 'shop' ORDER BY message";
    let expected = [
        json!({"message": "json", "level": "WARNING", "order": "17"}),
        json!({"message": "one"}),
        json!({"message": "two"}),
    ];
    let rows: Vec<Value> = server.sql(shop).await.into_iter().map(without_nulls).collect();
    assert_eq!(rows, expected);
    assert_eq!(server.value("SELECT value FROM metrics WHERE name = 'm'").await, json!(1.5));
    let request =
        server.request("/api/v1/sql").header("X-Scope-OrgID", "acme").header("content-type", "application/json");
    let acme =
        server.send(request.body(json!({"query": "SELECT message FROM logs", "format": "json"}).to_string())).await;
    assert_eq!(acme.json(), json!([{"message": text.trim_end()}]));
    server.until("SELECT count(*) FROM dead_letter", 1).await;
    assert_eq!(server.value("SELECT topic FROM dead_letter").await, json!("logs"));

    server.kill_in_place().await;
    server = site.start().await;
    assert_eq!(server.number("SELECT count(*) FROM logs").await, 3);
    // What Highwater writes itself is read as rows.
    server.accepted("/logs", r#"{"message": "over HTTP", "service": "shop"}"#).await;
    let tail =
        ["topic", "tail", "logs", "--from", "earliest", "--no-follow", "-o", "json", "--brokers", server.kafka()];
    let records: Vec<Value> =
        site.run(&tail).await.output().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let arrow: Vec<_> = records.iter().filter(|record| record["rows"].is_array()).collect();
    assert_eq!(arrow.len(), 1, "{records:?}");
    assert_eq!(arrow[0]["rows"][0]["message"], "over HTTP");
    server.stop().await;
    site.verify().await;
}

fn without_nulls(row: Value) -> Value {
    let Value::Object(row) = row else { return row };
    Value::Object(row.into_iter().filter(|(_, value)| !value.is_null()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tasks_write_is_theirs() {
    let site = Site::with_config(ALERTING);
    site.write("rules.yaml", RULES);
    let server = site.start().await;
    for topic in ["alerts", "rollup.errors_10s", "dead-letter", "__highwater.partials", "__highwater.config"] {
        let ran = produce(&site, &server, topic, "x\n", &[]).await;
        assert_eq!(ran.code, Some(1), "{topic}: {ran:?}");
        assert!(ran.stderr.contains("uthorization"), "{topic}: {}", ran.stderr);
    }
    let refused = async |arguments: &[&str]| {
        let ran = site.run(&[arguments, &["--brokers", server.kafka()]].concat()).await;
        assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains("uthorization"), "{arguments:?}: {}", ran.stderr);
    };
    for topic in ["logs", "alerts"] {
        refused(&["topic", "delete", topic]).await;
        refused(&["topic", "alter", topic, "--partitions", "9"]).await;
    }
    refused(&["groups", "reset", "__highwater.tasks", "--all-topics", "--to", "earliest", "--execute"]).await;
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_subscribed_to() {
    let site = Site::with_config(ALERTING);
    site.write("rules.yaml", RULES);
    let server = site.start().await;
    let at = ["--brokers", server.kafka()];
    let described = site.run(&[&["topic", "describe", "alerts"], &at[..]].concat()).await.output();
    assert!(described.contains("cleanup.policy: compact"), "{described}");
    let tail = [&["topic", "tail", "alerts", "--from", "earliest", "-n", "3", "-o", "json"], &at[..]].concat();
    let following = site.run(&tail);
    let windows = async {
        for (index, errors) in [0, 7, 8, 0, 0, 0].into_iter().enumerate() {
            let row = |n: usize| {
                let at = START_S + index as i64 * 10 + (n % 10) as i64;
                let level = if n < errors { "error" } else { "info" };
                json!({"timestamp": at, "service": "shop", "host": "a", "level": level, "message": "GET /"})
            };
            let lines: String = (0..40).map(|n| format!("{}\n", row(n))).collect();
            produced(&site, &server, "logs", &lines, &["-p", "0"]).await;
        }
    };
    let (followed, ()) = tokio::join!(following, windows);
    let records: Vec<Value> = followed.output().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<_> = records.iter().map(|record| record["value"]["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["pending", "firing", "resolved"]);
    for record in &records {
        assert_eq!(record["key"], record["value"]["fingerprint"], "{record}");
        assert_eq!(record["value"]["alertname"], "TooManyErrors");
    }
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keys_clients_log_in() {
    let site = Site::new();
    let made = site.run(&["api-key", "new", "checkout", "--tenant", "shop"]).await;
    let (secret, line) = (made.stdout.trim().to_owned(), made.stderr.lines().last().unwrap().trim().to_owned());
    assert!(secret.starts_with("hw_") && !line.contains(&secret), "{made:?}");
    site.write("keys.yaml", &format!("{line}\n"));
    site.configure("kafka: { listen: \"127.0.0.1:0\" }\napi_keys: keys.yaml\n");
    site.run(&["validate", "--config", "highwater.yaml"]).await.output();
    let server = site.start().await;
    let list = async |user: &str, password: &str| {
        let properties = format!(
            "# a login\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username={user}\nsasl.password={password}\n"
        );
        let file = site.write("client.properties", &properties);
        let file = file.to_str().unwrap();
        site.run(&["topic", "list", "--brokers", server.kafka(), "--properties-file", file]).await
    };
    let ran = list("checkout", &secret).await;
    assert!(ran.stdout.contains("logs"), "{ran:?}");
    for (user, password) in [("checkout", "hw_wrong"), ("nobody", secret.as_str())] {
        let ran = list(user, password).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{user}");
    }
    let anonymous = site.run(&["topic", "list", "--brokers", server.kafka()]).await;
    assert_eq!((anonymous.code, anonymous.stdout.as_str()), (Some(1), ""));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_readers_that_wait() {
    let site = Site::new();
    let server = site.start().await;
    let tail = ["topic", "tail", "logs", "--brokers", server.kafka(), "-n", "1"];
    let mut following = crate::support::command(site.path()).args(tail).spawn().unwrap();
    eventually("the reader is connected", true, async || {
        let metrics = server.get("/metrics").await.text;
        let open = metrics.lines().find_map(|line| line.strip_prefix("highwater_kafka_connections "));
        open.is_some_and(|open| open.trim() != "0")
    })
    .await;
    signal(server.pid(), "TERM").await;
    server.ended().await;
    following.kill().await.unwrap();
    site.verify().await;
}
