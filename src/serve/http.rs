//! The one HTTP port: health and metrics from the first moment, everything else once the rooms behind it stand.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use highwater_pipeline::access::{Access, Need, guard};
use metrics_exporter_prometheus::PrometheusHandle;
use tower::ServiceExt;

use super::readiness::{self, Health};

/// Where the rooms' routes appear once they stand.
#[derive(Clone, Default)]
pub(crate) struct Rooms(Arc<OnceLock<Router>>);

impl Rooms {
    /// Opens the rooms. Called once.
    pub(crate) fn open(&self, router: Router) {
        drop(self.0.set(router));
    }
}

/// What the port answers: health to everybody, this process's metrics to those who may ask, the rest as the rooms say, each of which stands behind a
/// guard of its own.
pub(crate) fn router(health: Health, prometheus: PrometheusHandle, access: &Access, rooms: Rooms) -> Router {
    let page = get(move || async move {
        super::process::observe();
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], prometheus.render())
    });
    let page = guard(Router::new().route("/metrics", page), access, Need::Query);
    // GET is the page; POST, to the same path, is a sender of metrics.
    let inside = Router::new().route("/metrics", axum::routing::post(enter)).fallback(enter).with_state(rooms);
    readiness::router(health).merge(page).merge(inside)
}

/// Hands a request to the rooms, or asks the caller to come back while they are not ready.
async fn enter(State(rooms): State<Rooms>, request: Request<Body>) -> Response {
    match rooms.0.get() {
        Some(router) => router.clone().oneshot(request).await.into_response(),
        None => {
            let body =
                axum::Json(serde_json::json!({"error": "starting: the log is being recovered; try again in a moment"}));
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], body).into_response()
        }
    }
}
