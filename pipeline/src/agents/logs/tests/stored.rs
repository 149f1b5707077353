//! What an agent ships, as Highwater's own doors and broker store it: nothing is refused, every column is right.

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;

use super::*;
use crate::data::RowKind;
use crate::data::time;
use crate::sources::testing::World;

/// One stored row: message, time, level, service, host, attributes in their order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    message: String,
    timestamp: String,
    level: Option<String>,
    service: String,
    host: String,
    attributes: Vec<(String, String)>,
}

struct Door {
    world: World,
    url: String,
}

impl Door {
    async fn open() -> Self {
        let world = World::new().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = crate::sources::http::router(Arc::clone(&world.ingest));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { world, url }
    }

    async fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for batch in self.world.rows("logs", RowKind::Logs).await {
            let column = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
            let times = batch.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
            let attributes = batch.column_by_name("attributes").unwrap().as_map().clone();
            for at in 0..batch.num_rows() {
                let text = |name: &str| column(name).value(at).to_owned();
                let entries = attributes.value(at);
                let (names, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
                let pairs = names.iter().zip(values);
                let level = column("level");
                rows.push(Row {
                    message: text("message"),
                    timestamp: time::format(times.value(at)),
                    level: level.is_valid(at).then(|| level.value(at).to_owned()),
                    service: text("service"),
                    host: text("host"),
                    attributes: pairs.map(|(k, v)| (k.unwrap().to_owned(), v.unwrap().to_owned())).collect(),
                });
            }
        }
        rows
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_line_becomes_the_row_it_should() {
    let (door, dir) = (Door::open().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("app.log");
    let lines = [
        "2015-07-29 17:41:44,747 - WARN  [main] text",
        "<34>1 2003-10-11T22:14:15.003Z host app - - - crit",
        r#"{"msg":"hello","ts":1700000000.25,"severity":"fatal","hostname":"own","n":{"a":1}}"#,
        r#"{"event":"no message","logs":3}"#,
        r#"{"message":"m","logs":[{"message":"not an entry"}]}"#,
        r#"{"message":"m","timestamp":"yesterday"}"#,
    ];
    append(&path, &lines.map(|line| format!("{line}\n")).concat());
    let mut options = options(&door.url, dir.path(), files(&path, false));
    options.labels.insert("env".into(), "test".into());
    let report = ship(options).await.unwrap();
    assert_eq!((report.rows_shipped, report.rows_refused), (6, 0));
    let file = path.display().to_string();
    let row = |message: &str, timestamp: &str, level: Option<&str>, host: &str, own: &[(&str, &str)]| Row {
        message: message.to_owned(),
        timestamp: timestamp.to_owned(),
        level: level.map(str::to_owned),
        service: "svc".to_owned(),
        host: host.to_owned(),
        attributes: own
            .iter()
            .chain(&[("log.file.path", file.as_str()), ("env", "test")])
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    };
    let inherited = "2023-11-14T22:13:20.250000Z";
    let mut expected = vec![
        row(lines[0], "2015-07-29T17:41:44.747000Z", Some("WARNING"), "h1", &[]),
        row(lines[1], "2003-10-11T22:14:15.003000Z", Some("CRITICAL"), "h1", &[]),
        row("hello", inherited, Some("CRITICAL"), "own", &[("n", "{\"a\":1}")]),
        row(lines[3], inherited, None, "h1", &[("event", "no message"), ("logs", "3")]),
        row(lines[4], inherited, None, "h1", &[]),
        row(lines[5], inherited, None, "h1", &[]),
    ];
    let mut rows = door.rows().await;
    rows.sort();
    expected.sort();
    assert_eq!(rows, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_batches_are_stored_once_each_in_order() {
    let (door, dir) = (Door::open().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("app.log");
    let lines = numbered(0..3000);
    append(&path, &text_of(&lines));
    ship(options(&door.url, dir.path(), files(&path, false))).await.unwrap();
    let messages: Vec<String> = door.rows().await.into_iter().map(|row| row.message).collect();
    assert_eq!(messages, lines, "one service and host are one partition, so its order is the file's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lines_text_may_hold_anything() {
    let (door, dir) = (Door::open().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("app.log");
    let mut bytes: Vec<u8> = (1..=255).filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    bytes.extend_from_slice(b"\n\"\\u0000 \\ud800 \\\" \xc3\n[[[[[{\n<>\n{\"message\":\"\\ud800\"}\n");
    fs::write(&path, &bytes).unwrap();
    let report = ship(options(&door.url, dir.path(), files(&path, false))).await.unwrap();
    assert_eq!((report.rows_shipped, report.rows_refused, report.lines_not_utf8), (5, 0, 2));
    let messages: Vec<String> = door.rows().await.into_iter().map(|row| row.message).collect();
    assert_eq!(messages[0].chars().next(), Some('\u{1}'));
    assert_eq!(messages[1..], ["\"\\u0000 \\ud800 \\\" \u{fffd}", "[[[[[{", "<>", "\u{fffd}"]);
}
