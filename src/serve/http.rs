//! The one HTTP port: health and metrics from the first moment, everything else once the rooms behind it stand.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::readiness::{self, Health};
use crate::error::Error;

/// The port, bound before anything else is done so that a taken address is the first thing said.
pub(crate) struct Door {
    listener: TcpListener,
    address: SocketAddr,
}

/// Where the rooms' routes appear once they stand.
#[derive(Clone, Default)]
pub(crate) struct Rooms(Arc<OnceLock<Router>>);

impl Rooms {
    /// Opens the rooms. Called once.
    pub(crate) fn open(&self, router: Router) {
        drop(self.0.set(router));
    }
}

impl Door {
    /// Binds the address.
    pub(crate) async fn bind(listen: SocketAddr) -> Result<Self, Error> {
        let taken = |error| {
            Error::Failed(format!(
                "cannot listen on {listen} ({error}); is another server running? choose another address with --http-listen"
            ))
        };
        let listener = TcpListener::bind(listen).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        Ok(Self { listener, address })
    }

    /// The address bound, its port never 0.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then finishes requests under way.
    pub(crate) async fn serve(
        self,
        health: Health,
        prometheus: PrometheusHandle,
        rooms: Rooms,
        shutdown: CancellationToken,
    ) -> std::io::Result<()> {
        let metrics_page = get(move || async move {
            super::process::observe();
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], prometheus.render())
        });
        // GET is the page; POST, to the same path, is a sender of metrics.
        let inside = Router::new().route("/metrics", metrics_page.post(enter)).fallback(enter).with_state(rooms);
        let router = readiness::router(health).merge(inside);
        axum::serve(self.listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
    }
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
