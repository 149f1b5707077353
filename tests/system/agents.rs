//! Agents with several sources, as processes: what was written is what SQL shows, whoever is killed meanwhile.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Agent, Site, SmallDisk, eventually, free_address, skipped};

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
    // Another file, and another batch.
    server.until("SELECT count(*) AS n FROM logs WHERE service = 'pods'", 3).await;
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
    let metrics = free_address();
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
        let Ok(answer) = client.get(format!("http://{metrics}/metrics")).send().await else { return false };
        let page = answer.text().await.unwrap_or_default();
        let line = |name: &str, value: &str| page.lines().any(|line| line.starts_with(name) && line.ends_with(value));
        line("highwater_agent_lag_bytes{", " 0") && line("highwater_agent_spool_rows ", " 0")
    })
    .await;
    assert!(agent.terminate().await.success());
    server.stop().await;
    site.verify().await;
}

/// Lines `from..to` of a program that logs.
fn append(path: &Path, from: usize, to: usize) {
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    let lines: String = (from..to).map(|n| format!("2026-03-01 12:00:00 INFO line {n} {}\n", noise(n))).collect();
    file.write_all(lines.as_bytes()).unwrap();
}

/// Text that does not compress.
fn noise(n: usize) -> String {
    let mut state = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    (0..20).map(next).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_disk_is_full_waits_and_loses_nothing() {
    const LINES: usize = 24_000;
    let site = Site::new();
    let mount_point = site.subdirectory("small-disk");
    let disk = match SmallDisk::mount(&mount_point, "2m") {
        Ok(disk) => disk,
        Err(error) => return skipped("an agent whose disk is full", &format!("cannot mount a tmpfs: {error}")),
    };
    // Nobody answers yet.
    let free = free_address();
    let file = site.path().join("app.log");
    append(&file, 0, LINES - 4_000);
    let (file_text, url, state) = (file.to_str().unwrap(), format!("http://{free}"), disk.path.join("state"));
    let arguments =
        ["logs", "--service", "app", "--file", file_text, "--server", &url, "--state-dir", state.to_str().unwrap()];
    let agent = Agent::spawn(site.path(), &arguments);
    let log = site.path().join("agent.log");
    let said = |what: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(what);
    eventually("the disk is full, and the agent says so", true, async || said("No space left on device")).await;
    // Killed in that state, and started again in it.
    agent.kill().await;
    let agent = Agent::spawn(site.path(), &arguments);
    append(&file, LINES - 4_000, LINES);
    let server = site.start_on(&free).await;
    let rows = i64::try_from(LINES).unwrap();
    server.until("SELECT count(DISTINCT message) FROM logs WHERE service = 'app'", rows).await;
    assert_eq!(server.number("SELECT count(*) FROM logs WHERE service = 'app'").await, rows, "lines stored twice");
    assert!(agent.terminate().await.success());
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_ships_to_kafka_and_is_killed_sends_every_line_at_least_once() {
    const KILLS: usize = 4;
    const LINES: usize = 8_000;
    const BATCH_ROWS: usize = 100;
    let site = Site::new();
    let server = site.start().await;
    let file = site.path().join("app.log");
    let server_url = format!("kafka://{}", server.kafka());
    site.write(
        "agent.yaml",
        &format!(
            "server: {server_url}\nstate_dir: state\nbatch: {{ rows: {BATCH_ROWS}, wait: 100ms }}\nlogs: [{{ service: app, files: ['{}'] }}]\n",
            file.display()
        ),
    );
    let arguments = ["run", "--config", "agent.yaml"];
    let distinct = "SELECT count(DISTINCT message) AS n FROM logs WHERE service = 'app'";
    for kill in 0..KILLS {
        append(&file, kill * LINES / KILLS, (kill + 1) * LINES / KILLS);
        let agent = Agent::spawn(site.path(), &arguments);
        // In the middle of what it has to send.
        let some = i64::try_from(kill * LINES / KILLS + 300).unwrap();
        eventually("some more are there", true, async || server.number(distinct).await >= some).await;
        agent.kill().await;
    }
    let agent = Agent::spawn(site.path(), &arguments);
    let rows = i64::try_from(LINES).unwrap();
    server.until(distinct, rows).await;
    assert!(agent.terminate().await.success());
    // One batch of a file is under way at a time: each kill may have doubled that one.
    let twice = server.number("SELECT count(*) AS n FROM logs WHERE service = 'app'").await - rows;
    assert!((0..=i64::try_from(KILLS * BATCH_ROWS).unwrap()).contains(&twice), "{twice} lines are there twice");
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_spool_cannot_hold_is_counted_and_said() {
    const LINES: usize = 20_000;
    let site = Site::new();
    let free = free_address();
    let metrics = free_address();
    let file = site.path().join("app.log");
    append(&file, 0, LINES);
    site.write(
        "agent.yaml",
        &format!(
            "server: http://{free}\nstate_dir: state\nspool: {{ size_bytes: 400000 }}\nmetrics_listen: {metrics}\nlogs: [{{ service: app, files: ['{}'] }}]\n",
            file.display()
        ),
    );
    let agent = Agent::spawn(site.path(), &["run", "--config", "agent.yaml"]);
    let client = reqwest::Client::new();
    let count = async |name: &str| {
        let answer = client.get(format!("http://{metrics}/metrics")).send().await;
        let page = match answer {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        let line = page.lines().find(|line| line.starts_with(name)).map(str::to_owned).unwrap_or_default();
        line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok()).map_or(0, |count| count as usize)
    };
    eventually("all lines are read", LINES, async || count("highwater_agent_lines_read_total").await).await;
    eventually("all lines are spooled, or dropped", LINES, async || {
        count("highwater_agent_rows_dropped_total").await + count("highwater_agent_spool_rows").await
    })
    .await;
    let dropped = count("highwater_agent_rows_dropped_total").await;
    assert!(dropped > LINES / 2, "{dropped}");
    let server = site.start_on(&free).await;
    let kept = i64::try_from(LINES - dropped).unwrap();
    server.until("SELECT count(*) FROM logs WHERE service = 'app'", kept).await;
    // The newest are there, each once.
    let message = format!("% line {} %", LINES - 1);
    let last = format!("SELECT count(*) FROM logs WHERE message LIKE '{message}'");
    assert_eq!(server.number(&last).await, 1);
    assert_eq!(server.number("SELECT count(DISTINCT message) FROM logs WHERE service = 'app'").await, kept);
    assert!(!agent.terminate().await.success(), "an agent that lost rows says so when it ends");
    let log = std::fs::read_to_string(site.path().join("agent.log")).unwrap();
    assert!(log.contains("the spool is full"), "{log}");
    server.stop().await;
    site.verify().await;
}
