//! Values of `$1`, `$2`, ...: the same rows as with the values written out.

use axum::http::StatusCode;
use highwater_sql::{Parameter, QueryOptions, SqlConfig, SqlError};
use serde_json::json;

use crate::fixture::{Fixture, sample, small};
use crate::http::{post, text};

async fn rows(fixture: &Fixture, sql: &str, parameters: Vec<Parameter>) -> Result<Vec<String>, SqlError> {
    use futures::TryStreamExt;
    let options = QueryOptions { parameters, timeout: None };
    let result = fixture.engine.query_with("default", sql, options).await?;
    let batches: Vec<arrow::array::RecordBatch> = result.try_collect().await?;
    let shown = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    Ok(shown.lines().skip(3).filter(|l| l.starts_with('|')).map(|l| l.trim_matches(['|', ' ']).to_string()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_stands_wherever_a_literal_does() {
    let fixture = sample(false, false, small()).await;
    let text = |s: &str| Parameter::Text(s.to_string());
    for (sql, parameters, expected) in [
        ("SELECT message FROM logs WHERE service = $1 AND host = $2", vec![text("db"), text("b")], 2),
        ("SELECT message FROM logs WHERE timestamp > $1", vec![text("2026-01-02T03:01:30Z")], 2),
        (
            "SELECT message FROM logs ORDER BY timestamp LIMIT $1 OFFSET $2",
            vec![Parameter::Int(3), Parameter::Int(1)],
            3,
        ),
        ("SELECT * FROM generate_series(1, $1)", vec![Parameter::Int(4)], 4),
        ("SELECT message FROM logs WHERE service IN ($1, $2)", vec![text("db"), text("web")], 6),
        ("SELECT message FROM logs WHERE message = ANY($1)", vec![Parameter::List(vec![text("started")])], 1),
        (
            "SELECT count(*) FROM metrics WHERE value > $1 GROUP BY name HAVING count(*) >= $2",
            vec![Parameter::Float(0.3), Parameter::Int(1)],
            2,
        ),
        ("SELECT message FROM logs WHERE attributes[$1] = $2", vec![text("path"), text("/x")], 2),
        ("SELECT $1 WHERE $2", vec![Parameter::Null, Parameter::Bool(true)], 1),
    ] {
        let got = rows(&fixture, sql, parameters).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(got.len(), expected, "{sql}: {got:?}");
    }
    // A value is never SQL.
    let injected = text("' OR true --");
    assert_eq!(rows(&fixture, "SELECT message FROM logs WHERE service = $1", vec![injected]).await.unwrap().len(), 0);
    let error = rows(&fixture, "SELECT $1", vec![]).await.unwrap_err();
    assert!(matches!(error, SqlError::Parameter { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_with_a_limit_of_time_and_places_of_errors() {
    let fixture = Fixture::with(SqlConfig { ..small() }, highwater_pipeline::tables::built_in_tables()).await;
    let ask = async |body: serde_json::Value| {
        let response = post(&fixture, "/api/v1/sql", "application/json", body.to_string()).await;
        (response.status(), text(response).await)
    };
    let body =
        json!({ "query": "SELECT $1 AS a, $2::text AS b, $3 AS c", "params": [7, null, "it's"], "format": "ndjson" });
    assert_eq!(ask(body).await, (StatusCode::OK, "{\"a\":7,\"b\":null,\"c\":\"it's\"}\n".to_string()));
    let (status, said) = ask(json!({ "query": "SELECT $2", "params": [1] })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(said.contains("\"parameter\"") && said.contains("there is no parameter $2"), "{said}");
    let endless = "SELECT count(*) FROM generate_series(1, 1000000000000)";
    let (status, said) = ask(json!({ "query": endless, "timeout": "300ms" })).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{said}");
    let (_, said) = ask(json!({ "query": "SELECT 1", "timeout": "soon" })).await;
    assert!(said.contains("is not a duration"), "{said}");
    for (query, line, column) in
        [("SELECT *\nFROM logs\nWHERE )", 3, 7), ("SELECT message,\n  nosuch\nFROM logs", 2, 3)]
    {
        let (_, said) = ask(json!({ "query": query })).await;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&said["line"], &said["column"]), (&json!(line), &json!(column)), "{query}: {said}");
    }
}
