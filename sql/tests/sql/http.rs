//! The HTTP door.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use highwater_pipeline::tables::built_in_tables;
use highwater_sql::{SqlConfig, http};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::fixture::{Fixture, small};

pub(crate) async fn post(fixture: &Fixture, uri: &str, content_type: &str, body: impl Into<Body>) -> Response<Body> {
    send(fixture, Request::post(uri).header("content-type", content_type).body(body.into()).unwrap()).await
}

async fn send(fixture: &Fixture, request: Request<Body>) -> Response<Body> {
    http::router(Arc::new(fixture.engine.clone())).oneshot(request).await.unwrap()
}

async fn query(fixture: &Fixture, sql: &str) -> (StatusCode, Value) {
    let response = post(fixture, "/api/v1/sql", "application/json", json!({ "query": sql }).to_string()).await;
    let status = response.status();
    (status, serde_json::from_slice(&bytes(response).await).unwrap())
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

pub(crate) async fn text(response: Response<Body>) -> String {
    String::from_utf8(bytes(response).await).unwrap()
}

fn content_type(response: &Response<Body>) -> &str {
    response.headers()["content-type"].to_str().unwrap()
}

const TWO_ROWS: &str = "SELECT * FROM (VALUES (1, 'a'), (2, NULL)) t(n, s) ORDER BY n";

#[tokio::test(flavor = "multi_thread")]
async fn every_format_by_name() {
    let fixture = Fixture::new().await;
    for (format, media_type, expected) in [
        ("json", "application/json", "[{\"n\":1,\"s\":\"a\"},\n {\"n\":2,\"s\":null}]\n"),
        ("ndjson", "application/x-ndjson", "{\"n\":1,\"s\":\"a\"}\n{\"n\":2,\"s\":null}\n"),
        ("csv", "text/csv; charset=utf-8; header=present", "n,s\n1,a\n2,\n"),
    ] {
        let body = json!({ "query": TWO_ROWS, "format": format }).to_string();
        let response = post(&fixture, "/api/v1/sql", "application/json", body).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(content_type(&response), media_type);
        assert_eq!(text(response).await, expected);
        let response =
            post(&fixture, &format!("/api/v1/sql?format={format}"), "text/plain; charset=utf-8", TWO_ROWS).await;
        assert_eq!(text(response).await, expected);
    }
    let body = json!({ "query": TWO_ROWS, "format": "arrow" }).to_string();
    let response = post(&fixture, "/api/v1/sql", "application/json", body).await;
    assert_eq!(content_type(&response), "application/vnd.apache.arrow.stream");
    let body = bytes(response).await;
    let rows: usize = arrow::ipc::reader::StreamReader::try_new(body.as_slice(), None)
        .unwrap()
        .map(|batch| batch.unwrap().num_rows())
        .sum();
    assert_eq!(rows, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_the_default_and_empty_is_a_document() {
    let fixture = Fixture::new().await;
    assert_eq!(query(&fixture, "SELECT 1 AS x").await, (StatusCode::OK, json!([{ "x": 1 }])));
    assert_eq!(query(&fixture, "SELECT * FROM logs").await, (StatusCode::OK, json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_a_status_and_a_code() {
    let fixture = Fixture::new().await;
    for (sql, status, code) in [
        ("SELEC 1", StatusCode::BAD_REQUEST, "syntax"),
        ("SELECT nosuch FROM logs", StatusCode::BAD_REQUEST, "invalid"),
        ("SELECT * FROM nosuch", StatusCode::BAD_REQUEST, "invalid"),
        ("SELECT 1/0", StatusCode::BAD_REQUEST, "execution"),
        ("DROP TABLE logs", StatusCode::FORBIDDEN, "forbidden"),
        ("SELECT * FROM 'x.parquet'", StatusCode::FORBIDDEN, "forbidden"),
    ] {
        let (got, body) = query(&fixture, sql).await;
        assert_eq!((got, &body["code"]), (status, &json!(code)), "{sql}: {body}");
        assert!(body["error"].as_str().is_some_and(|m| !m.is_empty()), "{body}");
    }
    let (_, body) = query(&fixture, "SELECT mesage FROM logs").await;
    assert!(body["error"].as_str().unwrap().contains("Did you mean 'logs.message'?"), "{body}");
    let (_, body) = query(&fixture, "SELECT * FROM log").await;
    assert_eq!(body["error"], "there is no table 'log'. Did you mean 'logs'?");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_what_is_wrong() {
    let fixture = Fixture::new().await;
    for (uri, media_type, body, status, message) in [
        ("/api/v1/sql", "application/json", "{", StatusCode::BAD_REQUEST, "the body must be"),
        ("/api/v1/sql", "application/json", "{\"query\": 1}", StatusCode::BAD_REQUEST, "the body must be"),
        (
            "/api/v1/sql",
            "application/json",
            "{\"query\": \"x\", \"fromat\": \"csv\"}",
            StatusCode::BAD_REQUEST,
            "fromat",
        ),
        ("/api/v1/sql?format=xml", "text/plain", "SELECT 1", StatusCode::BAD_REQUEST, "unknown format \"xml\""),
        ("/api/v1/sql?format=table", "text/plain", "SELECT 1", StatusCode::BAD_REQUEST, "unknown format \"table\""),
        ("/api/v1/sql", "application/xml", "<x/>", StatusCode::BAD_REQUEST, "the body must be"),
    ] {
        let response = post(&fixture, uri, media_type, body).await;
        assert_eq!(response.status(), status, "{body}");
        let body: Value = serde_json::from_slice(&bytes(response).await).unwrap();
        assert_eq!(body["code"], "request");
        assert!(body["error"].as_str().unwrap().contains(message), "{body}");
    }
    let request = Request::post("/api/v1/sql").header("x-scope-orgid", "../x").body("{\"query\":\"SELECT 1\"}".into());
    assert_eq!(send(&fixture, request.unwrap()).await.status(), StatusCode::BAD_REQUEST);
    let response = post(&fixture, "/api/v1/sql", "text/plain", vec![b'x'; 2 << 20]).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_engine_says_when_to_come_back() {
    let fixture = Fixture::with(SqlConfig { max_concurrent_queries: 1, ..small() }, built_in_tables()).await;
    let running = fixture.engine.query("default", "SELECT * FROM generate_series(1, 1000000000000)").await.unwrap();
    let response = post(&fixture, "/api/v1/sql", "text/plain", "SELECT 1").await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_a_gateway_timeout_before_rows_and_a_broken_body_after() {
    let config = SqlConfig { timeout: std::time::Duration::from_millis(500), ..small() };
    let fixture = Fixture::with(config, built_in_tables()).await;
    let (status, body) = query(&fixture, "SELECT count(*) FROM generate_series(1, 1000000000000)").await;
    assert_eq!((status, &body["code"]), (StatusCode::GATEWAY_TIMEOUT, &json!("timeout")));
    let response = post(&fixture, "/api/v1/sql", "text/plain", "SELECT * FROM generate_series(1, 1000000000000)").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.into_body().collect().await.is_err(), "half a result must not look whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snapshot_header_says_what_was_seen() {
    let fixture = Fixture::new().await;
    fixture.append_json("alerts", 0, &json!({})).await;
    let response = post(&fixture, "/api/v1/sql", "text/plain", "SELECT count(*) FROM alerts").await;
    let seen: Value = serde_json::from_str(response.headers()["highwater-snapshot"].to_str().unwrap()).unwrap();
    assert_eq!(
        seen,
        json!({ "tables": [{ "table": "alerts", "delta_version": null,
                "partitions": [{ "topic": "alerts", "partition": 0, "stored_to": 0, "to": 1 }] }] })
    );
}
