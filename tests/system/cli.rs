//! The command line: exit codes, what goes where, signals, reloads.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Site, eventually, signal};

#[tokio::test]
async fn help_and_version_are_data() {
    let site = Site::new();
    let help = site.run(&["--help"]).await.output();
    for subcommand in [
        "serve", "agent", "sql", "alerts", "tail", "rules", "topic", "groups", "api-key", "table", "status",
        "validate", "verify",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(subcommand)), "no {subcommand} in {help}");
        let own = site.run(&[subcommand, "--help"]).await.output();
        assert!(own.contains("Usage: highwater"), "{own}");
    }
    assert_eq!(site.run(&["--version"]).await.output(), format!("highwater {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn exit_codes_say_whose_mistake_it_was() {
    let site = Site::new();
    site.write("bad.yaml", "data_dir: data\nlog:\n  partitons: 4\n");
    let nobody = "http://127.0.0.1:1";
    let cases: [(&[&str], i32, &str); 7] = [
        (&["--no-such-flag"], 2, "--no-such-flag"),
        (&["no-such-command"], 2, "no-such-command"),
        (&["sql", "-o", "xml", "SELECT 1"], 2, "xml"),
        (&["sql", "--server", nobody, "SELECT 1"], 1, nobody),
        (&["alerts", "tail", "--server", nobody], 1, nobody),
        (&["serve", "--config", "absent.yaml"], 78, "absent.yaml"),
        (&["serve", "--config", "bad.yaml"], 78, "bad.yaml:3"),
    ];
    for (arguments, code, said) in cases {
        let ran = site.run(arguments).await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{arguments:?} names {said}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}: errors go to stderr");
    }
}

#[tokio::test]
async fn validate_names_file_line_and_key() {
    let site = Site::new();
    site.run(&["validate", "--config", "highwater.yaml"]).await.output();
    let cases = [
        ("log:\n  partitons: 4\n", "broken.yaml:2", "partitons"),
        ("tables: { commit_interval: soon }\n", "broken.yaml:1", "soon"),
        ("http: { listen: nowhere }\n", "broken.yaml:1:17", "socket address"),
        ("log: {\n", "broken.yaml", "broken.yaml"),
        ("kafka: { listen: nowhere }\n", "broken.yaml:1:18", "`nowhere` is not an address"),
        ("kafka: { listen: \"0.0.0.0:9092\" }\n", "kafka.listen", "kafka.allow_insecure"),
        ("http: { listen: \"0.0.0.0:8080\" }\n", "http.listen", "http.allow_insecure"),
        ("api_keys: [{ name: a, sha256: secret }]\n", "api_keys[0]", "64 hexadecimal digits"),
        ("kafka: { tls: { cert: no.pem, key: no.pem } }\n", "kafka.tls.cert", "no.pem"),
        ("http: { listen: \"${HIGHWATER_TEST_UNSET}\" }\n", "broken.yaml:1", "HIGHWATER_TEST_UNSET"),
        ("rollups:\n  - name: r\n    sql: SELECT service FROM nowhere GROUP BY 1\n", "r", "nowhere"),
        ("rollups:\n  - name: r\n    sql: SELECT count(*) AS n FROM logs\n", "r", "tumble"),
        ("rule_files: [broken-rules.yaml]\n", "broken-rules.yaml", "no_such_rollup"),
    ];
    site.write(
        "broken-rules.yaml",
        "groups:\n  - name: g\n    rules:\n      - alert: A\n        sql: SELECT service, n FROM no_such_rollup\n",
    );
    for (config, place, said) in cases {
        site.write("broken.yaml", config);
        let ran = site.run(&["validate", "--config", "broken.yaml"]).await;
        assert_eq!(ran.code, Some(78), "{config}: {ran:?}");
        assert!(
            ran.stderr.contains(place) && ran.stderr.contains(said),
            "{config}: names {place} and {said}: {}",
            ran.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_prints_every_format_and_nothing_else() {
    let site = Site::new();
    let server = site.start().await;
    server.accepted("/logs", r#"[{"message": "a, \"b\"", "service": "s"}, {"message": "ü", "service": "s"}]"#).await;
    let query = "SELECT message, service, 1 AS one FROM logs ORDER BY message";
    let url = server.url("");
    let ask = async |format: &str| site.run(&["sql", "--server", &url, "-o", format, query]).await.output();
    let rows =
        [json!({"message": "a, \"b\"", "service": "s", "one": 1}), json!({"message": "ü", "service": "s", "one": 1})];
    assert_eq!(serde_json::from_str::<Vec<Value>>(&ask("json").await).unwrap(), rows);
    let ndjson: Vec<Value> = ask("ndjson").await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ndjson, rows);
    assert_eq!(ask("csv").await, "message,service,one\n\"a, \"\"b\"\"\",s,1\nü,s,1\n");
    let table = ask("table").await;
    for text in ["message", "a, \"b\"", "ü"] {
        assert!(table.contains(text), "{table}");
    }
    // A bad query is the asker's failure and says what is wrong with it.
    let ran = site.run(&["sql", "--server", &url, "SELECT nosuch FROM logs"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("nosuch"), "{}", ran.stderr);

    // The same answer straight from the data directory, while the server runs on it.
    let data_dir = site.data_dir().to_str().unwrap();
    let offline = site.run(&["sql", "--data-dir", data_dir, "-o", "json", query]).await.output();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&offline).unwrap(), rows);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_answers_what_has_begun() {
    let site = Site::new();
    let server = site.start().await;
    let (sender, body) = tokio::sync::mpsc::channel::<Result<&'static str, std::io::Error>>(1);
    let body = futures::stream::unfold(body, async |mut body| body.recv().await.map(|chunk| (chunk, body)));
    let request = server.request("/logs").header("content-type", "application/json");
    let answer = tokio::spawn(request.body(reqwest::Body::wrap_stream(body)).send());
    sender.send(Ok(r#"{"message": "half before"#)).await.unwrap();
    // The server holds half a request when it is told to stop.
    tokio::time::sleep(Duration::from_millis(300)).await;
    signal(server.pid(), "TERM").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    sender.send(Ok(r#" and half after"}"#)).await.unwrap();
    drop(sender);
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    server.ended().await;
    site.verify().await;
    assert_eq!(site.offline_number("SELECT count(*) FROM logs WHERE message = 'half before and half after'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_reload_keeps_the_old_configuration() {
    let site = Site::with_config("rule_files: [rules.yaml]\n");
    site.write("rules.yaml", "groups: []\n");
    let server = site.start().await;
    site.write("rules.yaml", "groups:\n  - nam: typo\n");
    let reply = server.post("/-/reload", "").await;
    assert!(reply.status >= 400, "{reply:?}");
    assert!(reply.text.contains("rules.yaml") && reply.text.contains("nam"), "{reply:?}");
    signal(server.pid(), "HUP").await;
    eventually("the log names the mistake of a reload by signal", true, async || {
        server.log_tail().contains("rules.yaml")
    })
    .await;
    assert_eq!(server.get("/health/ready").await.status, 200);
    server.accepted("/logs", r#"{"message": "still here"}"#).await;
    assert_eq!(server.number("SELECT count(*) FROM logs").await, 1);

    site.write("rules.yaml", "groups: []\n");
    let reply = server.post("/-/reload", "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_data_is_refused() {
    let site = Site::new();
    let server = site.start().await;
    let data_dir = site.data_dir().to_str().unwrap();
    let second = site.run(&["serve", "--http-listen", "127.0.0.1:0", "--data-dir", data_dir]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(data_dir), "{}", second.stderr);

    let other = site.subdirectory("other");
    let listen = server.url("").trim_start_matches("http://").to_owned();
    let taken = site.run(&["serve", "--http-listen", &listen, "--data-dir", other.to_str().unwrap()]).await;
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.stderr.contains(&listen), "{}", taken.stderr);

    server.accepted("/logs", r#"{"message": "the first one goes on"}"#).await;
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_listed_merged_beside_the_server_and_told_of() {
    let site = Site::new();
    let server = site.start().await;
    // Two commits, so two files of one day at least.
    for (i, stored) in [(0, 3), (1, 6)] {
        let entry =
            |j: i64| json!({"timestamp": "2026-03-01T12:00:00Z", "service": "s", "message": format!("{i} {j}")});
        server.accepted("/logs", json!((0..3).map(entry).collect::<Vec<_>>()).to_string()).await;
        let rows = "SELECT coalesce(sum(rows), 0) FROM table_storage WHERE table_name = 'logs' AND date = '2026-03-01'";
        server.until(rows, stored).await;
    }
    let url = server.url("");
    let list = site.run(&["table", "list", "--server", &url, "-o", "json"]).await.output();
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    let logs = list.iter().find(|row| row["table_name"] == "logs").unwrap();
    assert!(logs["stored_rows"].as_i64().unwrap() >= 6 && logs["size_bytes"].as_i64().unwrap() > 0, "{logs}");
    let described =
        site.run(&["table", "describe", "logs", "--storage", "--server", &url, "-o", "json"]).await.output();
    assert!(described.contains("2026-03-01"), "{described}");

    let data_dir = site.data_dir().to_str().unwrap().to_owned();
    let compacted = site.run(&["table", "compact", "logs", "--data-dir", &data_dir]).await.output();
    assert!(compacted.starts_with("logs: ") && compacted.contains(" merged into 1 of "), "{compacted}");
    server.until("SELECT count(*) FROM logs WHERE service = 's'", 6).await;
    let files = "SELECT sum(files) FROM table_storage WHERE table_name = 'logs' AND date = '2026-03-01'";
    server.until(files, 1).await;
    let history = site.run(&["table", "history", "logs", "--json", "--data-dir", &data_dir]).await.output();
    let history: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let operations: Vec<&str> = history.iter().map(|line| line["operation"].as_str().unwrap()).collect();
    assert!(operations.contains(&"OPTIMIZE") && operations.contains(&"STREAMING UPDATE"), "{operations:?}");
    assert_eq!(operations.last(), Some(&"CREATE TABLE"));
    let missing = site.run(&["table", "history", "nosuch", "--data-dir", &data_dir]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("no stored table nosuch") && missing.stderr.contains("logs"), "{}", missing.stderr);
    server.stop().await;
    site.verify().await;
}
