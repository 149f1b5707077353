//! Real log files, shipped by `highwater agent logs`: every line arrives, with its time and level. The files are loghub's
//! (https://github.com/logpai/loghub), which may not be redistributed here: `HIGHWATER_LOGHUB` names their directory.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{Agent, Server, Site, skipped};

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
