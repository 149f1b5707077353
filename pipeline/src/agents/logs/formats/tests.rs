#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};

use super::*;
use crate::data::{level, time};

/// 2026-11-20T21:00:00Z.
const NOW_US: i64 = 1_795_208_400_000_000;

fn context() -> Context {
    Context { now_us: NOW_US, dates: Dates::default() }
}

/// Time as RFC 3339 and level name, as they would be stored.
fn detect_with(line: &str, dates: Dates) -> (Option<String>, Option<&'static str>) {
    let context = Context { dates, ..context() };
    let found = Detector::default().detect(line, &context);
    let level = found.level.map(|text| level::name(level::parse(text).expect("a level the server knows")).unwrap());
    (found.timestamp_us.map(time::format), level)
}

fn detect(line: &str) -> (Option<String>, Option<&'static str>) {
    detect_with(line, Dates::default())
}

#[track_caller]
fn expect(line: &str, timestamp: &str, level: &str) {
    let wanted = |text: &str| Some(text.to_owned()).filter(|text| text != "-");
    let (found_time, found_level) = detect(line);
    assert_eq!((found_time, found_level.map(str::to_owned)), (wanted(timestamp), wanted(level)), "{line}");
}

#[test]
fn now_is_what_the_comment_says() {
    assert_eq!(time::format(NOW_US), "2026-11-20T21:00:00.000000Z");
}

#[test]
fn syslog_as_files_have_it() {
    expect(
        "Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure; logname= uid=0",
        "2026-06-14T15:16:01.000000Z",
        "WARNING",
    );
    expect("Jun  4 15:16:02 combo sshd[1]: check pass; user unknown", "2026-06-04T15:16:02.000000Z", "INFO");
    expect(
        "Dec 10 06:55:46 LabSZ sshd[24200]: error: Received disconnect from 1.2.3.4",
        "2025-12-10T06:55:46.000000Z",
        "ERROR",
    );
    expect("Nov 19 06:55:46.123456 h kernel: no errors found", "2026-11-19T06:55:46.123456Z", "INFO");
    expect("Mar  1 2020 10:00:00 fw %ASA-6-302013: Built connection", "2020-03-01T10:00:00.000000Z", "INFO");
    expect("Feb 29 01:02:03 h app: leap", "2024-02-29T01:02:03.000000Z", "INFO");
    expect("Dec 31 23:59:60 h app: leap second", "2026-01-01T00:00:00.000000Z", "INFO");
}

#[test]
fn every_severity_of_syslog_is_a_level() {
    let levels: Vec<_> =
        (0..8).map(|severity| detect(&format!("<{}>1 - h a - - - t", 8 + severity)).1.unwrap()).collect();
    assert_eq!(levels, ["CRITICAL", "CRITICAL", "CRITICAL", "ERROR", "WARNING", "INFO", "INFO", "DEBUG"]);
}

#[test]
fn syslog_with_a_priority() {
    expect("<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick", "2026-10-11T22:14:15.000000Z", "CRITICAL");
    expect("<13>2024-01-02T03:04:05.678+01:00 host tag: fine, no error", "2024-01-02T02:04:05.678000Z", "INFO");
    expect(
        "<165>1 2003-10-11T22:14:15.003Z m evntslog - ID47 [x@1 a=\"b\"] text",
        "2003-10-11T22:14:15.003000Z",
        "INFO",
    );
    expect("<11>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 p 8710 - - text", "2003-08-24T12:14:15.000003Z", "ERROR");
    expect("<15>1 - host app - - - no time", "-", "DEBUG");
    expect("<999>Oct 11 22:14:15 m su: x", "-", "-");
}

#[test]
fn iso_stamps_with_the_levels_of_many_libraries() {
    let stamped = "2015-07-29T17:41:44.747000Z";
    for (line, level) in [
        (
            "2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181:FastLeaderElection@774] - text",
            "INFO",
        ),
        ("2015-07-29 17:41:44,747 WARN [main] a.b.C: text", "WARNING"),
        ("2015-07-29 17:41:44,747 - my.module - CRITICAL - text", "CRITICAL"),
        ("2015-07-29T17:41:44.747Z  WARN 1234 --- [main] c.example.App : text", "WARNING"),
        ("2015-07-29T19:41:44.747+02:00 ERROR text", "ERROR"),
        ("[2015-07-29 17:41:44,747] ERROR text (kafka.server.KafkaServer)", "ERROR"),
        ("[2015-07-29 17:41:44,747 DEBUG] text", "DEBUG"),
        ("[2015-07-29T17:41:44,747][WARN ][o.e.c.r.a.DiskThresholdMonitor] [node] text", "WARNING"),
        ("2015-07-29T17:41:44.747000Z TRACE highwater::agents: text", "TRACE"),
        ("\x1b[2m2015-07-29T17:41:44.747000Z\x1b[0m \x1b[32m INFO\x1b[0m \x1b[2mx\x1b[0m: text", "INFO"),
        ("2015-07-29 17:41:44.747 UTC [123] FATAL:  no such database", "CRITICAL"),
        ("2015-07-29 17:41:44.747 UTC [123] LOG:  checkpoint starting", "INFO"),
        ("2015-07-29T17:41:44.747000Z 0 [Warning] [MY-010747] [Server] text", "WARNING"),
        ("2015-07-29T17:41:44.747Z level=error msg=\"x\"", "ERROR"),
        ("2015-07-29T17:41:44.747Z info something began", "INFO"),
        ("2015-07-29T17:41:44.747Z the error was handled", "-"),
        ("2015-07-29T17:41:44.747Z GET /errors 200", "-"),
        ("2015-07-29T17:41:44.747+00:00 host sshd[12]: Failed password for root", "WARNING"),
        ("2015-07-29T17:41:44.747+00:00 host systemd: Started", "INFO"),
    ] {
        expect(line, stamped, level);
    }
    expect("2015-07-29T17:41:44 text", "2015-07-29T17:41:44.000000Z", "-");
    expect("2015-07-29 17:41:44.123456789 +0530 INFO text", "2015-07-29T12:11:44.123456Z", "INFO");
    expect("2015-02-30 17:41:44 INFO text", "-", "-");
}

#[test]
fn web_servers() {
    expect(
        "[Sun Dec 04 04:47:44 2005] [error] mod_jk child workerEnv in error state 6",
        "2005-12-04T04:47:44.000000Z",
        "ERROR",
    );
    expect("[Sun Dec  4 04:47:44.000123 2005] [core:notice] [pid 1:tid 2] text", "2005-12-04T04:47:44.000123Z", "INFO");
    expect("[Sun Dec 04 04:47:44 2005] [ssl:trace3] text", "2005-12-04T04:47:44.000000Z", "TRACE");
    expect("2024/01/02 03:04:05 [crit] 12#34: *5 connect() failed", "2024-01-02T03:04:05.000000Z", "CRITICAL");
    expect("2024/01/02 03:04:05 listening on :80", "2024-01-02T03:04:05.000000Z", "-");
    let access =
        |status: &str| format!("127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /a\\\"b HTTP/1.0\" {status} 2326");
    expect(&access("200"), "2000-10-10T20:55:36.000000Z", "INFO");
    expect(&access("404"), "2000-10-10T20:55:36.000000Z", "WARNING");
    expect(&access("503"), "2000-10-10T20:55:36.000000Z", "ERROR");
    expect("::1 - - [10/Oct/2000:13:55:36 +0000] \"-\" 408 -", "2000-10-10T13:55:36.000000Z", "WARNING");
    expect(
        "example.org:80 10.0.0.1 - - [10/Oct/2000:13:55:36 +0000] \"GET / HTTP/1.1\" 301 0",
        "2000-10-10T13:55:36.000000Z",
        "INFO",
    );
}

#[test]
fn hadoop_log4j_and_spark() {
    expect("081109 203615 148 INFO dfs.DataNode$PacketResponder: text", "2008-11-09T20:36:15.000000Z", "INFO");
    expect("081109 203615 148 nothing", "-", "-");
    expect("INFO  [main] 2015-07-29 17:41:44,747 Server.java:12 - text", "2015-07-29T17:41:44.747000Z", "INFO");
    expect("[WARN] 2015-07-29 17:41:44 text", "2015-07-29T17:41:44.000000Z", "WARNING");
    expect("29 Jul 2015 17:41:44,747 ERROR text", "2015-07-29T17:41:44.747000Z", "ERROR");
    expect("29-Jul-2015 17:41:44.747 SEVERE [main] org.apache.catalina.X text", "2015-07-29T17:41:44.747000Z", "ERROR");
    expect("17/06/09 20:10:40 INFO executor.Executor: text", "2017-06-09T20:10:40.000000Z", "INFO");
}

#[test]
fn logfmt_and_klog() {
    expect(
        "time=\"2024-01-02T03:04:05Z\" level=warning msg=\"a \\\"b\\\" c\"",
        "2024-01-02T03:04:05.000000Z",
        "WARNING",
    );
    expect("ts=1704164645.5 caller=x.go:1 lvl=dbug", "2024-01-02T03:04:05.500000Z", "-");
    expect("level=info ts=2024-01-02T03:04:05.678Z msg=x", "2024-01-02T03:04:05.678000Z", "INFO");
    expect("msg=hello severity=ERROR", "-", "ERROR");
    expect("a=b c=d", "-", "-");
    expect("I0605 20:10:40.123456    1234 file.go:12] text", "2026-06-05T20:10:40.123456Z", "INFO");
    expect("F1231 20:10:40.123456       1 main.go:1] text", "2025-12-31T20:10:40.123456Z", "CRITICAL");
    expect("W20210605 20:10:40.123456 77 file.cc:12] text", "2021-06-05T20:10:40.123456Z", "WARNING");
    expect("E1345 20:10:40.123456 77 no such month", "-", "-");
}

#[test]
fn lines_without_a_date() {
    expect("WARNING:root:text", "-", "WARNING");
    expect("[INFO] Building jar", "-", "INFO");
    expect("error: expected `;`", "-", "ERROR");
    expect("17:41:44.747 [main] DEBUG c.example.App - text", "-", "DEBUG");
    expect("ERROR text", "-", "ERROR");
    expect("Error reading file", "-", "-");
    expect("config: loaded", "-", "-");
    expect("CONFIG: loaded", "-", "DEBUG");
    expect("please refer to the loghub repository URL", "-", "-");
    expect("\tat java.lang.Thread.run(Thread.java:1)", "-", "-");
    expect("", "-", "-");
    expect("\u{1f600} ünïcode [ < 2 = \"", "-", "-");
}

#[test]
fn the_year_and_zone_can_be_given() {
    let line = "Dec 10 06:55:46 LabSZ sshd[24200]: text";
    let at = |dates| detect_with(line, dates).0.unwrap();
    assert_eq!(at(Dates { year: Some(2017), utc_offset_s: 0 }), "2017-12-10T06:55:46.000000Z");
    assert_eq!(at(Dates { year: Some(2017), utc_offset_s: 3600 }), "2017-12-10T05:55:46.000000Z");
    assert_eq!(detect_with("Feb 29 00:00:00 h a: b", Dates { year: Some(2023), utc_offset_s: 0 }).0, None);
    let zoned = detect_with("2024-01-02T03:04:05+02:00 x", Dates { year: Some(2017), utc_offset_s: 3600 });
    assert_eq!(zoned.0.unwrap(), "2024-01-02T01:04:05.000000Z", "what the line states counts");
}

#[test]
fn local_time_ahead_of_utc_is_not_last_year() {
    // 14 hours from now at most is another zone's present, more is another year.
    expect("Nov 21 10:59:59 h a: b", "2026-11-21T10:59:59.000000Z", "INFO");
    expect("Nov 21 11:00:01 h a: b", "2025-11-21T11:00:01.000000Z", "INFO");
}

#[test]
fn the_format_of_the_line_before_does_not_blind() {
    let mut detector = Detector::default();
    let context = context();
    let times: Vec<_> = [
        "2015-07-29 17:41:44,747 INFO a",
        "\tat b",
        "Jun 14 15:16:01 combo sshd: x",
        "081109 203615 148 INFO dfs.X: y",
        "2015-07-29 17:41:45,747 INFO a",
    ]
    .iter()
    .map(|line| detector.detect(line, &context).timestamp_us.map(time::format))
    .map(|time| time.map(|time| time[..10].to_owned()))
    .collect();
    let wanted = [Some("2015-07-29"), None, Some("2026-06-14"), Some("2008-11-09"), Some("2015-07-29")];
    assert_eq!(times.iter().map(Option::as_deref).collect::<Vec<_>>(), wanted);
}

proptest::proptest! {
    #[test]
    fn no_line_makes_it_panic(
        head in proptest::sample::select(&["", "<13>", "[Sun Dec 04 ", "Jun 14 ", "I0605 ", "2015-07-29 17:41", "a=\"", "{\"", "1.1.1.1 - - [10/Oct/"][..]),
        tail in "\\PC{0,40}",
    ) {
        let line = format!("{head}{tail}");
        Detector::default().detect(&line, &context());
        json::parse(&line);
    }
}

// --- The real files
// --------------------------------------------------------------------------------------------------------

/// The directory of loghub's files: `HIGHWATER_LOGHUB`, or `../shared/data/loghub` beside the workspace.
fn loghub(file: &str) -> Option<Vec<String>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/loghub");
    let directory = std::env::var_os("HIGHWATER_LOGHUB").map_or(beside, PathBuf::from);
    let path = directory.join(file);
    match std::fs::read(&path) {
        Ok(bytes) => Some(String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()),
        Err(error) => {
            eprintln!("SKIPPED: {}: {error} (set HIGHWATER_LOGHUB to the directory of loghub's files)", path.display());
            None
        }
    }
}

/// An independent reading of the stamp: the text between two columns, by chrono's own parser.
fn by_chrono(text: &str, format: &str) -> String {
    let naive = chrono::NaiveDateTime::parse_from_str(text, format).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    naive.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn check_times(file: &str, dates: Dates, expected: impl Fn(&str) -> String) {
    let Some(lines) = loghub(file) else { return };
    assert_eq!(lines.len(), 2000, "{file}");
    let mut detector = Detector::default();
    let context = Context { dates, ..context() };
    for line in &lines {
        let found = detector.detect(line, &context).timestamp_us.map(time::format);
        assert_eq!(found, Some(expected(line)), "{file}: {line}");
    }
}

fn check_file(file: &str, expected: impl Fn(&str) -> (String, &'static str)) {
    check_times(file, Dates::default(), |line| expected(line).0);
    for line in loghub(file).unwrap_or_default() {
        assert_eq!(detect(&line).1, Some(expected(&line).1), "{file}: {line}");
    }
}

#[test]
fn every_line_of_apache() {
    check_file("Apache.log", |line| {
        let level = if line.contains("] [error] ") { "ERROR" } else { "INFO" };
        (by_chrono(&line[1..25], "%a %b %d %H:%M:%S %Y"), level)
    });
}

#[test]
fn every_line_of_hdfs() {
    check_file("HDFS.log", |line| {
        let level = if line.split(' ').nth(3) == Some("WARN") { "WARNING" } else { "INFO" };
        (by_chrono(&line[..13], "%y%m%d %H%M%S"), level)
    });
}

#[test]
fn every_line_of_zookeeper() {
    check_file("Zookeeper.log", |line| {
        let level = match line.split_ascii_whitespace().nth(3).unwrap() {
            "WARN" => "WARNING",
            "ERROR" => "ERROR",
            _ => "INFO",
        };
        (by_chrono(&line[..23], "%Y-%m-%d %H:%M:%S,%3f"), level)
    });
}

/// How many lines of a file have each level: as counted with grep by the words of `words.rs`.
fn check_levels(file: &str, expected: &[(&str, usize)]) {
    let Some(lines) = loghub(file) else { return };
    let mut counts = std::collections::BTreeMap::new();
    for line in &lines {
        *counts.entry(detect(line).1.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected, "{file}");
}

#[test]
fn every_line_of_linux_with_a_year_given() {
    check_times("Linux.log", Dates { year: Some(2005), utc_offset_s: 0 }, |line| {
        by_chrono(&format!("2005 {}", &line[..15]), "%Y %b %e %H:%M:%S")
    });
    check_levels("Linux.log", &[("INFO", 1459), ("WARNING", 541)]);
}

#[test]
fn every_line_of_openssh_in_the_latest_year() {
    check_times("OpenSSH.log", Dates::default(), |line| {
        by_chrono(&format!("2025 {}", &line[..15]), "%Y %b %e %H:%M:%S")
    });
    check_levels("OpenSSH.log", &[("CRITICAL", 1), ("ERROR", 47), ("INFO", 610), ("WARNING", 1342)]);
}
