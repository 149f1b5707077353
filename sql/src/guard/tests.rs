#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use datafusion::sql::sqlparser::dialect::GenericDialect;

use super::*;

fn guard(sql: &str) -> Result<Statement, SqlError> {
    parse(sql, &GenericDialect {})
}

#[test]
fn reading_is_allowed() {
    for sql in [
        "SELECT 1",
        "select * from logs where message like '%x%' order by timestamp desc limit 10",
        "WITH a AS (SELECT 1 AS x), b AS (SELECT x FROM a) SELECT * FROM b",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t",
        "VALUES (1, 'a'), (2, 'b')",
        "(SELECT 1) UNION ALL (SELECT 2) EXCEPT SELECT 3",
        "SELECT * FROM generate_series(1, 10)",
        "SELECT * FROM unnest([1, 2])",
        "SELECT a.* FROM logs a JOIN logs b ON a._offset = b._offset CROSS JOIN (SELECT 1) c",
        "SELECT labels ->> 'job', attributes['x'] FROM metrics, logs",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN VERBOSE WITH a AS (SELECT 1) SELECT * FROM a",
        "SHOW TABLES",
        "SHOW COLUMNS FROM logs",
        "SHOW FUNCTIONS",
        "DESCRIBE logs",
        "DESC logs",
        "DESCRIBE SELECT 1",
        "SELECT * FROM information_schema.columns",
        "SELECT 1;",
    ] {
        if let Err(error) = guard(sql) {
            panic!("{sql}: {error}");
        }
    }
}

#[test]
fn everything_else_is_refused_by_name() {
    for (sql, name) in [
        ("COPY logs TO '/tmp/x.csv'", "COPY"),
        ("COPY (SELECT * FROM logs) TO 's3://bucket/x' STORED AS PARQUET", "COPY"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL TABLE"),
        ("CREATE TABLE x (a INT)", "CREATE TABLE"),
        ("CREATE TABLE x AS SELECT * FROM logs", "CREATE TABLE"),
        ("CREATE VIEW x AS SELECT 1", "CREATE VIEW"),
        ("CREATE DATABASE x", "CREATE DATABASE"),
        ("CREATE SCHEMA x", "CREATE SCHEMA"),
        ("CREATE FUNCTION f() RETURNS INT RETURN 1", "CREATE FUNCTION"),
        ("DROP TABLE logs", "DROP TABLE"),
        ("ALTER TABLE logs ADD COLUMN x INT", "ALTER TABLE"),
        ("TRUNCATE TABLE logs", "TRUNCATE"),
        ("INSERT INTO logs VALUES (1)", "INSERT"),
        ("UPDATE logs SET message = ''", "UPDATE"),
        ("DELETE FROM logs", "DELETE"),
        ("MERGE INTO logs USING logs ON true WHEN MATCHED THEN DELETE", "MERGE"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
        ("SET TIME ZONE 'UTC'", "SET"),
        ("RESET datafusion.execution.batch_size", "RESET"),
        ("SHOW ALL", "SHOW of a setting"),
        ("SHOW datafusion.runtime.temp_directory", "SHOW of a setting"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("EXECUTE p", "EXECUTE"),
        ("DEALLOCATE p", "DEALLOCATE"),
        ("BEGIN", "BEGIN"),
        ("START TRANSACTION", "START TRANSACTION"),
        ("COMMIT", "COMMIT"),
        ("KILL 1", "KILL"),
        ("USE other", "USE"),
        ("ANALYZE TABLE logs", "ANALYZE"),
        ("GRANT SELECT ON logs TO x", "GRANT"),
        ("EXPLAIN INSERT INTO logs VALUES (1)", "EXPLAIN of INSERT"),
        ("EXPLAIN ANALYZE INSERT INTO logs VALUES (1)", "EXPLAIN of INSERT"),
        ("EXPLAIN ANALYZE COPY logs TO '/tmp/x'", "EXPLAIN of COPY"),
        ("EXPLAIN CREATE TABLE x AS SELECT 1", "EXPLAIN of CREATE TABLE"),
        ("WITH a AS (INSERT INTO logs VALUES (1) RETURNING *) SELECT * FROM a", "INSERT"),
        ("WITH a AS (DELETE FROM logs RETURNING *) SELECT * FROM a", "DELETE"),
        ("WITH a AS (SELECT 1) INSERT INTO logs SELECT * FROM a", "INSERT"),
        ("SELECT * INTO x FROM logs", "SELECT INTO"),
        ("SELECT * FROM (SELECT * INTO x FROM logs) y", "SELECT INTO"),
        ("SELECT * FROM logs FOR UPDATE", "FOR UPDATE"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT 1; DROP TABLE logs", "more than one statement"),
        ("DROP TABLE logs; SELECT 1", "DROP TABLE"),
        ("SELECT * FROM 'data.parquet'", "reading \"data.parquet\""),
        ("SELECT * FROM '/etc/passwd'", "reading \"/etc/passwd\""),
        ("SELECT * FROM \"/etc/passwd\"", "reading \"/etc/passwd\""),
        ("SELECT * FROM \"s3://bucket/x.parquet\"", "reading \"s3://bucket/x.parquet\""),
        ("SELECT (SELECT count(*) FROM 'x.csv')", "reading \"x.csv\""),
        ("SELECT 1 WHERE EXISTS (SELECT 1 FROM 'x.csv')", "reading \"x.csv\""),
        ("DESCRIBE 'x.parquet'", "reading \"x.parquet\""),
        ("SELECT * FROM read_csv('/etc/passwd')", "table function read_csv"),
        ("SELECT * FROM read_parquet('x')", "table function read_parquet"),
        ("SELECT * FROM parquet_metadata('x.parquet')", "table function parquet_metadata"),
        ("SELECT * FROM logs, LATERAL read_text('/etc/passwd')", "table function read_text"),
        ("SELECT * FROM (SELECT * FROM glob('/etc/*')) x", "table function glob"),
        ("SELECT * FROM information_schema.df_settings", "reading the server's settings"),
        ("SELECT * FROM information_schema.\"DF_SETTINGS\"", "reading the server's settings"),
    ] {
        match guard(sql) {
            Err(SqlError::Forbidden { what, .. }) => assert_eq!(what, name, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn what_is_not_sql_is_a_syntax_error_that_says_where() {
    for sql in ["", "   ", ";", "-- nothing", "SELEC 1", "SELECT * FROM", "SELECT 'open", "\u{0}", "🦀"] {
        match guard(sql) {
            Err(SqlError::Syntax { .. }) => {}
            other => panic!("{sql:?}: {other:?}"),
        }
    }
    let error = guard("SELECT *\nFROM logs\nWHERE )").unwrap_err().to_string();
    assert!(error.contains("Line: 3"), "{error}");
}

#[test]
fn size_and_depth_are_bounded() {
    let error = guard(&format!("SELECT '{}'", "x".repeat(MAX_QUERY_BYTES))).unwrap_err();
    assert!(matches!(error, SqlError::Syntax { .. }), "{error}");
    assert!(error.to_string().contains("the limit is 262144"), "{error}");
    let error = guard(&format!("SELECT {}", vec!["1"; 4000].join("+"))).unwrap_err().to_string();
    assert!(error.contains("4000 operators and keywords, the limit is 1000"), "{error}");
    assert!(guard(&format!("SELECT {}", vec!["1"; 900].join("+"))).is_ok());
    assert!(guard(&format!("SELECT 1 WHERE 1 IN ({})", vec!["2"; 20_000].join(","))).is_ok());
    let aliases: Vec<String> = (0..300).map(|i| format!("logs l{i}")).collect();
    let error = guard(&format!("SELECT 1 FROM {}", aliases.join(", "))).unwrap_err().to_string();
    assert!(error.contains("reads more than 200 tables"), "{error}");
    let doubling = |n: usize, step: &dyn Fn(usize) -> String| {
        let with: Vec<String> = (1..n).map(|i| format!("t{i} AS ({})", step(i - 1))).collect();
        guard(&format!("WITH t0 AS (SELECT 1 FROM logs), {} SELECT * FROM t{}", with.join(", "), n - 1))
    };
    let twice = |i: usize| format!("SELECT * FROM t{i} UNION ALL SELECT * FROM T{i}");
    assert!(doubling(8, &twice).is_ok(), "128 tables");
    assert!(doubling(9, &twice).is_err(), "256 tables");
    let nested =
        |i: usize| format!("WITH a AS (SELECT * FROM t{i}, t{i} x), t{i} AS (SELECT 1) SELECT * FROM a, a b, t{i}");
    assert!(doubling(4, &nested).is_ok());
    assert!(doubling(6, &nested).is_err());
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(matches!(guard(&deep), Err(SqlError::Syntax { .. })));
}
