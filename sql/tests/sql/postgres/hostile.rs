//! Queries that mean harm, over this door: refused or bounded, in both protocols.

use std::time::Duration;

use highwater_sql::SqlConfig;
use tokio_postgres::error::SqlState;

use super::Door;
use crate::fixture::small;

fn tight() -> SqlConfig {
    SqlConfig { timeout: Duration::from_millis(1500), memory_limit_bytes: 16 << 20, ..small() }
}

#[tokio::test(flavor = "multi_thread")]
async fn runaways_are_cut() {
    let door = Door::with(tight()).await;
    let client = door.client().await;
    for sql in [
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        "SELECT array_agg(value) FROM generate_series(1, 100000000)",
        "SELECT repeat('x', 2000000000)",
        "SELECT max(a.oid + b.oid + c.oid + d.oid) FROM pg_catalog.pg_proc a, pg_catalog.pg_proc b, pg_catalog.pg_proc c, pg_catalog.pg_proc d",
    ] {
        let simple = client.simple_query(sql).await.map(drop);
        let extended = client.query(sql, &[]).await.map(drop);
        for answer in [simple, extended] {
            let error = answer.expect_err(sql);
            let code = error.code().cloned().unwrap_or_else(|| panic!("{sql}: {error}"));
            assert!([SqlState::QUERY_CANCELED, SqlState::OUT_OF_MEMORY].contains(&code), "{sql}: {error}");
        }
        assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i64>(0), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_writes_or_reaches_outside_is_refused() {
    let door = Door::new().await;
    let client = door.client().await;
    let target = door.fixture.directory.path().join("out.csv");
    for sql in [
        format!("COPY (SELECT 1) TO '{}'", target.display()),
        format!("COPY logs FROM '{}'", target.display()),
        "COPY logs FROM STDIN".to_string(),
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'".to_string(),
        "SELECT * FROM '/etc/passwd'".to_string(),
        "SELECT * FROM \"/etc/passwd\"".to_string(),
        "SELECT * FROM read_parquet('x')".to_string(),
        "SELECT * FROM pg_catalog.pg_class, read_csv('/etc/passwd')".to_string(),
        "SELECT pg_read_file('/etc/passwd')".to_string(),
        "SELECT lo_import('/etc/passwd')".to_string(),
        "SELECT pg_sleep(1000)".to_string(),
        "INSERT INTO logs SELECT * FROM logs".to_string(),
        "INSERT INTO pg_catalog.pg_class SELECT * FROM pg_catalog.pg_class".to_string(),
        "WITH a AS (DELETE FROM logs RETURNING *) SELECT * FROM a".to_string(),
        "CREATE TABLE pg_x AS SELECT 1".to_string(),
        "SELECT * INTO x FROM logs".to_string(),
        "DO $$ BEGIN END $$".to_string(),
        "SET datafusion.execution.batch_size = 1; SELECT * FROM information_schema.df_settings".to_string(),
        "SELECT * FROM logs FOR UPDATE".to_string(),
        "VACUUM".to_string(),
        "LOCK TABLE logs".to_string(),
    ] {
        let simple = client.simple_query(&sql).await.map(drop);
        let error = simple.expect_err(&sql);
        assert!(error.code().is_some(), "{sql}: {error}");
        if !sql.contains(';') {
            assert!(client.query(&sql, &[]).await.is_err(), "{sql}");
        }
    }
    assert!(!target.exists());
    assert_eq!(client.query_one("SELECT count(*) FROM logs", &[]).await.unwrap().get::<_, i64>(0), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_long_texts_are_answered() {
    let door = Door::new().await;
    let client = door.client().await;
    let long = "x".repeat(300 << 10);
    for sql in [
        format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT pg_backend_pid(), {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT {}", vec!["1"; 20_000].join("+")),
        format!("SELECT 'pg_class'::regclass, {}", vec!["1"; 20_000].join("+")),
        format!("SELECT '{long}'"),
        "SELECT 1;".repeat(5000),
        format!("SET application_name = '{long}'"),
    ] {
        // Whatever the answer: there is one.
        drop(client.simple_query(&sql).await);
        assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i64>(0), 1);
    }
}
