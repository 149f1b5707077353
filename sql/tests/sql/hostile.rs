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

#[tokio::test(flavor = "multi_thread")]
async fn patterns_that_explode_elsewhere_are_answered_or_refused() {
    let fixture = Fixture::with(tight(), highwater_pipeline::tables::built_in_tables()).await;
    let text = "repeat('a', 20000)";
    let long = format!("(?:{}){{50}}", "a?".repeat(2000));
    for pattern in ["(a*)*b", "(a|aa)+$", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)(.*)(.*)(.*)(.*)[^a]$", long.as_str()] {
        for call in [
            format!("regexp_like({text}, '{pattern}')"),
            format!("regexp_match({text}, '{pattern}')"),
            format!("regexp_replace({text}, '{pattern}', 'x', 'g')"),
            format!("regexp_extract({text}, '{pattern}')"),
            format!("{text} ~ '{pattern}'"),
            format!("{text} SIMILAR TO '{pattern}'"),
        ] {
            // Whatever the answer: there is one, in time.
            let _answer = fixture.rows(&format!("SELECT count(*) FROM (SELECT {call} AS x)")).await;
            still_answers(&fixture).await;
        }
    }
    // As many as that are a program of gigabytes.
    for huge in ["((a{1000}){1000}){1000}", "(\\pL{500}){500}"] {
        let error = fixture.error(&format!("SELECT regexp_like('a', '{huge}')")).await;
        let is_refused =
            matches!(error, SqlError::Execution { .. } | SqlError::Invalid { .. } | SqlError::Timeout { .. });
        assert!(is_refused, "{huge}: {error:?}");
    }
    let likes = format!("SELECT {text} LIKE '{}b'", "%a".repeat(2000));
    let _answer = fixture.rows(&likes).await;
    still_answers(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recursion_products_and_lists_end() {
    let fixture = Fixture::with(tight(), highwater_pipeline::tables::built_in_tables()).await;
    let wide: Vec<String> = (0..90).map(|i| format!("generate_series(1, 100) t{i}")).collect();
    let columns: Vec<String> = (0..20_000).map(|i| format!("{i} AS c{i}")).collect();
    let values: Vec<String> = (0..20_000).map(|i| format!("({i})")).collect();
    for sql in [
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT a.n + b.n FROM t a JOIN t b ON true) SELECT count(*) FROM t".to_string(),
        "WITH RECURSIVE t(n, s) AS (SELECT 1, 'x' UNION ALL SELECT n + 1, s || s FROM t) SELECT max(length(s)) FROM t".to_string(),
        "WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT * FROM a".to_string(),
        format!("SELECT count(*) FROM {}", wide.join(", ")),
        "SELECT count(*) FROM generate_series(1, 100000) a CROSS JOIN generate_series(1, 100000) b CROSS JOIN generate_series(1, 100000) c".to_string(),
        "SELECT * FROM generate_series(-9223372036854775808, 9223372036854775807)".to_string(),
        "SELECT array_agg(a.value ORDER BY b.value) FROM generate_series(1, 100000) a, generate_series(1, 1000) b".to_string(),
        "SELECT string_agg(repeat('x', 1000), ',') FROM generate_series(1, 10000000)".to_string(),
        "SELECT count(DISTINCT (a.value, b.value)) FROM generate_series(1, 100000) a, generate_series(1, 100000) b".to_string(),
        "SELECT sum(value) OVER (ORDER BY value ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM generate_series(1, 100000000)".to_string(),
        "SELECT lpad('x', 2147483647), rpad('x', 2147483647), repeat('x', 9223372036854775807)".to_string(),
        "SELECT power(10, 400), factorial(20), 9223372036854775807 + 1, -9223372036854775808 / -1".to_string(),
        format!("SELECT {}", columns.join(", ")),
        format!("SELECT count(*) FROM (VALUES {}) AS v(x)", values.join(", ")),
        format!("SELECT * FROM logs WHERE service IN ({})", (0..30_000).map(|i| format!("'{i}'")).collect::<Vec<_>>().join(",")),
        format!("SELECT * FROM logs WHERE {} = 'x'", "coalesce(service, ".repeat(40) + "service" + &")".repeat(40)),
        "SELECT * FROM logs TABLESAMPLE BERNOULLI (1e308)".to_string(),
        "EXPLAIN ANALYZE SELECT count(*) FROM generate_series(1, 1000000000000)".to_string(),
    ] {
        // Whatever the answer: there is one, within the limits of time and memory.
        let _answer = fixture.rows(&sql).await;
        still_answers(&fixture).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_word_about_other_tenants_or_the_machine() {
    let fixture = crate::fixture::sample(false, false, small()).await;
    let directory = fixture.directory.path().display().to_string();
    let said = |sql: &str| {
        let (fixture, sql) = (&fixture, sql.to_string());
        async move {
            match fixture.rows(&sql).await {
                Ok(rows) => rows.join("\n"),
                Err(error) => error.to_string(),
            }
        }
    };
    for sql in [
        "SELECT * FROM logs",
        "SELECT * FROM logs WHERE tenant = 'other' OR tenant = 'default'",
        "EXPLAIN VERBOSE SELECT message FROM logs WHERE message LIKE 'secret%'",
        "EXPLAIN ANALYZE VERBOSE SELECT message FROM logs",
        "SELECT count(*), min(tenant), max(tenant), max(message) FROM logs",
        "SELECT approx_distinct(tenant), array_agg(DISTINCT tenant) FROM logs",
        "SELECT * FROM logs AS OF VERSION 1",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.df_settings",
        "SHOW ALL",
        "SELECT * FROM \"logs/tenant=other\"",
        "SELECT * FROM \"file:///etc/passwd\"",
        "SELECT * FROM telemetry_summary",
        "SELECT CAST(message AS INT) FROM logs",
        "SELECT 1 / (CASE WHEN message LIKE 'secret%' THEN 0 ELSE 1 END) FROM logs",
    ] {
        let said = said(sql).await;
        for secret in ["secret of another", "=other", "\"other\"", ",other", directory.as_str(), "root:"] {
            assert!(!said.contains(secret) || sql.contains(secret), "{sql}: {said}");
        }
    }
    // A condition that only another tenant's rows would break is broken by nobody.
    assert_eq!(
        fixture.one("SELECT count(1 / (CASE WHEN message LIKE 'secret%' THEN 0 ELSE 1 END)) FROM logs").await,
        "6"
    );
}
