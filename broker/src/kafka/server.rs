//! Listening, and letting connections in.
//!
//! One task accepts; each connection is a task of its own, so that a panic in one ends that one. Past a cap on connections, of all or of one
//! address, a new one is closed at once. [`KafkaServer::shutdown`] stops listening, lets requests that have come be answered, and then closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::connection::{self, Shared};
use super::security;
use super::settings::DoorSettings;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::guests::{Guest, Guests};
use crate::tls::{Tls, TlsError};

/// How long to wait before accepting again after the system refused, as where it is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address} for Kafka clients: {source}; choose another address, or stop what listens there"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// An address beyond loopback, and nothing that keeps strangers out.
    #[error(
        "{address} is reached from other machines, and the door has no {missing}: whoever reaches it could read and write everything; \
         set both TLS and keys, listen on loopback, or allow it explicitly"
    )]
    Insecure {
        /// The address.
        address: SocketAddr,
        /// What is missing.
        missing: &'static str,
    },
    /// A limit that is none.
    #[error("invalid setting of the Kafka door: {what}")]
    Settings {
        /// Which, and what is allowed.
        what: String,
    },
    /// A certificate that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The broker refused.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// A running server. Dropping it closes every connection at once; [`Self::shutdown`] is kinder.
#[derive(Debug)]
pub struct KafkaServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<JoinSet<()>>,
}

impl KafkaServer {
    /// Listens, and serves until it is shut down or dropped.
    pub async fn start(broker: Arc<Broker>, settings: DoorSettings) -> Result<Self, DoorError> {
        let listen = settings.listen;
        let refused = |source| DoorError::Listen { address: listen, source };
        settings.validate().map_err(|what| DoorError::Settings { what })?;
        security::check(&settings)?;
        let tls = settings.tls.clone().map(|files| Tls::open("kafka", files, &[])).transpose()?;
        let cluster_id = broker.cluster_id().await?;
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared::new(broker, settings, tls, cluster_id, stopped));
        let accepting = tokio::spawn(accept(listener, shared));
        Ok(Self { address, stop, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and requests, waits up to `grace` for those under way to be answered, and closes.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let drain = async {
            let Ok(mut connections) = (&mut self.accepting).await else { return };
            while connections.join_next().await.is_some() {}
        };
        if tokio::time::timeout(grace, drain).await.is_err() {
            tracing::info!(
                grace_ms = grace.as_millis() as u64,
                "closing Kafka connections that still wait for an answer"
            );
        }
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        // The set of connections is in that task, or in its result: either way they end with it.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) -> JoinSet<()> {
    let guests = Arc::new(Guests::new(metrics::gauge!("highwater_kafka_connections")));
    let mut connections = JoinSet::new();
    let mut stopped = shared.stopped.clone();
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return connections,
            Some(ended) = connections.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    metrics::counter!("highwater_kafka_panics_total").increment(1);
                    tracing::error!("a Kafka connection panicked and was closed; the others go on");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match guests.admit(
                peer.ip(),
                shared.settings.max_connections,
                shared.settings.max_connections_per_address,
            ) {
                Ok(guest) => {
                    connections.spawn(serve(stream, peer, Arc::clone(&shared), guest));
                }
                Err(reason) => {
                    metrics::counter!("highwater_kafka_connections_refused_total", "reason" => reason).increment(1);
                    tracing::debug!(%peer, reason, "refused a Kafka connection");
                }
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a Kafka connection; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, guest: Guest) {
    let _guest = guest;
    match connection::serve(stream, peer, shared).await {
        Ok(()) => tracing::trace!(%peer, "a Kafka client left"),
        Err(error) => {
            metrics::counter!("highwater_kafka_connections_closed_total", "reason" => error.reason()).increment(1);
            tracing::debug!(%peer, %error, "closed a Kafka connection");
        }
    }
}
