//! Tables as they were, by version and by time.

use std::sync::Arc;

use highwater_broker::ManualClock;
use highwater_pipeline::data::{Control, content_type};
use highwater_pipeline::log::Record;
use highwater_pipeline::tables::TableSpec;
use highwater_sinks::tables::TablesConfig;
use highwater_sinks::tables::maintenance::{Eagerness, Maintainer, Upkeep};
use highwater_sql::SqlError;
use serde_json::json;

use crate::fixture::{APPENDED_MS, Fixture, other_tenant, rollup_row, sample_tables, small};

fn spec(name: &str) -> TableSpec {
    sample_tables().into_iter().find(|t| t.name == name).unwrap()
}

/// A log record with this number, appended so many seconds after the first.
async fn append(fixture: &Fixture, n: i64, second: i64) {
    let json = json!({ "timestamp": "2026-01-02T03:00:00Z", "message": n.to_string(), "service": "s" });
    let timestamp_ms = Some(APPENDED_MS + second * 1000);
    let record = Record { value: Some(json.to_string().into()), timestamp_ms, ..Record::default() };
    fixture.append("logs", i32::try_from(n % 4).unwrap(), record).await;
}

/// Three commits of two rows each, and two rows in the log.
async fn four_steps() -> Fixture {
    let fixture = Fixture::new().await;
    for step in 0..4 {
        append(&fixture, step * 2, step * 10).await;
        append(&fixture, step * 2 + 1, step * 10).await;
        if step < 3 {
            fixture.commit(&spec("logs")).await;
        }
    }
    fixture
}

/// The versions of the commits that brought rows, oldest first.
async fn versions(fixture: &Fixture) -> Vec<u64> {
    let lines = highwater_sinks::tables::inspect::history(&fixture.storage, "logs", 100).await.unwrap();
    let mut versions: Vec<u64> = lines.iter().filter(|line| line.added_rows > 0).map(|line| line.version).collect();
    versions.sort_unstable();
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_what_its_files_held() {
    let fixture = four_steps().await;
    let versions = versions(&fixture).await;
    assert_eq!(versions.len(), 3);
    for (version, rows) in versions.iter().zip([2, 4, 6]) {
        for form in [
            format!("logs AS OF VERSION {version}"),
            format!("logs VERSION AS OF {version} l"),
            format!("logs FOR VERSION AS OF {version}"),
            format!("logs AT (VERSION => {version}) AS l"),
            format!("public.logs AS OF VERSION {version}"),
        ] {
            assert_eq!(fixture.one(&format!("SELECT count(*) FROM {form}")).await, rows.to_string(), "{form}");
        }
    }
    let (first, last) = (versions[0], versions[2]);
    // Two moments of one table, and now, in one query.
    let sql = format!(
        "SELECT (SELECT count(*) FROM logs AS OF VERSION {first}) AS a, (SELECT count(*) FROM logs AS OF VERSION {last} WHERE message <> '0') AS b, \
         (SELECT count(*) FROM logs) AS c"
    );
    assert_eq!(fixture.one(&sql).await, "2,5,8");
    let joined = format!(
        "SELECT n.message FROM logs n LEFT JOIN logs AS OF VERSION {last} o ON o.message = n.message WHERE o.message IS NULL ORDER BY 1"
    );
    assert_eq!(fixture.rows(&joined).await.unwrap(), ["6", "7"]);
    // The table's own name goes on to name its columns.
    let sql = format!("SELECT logs.message FROM logs AS OF VERSION {first} WHERE logs.message = '1'");
    assert_eq!(fixture.one(&sql).await, "1");
    let result = fixture.engine.query("default", &format!("SELECT 1 FROM logs AS OF VERSION {first}")).await.unwrap();
    assert_eq!(result.info().tables[0].delta_version, Some(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_one_of_appends_wherever_the_rows_lie() {
    let fixture = four_steps().await;
    let at = |second: i64| chrono::DateTime::from_timestamp_millis(APPENDED_MS + second * 1000).unwrap().to_rfc3339();
    for (second, rows) in [(-1, 0), (0, 2), (9, 2), (10, 4), (25, 6), (30, 8), (3000, 8)] {
        let time = at(second);
        for form in [
            format!("logs AS OF TIMESTAMP '{time}'"),
            format!("logs TIMESTAMP AS OF '{time}' AS l"),
            format!("logs FOR SYSTEM_TIME AS OF TIMESTAMP '{time}'"),
            format!("logs AT (TIMESTAMP => '{time}')"),
        ] {
            assert_eq!(fixture.one(&format!("SELECT count(*) FROM {form}")).await, rows.to_string(), "{form}");
        }
    }
    let sql =
        format!("SELECT message FROM logs AS OF TIMESTAMP '{}' WHERE message IN ('1', '3', '7') ORDER BY 1", at(10));
    assert_eq!(fixture.rows(&sql).await.unwrap(), ["1", "3"]);
    let sql = format!("SELECT message FROM logs AS OF TIMESTAMP '{}' ORDER BY message LIMIT 3", at(10));
    assert_eq!(fixture.rows(&sql).await.unwrap(), ["0", "1", "2"]);
    // The rows are years old.
    assert_eq!(fixture.one("SELECT count(*) FROM logs AS OF TIMESTAMP now()").await, "8");
    assert_eq!(fixture.one("SELECT count(*) FROM logs AS OF TIMESTAMP now() - INTERVAL '1 second'").await, "8");
    assert_eq!(fixture.one("SELECT count(*) FROM logs AS OF TIMESTAMP ago('40000d')").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_change_nothing_until_a_vacuum_takes_the_files() {
    let fixture = four_steps().await;
    let versions = versions(&fixture).await;
    let clock = Arc::new(ManualClock::new(APPENDED_MS + 3_600_000));
    let config = TablesConfig { vacuum_after_ms: 0, ..TablesConfig::default() };
    let open = || {
        Maintainer::open(
            Arc::new(spec("logs")),
            &fixture.storage,
            Arc::new(config.clone()),
            Arc::<ManualClock>::clone(&clock),
            Upkeep::new(0),
        )
    };
    let compacted = open().await.unwrap().compact(Eagerness::Everything).await.unwrap();
    assert!(compacted.merged_files >= 3, "{compacted:?}");
    let first = format!("SELECT count(*) FROM logs AS OF VERSION {}", versions[0]);
    assert_eq!(fixture.one(&first).await, "2");
    let time = chrono::DateTime::from_timestamp_millis(APPENDED_MS + 10_000).unwrap().to_rfc3339();
    let then = format!("SELECT count(*) FROM logs AS OF TIMESTAMP '{time}'");
    assert_eq!(fixture.one(&then).await, "4");
    clock.advance_ms(3_600_000);
    assert!(open().await.unwrap().vacuum().await.unwrap().removed >= 3);
    let error = fixture.error(&first).await;
    assert!(matches!(error, SqlError::Invalid { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains(&format!("files of version {} have been merged", versions[0])), "{said}");
    // The merged version is the newest, and holds the same rows; a time goes by the rows.
    assert_eq!(fixture.one(&then).await, "4");
    assert_eq!(fixture.one("SELECT count(*) FROM logs").await, "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_moment_is_said() {
    let fixture = four_steps().await;
    let newest = versions(&fixture).await[2];
    for (from, said) in [
        (format!("logs AS OF VERSION {}", newest + 7), format!("version {newest} is the newest")),
        ("logs AS OF VERSION 99999999999999999999".to_string(), "AS OF".to_string()),
        ("logs AS OF TIMESTAMP 'yesterday'".to_string(), "AS OF 'yesterday'".to_string()),
        ("logs AS OF TIMESTAMP NULL".to_string(), "NULL is no time".to_string()),
        ("logs AS OF TIMESTAMP message".to_string(), "message".to_string()),
        ("metrics AS OF VERSION 0".to_string(), "nothing has been stored yet".to_string()),
        ("nosuch AS OF VERSION 0".to_string(), "'nosuch' is none".to_string()),
        ("alert_history AS OF VERSION 0".to_string(), "'alert_history' is none".to_string()),
    ] {
        let error = fixture.error(&format!("SELECT * FROM {from}")).await;
        assert!(matches!(error, SqlError::Invalid { .. } | SqlError::Syntax { .. }), "{from}: {error:?}");
        assert!(error.to_string().contains(&said), "{from}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_past() {
    let fixture = Fixture::new().await;
    append(&fixture, 1, 0).await;
    fixture.append_rows("logs", 0, &other_tenant()).await;
    fixture.commit(&spec("logs")).await;
    let version = versions(&fixture).await[0];
    for form in [format!("AS OF VERSION {version}"), "AS OF TIMESTAMP now()".to_string()] {
        let sql = format!("SELECT count(*) FROM logs {form}");
        assert_eq!(fixture.rows_of("default", &sql).await.unwrap(), ["1"], "{form}");
        assert_eq!(fixture.rows_of("other", &sql).await.unwrap(), ["2"], "{form}");
        assert_eq!(fixture.rows_of("nobody", &sql).await.unwrap(), ["0"], "{form}");
    }
    let quoted = format!("SELECT count(*) FROM \"logs@v{version}\"");
    assert_eq!(fixture.rows_of("nobody", &quoted).await.unwrap(), ["0"]);
}

/// A window that was closed again: at each moment the revision that was the newest one then. The time of a commit is that of its file.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_shows_the_revision_of_the_moment() {
    let fixture = Fixture::with(small(), sample_tables()).await;
    let row = |requests: i64, now: chrono::DateTime<chrono::Utc>| {
        let value = highwater_pipeline::data::ipc::encode(&rollup_row("web", 0, requests, 0)).unwrap();
        let headers = vec![content_type::header(content_type::ARROW)];
        Record { value: Some(value), headers, timestamp_ms: Some(now.timestamp_millis()), ..Record::default() }
    };
    let now = chrono::Utc::now();
    let moment = |seconds: i64| now + chrono::TimeDelta::seconds(seconds);
    fixture.append("rollup.requests_1m", 0, row(1, moment(-7200))).await;
    fixture.commit(&spec("requests_1m")).await;
    // Closed again an hour from now.
    let closed =
        Control::Superseded { source: "requests_1m/0".into(), window_start_us: 1_767_322_800_000_000, revision: 1 };
    let closed = Record { timestamp_ms: Some(moment(3600).timestamp_millis()), ..closed.to_record() };
    fixture.append("rollup.requests_1m", 0, closed).await;
    fixture.append("rollup.requests_1m", 0, row(2, moment(3600))).await;
    let at =
        |seconds: i64| format!("SELECT requests FROM requests_1m AS OF TIMESTAMP '{}'", moment(seconds).to_rfc3339());
    assert_eq!(fixture.rows(&at(1800)).await.unwrap(), ["1"], "stored by then");
    assert_eq!(fixture.rows(&at(-3600)).await.unwrap(), ["1"], "in the log then, and in a file now");
    assert_eq!(fixture.rows(&at(-10_000)).await.unwrap(), Vec::<String>::new());
    assert_eq!(fixture.rows(&at(7200)).await.unwrap(), ["2"]);
    assert_eq!(fixture.rows("SELECT requests FROM requests_1m").await.unwrap(), ["2"]);
}
