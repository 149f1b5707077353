//! Loki's push API, by python-logging-loki and by promtail's client.

use serde_json::{Value, json};

use super::go::{BASE_NS, program};
use super::{python, run};
use crate::support::{DEADLINE, Site, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_a_loki_client_are_rows() {
    let Some(python) = python("LOKI", "logging_loki").await else { return };
    let site = Site::new();
    let server = site.start().await;
    let sent = run(&python, "loki_handler.py", &[&server.url("/loki/api/v1/push")]).await;
    let sent = sent.as_array().unwrap();
    assert_eq!(sent.len(), 21);
    let rows = server
        .sql(
            "SELECT message, CAST(timestamp AS BIGINT) AS timestamp_us, service, host, level, attributes['order'] AS \"order\", \
             attributes['logger'] AS logger FROM logs ORDER BY timestamp",
        )
        .await;
    let expected: Vec<Value> = sent
        .iter()
        .enumerate()
        .map(|(number, line)| {
            let last = number == 20;
            json!({
                "message": line["message"], "timestamp_us": line["timestamp_us"], "service": "checkout", "host": "web-1",
                "level": if last { "ERROR" } else { "INFO" },
                "order": if last { Value::Null } else { json!(number.to_string()) }, "logger": "shop",
            })
        })
        .collect();
    assert_eq!(rows, expected);
    server.balanced("loki", "logs", 21).await;
    server.stop().await;
    site.verify().await;
    assert_eq!(site.offline_number("SELECT count(*) FROM logs").await, 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_promtails_client_are_there_whoever_dies_or_waits() {
    const LINES: u64 = 6_000;
    let Some(program) = program("loki").await else { return };
    let site = Site::with_config("limits: { tenants: { shop: { rows_per_s: 500, burst_s: 1 } } }\n");
    let mut server = site.start().await;
    let at = server.addresses();
    let lines = |from: u64, to: u64| -> String {
        let line = |n: u64| {
            let line = json!({
                "labels": {"app": "checkout", "host": format!("web-{}", n % 7), "level": "warn", "zone": "eu", "__hidden": "1"},
                "timestamp_ns": BASE_NS + n * 1_001_003, "line": format!("line {n} äöü \"quoted\" \\ {}", "x".repeat(80)),
                "metadata": {"order": n.to_string(), "trace_id": format!("{:032x}", n + 1)},
            });
            format!("{line}\n")
        };
        (from..to).map(line).collect()
    };
    let (first, second) = (lines(0, LINES / 2), lines(LINES / 2, LINES));
    let mut child = tokio::process::Command::new(program)
        .args([&server.url("/loki/api/v1/push"), "shop", "30000"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let ended = tokio::spawn(child.wait_with_output());
    tokio::io::AsyncWriteExt::write_all(&mut input, first.as_bytes()).await.unwrap();
    let count = "SELECT count(*) AS n FROM logs";
    while server.sql_of("shop", count).await[0]["n"].as_u64().unwrap() < LINES / 3 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.kill_in_place().await;
    // There is nobody when it goes on, however slow it is.
    let feeding =
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut input, second.as_bytes()).await.unwrap() });
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    server = site.start_again(&at).await;
    feeding.await.unwrap();
    let output = within(DEADLINE, "the client ends", ended).await.unwrap().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let said: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let counts = ["sent", "dropped"].map(|what| said[format!("promtail_{what}_entries_total")].as_f64());
    assert_eq!(counts, [Some(LINES as f64), Some(0.0)], "{said}");
    assert!(said["promtail_batch_retries_total"].as_f64().unwrap() > 0.0, "{said}");
    assert!(server.metric("highwater_limited_requests_total", "rate_rows").await > 0.0, "it never had to wait");

    let rows = server
        .sql_of(
            "shop",
            "SELECT DISTINCT message, CAST(timestamp AS BIGINT) AS at_us, service, host, level, trace_id, attributes['order'] AS \"order\", \
             attributes['zone'] AS zone FROM logs ORDER BY at_us",
        )
        .await;
    assert_eq!(rows.len() as u64, LINES);
    for (n, row) in (0..LINES).zip(&rows) {
        assert_eq!(
            *row,
            json!({
                "message": format!("line {n} äöü \"quoted\" \\ {}", "x".repeat(80)), "at_us": (BASE_NS + n * 1_001_003) / 1000, "service": "checkout",
                "host": format!("web-{}", n % 7), "level": "WARNING", "trace_id": format!("{:032x}", n + 1), "order": n.to_string(), "zone": "eu",
            })
        );
    }
    // It sends one batch at a time: the one under way when the server died may be there twice, and no other.
    let twice = "SELECT count(*) AS n FROM (SELECT message FROM logs GROUP BY message HAVING count(*) > 1)";
    let twice = server.sql_of("shop", twice).await[0]["n"].as_u64().unwrap();
    assert!(twice <= 30_000 / 80, "{twice} lines are there twice");
    server.stop().await;
    site.verify().await;
}
