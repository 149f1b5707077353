//! Real log files, shipped by `highwater agent logs`: every line arrives, with its time and level. The files are loghub's
//! (https://github.com/logpai/loghub), which may not be redistributed here: `HIGHWATER_LOGHUB` names their directory.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Agent, Server, Site, eventually, skipped};

/// What is known about a file by looking at it.
struct Sample {
    name: &'static str,
    /// Given to the agent where lines have no year.
    year: Option<&'static str>,
    /// First and last time in the file.
    from: &'static str,
    to: &'static str,
    /// How its lines name a level, as this text in the line, and the level we make of it.
    levels: &'static [(&'static str, &'static str)],
    /// Where they name none: the level the agent makes of their words, and how many lines have it.
    by_words: &'static [(&'static str, usize)],
}

const SAMPLES: [Sample; 5] = [
    Sample {
        name: "Apache",
        year: None,
        from: "2005-12-04T04:47:44Z",
        to: "2005-12-05T19:15:57Z",
        levels: &[("] [notice] ", "INFO"), ("] [error] ", "ERROR")],
        by_words: &[],
    },
    Sample {
        name: "HDFS",
        year: None,
        from: "2008-11-09T20:36:15Z",
        to: "2008-11-11T10:20:17Z",
        levels: &[(" INFO dfs.", "INFO"), (" WARN dfs.", "WARNING")],
        by_words: &[],
    },
    Sample {
        name: "Linux",
        year: Some("2005"),
        from: "2005-06-14T15:16:01Z",
        to: "2005-07-27T14:42:00Z",
        levels: &[],
        by_words: &[("INFO", 1459), ("WARNING", 541)],
    },
    Sample {
        name: "OpenSSH",
        year: Some("2017"),
        from: "2017-12-10T06:55:46Z",
        to: "2017-12-10T11:04:45Z",
        levels: &[],
        by_words: &[("CRITICAL", 1), ("ERROR", 47), ("INFO", 610), ("WARNING", 1342)],
    },
    Sample {
        name: "Zookeeper",
        year: None,
        from: "2015-07-29T17:41:44.747Z",
        to: "2015-08-25T11:26:28.145Z",
        levels: &[(" - INFO  [", "INFO"), (" - WARN  [", "WARNING"), (" - ERROR [", "ERROR")],
        by_words: &[],
    },
];

/// The directory of the files, or a loud word that it is not there.
pub fn loghub() -> Option<PathBuf> {
    let named = std::env::var_os("HIGHWATER_LOGHUB").map(PathBuf::from);
    let directory = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/loghub"));
    if directory.join("Apache.log").is_file() {
        return Some(directory);
    }
    skipped("the loghub files", &format!("{} holds no Apache.log (set HIGHWATER_LOGHUB)", directory.display()));
    None
}

/// Lines as `grep -c ''` counts them: an unterminated last one too.
fn lines_in(bytes: &[u8]) -> i64 {
    bytes.split_inclusive(|byte| *byte == b'\n').count() as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_every_file_arrives_with_its_time_and_level() {
    let Some(directory) = loghub() else { return };
    let mut files: Vec<String> = std::fs::read_dir(&directory)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .collect();
    files.sort();
    assert_eq!(files, SAMPLES.map(|sample| sample.name), "a file that this test knows nothing about");

    let site = Site::new();
    let server = site.start().await;
    let url = server.url("");
    let mut agents = Vec::new();
    for Sample { name, year, .. } in SAMPLES {
        let file = directory.join(format!("{name}.log"));
        let file = file.to_str().unwrap();
        let mut arguments = vec!["logs", "--service", name, "--file", file, "--server", &url];
        arguments.extend(year.iter().flat_map(|year| ["--year", *year]));
        agents.push(Agent::spawn(&site.subdirectory(name), &arguments));
    }
    for sample in SAMPLES {
        let bytes = std::fs::read(directory.join(format!("{}.log", sample.name))).unwrap();
        check(&server, &sample, &bytes).await;
    }
    for agent in agents {
        assert!(agent.terminate().await.success());
    }
    for Sample { name, .. } in SAMPLES {
        let bytes = std::fs::read(directory.join(format!("{name}.log"))).unwrap();
        let count = format!("SELECT count(*) FROM logs WHERE service = '{name}'");
        assert_eq!(server.number(&count).await, lines_in(&bytes), "{name} after the agent has flushed");
    }
    assert_eq!(server.number("SELECT count(*) FROM dead_letter").await, 0);
    server.stop().await;
    site.verify().await;
}

async fn check(server: &Server, sample: &Sample, bytes: &[u8]) {
    let name = sample.name;
    let of_file = format!("FROM logs WHERE service = '{name}'");
    server.until(&format!("SELECT count(*) {of_file}"), lines_in(bytes)).await;
    let empty = format!("SELECT count(*) {of_file} AND (message IS NULL OR message = '' OR timestamp IS NULL)");
    assert_eq!(server.number(&empty).await, 0, "{name}: rows without message or time");
    let outside = format!(
        "SELECT count(*) {of_file} AND NOT timestamp BETWEEN TIMESTAMP '{}' AND TIMESTAMP '{}'",
        sample.from, sample.to
    );
    assert_eq!(server.number(&outside).await, 0, "{name}: times outside those in the file");
    for edge in [sample.from, sample.to] {
        let at = format!("SELECT count(*) {of_file} AND timestamp = TIMESTAMP '{edge}'");
        assert!(server.number(&at).await > 0, "{name}: no row at {edge}");
    }
    let text = String::from_utf8_lossy(bytes);
    let mut expected: Vec<_> = sample
        .levels
        .iter()
        .map(|(mark, level)| json!({"level": level, "rows": text.lines().filter(|line| line.contains(mark)).count()}))
        .filter(|row| row["rows"] != 0)
        .collect();
    expected.extend(sample.by_words.iter().map(|(level, rows)| json!({"level": level, "rows": rows})));
    let levels = format!("SELECT level, count(*) AS rows {of_file} GROUP BY level ORDER BY level");
    let mut stored = server.sql(&levels).await;
    for rows in [&mut expected, &mut stored] {
        rows.sort_by_key(|row| row["level"].to_string());
    }
    assert_eq!(stored, expected, "{name}: levels");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_a_year_is_of_the_latest_year_that_is_not_in_the_future() {
    let Some(directory) = loghub() else { return };
    let site = Site::new();
    let server = site.start().await;
    let file = directory.join("OpenSSH.log");
    let arguments = ["logs", "--service", "sshd", "--file", file.to_str().unwrap(), "--server", &server.url("")];
    let agent = Agent::spawn(site.path(), &arguments);
    let in_last_year = "SELECT count(*) FROM logs WHERE service = 'sshd' AND timestamp <= now() \
                          AND timestamp > now() - INTERVAL '366 days' AND date_part('month', timestamp) = 12";
    server.until(in_last_year, 2000).await;
    assert!(agent.terminate().await.success());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_is_shipped_to_its_end() {
    let Some(directory) = loghub() else { return };
    let site = Site::new();
    let server = site.start().await;
    let input = std::fs::File::open(directory.join("Zookeeper.log")).unwrap();
    let arguments = ["logs", "--service", "zk", "--stdin", "--server", &server.url("")];
    let status = Agent::spawn_reading(site.path(), &arguments, input).ended().await;
    assert!(status.success(), "{status}");
    // The agent ends only once everything is acknowledged, so this needs no waiting.
    assert_eq!(server.number("SELECT count(*) FROM logs WHERE service = 'zk'").await, 2000);
    server.stop().await;
}

/// When a rule over a minute's count fires and is resolved again, worked out line by line: in windows that begin every ten seconds, more than ten of
/// these lines; and once there are not, for another minute.
fn episodes(lines_s: &[i64]) -> Vec<(i64, i64, usize)> {
    let (Some(first), Some(last)) = (lines_s.iter().min(), lines_s.iter().max()) else { return Vec::new() };
    let mut found: Vec<(i64, i64, usize)> = Vec::new();
    let (mut fires, mut gone_s) = (false, None);
    let first_end = first.div_euclid(10) * 10 + 10;
    for end_s in (first_end..last + 300).step_by(10) {
        let count = lines_s.iter().filter(|at| (end_s - 60..end_s).contains(*at)).count();
        if count > 10 {
            gone_s = None;
            if !fires {
                found.push((end_s, i64::MAX, count));
            }
            fires = true;
        } else if fires && end_s - *gone_s.get_or_insert(end_s) >= 60 {
            (fires, gone_s) = (false, None);
            found.last_mut().unwrap().1 = end_s;
        }
    }
    found
}

fn seconds(time: &str, format: &str) -> i64 {
    chrono::NaiveDateTime::parse_from_str(time, format).unwrap().and_utc().timestamp()
}

/// The shipped rules of logs, over two real logs with the times they have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_logins_and_bursts_of_errors_fire_where_a_person_would_point_at() {
    let Some(directory) = loghub() else { return };
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let tests = std::fs::read_to_string(rules.join("logs_test.yaml")).unwrap();
    let rollups = tests.split("rollups:\n").nth(1).unwrap().split("tests:\n").next().unwrap();
    let config = format!("rule_files: [{:?}]\nrollups:\n{rollups}", rules.join("logs.yaml"));
    let site = Site::with_config(&config);
    let server = site.start().await;
    let url = server.url("");
    let mut expected = Vec::new();
    // One after the other: the rules look at each minute once, when it is over.
    for (name, service, alert, year) in
        [("Apache", "httpd", "ErrorBurst", None), ("OpenSSH", "sshd", "AuthenticationFailures", Some("2017"))]
    {
        let file = directory.join(format!("{name}.log"));
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        let lines_s: Vec<i64> = match name {
            "Apache" => text
                .lines()
                .filter(|line| line.contains("] [error] "))
                .map(|line| seconds(&line[1..25], "%a %b %d %H:%M:%S %Y"))
                .collect(),
            _ => text
                .lines()
                .filter(|line| {
                    let line = line.to_lowercase();
                    ["failed password", "authentication failure", "invalid user"].iter().any(|word| line.contains(word))
                })
                .map(|line| seconds(&format!("2017 {}", &line[..15]), "%Y %b %d %H:%M:%S"))
                .collect(),
        };
        for (fired_s, resolved_s, count) in episodes(&lines_s) {
            expected.push(json!({"alertname": alert, "state": "firing", "at": fired_s, "value": count}));
            expected.push(json!({"alertname": alert, "state": "resolved", "at": resolved_s, "value": Value::Null}));
        }
        let file = file.display().to_string();
        let mut arguments = vec!["logs", "--service", service, "--file", &file, "--server", &url];
        arguments.extend(year.iter().flat_map(|year| ["--year", *year]));
        let agent = Agent::spawn(&site.subdirectory(name), &arguments);
        server
            .until(&format!("SELECT count(*) FROM logs WHERE service = '{service}'"), lines_in(text.as_bytes()))
            .await;
        assert!(agent.terminate().await.success());
        // Somewhat later somebody says something. Not so much later that the partition which is told first is waited for no more.
        let last = format!("SELECT CAST(max(timestamp) AS BIGINT) / 1000000 FROM logs WHERE service = '{service}'");
        let last_s = server.number(&last).await;
        server.pass_time("clock", last_s + 280).await;
        let told = "SELECT alertname, state, CAST(timestamp AS BIGINT) / 1000000 AS at, \
                    CASE state WHEN 'firing' THEN CAST(value AS BIGINT) END AS value FROM alerts \
                    WHERE alertname <> 'ErrorBurst' OR labels->>'service' = 'httpd' ORDER BY _offset";
        eventually(&format!("the alerts of {name}"), expected.len(), async || server.sql(told).await.len()).await;
        assert_eq!(server.sql(told).await, expected);
    }
    // Where a person would point: the first burst of guesses, by somebody who tries one user after the other, and two bursts of one and the same error.
    let first = |alert: &str, format: &str, time: &str| {
        let found = expected.iter().find(|one| one["alertname"] == alert).unwrap();
        assert_eq!(found["at"], seconds(time, format), "{alert}");
    };
    first("AuthenticationFailures", "%Y-%m-%d %H:%M:%S", "2017-12-10 07:28:10");
    first("ErrorBurst", "%Y-%m-%d %H:%M:%S", "2005-12-04 20:47:20");
    assert_eq!(expected.len(), 2 * (2 + 5));

    // A backtest over what is stored says the same.
    let config = site.write("backtest.yaml", &format!("rollups:\n{rollups}")).display().to_string();
    let rules = rules.join("logs.yaml").display().to_string();
    let from_to = ["--from", "2005-01-01T00:00:00Z", "--to", "2018-01-01T00:00:00Z", "-o", "json"];
    let backtest = [&["rules", "backtest", &rules, "--config", &config, "--server", &url], &from_to[..]].concat();
    let found = site.run(&backtest).await;
    assert_eq!(found.code, Some(0), "{found:?}");
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let found = found["transitions"].as_array().unwrap().iter();
    let found =
        found.filter(|one| one["alertname"] != "ErrorBurst" || one["labels"]["service"] == "httpd").map(|one| {
            let at = chrono::DateTime::parse_from_rfc3339(one["timestamp"].as_str().unwrap()).unwrap().timestamp();
            let value =
                if one["state"] == "firing" { json!(one["value"].as_f64().unwrap() as i64) } else { Value::Null };
            json!({"alertname": one["alertname"], "state": one["state"], "at": at, "value": value})
        });
    assert_eq!(found.collect::<Vec<_>>(), expected);
    server.stop().await;
    site.verify().await;
}
