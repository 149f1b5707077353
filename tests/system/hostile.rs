//! Bad input of every kind: a clear refusal, and a server that goes on answering.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::{Agent, Reply, Server, Site, SmallDisk, bombs, eventually, skipped};

/// Sends a good log and reads it back.
async fn goes_on(server: &Server, after: &str) {
    server.accepted("/logs", json!({"message": format!("after {after}"), "service": "good"}).to_string()).await;
    let query = format!("SELECT count(*) FROM logs WHERE message = 'after {}'", after.replace('\'', "''"));
    assert_eq!(server.number(&query).await, 1, "after {after}");
}

#[track_caller]
fn assert_refused(reply: &Reply, status: u16, said: &str, what: &str) {
    assert_eq!(reply.status, status, "{what}: {}", reply.text);
    let text = reply.text.to_lowercase();
    assert!(text.contains(&said.to_lowercase()), "{what}: the answer names `{said}`: {}", reply.text);
    assert!(reply.json().is_object(), "{what}: errors are JSON objects: {}", reply.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_make_no_sense_are_refused_with_the_reason() {
    let site = Site::new();
    let server = site.start().await;
    let deep = format!(r#"{{"message": "deep", "x": {}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let logs: [(&[u8], &str); 14] = [
        (b"", "empty"),
        (b"{\"message\": \"cut", "json"),
        (b"{\"message\": \"x\"} trailing", "json"),
        (b"not json at all", "json"),
        (b"42", "object"),
        (b"{}", "message"),
        (b"{\"message\": \"\"}", "message"),
        (b"{\"message\": null}", "message"),
        (b"{\"message\": 7}", "message"),
        (b"{\"message\": \"x\", \"timestamp\": \"yesterday\"}", "timestamp"),
        (b"{\"message\": \"x\", \"timestamp\": {}}", "timestamp"),
        (b"{\"message\": \"x\", \"level\": {}}", "level"),
        (b"{\"message\": \"\xff\xfe\"}", "utf-8"),
        (deep.as_bytes(), "json"),
    ];
    for (body, said) in logs {
        let what = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_refused(&server.post("/logs", body.to_vec()).await, 400, said, &what);
        goes_on(&server, &what).await;
    }
    let metrics = [
        (r#"{"value": 1}"#, "name"),
        (r#"{"name": "", "value": 1}"#, "name"),
        (r#"{"name": 5, "value": 1}"#, "name"),
        (r#"{"name": "m"}"#, "value"),
        (r#"{"name": "m", "value": NaN}"#, "json"),
        (r#"{"name": "m", "value": "12"}"#, "value"),
        (r#"{"name": "m", "value": null}"#, "value"),
        (r#"{"name": "m", "value": 1e999}"#, "value"),
        (r#"{"name": "m", "value": 1, "type": "thermometer"}"#, "type"),
        (r#"{"name": "m", "value": 1, "labels": "zone=b"}"#, "labels"),
    ];
    for (body, said) in metrics {
        assert_refused(&server.post("/metrics", body).await, 400, said, body);
    }
    goes_on(&server, "bad metrics").await;
    assert_eq!(server.number("SELECT count(*) FROM metrics").await, 0);
    assert_eq!(server.number("SELECT count(*) FROM logs WHERE service <> 'good' OR service IS NULL").await, 0);
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_entries_among_bad_ones_are_stored() {
    let site = Site::new();
    let server = site.start().await;
    let body = r#"[{"message": "good 0"}, {"message": ""}, 17, {"message": "good 3"}, {"message": "x", "timestamp": "never"}]"#;
    let reply = server.post("/logs", body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(3)), "{answer}");
    let errors = answer["errors"].as_array().unwrap();
    let refused: Vec<_> = errors.iter().map(|error| error["index"].as_u64().unwrap()).collect();
    assert_eq!(refused, [1, 2, 4], "{answer}");
    for (error, said) in errors.iter().zip(["message", "object", "timestamp"]) {
        assert!(error["reason"].as_str().unwrap().contains(said), "{said}: {answer}");
    }
    let stored = server.sql("SELECT message FROM logs ORDER BY message").await;
    assert_eq!(stored, [json!({"message": "good 0"}), json!({"message": "good 3"})]);

    // In NDJSON a bad line spoils only itself, even where it is not JSON.
    let request = server.request("/logs").header("content-type", "application/x-ndjson");
    let reply =
        server.send(request.body("{\"message\": \"line 0\"}\n{\"message\": \n{\"message\": \"line 2\"}\n")).await;
    assert_eq!(reply.json()["accepted"], 2, "{reply:?}");
    assert_eq!(reply.json()["errors"][0]["index"], 1, "{reply:?}");
    assert_eq!(server.number("SELECT count(*) FROM logs WHERE message LIKE 'line %'").await, 2);
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_but_honest_text_is_kept_as_it_is() {
    let site = Site::new();
    let server = site.start().await;
    let messages = [
        "nul \u{0} inside",
        "emoji 🦀, ünïcödé, \u{202e}rtl",
        "'; DROP TABLE logs; --",
        "line\nbreak\ttab",
        "\\u0041 \\ \"quoted\"",
    ];
    for (index, message) in messages.iter().enumerate() {
        server
            .accepted(
                "/logs",
                json!({"message": message, "request_id": index.to_string(), "": "empty key", "a": "1"}).to_string(),
            )
            .await;
    }
    let stored = server.sql("SELECT message FROM logs ORDER BY request_id").await;
    assert_eq!(stored, messages.map(|message| json!({"message": message})));
    server.stop().await;
    site.verify().await;
}

/// 100 MB in one line.
const HUGE_BYTES: usize = 100_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabyte_line_is_refused() {
    let site = Site::new();
    let server = site.start().await;
    let mut body = br#"{"message": ""#.to_vec();
    body.resize(HUGE_BYTES, b'x');
    body.extend(br#""}"#);
    assert_refused(&server.post("/logs", body.clone()).await, 413, "bytes", "100 MB in one request");
    goes_on(&server, "100 MB").await;

    // With no Content-Length to go by.
    let chunks = body.chunks(1 << 20).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>();
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    // The server may hang up once it has seen enough; what it must not do is take it, or fall over.
    if let Ok(response) = server.request("/logs").header("content-type", "application/json").body(stream).send().await {
        assert_eq!(response.status(), 413);
    }
    goes_on(&server, "100 MB in chunks").await;
    assert!(server.peak_memory_bytes() < 1 << 30, "{} bytes at peak", server.peak_memory_bytes());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_passes_a_hundred_megabyte_line() {
    let site = Site::new();
    let server = site.start().await;
    let mut content = b"INFO line before\n".to_vec();
    content.resize(HUGE_BYTES, b'x');
    content.extend(b"\nINFO line after\n");
    let file = site.path().join("app.log");
    std::fs::write(&file, content).unwrap();
    let agent = Agent::spawn(
        site.path(),
        &["logs", "--service", "app", "--file", file.to_str().unwrap(), "--server", &server.url("")],
    );
    for line in ["before", "after"] {
        server.until(&format!("SELECT count(*) FROM logs WHERE message LIKE '%line {line}'"), 1).await;
    }
    // Cut, not lost: a row for every line.
    server.until("SELECT count(*) FROM logs WHERE message LIKE 'xxx%' AND length(message) < 1048576", 1).await;
    assert!(agent.terminate().await.success());
    assert_eq!(server.number("SELECT count(*) FROM logs").await, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_bodies_are_read_and_bombs_are_not() {
    let site = Site::new();
    let server = site.start().await;
    for (encoding, small) in bombs::honest(br#"{"message": "compressed"}"#) {
        let request =
            server.request("/logs").header("content-type", "application/json").header("content-encoding", encoding);
        assert_eq!(server.send(request.body(small.clone())).await.status, 200, "{encoding}");
        let request =
            server.request("/logs").header("content-type", "application/json").header("content-encoding", encoding);
        let cut = small[..small.len() / 2].to_vec();
        assert_refused(&server.send(request.body(cut)).await, 400, encoding, &format!("half a body of {encoding}"));
    }
    assert_eq!(server.number("SELECT count(*) FROM logs WHERE message = 'compressed'").await, 4);

    for (bomb_name, encoding, bomb) in bombs::bombs() {
        assert!(bomb.len() < 32 << 20, "the {bomb_name} is small on the wire: {}", bomb.len());
        let request =
            server.request("/logs").header("content-type", "application/json").header("content-encoding", encoding);
        let reply = server.send(request.body(bomb)).await;
        assert_refused(&reply, 413, "bytes", bomb_name);
        goes_on(&server, bomb_name).await;
    }
    let request = server.request("/logs").header("content-encoding", "rot13").body("{}");
    assert_refused(&server.send(request).await, 415, "rot13", "an unknown encoding");
    assert!(server.peak_memory_bytes() < 1 << 30, "{} bytes at peak", server.peak_memory_bytes());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_a_name_and_not_a_path() {
    let site = Site::new();
    let server = site.start().await;
    let send = async |tenant: &str| {
        let request =
            server.request("/logs").header("content-type", "application/json").header("x-scope-orgid", tenant);
        server.send(request.body(r#"{"message": "whose?"}"#)).await
    };
    let long = "x".repeat(10_000);
    for tenant in ["../../etc", "a/b", "..", ".", "a\\b", long.as_str()] {
        assert_refused(&send(tenant).await, 400, "tenant", tenant);
    }
    assert_eq!(send("team-a").await.status, 200);
    // A query sees its own tenant only.
    assert_eq!(server.number("SELECT count(*) FROM logs").await, 0);
    let request =
        server.request("/api/v1/sql").header("content-type", "application/json").header("x-scope-orgid", "team-a");
    let rows = server
        .send(request.body(json!({"query": "SELECT tenant, message FROM logs", "format": "json"}).to_string()))
        .await;
    assert_eq!(rows.json(), json!([{"tenant": "team-a", "message": "whose?"}]));
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_reads_tables_and_nothing_else() {
    let site = Site::new();
    let server = site.start().await;
    server.accepted("/logs", r#"{"message": "precious"}"#).await;
    let secret = site.write("secret.csv", "secret\n42\n");
    let out = site.path().join("out.csv");
    let (secret, out) = (secret.display(), out.display());
    let queries = [
        format!("COPY (SELECT * FROM logs) TO '{out}'"),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{secret}'"),
        "CREATE TABLE t AS SELECT 1".into(),
        "CREATE VIEW v AS SELECT 1".into(),
        "CREATE SCHEMA s".into(),
        "INSERT INTO logs (message) VALUES ('forged')".into(),
        "UPDATE logs SET message = 'forged'".into(),
        "DELETE FROM logs".into(),
        "DROP TABLE logs".into(),
        "SET datafusion.execution.target_partitions = 1000000".into(),
        "EXPLAIN ANALYZE INSERT INTO logs (message) VALUES ('forged')".into(),
        "PREPARE p AS SELECT 1".into(),
        "SELECT 1; DROP TABLE logs".into(),
    ];
    for query in queries {
        assert_refused(&server.try_sql(&query).await, 403, "not allowed", &query);
    }
    // A file is not a table, however it is spelled.
    for query in [
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM \"{secret}\""),
        format!("SELECT * FROM read_csv('{secret}')"),
    ] {
        let reply = server.try_sql(&query).await;
        assert!([400, 403].contains(&reply.status), "{query}: {} {}", reply.status, reply.text);
        assert!(!reply.text.contains("42"), "{query}: {}", reply.text);
    }
    for query in
        ["", "   ", "SELEC 1", "SELECT nosuch FROM logs", "SELECT * FROM nosuch", "SELECT nosuch(1)", "SELECT 1 / 0"]
    {
        assert_refused(&server.try_sql(query).await, 400, "", query);
    }
    let nested = format!("SELECT {}1{}", "(".repeat(50_000), ")".repeat(50_000));
    assert_refused(&server.try_sql(&nested).await, 400, "", "50,000 parentheses");
    assert!(!site.path().join("out.csv").exists());
    assert_eq!(server.sql("SELECT message FROM logs").await, [json!({"message": "precious"})]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_bounded_in_time_and_memory() {
    let site = Site::with_config("sql: { timeout: 2s, memory_limit_bytes: 67108864 }\n");
    let server = site.start().await;
    server.accepted("/logs", r#"{"message": "x"}"#).await;
    let endless = "SELECT count(*) FROM generate_series(1, 1000) a, generate_series(1, 1000000000000) b WHERE a.value + b.value < 0";
    let reply = server.try_sql(endless).await;
    assert_refused(&reply, 504, "2s", endless);
    goes_on(&server, "an endless query").await;

    let greedy =
        "SELECT array_agg(repeat('x', 1000) || CAST(value AS VARCHAR)) AS everything FROM generate_series(1, 10000000)";
    let reply = server.try_sql(greedy).await;
    assert_refused(&reply, 507, "memory", greedy);
    goes_on(&server, "a greedy query").await;
    assert!(server.peak_memory_bytes() < 1 << 30, "{} bytes at peak", server.peak_memory_bytes());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let site = Site::with_config("log: { segment_size_bytes: 1048576 }\n");
    let mount_point = site.subdirectory("small-disk");
    let disk = match SmallDisk::mount(&mount_point, "192m") {
        Ok(disk) => disk,
        Err(error) => return skipped("a full disk", &format!("cannot mount a tmpfs: {error}")),
    };
    let site = site.with_data_dir(disk.path.join("data"));
    let server = site.start().await;
    server.accepted("/logs", r#"{"message": "before"}"#).await;

    let filler = disk.path.join("filler");
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=1M", &format!("of={}", filler.display())]).output().unwrap();
    let big = json!((0..400).map(|i| json!({"message": format!("{i} {}", "x".repeat(5000))})).collect::<Vec<_>>())
        .to_string();
    let mut stored = 0;
    let refusal = loop {
        let reply = server.post("/logs", big.clone()).await;
        if reply.status != 200 {
            break reply;
        }
        stored += 1;
        assert!(stored < 1000, "the disk never fills");
    };
    assert_refused(&refusal, 507, "space", "a full disk");
    assert!(refusal.headers.contains_key("retry-after"), "{:?}", refusal.headers);
    // Reading goes on, and shows what was acknowledged, and all of it.
    assert_eq!(server.number("SELECT count(*) FROM logs WHERE message = 'before'").await, 1);
    assert_eq!(server.get("/health/live").await.status, 200);

    std::fs::remove_file(&filler).unwrap();
    eventually("writes are taken again", 200, async || server.post("/logs", r#"{"message": "again"}"#).await.status)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.stop().await;
    site.verify().await;
    assert_eq!(site.offline_number("SELECT count(*) FROM logs WHERE message = 'before'").await, 1);
    assert!(site.offline_number("SELECT count(*) FROM logs WHERE message = 'again'").await >= 1);
    assert_eq!(site.offline_number("SELECT count(*) FROM logs WHERE length(message) > 5000").await % 400, 0);
}
