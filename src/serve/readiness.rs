//! Whether the server is up, and what is wrong if it is not: `/health`, `/health/live`, `/health/ready`, and Prometheus's
//! `/-/healthy` and `/-/ready`.
//!
//! Live means the process answers. Ready means the log is recovered, tasks run and tables are written: until then, and while
//! draining, everything but these paths and `/metrics` answers 503 with `Retry-After`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use highwater_broker::{Clock, SystemClock};
use parking_lot::Mutex;
use serde_json::json;

/// What the server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Recovering the log, restoring tasks.
    Starting,
    /// At work.
    Serving,
    /// Told to stop; finishing what is acknowledged.
    Draining,
}

/// Shared health of the process.
#[derive(Clone)]
pub(crate) struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    started_ms: i64,
    phase: Mutex<Phase>,
    /// Error by component, until that component recovers.
    errors: Mutex<BTreeMap<String, String>>,
}

impl Health {
    pub(crate) fn starting() -> Self {
        Self {
            inner: Arc::new(Inner {
                started_ms: SystemClock.now_ms(),
                phase: Mutex::new(Phase::Starting),
                errors: Mutex::new(BTreeMap::new()),
            }),
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        *self.inner.phase.lock() = phase;
    }

    /// At work from now on, unless a stop was faster.
    pub(crate) fn serving(&self) {
        let mut phase = self.inner.phase.lock();
        if *phase == Phase::Starting {
            *phase = Phase::Serving;
        }
    }

    /// Replaces the errors of one component; none clears it.
    pub(crate) fn set_error(&self, component: &str, error: Option<String>) {
        let mut errors = self.inner.errors.lock();
        match error {
            Some(error) => errors.insert(component.to_owned(), error),
            None => errors.remove(component),
        };
    }

    pub(crate) fn uptime_s(&self) -> f64 {
        (SystemClock.now_ms() - self.inner.started_ms) as f64 / 1000.0
    }

    pub(crate) fn ready(&self) -> bool {
        *self.inner.phase.lock() == Phase::Serving
    }
}

/// The health paths.
pub(crate) fn router(health: Health) -> Router {
    Router::new()
        .route("/health", get(overview))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/-/healthy", get(|| async { "Highwater is healthy.\n" }))
        .route("/health/ready", get(ready))
        .route("/-/ready", get(ready))
        .with_state(health)
}

async fn overview(State(health): State<Health>) -> Response {
    let phase = *health.inner.phase.lock();
    let errors = health.inner.errors.lock().clone();
    let status = match phase {
        Phase::Starting => "starting",
        Phase::Draining => "draining",
        Phase::Serving if errors.is_empty() => "ok",
        Phase::Serving => "degraded",
    };
    let errors: Vec<_> =
        errors.into_iter().map(|(component, error)| json!({"component": component, "error": error})).collect();
    Json(json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": health.uptime_s(),
        "errors": errors,
    }))
    .into_response()
}

async fn ready(State(health): State<Health>) -> Response {
    if health.ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "not ready: starting or draining\n").into_response()
    }
}
