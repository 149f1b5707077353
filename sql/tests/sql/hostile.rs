//! Queries that mean harm. None of them may take the engine down, reach outside the tables, or outlive its limits.

use std::time::Duration;

use highwater_sql::{SqlConfig, SqlError};

use crate::fixture::{Fixture, small};

fn tight() -> SqlConfig {
    SqlConfig { timeout: Duration::from_millis(1500), memory_limit_bytes: 16 << 20, ..small() }
}

async fn still_answers(fixture: &Fixture) {
    assert_eq!(fixture.one("SELECT 1 + 1").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn runaway_queries_are_cut_at_the_timeout() {
    let fixture = Fixture::with(tight(), highwater_pipeline::tables::built_in_tables()).await;
    for sql in [
        "SELECT count(*) FROM generate_series(1, 1000000000000)",
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b",
        "SELECT sum(a.value * b.value) FROM generate_series(1, 1000000) a JOIN generate_series(1, 1000000) b ON a.value < b.value",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        "SELECT * FROM generate_series(1, 1000000000000)",
        "SELECT count(*) FROM generate_series(1, 100000000) WHERE repeat(value::text, 1000) LIKE '%a%b%'",
    ] {
        match fixture.error(sql).await {
            SqlError::Timeout { limit } => assert_eq!(limit, Duration::from_millis(1500)),
            // Where memory runs out before time does.
            SqlError::Memory { .. } => {}
            other => panic!("{sql}: {other}"),
        }
        still_answers(&fixture).await;
    }
    let error = fixture.error("SELECT count(*) FROM generate_series(1, 1000000000000)").await.to_string();
    assert_eq!(
        error,
        "the query was cut after 1s 500ms: `sql.timeout` allows no more; narrow the time range, or raise the limit"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn greedy_queries_are_cut_at_the_memory_limit() {
    let fixture = Fixture::with(
        SqlConfig { memory_limit_bytes: 4 << 20, spill_limit_bytes: 1 << 20, ..small() },
        highwater_pipeline::tables::built_in_tables(),
    )
    .await;
    for sql in [
        "SELECT array_agg(value) FROM generate_series(1, 100000000)",
        "SELECT repeat('x', 2000000000)",
        "SELECT max(length(repeat('x', 1000000 + value))) FROM generate_series(1, 10000)",
        "SELECT array_length(range(value, value + 1000000000000)) FROM generate_series(1, 10)",
        "SELECT value, repeat('x', 1000) AS x FROM generate_series(1, 10000000) ORDER BY x, value DESC",
        "SELECT count(DISTINCT value::text || repeat('y', 100)) FROM generate_series(1, 100000000)",
        "SELECT count(*) FROM generate_series(1, 50000000) a JOIN generate_series(1, 50000000) b ON a.value = b.value",
    ] {
        match fixture.error(sql).await {
            SqlError::Memory { limit_bytes, .. } => assert_eq!(limit_bytes, 4 << 20, "{sql}"),
            other => panic!("{sql}: {other}"),
        }
        still_answers(&fixture).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_larger_than_memory_spills_and_succeeds() {
    let fixture = Fixture::with(
        SqlConfig { memory_limit_bytes: 40 << 20, spill_limit_bytes: 512 << 20, threads: 1, ..small() },
        highwater_pipeline::tables::built_in_tables(),
    )
    .await;
    // 600,000 rows of over 100 bytes are more than 60 MB.
    let sql = "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY x) AS n FROM \
               (SELECT md5(value::text) || repeat('x', 70) AS x FROM generate_series(1, 600000)))";
    assert_eq!(fixture.one(sql).await, "600000");
    let left: Vec<_> = std::fs::read_dir(fixture.directory.path().join("spill"))
        .unwrap()
        .flat_map(|d| std::fs::read_dir(d.unwrap().path()).unwrap())
        .collect();
    assert!(left.is_empty(), "spilled files are removed: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_long_queries_do_not_overflow_the_stack() {
    let fixture = Fixture::with(
        SqlConfig { timeout: Duration::from_secs(5), ..small() },
        highwater_pipeline::tables::built_in_tables(),
    )
    .await;
    let chain = |n: usize| -> Vec<String> {
        let aliases: Vec<String> = (0..n / 20).map(|i| format!("logs l{i}")).collect();
        vec![
            format!("SELECT {}", vec!["1"; n].join("+")),
            format!("SELECT {}", vec!["_offset"; n].join("+") + " FROM logs"),
            format!("SELECT 1 WHERE {}", vec!["1=2"; n / 2].join(" OR ")),
            format!("SELECT * FROM logs WHERE {}", vec!["message='x'"; n / 2].join(" OR ")),
            format!("SELECT {}", vec!["'x'"; n].join("||")),
            format!("SELECT 1{}", "::int".repeat(n / 2)),
            format!("SELECT {}true", "NOT ".repeat(n)),
            format!("SELECT {}1", "- ".repeat(n)),
            format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n)),
            format!("SELECT * FROM {}(SELECT 1){}", "(SELECT * FROM ".repeat(n / 3), ")".repeat(n / 3)),
            vec!["SELECT 1"; n / 4].join(" UNION ALL "),
            format!("SELECT count(*) FROM {}", aliases.join(", ")),
            format!("SELECT labels{} FROM metrics", " -> 'a'".repeat(n)),
            format!("SELECT attributes{} FROM logs", "['a']".repeat(n / 2)),
        ]
    };
    let in_list = format!("SELECT 1 WHERE 1 IN ({})", vec!["2"; 50_000].join(","));
    let within = chain(960);
    let beyond = chain(20_000);
    for sql in within.into_iter().chain(beyond).chain([in_list]) {
        // Whatever the answer: there is one.
        let _answer = fixture.rows(&sql).await;
        still_answers(&fixture).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_values_are_errors_of_the_query() {
    let fixture = Fixture::new().await;
    for sql in [
        "SELECT 1 / 0",
        "SELECT 'x'::int",
        "SELECT arrow_cast('x', 'NoSuchType')",
        "SELECT regexp_like('a', '(')",
        "SELECT to_timestamp('not a time')",
    ] {
        let error = fixture.error(sql).await;
        assert!(matches!(error, SqlError::Execution { .. } | SqlError::Invalid { .. }), "{sql}: {error:?}");
    }
    still_answers(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_writes_or_reads_outside_never_runs() {
    let fixture = Fixture::new().await;
    let target = fixture.directory.path().join("out.csv");
    let secret = fixture.directory.path().join("secret.csv");
    std::fs::write(&secret, "a,b\n1,2\n").unwrap();
    for sql in [
        format!("COPY (SELECT 1) TO '{}'", target.display()),
        format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{}'", secret.display()),
        format!("SELECT * FROM '{}'", secret.display()),
        format!("SELECT * FROM \"{}\"", secret.display()),
        format!("SELECT * FROM read_csv('{}')", secret.display()),
        "INSERT INTO logs SELECT * FROM logs".to_string(),
        "CREATE VIEW logs AS SELECT 1".to_string(),
        "SET datafusion.execution.batch_size = 1".to_string(),
    ] {
        let error = fixture.error(&sql).await;
        assert!(matches!(error, SqlError::Forbidden { .. }), "{sql}: {error}");
    }
    assert!(!target.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_query_with_an_endless_plan_is_refused_before_it_is_optimised() {
    let fixture = Fixture::new().await;
    let query = |n: usize| {
        let ctes: Vec<String> =
            (1..n).map(|i| format!("t{i} AS (SELECT * FROM t{0} UNION ALL SELECT * FROM t{0})", i - 1)).collect();
        format!("WITH t0 AS (SELECT 1), {} SELECT count(*) FROM t{}", ctes.join(", "), n - 1)
    };
    assert_eq!(fixture.one(&query(7)).await, "64");
    let error = fixture.error(&query(60)).await;
    assert!(error.to_string().contains("reads more than 200 tables"), "{error}");
}
