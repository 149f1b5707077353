//! Files and standard input, read to their end.

use serde_json::json;

use super::*;
use crate::agents::testing::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn every_line_arrives_once_in_order_and_a_second_run_ships_only_what_is_new() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("app.log");
    let lines = numbered(0..2345);
    append(&path, &text_of(&lines));
    let report = ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap();
    assert_eq!(server.messages(), lines);
    assert_eq!((report.lines_read, report.rows_made, report.rows_shipped), (2345, 2345, 2345));
    assert_eq!((report.rows_spooled, report.spool_size_bytes, report.requests), (0, 0, 24));
    assert_eq!(contents(&dir.path().join("state/spool")), []);

    let report = ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap();
    assert_eq!((report.lines_read, report.requests), (0, 0));
    append(&path, "one more\nand one without newline");
    let report = ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap();
    assert_eq!(report.rows_shipped, 2);
    assert_eq!(server.messages()[2345..], ["one more", "and one without newline"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_has_what_the_line_and_the_agent_know() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("app.log");
    append(
        &path,
        "\n  \r\n[Sun Dec 04 04:47:44 2005] [error] boom\r\n{\"msg\":\"json\",\"ts\":1700000000,\"level\":\"warn\",\"n\":1}\r\r\n",
    );
    let mut options = options(&server.url(), dir.path(), files(&path, false));
    options.labels.insert("env".into(), "test".into());
    let report = ship(options).await.unwrap();
    assert_eq!((report.lines_read, report.lines_blank), (2, 2));
    let mut rows = server.rows();
    for row in &mut rows {
        assert!(row["observed_timestamp"].as_i64().unwrap() > 1_700_000_000_000_000);
        row.as_object_mut().unwrap().remove("observed_timestamp");
    }
    let file = path.display().to_string();
    assert_eq!(
        rows,
        [
            json!({"message": "[Sun Dec 04 04:47:44 2005] [error] boom", "timestamp": 1_133_671_664_000_000_i64, "level": "error",
                   "service": "svc", "host": "h1", "log.file.path": file, "labels": {"env": "test"}}),
            json!({"msg": "json", "ts": 1_700_000_000, "level": "warn", "n": 1,
                   "service": "svc", "host": "h1", "log.file.path": file, "labels": {"env": "test"}}),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_a_time_takes_that_of_the_line_before_it() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("app.log");
    append(&path, "first\n2015-07-29 17:41:44,747 ERROR boom\n\tat x.Y(Z.java:1)\n");
    ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap();
    let times: Vec<i64> = server.rows().iter().map(|row| row["timestamp"].as_i64().unwrap()).collect();
    assert_eq!(times[1..], [1_438_191_704_747_000; 2]);
    assert_eq!(server.rows()[0]["timestamp"], server.rows()[0]["observed_timestamp"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn joined_lines_are_one_row() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("app.log");
    append(&path, "2015-07-29 17:41:44,747 ERROR boom\n\n\tat x.Y(Z.java:1)\n2015-07-29 17:41:45,000 INFO next\n");
    let mut options = options(&server.url(), dir.path(), files(&path, false));
    options.multiline = Multiline::Traces(MultilineLimits::default());
    let report = ship(options).await.unwrap();
    assert_eq!((report.lines_read, report.lines_blank, report.rows_made), (3, 1, 2));
    assert_eq!(
        server.messages(),
        ["2015-07-29 17:41:44,747 ERROR boom\n\tat x.Y(Z.java:1)", "2015-07-29 17:41:45,000 INFO next"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_lines_are_cut_mended_and_counted() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("app.log");
    let mut bytes = b"\xef\xbb\xbfbom\nbad \xff\xfe bytes\n".to_vec();
    bytes.extend_from_slice("é".repeat(600).as_bytes());
    bytes.extend_from_slice(b"\nnul \0 inside\n\0\0\0after a hole\n\0\0\n");
    bytes.extend_from_slice(&vec![b'x'; 20 << 20]);
    fs::write(&path, &bytes).unwrap();
    let mut options = options(&server.url(), dir.path(), files(&path, false));
    options.line_size_bytes = 1001;
    let report = ship(options).await.unwrap();
    let rows = server.rows();
    let messages: Vec<&str> = rows.iter().map(|row| row["message"].as_str().unwrap()).collect();
    assert_eq!(messages[..2], ["bom", "bad \u{fffd}\u{fffd} bytes"]);
    assert_eq!(messages[2], "é".repeat(500), "cut between two characters");
    assert_eq!(messages[3..5], ["nul \0 inside", "after a hole"]);
    assert_eq!(messages[5], "x".repeat(1001));
    assert_eq!(rows[5]["log.truncated"], "true");
    assert_eq!(rows[5]["log.truncated_size_bytes"], ((20 << 20) - 1001).to_string());
    assert_eq!(rows[1].get("log.truncated"), None);
    assert_eq!((report.lines_truncated, report.lines_not_utf8, report.lines_blank), (2, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_lead_to_all_files_but_compressed_ones_and_our_own() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    for (name, text) in [("a.log", "a\n"), ("sub/deep/b.log", "b\n"), ("c.txt", "no\n"), ("old.log", "\x1f\u{8b}")] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes: Vec<u8> = if name == "old.log" { b"\x1f\x8b\x08rest\n".to_vec() } else { text.into() };
        fs::write(path, bytes).unwrap();
    }
    let report = ship(options(&server.url(), dir.path(), files(&dir.path().join("**/*.log"), false))).await.unwrap();
    assert_eq!(report.rows_shipped, 2);
    let mut messages = server.messages();
    messages.sort();
    assert_eq!(messages, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_there_is_an_error_unless_it_is_waited_for() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("later.log");
    let error = ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap_err();
    assert!(matches!(&error, AgentError::NoSuchFile { path: named } if *named == path), "{error}");
    let agent = Running::start(options(&server.url(), dir.path(), files(&path, true)));
    append(&path, "here I am\n");
    server.wait_for_rows(1).await;
    assert_eq!(agent.stop().await.rows_shipped, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_read_to_its_end() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let input: &'static [u8] = b"one\r\n\ntwo\nthree without newline";
    let report =
        run_in(options(&server.url(), dir.path(), Input::Stdin), environment(input), CancellationToken::new()).await;
    assert_eq!(server.messages(), ["one", "two", "three without newline"]);
    assert_eq!(report.unwrap().rows_shipped, 3);
    assert_eq!(server.rows()[0].get("log.file.path"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_loghub_arrives_whole() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/loghub");
    let directory = std::env::var_os("HIGHWATER_LOGHUB").map_or(beside, PathBuf::from);
    if !directory.is_dir() {
        eprintln!(
            "SKIPPED: {} is not there (set HIGHWATER_LOGHUB to the directory of loghub's files)",
            directory.display()
        );
        return;
    }
    for (path, bytes) in contents(&directory) {
        let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
        let report = ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap();
        // As `grep -c ''` counts: an unterminated last line is a line.
        let lines: Vec<&[u8]> =
            bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.trim_ascii_end()).collect();
        let filled: Vec<&[u8]> = lines.iter().copied().filter(|line| !line.is_empty()).collect();
        assert_eq!(report.rows_shipped, filled.len() as u64, "{}", path.display());
        assert_eq!(report.lines_blank, (lines.len() - filled.len()) as u64);
        for (message, line) in server.messages().iter().zip(filled) {
            assert_eq!(message.trim_ascii_end().as_bytes(), line);
        }
    }
}
