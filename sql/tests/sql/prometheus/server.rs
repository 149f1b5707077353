//! Asks the router as a client would.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use highwater_pipeline::log::Clock;
use highwater_pipeline::tables::built_in_tables;
use highwater_sql::prometheus::{Prometheus, PromqlConfig, ServerInfo};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::data::{BEGIN_MS, TestSeries};
use crate::fixture::{Fixture, small};
use crate::log::MemoryLog;

/// A clock that stands still: an hour after the data begins.
pub(super) struct Still;

pub(super) const NOW_MS: i64 = BEGIN_MS + 3_600_000;

impl Clock for Still {
    fn now_ms(&self) -> i64 {
        NOW_MS
    }
}

/// The API over some series.
pub(super) struct Server {
    pub(super) fixture: Fixture<MemoryLog>,
    pub(super) router: Router,
}

/// Percent-encodes the values of `name=value` pairs.
pub(super) fn encode(pairs: &[(&str, &str)]) -> String {
    let mut out = url::form_urlencoded::Serializer::new(String::new());
    out.extend_pairs(pairs);
    out.finish()
}

/// A request without a body.
pub(super) fn with_headers(method: Method, uri: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::builder().method(method).uri(uri);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(Body::empty()).unwrap()
}

impl Server {
    pub(super) async fn with(series: &[TestSeries]) -> Self {
        Self::configured(series, PromqlConfig::default()).await
    }

    pub(super) async fn configured(series: &[TestSeries], config: PromqlConfig) -> Self {
        Self::made(series, config, |api| api).await
    }

    pub(super) async fn made(
        series: &[TestSeries],
        config: PromqlConfig,
        more: impl FnOnce(Prometheus) -> Prometheus,
    ) -> Self {
        let fixture = Fixture::with(small(), built_in_tables()).await;
        fixture.put_all(series).await;
        let api = Prometheus::new(fixture.engine.clone(), config, Arc::new(Still)).unwrap();
        let info = ServerInfo { version: "0.1.0".to_owned(), started_ms: BEGIN_MS, ..ServerInfo::default() };
        let router = more(api.with_server(info)).router();
        Self { fixture, router }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.answer(request).await;
        (response.status(), String::from_utf8(response.into_body()).unwrap())
    }

    /// The whole answer.
    pub(super) async fn answer(&self, request: Request<Body>) -> Response<Vec<u8>> {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes().to_vec())
    }

    /// GET of a path with parameters.
    pub(super) async fn get(&self, path: &str, pairs: &[(&str, &str)]) -> (StatusCode, Value) {
        let uri = format!("/api/v1/{path}?{}", encode(pairs));
        let (status, body) = self.send(Request::get(uri).body(Body::empty()).unwrap()).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// The form of POST.
    pub(super) async fn post(&self, path: &str, pairs: &[(&str, &str)]) -> (StatusCode, Value) {
        let request = Request::post(format!("/api/v1/{path}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(encode(pairs)))
            .unwrap();
        let (status, body) = self.send(request).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// The data of a path that answers.
    pub(super) async fn data(&self, path: &str, pairs: &[(&str, &str)]) -> Value {
        let (status, mut body) = self.get(path, pairs).await;
        assert_eq!(status, StatusCode::OK, "{path} {pairs:?}: {body}");
        assert_eq!(body["status"], "success");
        body["data"].take()
    }

    /// The result of a query at a time in seconds after the beginning.
    pub(super) async fn at(&self, query: &str, second: i64) -> Value {
        let time = (BEGIN_MS / 1000 + second).to_string();
        self.data("query", &[("query", query), ("time", &time)]).await["result"].take()
    }

    /// What an error says: status, type, message.
    pub(super) async fn refusal(&self, path: &str, pairs: &[(&str, &str)]) -> (u16, String, String) {
        let (status, body) = self.get(path, pairs).await;
        assert_eq!(body["status"], "error", "{path} {pairs:?}: {body}");
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        (status.as_u16(), text("errorType"), text("error"))
    }
}
