//! Agents with several sources, as processes: what was written is what SQL shows, whoever is killed meanwhile.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Agent, Site, eventually};

/// Writes numbered lines and rotates its file by rename every now and then, as logrotate does with a writer that opens its file anew.
fn write_rotating(directory: &Path, from: usize, lines: usize, per_file: usize) {
    let path = directory.join("app.log");
    let open = || std::fs::File::options().create(true).append(true).open(&path).unwrap();
    let mut file = open();
    for number in from..from + lines {
        writeln!(file, "2026-03-01 12:00:00 INFO line {number}").unwrap();
        if number % per_file == per_file - 1 {
            drop(file);
            std::fs::rename(&path, directory.join(format!("app.log.{number}"))).unwrap();
            file = open();
            std::thread::sleep(Duration::from_millis(150));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_under_rotation_and_kills() {
    let site = Site::new();
    let mut server = site.start().await;
    let listen = server.url("").strip_prefix("http://").unwrap().to_owned();
    let logs = site.subdirectory("logs");
    let pods = site.subdirectory("containers");
    site.write(
        "agent.yaml",
        &format!(
            "server: {}\nstate_dir: state\nbatch: {{ rows: 200, wait: 200ms }}\nlabels: {{ env: test }}\nlogs:\n\
             - {{ service: app, files: ['{}/app.log*'] }}\n\
             - {{ service: pods, files: ['{}/*.log'], exclude_files: ['skip*'], multiline: traces, exclude: [healthz], redact: [{{ pattern: email }}] }}\n\
             metrics: [{{ service: host, interval: 1s }}]\n",
            server.url(""),
            logs.display(),
            pods.display()
        ),
    );
    std::fs::write(
        pods.join("web_shop_nginx-0123.log"),
        concat!(
            "2026-03-01T12:00:00.5Z stdout F started by jo@example.com\n",
            "2026-03-01T12:00:01.5Z stdout P a line in \n",
            "2026-03-01T12:00:01.5Z stdout F pieces\n",
            "2026-03-01T12:00:02.5Z stderr F ERROR boom\n",
            "2026-03-01T12:00:02.5Z stderr F \tat a.b(C.java:1)\n",
            "2026-03-01T12:00:03.5Z stdout F GET /healthz\n",
        ),
    )
    .unwrap();
    std::fs::write(pods.join("skip.log"), "2026-03-01T12:00:00.5Z stdout F never\n").unwrap();
    let arguments = ["run", "--config", "agent.yaml"];
    site.run(&[&["agent"][..], &arguments, &["--check"]].concat()).await.output();

    const LINES: usize = 6_000;
    let (directory, third) = (logs.clone(), LINES / 3);
    let write = async |part: usize| {
        let directory = directory.clone();
        tokio::task::spawn_blocking(move || write_rotating(&directory, part * third, third, 500)).await.unwrap();
    };
    let agent = Agent::spawn(site.path(), &arguments);
    let count = "SELECT count(*) AS n FROM logs WHERE service = 'app'";
    write(0).await;
    eventually("some are there", true, async || server.number(count).await > 0).await;
    agent.kill().await;
    let agent = Agent::spawn(site.path(), &arguments);
    server.kill_in_place().await;
    write(1).await;
    let server = site.start_on(&listen).await;
    write(2).await;
    server.until(count, i64::try_from(LINES).unwrap()).await;
    let distinct = "SELECT count(DISTINCT message) AS n FROM logs WHERE service = 'app'";
    assert_eq!(server.number(distinct).await, i64::try_from(LINES).unwrap());
    let rows = server
        .sql("SELECT message, level, attributes['log.iostream'] AS stream, attributes['k8s.pod.name'] AS pod, attributes['env'] AS env, \
              CAST(timestamp AS VARCHAR) AS at FROM logs WHERE service = 'pods' ORDER BY timestamp")
        .await;
    let said = |row: &Value, name: &str| row[name].as_str().unwrap_or("").to_owned();
    let told: Vec<_> = rows.iter().map(|row| (said(row, "message"), said(row, "stream"))).collect();
    assert_eq!(
        told,
        [
            ("started by [REDACTED]".to_owned(), "stdout".to_owned()),
            ("a line in pieces".to_owned(), "stdout".to_owned()),
            ("ERROR boom\n\tat a.b(C.java:1)".to_owned(), "stderr".to_owned()),
        ]
    );
    assert_eq!((rows[0]["pod"].clone(), rows[0]["env"].clone()), (json!("web"), json!("test")));
    assert!(said(&rows[2], "at").starts_with("2026-03-01T12:00:02.5"), "{rows:?}");
    server.until("SELECT LEAST(count(*), 1) AS n FROM metrics WHERE service = 'host'", 1).await;
    assert!(agent.terminate().await.success());
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_ships_straight_to_the_log_and_tells_its_lag() {
    let site = Site::new();
    let server = site.start().await;
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.write("app.log", "2026-03-01 12:00:00 WARN one\n2026-03-01 12:00:01 INFO two\n");
    site.write(
        "agent.yaml",
        &format!(
            "server: kafka://{}\nstate_dir: state\ntenant: shop\nmetrics_listen: {metrics}\nbatch: {{ wait: 100ms }}\n\
             logs: [{{ service: app, files: ['{}'] }}]\n",
            server.kafka(),
            site.path().join("app.log").display()
        ),
    );
    let agent = Agent::spawn(site.path(), &["run", "--config", "agent.yaml"]);
    let count =
        json!({"query": "SELECT count(*) AS n, min(level) AS level FROM logs WHERE service = 'app'", "format": "json"})
            .to_string();
    eventually("rows of the tenant", json!([{"n": 2, "level": "INFO"}]), async || {
        let request = server.request("/api/v1/sql").header("x-scope-orgid", "shop").body(count.clone());
        server.send(request).await.json()
    })
    .await;
    let client = reqwest::Client::new();
    eventually("nothing is left to read", true, async || {
        let page = client.get(format!("http://{metrics}/metrics")).send().await.unwrap().text().await.unwrap();
        let line = |name: &str, value: &str| page.lines().any(|line| line.starts_with(name) && line.ends_with(value));
        line("highwater_agent_lag_bytes{", " 0") && line("highwater_agent_spool_rows ", " 0")
    })
    .await;
    assert!(agent.terminate().await.success());
    server.stop().await;
    site.verify().await;
}
