//! The protocol, by a client in Rust that speaks the extended one in binary.

use std::time::Duration;

use futures::TryStreamExt;
use highwater_sql::SqlConfig;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::Door;
use crate::fixture::small;

fn simple(messages: &[SimpleQueryMessage]) -> Vec<Vec<String>> {
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_string()).collect())
            }
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_in_text_and_in_binary() {
    let door = Door::new().await;
    let client = door.client().await;
    let sql = "SELECT 1::smallint, 2::int, 3::bigint, 1.5::real, 2.5::double, true, 'é', X'00ff', \
               DATE '2026-01-02', TIMESTAMP '2026-01-02 03:04:05.678901', arrow_cast('2026-01-02T03:04:05Z', 'Timestamp(Microsecond, Some(\"UTC\"))'), \
               [1, NULL], ['a', 'b c'], NULL::int, 12.50::decimal(10, 2), INTERVAL '1 month 2 days 3 seconds', \
               (SELECT attributes FROM logs WHERE message = 'slow query')";
    let text = client.simple_query(sql).await.unwrap();
    assert_eq!(
        simple(&text)[0],
        [
            "1",
            "2",
            "3",
            "1.5",
            "2.5",
            "t",
            "é",
            "\\x00ff",
            "2026-01-02",
            "2026-01-02 03:04:05.678901",
            "2026-01-02 03:04:05+00",
            "{1,NULL}",
            "{a,\"b c\"}",
            "NULL",
            "12.50",
            "1 mon 2 days 00:00:03",
            "{\"ms\":\"1200\"}"
        ]
    );
    let row = client.query_one(sql, &[]).await.unwrap();
    let types: Vec<&Type> = row.columns().iter().map(tokio_postgres::Column::type_).collect();
    assert_eq!(
        types,
        [
            &Type::INT2,
            &Type::INT4,
            &Type::INT8,
            &Type::FLOAT4,
            &Type::FLOAT8,
            &Type::BOOL,
            &Type::TEXT,
            &Type::BYTEA,
            &Type::DATE,
            &Type::TIMESTAMP,
            &Type::TIMESTAMPTZ,
            &Type::INT8_ARRAY,
            &Type::TEXT_ARRAY,
            &Type::INT4,
            &Type::NUMERIC,
            &Type::INTERVAL,
            &Type::JSONB
        ]
    );
    assert_eq!((row.get::<_, i16>(0), row.get::<_, i32>(1), row.get::<_, i64>(2)), (1, 2, 3));
    assert_eq!((row.get::<_, f32>(3), row.get::<_, f64>(4), row.get::<_, bool>(5)), (1.5, 2.5, true));
    assert_eq!((row.get::<_, &str>(6), row.get::<_, &[u8]>(7)), ("é", &[0u8, 255][..]));
    assert_eq!(row.get::<_, chrono::NaiveDate>(8).to_string(), "2026-01-02");
    assert_eq!(row.get::<_, chrono::NaiveDateTime>(9).to_string(), "2026-01-02 03:04:05.678901");
    assert_eq!(row.get::<_, chrono::DateTime<chrono::Utc>>(10).to_rfc3339(), "2026-01-02T03:04:05+00:00");
    assert_eq!(row.get::<_, Vec<Option<i64>>>(11), [Some(1), None]);
    assert_eq!(row.get::<_, Vec<&str>>(12), ["a", "b c"]);
    assert_eq!(row.get::<_, Option<i32>>(13), None);
    assert_eq!(row.get::<_, serde_json::Value>(16), serde_json::json!({ "ms": "1200" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_the_types_of_what_they_stand_beside() {
    let door = Door::new().await;
    let client = door.client().await;
    let statement = client
        .prepare("SELECT message FROM logs WHERE timestamp > $1 AND service = $2 AND _row >= $3 AND message <> ALL($4) ORDER BY 1 LIMIT $5")
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::TIMESTAMPTZ, Type::TEXT, Type::INT4, Type::TEXT_ARRAY, Type::INT8]);
    assert_eq!(statement.columns()[0].name(), "message");
    let after = chrono::DateTime::from_timestamp(1_767_322_800, 0).unwrap();
    for limit in [1i64, 10] {
        let rows = client.query(&statement, &[&after, &"web", &0i32, &vec!["out of memory"], &limit]).await.unwrap();
        let messages: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        let all = ["GET /x 500", "naïve ✓ \"quoted\", comma"];
        assert_eq!(messages, &all[..all.len().min(limit as usize)]);
    }
    let cast = client
        .query_one("SELECT $1::bigint + 1, $2::text, $3::bool, $4::float8", &[&41i64, &"x'y", &true, &0.5f64])
        .await
        .unwrap();
    assert_eq!(
        (cast.get::<_, i64>(0), cast.get::<_, &str>(1), cast.get::<_, bool>(2), cast.get::<_, f64>(3)),
        (42, "x'y", true, 0.5)
    );
    let nulls: [&(dyn ToSql + Sync); 2] = [&None::<i64>, &None::<&str>];
    let row = client.query_one("SELECT $1::bigint, $2::text IS NULL", &nulls).await.unwrap();
    assert_eq!((row.get::<_, Option<i64>>(0), row.get::<_, bool>(1)), (None, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_named_as_postgres_names_them() {
    let door = Door::new().await;
    let client = door.client().await;
    let statement =
        client.prepare("SELECT count(*), 1 + 1, 1 + 1, max(timestamp) AS \"M\", NULL, NULL FROM logs").await.unwrap();
    let names: Vec<&str> = statement.columns().iter().map(tokio_postgres::Column::name).collect();
    assert_eq!(names, ["count", "?column?", "?column?", "M", "?column?", "?column?"]);
    assert_eq!(client.query(&statement, &[]).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_give_rows_in_parts_and_a_query_waits_for_its_reader() {
    let door = Door::with(SqlConfig { max_concurrent_queries: 2, ..small() }).await;
    let mut client = door.client().await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT value FROM generate_series(1, 1000000000)", &[]).await.unwrap();
    for part in 0..3i64 {
        let rows = transaction.query_portal(&portal, 1000).await.unwrap();
        assert_eq!(rows.len(), 1000);
        assert_eq!(rows[0].get::<_, i64>(0), part * 1000 + 1);
    }
    // Another statement runs between them.
    assert_eq!(transaction.query_one("SELECT 5", &[]).await.unwrap().get::<_, i64>(0), 5);
    transaction.rollback().await.unwrap();
    let rows = client.query_raw("SELECT value FROM generate_series(1, 200000)", Vec::<i64>::new()).await.unwrap();
    assert_eq!(rows.try_fold(0usize, |n, _| async move { Ok(n + 1) }).await.unwrap(), 200_000);
    let cursor = "BEGIN; DECLARE c CURSOR FOR SELECT value FROM generate_series(1, 10); FETCH 3 FROM c; MOVE 2 FROM c; FETCH ALL FROM c; CLOSE c; COMMIT";
    let rows = simple(&client.simple_query(cursor).await.unwrap());
    assert_eq!(rows.concat(), ["1", "2", "3", "6", "7", "8", "9", "10"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_codes_and_places_and_the_connection_goes_on() {
    let door = Door::new().await;
    let client = door.client().await;
    for (sql, code, position) in [
        ("SELEC 1", SqlState::SYNTAX_ERROR, Some(1)),
        ("SELECT 1;\n SELECT * FROM\n  lgos", SqlState::UNDEFINED_TABLE, Some(28)),
        ("SELECT 'ü', nosuch FROM logs", SqlState::UNDEFINED_COLUMN, Some(13)),
        ("SELECT cuont(*) FROM logs", SqlState::UNDEFINED_FUNCTION, Some(8)),
        ("SELECT 1/0", SqlState::DIVISION_BY_ZERO, None),
        ("SELECT 'x'::int", SqlState::INVALID_TEXT_REPRESENTATION, None),
        ("DROP TABLE logs", SqlState::READ_ONLY_SQL_TRANSACTION, None),
        ("COPY logs TO '/tmp/x'", SqlState::INSUFFICIENT_PRIVILEGE, None),
        ("COPY logs FROM STDIN", SqlState::READ_ONLY_SQL_TRANSACTION, None),
        ("SELECT * FROM read_csv('/etc/passwd')", SqlState::INSUFFICIENT_PRIVILEGE, None),
        ("SELECT $1", SqlState::UNDEFINED_PARAMETER, None),
        ("SET nosuch = 1", SqlState::UNDEFINED_OBJECT, None),
        ("EXECUTE nosuch", SqlState::INVALID_SQL_STATEMENT_NAME, None),
        ("FETCH 1 FROM nosuch", SqlState::INVALID_CURSOR_NAME, None),
    ] {
        let error = client.simple_query(sql).await.unwrap_err();
        let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}"));
        assert_eq!(error.code(), &code, "{sql}: {error}");
        let at = match error.position() {
            Some(tokio_postgres::error::ErrorPosition::Original(at)) => Some(*at),
            _ => None,
        };
        assert_eq!(at, position, "{sql}: {error}");
    }
    let error = client.query("SELECT nosuch FROM logs WHERE service = $1", &[&"x"]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_COLUMN));
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_fail_as_a_whole() {
    let door = Door::new().await;
    let client = door.client().await;
    client.batch_execute("BEGIN").await.unwrap();
    assert!(client.simple_query("SELECT nosuch").await.is_err());
    let error = client.simple_query("SELECT 1").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(simple(&client.simple_query("SELECT 1").await.unwrap()), [["1"]]);
    client.batch_execute("BEGIN; SAVEPOINT a").await.unwrap();
    assert!(client.simple_query("SELECT nosuch").await.is_err());
    client.batch_execute("ROLLBACK TO SAVEPOINT a; SELECT 1; COMMIT").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_statements_and_what_a_query_saw() {
    let door = Door::new().await;
    let client = door.client_with("application_name=test options='-c statement_timeout=5s'").await.unwrap();
    let shown =
        async |name: &str| simple(&client.simple_query(&format!("SHOW {name}")).await.unwrap()).concat().concat();
    assert_eq!(shown("application_name").await, "test");
    assert_eq!(shown("statement_timeout").await, "5s");
    client.batch_execute("SET TIME ZONE 'Europe/Berlin'").await.unwrap();
    let row = simple(&client.simple_query("SELECT min(timestamp) FROM logs").await.unwrap());
    assert_eq!(row, [["2026-01-02 04:00:00+01"]]);
    client.batch_execute("RESET ALL").await.unwrap();
    assert_eq!(shown("timezone").await, "UTC");
    let seen: serde_json::Value = serde_json::from_str(&shown("highwater.snapshot").await).unwrap();
    assert_eq!(seen["tables"][0]["table"], "logs");
    // Calendars and clocks are those of the zone, and times without a zone as well. Answers are those of PostgreSQL 15.
    client.batch_execute("SET TIME ZONE 'Europe/Zurich'").await.unwrap();
    for (sql, expected) in [
        ("SELECT date_trunc('day', TIMESTAMPTZ '2026-07-01 23:00:00Z')", "2026-07-02 00:00:00+02"),
        ("SELECT extract(hour FROM TIMESTAMPTZ '2026-07-01 23:00:00Z')", "1"),
        ("SELECT to_char(TIMESTAMPTZ '2026-07-01 23:00:00Z', 'YYYY-MM-DD HH24:MI')", "2026-07-02 01:00"),
        ("SELECT (TIMESTAMPTZ '2026-07-01 23:00:00Z')::date", "2026-07-02"),
        ("SELECT (TIMESTAMPTZ '2026-07-01 23:00:00Z')::timestamp", "2026-07-02 01:00:00"),
        ("SELECT '2026-07-01 23:00'::timestamptz", "2026-07-01 23:00:00+02"),
        ("SELECT extract(epoch FROM TIMESTAMPTZ '1970-01-01 00:00:00Z')", "0"),
        (
            "SELECT count(*) FROM logs WHERE timestamp >= '2026-01-02 04:01' AND timestamp < TIMESTAMP '2026-01-02 04:02:00'",
            "1",
        ),
        (
            "SELECT date_trunc('day', timestamp), count(*) FROM logs WHERE date = DATE '2026-01-03' GROUP BY 1",
            "2026-01-03 00:00:00+01|1",
        ),
        ("SELECT timestamp AT TIME ZONE 'UTC' FROM logs WHERE message = 'GET /x 500'", "2026-01-02 03:00:30.5"),
    ] {
        let rows = simple(&client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")));
        assert_eq!(rows[0].join("|"), expected, "{sql}");
    }
    client.batch_execute("RESET ALL").await.unwrap();
    assert_eq!(shown("timezone").await, "UTC");
    // Set by a query.
    let set = "SELECT set_config('statement_timeout', '90000', false), set_config('my.own', 'x', false)";
    assert_eq!(simple(&client.simple_query(set).await.unwrap()), [["90s", "x"]]);
    assert_eq!((shown("statement_timeout").await, shown("my.own").await), ("90s".into(), "x".into()));
    let config =
        "SELECT current_setting('my.own'), current_setting('application_name'), current_setting('my.no', true)";
    assert_eq!(simple(&client.simple_query(config).await.unwrap()), [["x", "test", "NULL"]]);
    for (sql, code) in [
        ("SELECT current_setting('my.nosuch')", "42704"),
        ("SELECT set_config('TimeZone', 'Mars/Olympus', false)", "22023"),
        ("SELECT set_config('highwater.tenant', 'other', false)", "22000"),
    ] {
        assert_eq!(client.simple_query(sql).await.unwrap_err().code().unwrap().code(), code, "{sql}");
    }
    let error = client.simple_query("SET highwater.tenant = 'other'").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55P02");
    let prepared = "PREPARE p (text, int) AS SELECT count(*) FROM logs WHERE service = $1 AND _row < $2; EXECUTE p ('web', 1 + 1); DEALLOCATE p";
    assert_eq!(simple(&client.simple_query(prepared).await.unwrap()), [["4"]]);
    client.batch_execute("DISCARD ALL").await.unwrap();
    assert_eq!(
        simple(&client.simple_query("SELECT current_user, current_database(), current_schema()").await.unwrap()),
        [["reader", "highwater", "public"]]
    );
    let tables = simple(&client.simple_query("SHOW TABLES").await.unwrap());
    assert!(tables.iter().any(|row| row.contains(&"logs".to_string())), "{tables:?}");
}

/// A query that does not end by itself.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000)";

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_ends_at_a_cancel_request_at_the_timeout_and_with_its_connection() {
    let door = Door::with(SqlConfig { max_concurrent_queries: 1, ..small() }).await;
    let client = door.client().await;
    let token = client.cancel_token();
    let canceled = tokio::spawn(async move { (client.simple_query(ENDLESS).await.map(drop), client) });
    let error = loop {
        // Asked again until it has begun: a request that comes before it means nothing.
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        if canceled.is_finished() {
            break canceled.await.unwrap();
        }
    };
    let (result, client) = error;
    assert_eq!(result.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(simple(&client.simple_query("SELECT 1").await.unwrap()), [["1"]]);
    client.batch_execute("SET statement_timeout = '300ms'").await.unwrap();
    let error = client.simple_query(ENDLESS).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    assert!(
        error.to_string().contains("statement timeout")
            || error.as_db_error().unwrap().message().contains("statement timeout")
    );

    // A client that goes in the middle leaves its place to the next one, which waits for it.
    let config = format!("host=127.0.0.1 port={} user=reader", door.port());
    let (gone, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    let running = tokio::spawn(async move { drop(gone.simple_query(ENDLESS).await) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    connection.abort();
    running.abort();
    let next = door.client().await;
    let waited = tokio::time::timeout(Duration::from_secs(50), next.simple_query("SELECT 1")).await;
    assert_eq!(simple(&waited.expect("the place of a client that is gone is free").unwrap()), [["1"]]);
}
