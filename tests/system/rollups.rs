//! Rollups as their users meet them: filled with what is stored, over one another, built in, and asked about on the command line.

use serde_json::{Value, json};

use crate::support::{DuckDb, Server, Site, eventually};

/// A full hour of 2026-03-01, UTC.
const START_S: i64 = 1_772_362_800;
/// Rows of a [`Server::pass_time`].
const ROWS: i64 = 40;

const COUNTED: &str = "rollups:
  - name: counted
    sql: SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, count(*) AS n FROM logs GROUP BY 1, 2
  - name: counted_5m
    sql: SELECT tumble(window_start, INTERVAL '5 minutes') AS window_start, service, sum(n) AS n, max(n) AS most FROM counted GROUP BY 1, 2
";

/// The minutes of a rollup: start, count.
async fn minutes(server: &Server, rollup: &str) -> Vec<(i64, i64)> {
    let query = format!(
        "SELECT CAST(extract(epoch FROM window_start) AS BIGINT) AS start, n FROM {rollup} WHERE service = 'app' ORDER BY 1"
    );
    let number = |row: &Value, column: &str| row[column].as_i64().unwrap();
    server.sql(&query).await.iter().map(|row| (number(row, "start") - START_S, number(row, "n"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_rollup_takes_in_what_is_stored_and_goes_on_with_the_log_whatever_is_killed() {
    let site = Site::new();
    let server = site.start().await;
    for second in [10, 65, 130] {
        server.pass_time("app", START_S + second).await;
    }
    server.until("SELECT count(*) FROM logs", 3 * ROWS).await;
    let table = site.table("logs").join("_delta_log");
    eventually("logs are in their table", true, async || table.exists()).await;
    site.configure(COUNTED);
    assert_eq!(server.post("/-/reload", "").await.status, 200);
    server.pass_time("app", START_S + 140).await;
    server.kill().await;

    let server = site.start().await;
    server.pass_time("app", START_S + 190).await;
    let whole = vec![(0, ROWS), (60, ROWS), (120, 2 * ROWS)];
    eventually("every minute once, and whole", whole, async || minutes(&server, "counted").await).await;
    // The window of five minutes closes with the last minute in it.
    server.pass_time("app", START_S + 400).await;
    let five = vec![(0, 5 * ROWS)];
    eventually("the rollup of the rollup", five.clone(), async || minutes(&server, "counted_5m").await).await;

    let listed = site.run(&["rollup", "list", "--server", &server.url("")]).await.output();
    assert!(listed.contains("counted_5m") && listed.contains("tumble 5m"), "{listed}");
    let described = site.run(&["rollup", "describe", "counted_5m", "--server", &server.url("")]).await.output();
    assert!(described.contains("reads               counted\n") && described.contains("most"), "{described}");
    let explained = site.run(&["rollup", "explain", "counted", "--server", &server.url("")]).await.output();
    assert!(explained.contains("one partial per group and 1m of event time"), "{explained}");
    let reply = server.post("/api/v1/rollups/nosuch/backfill", "{}").await;
    assert_eq!(reply.status, 404, "{reply:?}");

    // Computed anew, every window is replaced by what it was.
    let before = minutes(&server, "counted").await;
    site.run(&["rollup", "backfill", "counted_5m", "--server", &server.url("")]).await.output();
    server.pass_time("app", START_S + 410).await;
    let replaced = "SELECT count(*) FROM counted WHERE service = 'app' AND _revision > 0";
    server.until(replaced, before.len() as i64).await;
    assert_eq!(minutes(&server, "counted").await, before);
    eventually("those above are as well", five.clone(), async || minutes(&server, "counted_5m").await).await;
    // A reload of the same file is no edit, and neither is a restart.
    let version = server.get("/api/v1/status").await.json()["definitions_version"].clone();
    assert_eq!(server.post("/-/reload", "").await.status, 200);
    assert_eq!(server.get("/api/v1/status").await.json()["definitions_version"], version);
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_in_rollups_follow_what_comes_in() {
    let site = Site::with_config("built_in_rollups: true\n");
    let server = site.start().await;
    let log = |second: i64, level: &str, attributes: Value| {
        let mut log =
            json!({"timestamp": START_S + second, "service": "web", "host": "a", "level": level, "message": "12345"});
        log.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
        log
    };
    let logs = [
        log(1, "INFO", json!({"duration_ms": 10, "status": 200})),
        log(2, "ERROR", json!({"latency_ms": "30.0"})),
        log(3, "INFO", json!({"duration_ms": 20, "status": "503"})),
        log(4, "INFO", json!({})),
    ];
    server.accepted("/logs", json!(logs).to_string()).await;
    let sample = |second: i64, value: f64| json!({"name": "temp", "value": value, "timestamp": START_S + second, "labels": {"room": "a"}});
    let samples = [sample(1, 3.0), sample(30, 1.0), sample(59, 2.0), sample(61, 9.0), sample(3_599, 4.0)];
    server.accepted("/metrics", json!(samples).to_string()).await;
    // Closes the minute of logs, on every partition; samples are far enough on.
    server.pass_time("later", START_S + 70).await;
    server.until("SELECT count(*) FROM metrics_1m", 3).await;
    let rows = server
        .sql("SELECT name, labels->>'room' AS room, min, max, sum, count, last FROM metrics_1m ORDER BY window_start")
        .await;
    let row = |min: f64, max: f64, sum: f64, count: i64, last: f64| json!({"name": "temp", "room": "a", "min": min, "max": max, "sum": sum, "count": count, "last": last});
    assert_eq!(rows, [row(1.0, 3.0, 6.0, 3, 2.0), row(9.0, 9.0, 9.0, 1, 9.0), row(4.0, 4.0, 4.0, 1, 4.0)]);
    server.until("SELECT count(*) FROM metrics_1h", 1).await;
    let rows = server.sql("SELECT name, labels->>'room' AS room, min, max, sum, count, last FROM metrics_1h").await;
    assert_eq!(rows, [row(1.0, 9.0, 19.0, 5, 4.0)]);
    server.until("SELECT coalesce(sum(logs), 0) FROM log_volume_1m WHERE service = 'web'", 4).await;
    let rows = server
        .sql("SELECT service, level, logs, size_bytes FROM log_volume_1m WHERE service = 'web' ORDER BY level")
        .await;
    let row = |level: &str, logs: i64| json!({"service": "web", "level": level, "logs": logs, "size_bytes": 5 * logs});
    assert_eq!(rows, [row("ERROR", 1), row("INFO", 3)]);
    server.until("SELECT count(*) FROM log_red_1m", 1).await;
    let rows = server
        .sql("SELECT service, requests, errors, duration_ms_sum, duration_ms_max, duration_ms_p50 FROM log_red_1m")
        .await;
    let p50 = rows[0]["duration_ms_p50"].as_f64().unwrap();
    assert!((p50 - 20.0).abs() <= 0.2, "{rows:?}");
    assert_eq!(
        (&rows[0]["requests"], &rows[0]["errors"], &rows[0]["duration_ms_sum"], &rows[0]["duration_ms_max"]),
        (&json!(3), &json!(2), &json!(60.0), &json!(30.0))
    );
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_are_rolled_up() {
    let site = Site::with_config(
        "rollups:
  - name: calls
    sql: |
      SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, count(*) AS calls,
             count(*) FILTER (WHERE status = 'ERROR') AS errors, max(duration_ns) AS slowest_ns
      FROM spans GROUP BY 1, 2
",
    );
    let server = site.start().await;
    // One trace, so one partition: the last span carries its time past the end of the first minute.
    let span = |second: i64, took_ns: i64, code: i64| {
        let start_ns = (START_S + second) * 1_000_000_000;
        json!({
            "traceId": "5b8efff798038103d269b633813fc60c", "spanId": format!("{second:016x}"), "name": "GET /", "kind": 2,
            "startTimeUnixNano": start_ns.to_string(), "endTimeUnixNano": (start_ns + took_ns).to_string(), "status": {"code": code}
        })
    };
    let spans = [span(1, 5_000_000, 1), span(2, 7_000_000, 2), span(30, 6_000_000, 0), span(70, 1_000, 1)];
    let service = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]});
    let request = json!({"resourceSpans": [{"resource": service, "scopeSpans": [{"spans": spans}]}]});
    server.accepted("/v1/traces", request.to_string()).await;
    server.until("SELECT count(*) FROM calls", 1).await;
    let rows = server.sql("SELECT service, calls, errors, slowest_ns FROM calls").await;
    assert_eq!(rows, [json!({"service": "web", "calls": 3, "errors": 1, "slowest_ns": 7_000_000})]);
    server.stop().await;
    site.verify().await;
}

/// The same query by somebody else, over the raw table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollups_of_real_logs_equal_what_duckdb_says_of_the_raw_table() {
    let (Some(directory), Some(duckdb)) = (super::loghub::loghub(), DuckDb::find().await) else { return };
    let site = Site::with_config(
        "rollups:
  - name: hourly
    sql: |
      SELECT tumble(timestamp, INTERVAL '1 hour') AS window_start, service, level, count(*) AS n,
             count(DISTINCT host) AS hosts, min(octet_length(message)) AS shortest, avg(octet_length(message)) AS mean,
             stddev(octet_length(message)) AS sd, quantile(octet_length(message), 0.9) AS p90, max(message) AS greatest
      FROM logs GROUP BY 1, 2, 3
  - name: sliding
    sql: |
      SELECT hop(timestamp, INTERVAL '6 hours', INTERVAL '1 day') AS window_start, service, count(*) AS n,
             count(*) FILTER (WHERE level IN ('ERROR', 'CRITICAL')) AS errors
      FROM logs GROUP BY 1, 2
  - name: daily
    sql: |
      SELECT tumble(window_start, INTERVAL '1 day') AS window_start, service, sum(n) AS n, max(n) AS busiest
      FROM hourly GROUP BY 1, 2
",
    );
    let server = site.start().await;
    let mut agents = Vec::new();
    for (service, year) in [("Apache", None), ("Linux", Some("2005")), ("Zookeeper", None)] {
        let file = directory.join(format!("{service}.log")).display().to_string();
        let url = server.url("");
        let mut arguments = vec!["logs", "--service", service, "--file", &file, "--server", &url];
        arguments.extend(year.iter().flat_map(|year| ["--year", *year]));
        agents.push(crate::support::Agent::spawn(&site.subdirectory(service), &arguments));
    }
    server.until("SELECT count(*) FROM logs", 6_000).await;
    for agent in agents {
        assert!(agent.terminate().await.success());
    }
    let logs = site.table("logs");
    eventually("DuckDB sees every row", Ok(6_000), async || duckdb.count(&logs).await).await;
    // Closes every window on every partition, the late ones as well.
    server.pass_time("later", START_S).await;
    for rollup in ["hourly", "daily"] {
        server.until(&format!("SELECT coalesce(sum(n), 0) FROM {rollup} WHERE service <> 'later'"), 6_000).await;
    }
    server.until("SELECT coalesce(sum(n), 0) FROM sliding WHERE service <> 'later'", 24_000).await;
    server.stop().await;

    let source = format!("(SELECT * FROM delta_scan('{}') WHERE service <> 'later')", logs.display());
    let width = "strlen(message)";
    let hour = "date_trunc('hour', timestamp)";
    for (rollup, columns, expected) in [
        (
            "hourly",
            "epoch(window_start), service, level, n, hosts, shortest, round(mean, 6), round(sd, 6), greatest",
            format!(
                "SELECT epoch({hour}), service, level, count(*), count(DISTINCT host), min({width}), round(avg({width}), 6), round(stddev({width}), 6), max(message)
                 FROM {source} GROUP BY ALL"
            ),
        ),
        (
            "sliding",
            "epoch(window_start), service, n, errors",
            format!(
                "SELECT epoch(start), service, count(*), count(*) FILTER (WHERE level IN ('ERROR', 'CRITICAL'))
                 FROM (SELECT *, unnest([time_bucket(INTERVAL '6 hours', timestamp) - k * INTERVAL '6 hours' FOR k IN [0, 1, 2, 3]]) AS start FROM {source})
                 GROUP BY ALL"
            ),
        ),
        (
            "daily",
            "epoch(window_start), service, n, busiest",
            format!(
                "SELECT epoch(date_trunc('day', hour)), service, sum(n)::BIGINT, max(n)
                 FROM (SELECT {hour} AS hour, service, level, count(*) AS n FROM {source} GROUP BY ALL) GROUP BY ALL"
            ),
        ),
    ] {
        let kept = format!("SELECT {columns} FROM delta_scan('{}') WHERE service <> 'later' ORDER BY ALL", site.table(rollup).display());
        let (kept, expected) = (duckdb.query(&kept).await.unwrap(), duckdb.query(&format!("{expected} ORDER BY ALL")).await.unwrap());
        assert!(kept.len() > 20, "{rollup} has {} rows", kept.len());
        assert_eq!(kept, expected, "{rollup}");
    }
    // Sketches are within their error.
    let far = duckdb
        .query(&format!(
            "SELECT count(*) FROM delta_scan('{}') r JOIN (SELECT {hour} AS h, service, level, quantile_disc({width}, 0.9) AS q FROM {source} GROUP BY ALL) d
             ON r.window_start = d.h AND r.service = d.service AND r.level IS NOT DISTINCT FROM d.level
             WHERE n > 100 AND abs(p90 - q) > 0.011 * q + 1",
            site.table("hourly").display()
        ))
        .await
        .unwrap();
    assert_eq!(far, [[json!(0)]]);
    site.verify().await;
}

/// This host's own metrics, as an agent ships them, against somebody else's SQL over the raw table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollups_of_host_metrics_equal_what_duckdb_says_of_the_raw_table() {
    let Some(duckdb) = DuckDb::find().await else { return };
    let site = Site::with_config(
        "rollups:
  - name: host_2s
    lateness: 1s
    sql: |
      SELECT tumble(timestamp, INTERVAL '2 seconds') AS window_start, name, labels, count(value) AS n, min(value) AS low, max(value) AS high, sum(value) AS total,
             avg(value) AS mean, stddev(value) AS sd, last(value) AS latest, first(value) AS earliest, quantile(value, 0.9) AS p90, count(DISTINCT value) AS different
      FROM metrics WHERE service = 'host' GROUP BY 1, 2, 3
  - name: grown
    lateness: 1s
    sql: |
      SELECT hop(timestamp, INTERVAL '1 second', INTERVAL '4 seconds') AS window_start, name, count(*) AS n, increase(value) AS grown
      FROM metrics WHERE service = 'host' AND kind = 'counter' GROUP BY 1, 2
",
    );
    let server = site.start().await;
    let url = server.url("");
    let arguments = ["metrics", "--service", "host", "--interval", "1s", "--server", &url];
    let agent = crate::support::Agent::spawn(&site.subdirectory("agent"), &arguments);
    let seconds = "SELECT count(DISTINCT timestamp) FROM metrics WHERE service = 'host'";
    eventually("some seconds of it", true, async || server.number(seconds).await >= 6).await;
    assert!(agent.terminate().await.success());
    let all = server.number("SELECT count(*) FROM metrics WHERE service = 'host'").await;
    let counters = server.number("SELECT count(*) FROM metrics WHERE service = 'host' AND kind = 'counter'").await;
    assert!(all > 50 && counters > 5, "{all} samples, {counters} of counters");
    // The last windows close in silence.
    server.until("SELECT coalesce(sum(n), 0) FROM host_2s", all).await;
    server.until("SELECT coalesce(sum(n), 0) FROM grown", 4 * counters).await;
    server.stop().await;

    let source = format!("(SELECT * FROM delta_scan('{}') WHERE service = 'host')", site.table("metrics").display());
    let bucket = "time_bucket(INTERVAL '2 seconds', timestamp)";
    for (rollup, columns, expected) in [
        (
            "host_2s",
            "epoch(window_start), name, labels, n, low, high, total, mean, round(sd, 3), latest, earliest, different",
            format!(
                "SELECT epoch({bucket}), name, labels, count(value), min(value), max(value), sum(value), avg(value), round(stddev(value), 3),
                        arg_max(value, timestamp), arg_min(value, timestamp), count(DISTINCT value)
                 FROM {source} GROUP BY {bucket}, name, labels"
            ),
        ),
        (
            "grown",
            "epoch(window_start), name, n, round(grown, 3)",
            format!(
                "SELECT epoch(start), name, sum(n)::BIGINT, round(sum(grown), 3) FROM (
                   SELECT start, name, series_id, count(*) AS n, CASE WHEN count(*) > 1 THEN sum(CASE WHEN before IS NULL THEN 0 WHEN value >= before THEN value - before ELSE value END) END AS grown
                   FROM (SELECT *, lag(value) OVER (PARTITION BY start, series_id ORDER BY timestamp) AS before
                         FROM (SELECT *, unnest([time_bucket(INTERVAL '1 second', timestamp) - k * INTERVAL '1 second' FOR k IN [0, 1, 2, 3]]) AS start FROM {source} WHERE kind = 'counter'))
                   GROUP BY start, name, series_id)
                 GROUP BY start, name"
            ),
        ),
    ] {
        let kept = format!("SELECT {columns} FROM delta_scan('{}') ORDER BY ALL", site.table(rollup).display());
        let (kept, expected) = (duckdb.query(&kept).await.unwrap(), duckdb.query(&format!("{expected} ORDER BY ALL")).await.unwrap());
        assert!(kept.len() > 10, "{rollup} has {} rows", kept.len());
        assert_eq!(kept.len(), expected.len(), "{rollup}");
        for (ours, theirs) in kept.iter().zip(&expected) {
            let same = ours.iter().zip(theirs).all(|(a, b)| match (a.as_f64(), b.as_f64()) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(1.0) || (a - b).abs() <= 0.0011,
                _ => a == b,
            });
            assert!(same, "{rollup}\n  kept:   {ours:?}\n  DuckDB: {theirs:?}");
        }
    }
    site.verify().await;
}
