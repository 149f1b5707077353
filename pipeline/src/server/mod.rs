//! A port that speaks HTTP: one accept loop for every door on HTTP/1 and HTTP/2 (gRPC too), plain or under TLS, within limits.
//!
//! - past a cap on connections, of all or of one address, a new one is closed at once;
//! - a client that does not finish its TLS handshake or the head of a request in time is closed, so slow senders hold a connection and nothing else;
//! - heads have a most of bytes and of headers (431 past it, as hyper says it);
//! - a shutdown stops listening, lets requests under way be answered, and closes.
//!
//! Bodies are bounded by the doors, which know what they may be.

mod connection;
mod settings;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use highwater_broker::guests::Guests;
use highwater_broker::tls::{Tls, TlsError, TlsFiles};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use settings::ServerLimits;

/// How long to wait before accepting again after the system refused, as where it is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why a port does not open.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} ({source}); is another server running? choose another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A port that listens and does not answer yet.
#[derive(Debug)]
pub struct HttpServer {
    door: &'static str,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    limits: ServerLimits,
}

impl HttpServer {
    /// Listens. `door` is what log lines and metrics call it.
    ///
    /// # Errors
    /// Where the address is taken, or the certificate cannot be used.
    pub async fn bind(
        door: &'static str,
        listen: SocketAddr,
        tls: Option<TlsFiles>,
        limits: ServerLimits,
    ) -> Result<Self, ServerError> {
        let tls = tls.map(|files| Tls::open(door, files, &["h2", "http/1.1"])).transpose()?.map(Arc::new);
        let taken = |source| ServerError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        Ok(Self { door, listener, address, tls, limits })
    }

    /// The address bound, its port never 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its certificate, where it has one: to read it again.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Serves until `shutdown`, then finishes requests under way.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) {
        let guests = Arc::new(Guests::new(metrics::gauge!("highwater_http_connections", "door" => self.door)));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        metrics::counter!("highwater_http_panics_total", "door" => self.door).increment(1);
                        tracing::error!(door = self.door, "a connection panicked and was closed; the others go on");
                    }
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    match guests.admit(peer.ip(), self.limits.max_connections, self.limits.max_connections_per_address)
                    {
                        Ok(guest) => {
                            let (router, tls, limits) = (router.clone(), self.tls.clone(), self.limits.clone());
                            let (door, shutdown) = (self.door, shutdown.clone());
                            connections.spawn(async move {
                            let _guest = guest;
                            if let Err(reason) = connection::serve(stream, router, tls, &limits, shutdown).await {
                                let code = reason.code();
                                metrics::counter!("highwater_http_connections_closed_total", "door" => door, "reason" => code)
                                    .increment(1);
                                tracing::debug!(door, %peer, %reason, "closed a connection");
                            }
                        });
                        }
                        Err(reason) => {
                            metrics::counter!("highwater_http_connections_refused_total", "door" => self.door, "reason" => reason)
                            .increment(1);
                            tracing::debug!(door = self.door, %peer, reason, "refused a connection");
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(door = self.door, %error, "cannot accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }
}
