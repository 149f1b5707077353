//! One connection: TLS, then requests, until the client leaves, is too slow, or the port closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use futures::future::Either;
use highwater_broker::tls::Tls;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::settings::ServerLimits;

/// Why a connection was closed before its client left.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// The handshake failed.
    #[error("TLS handshake: {0}")]
    Handshake(std::io::Error),
    /// Nothing came in time.
    #[error("{what} took longer than {timeout_ms} ms")]
    Slow {
        /// What was waited for.
        what: &'static str,
        /// How long.
        timeout_ms: u64,
    },
    /// Not HTTP, or it broke off.
    #[error("{0}")]
    Http(Box<dyn std::error::Error + Send + Sync>),
}

impl Closed {
    /// A metric label of few values.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Handshake(_) => "tls",
            Self::Slow { .. } => "slow",
            Self::Http(_) => "http",
        }
    }
}

pub(super) async fn serve(
    stream: TcpStream,
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: &ServerLimits,
    shutdown: CancellationToken,
) -> Result<(), Closed> {
    // Answers go out at once; where the socket does not know how, they still go out.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    match tls {
        None => talk(stream, router, limits, shutdown).await,
        Some(tls) => {
            let timeout_ms = limits.head_timeout_ms;
            let stream = timeout(Duration::from_millis(timeout_ms), tls.acceptor().accept(stream))
                .await
                .map_err(|_| Closed::Slow { what: "the TLS handshake", timeout_ms })?
                .map_err(Closed::Handshake)?;
            talk(stream, router, limits, shutdown).await
        }
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: &ServerLimits,
    shutdown: CancellationToken,
) -> Result<(), Closed> {
    let began = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&began);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        first.store(true, Ordering::Relaxed);
        router.clone().oneshot(request)
    });
    let builder = builder(limits);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Which protocol it is shows with the first bytes, and hyper waits for them without a limit of its own.
    let timeout_ms = limits.head_timeout_ms;
    let mut silence = Either::Left(Box::pin(tokio::time::sleep(Duration::from_millis(timeout_ms))));
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(Closed::Http),
            () = shutdown.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut silence => {
                if !began.load(Ordering::Relaxed) {
                    return Err(Closed::Slow { what: "the first request", timeout_ms });
                }
                silence = Either::Right(std::future::pending());
            }
        }
    }
}

fn builder(limits: &ServerLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let head_timeout = Duration::from_millis(limits.head_timeout_ms);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_head_size_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.max_head_size_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.max_streams)
        // A peer that is gone without a word is found out.
        .keep_alive_interval(head_timeout)
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
