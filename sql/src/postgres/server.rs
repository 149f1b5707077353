//! The listener, and how many come in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_pipeline::access::Access;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cancel::Connections;
use super::login;
use crate::engine::Engine;

/// Sockets beyond those logged in, that may be about to: for cancel requests too.
const LOGGING_IN: usize = 50;
/// A client that has not logged in by then is cut.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a socket could not be accepted, as where the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Gives the acceptor for the next TLS connection: certificates are renewed while a server runs.
pub type Acceptor = Arc<dyn Fn() -> TlsAcceptor + Send + Sync>;

/// How the door is.
pub struct PostgresSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections that are logged in at once; the next one is refused with `53300`.
    pub max_connections: usize,
    /// With one, clients may speak TLS.
    pub tls: Option<Acceptor>,
    /// Refuse clients that do not speak TLS.
    pub require_tls: bool,
    /// Who may come in: the password is a key that may query. Without keys anybody comes in, and names a tenant by the setting `highwater.tenant`.
    pub access: Access,
}

impl std::fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSettings").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) settings: PostgresSettings,
    pub(super) connections: Arc<Connections>,
    pub(super) places: Arc<Semaphore>,
    pub(super) closing: CancellationToken,
}

/// The open door.
#[derive(Debug)]
pub struct PostgresServer {
    address: SocketAddr,
    closing: CancellationToken,
    connections: TaskTracker,
    accepting: JoinHandle<()>,
}

impl PostgresServer {
    /// Opens it.
    ///
    /// # Errors
    /// Where it cannot listen there.
    pub async fn start(engine: Engine, settings: PostgresSettings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let (closing, connections) = (CancellationToken::new(), TaskTracker::new());
        let shared = Arc::new(Shared {
            engine,
            places: Arc::new(Semaphore::new(settings.max_connections)),
            settings,
            connections: Arc::new(Connections::default()),
            closing: closing.clone(),
        });
        let accepting = tokio::spawn(accept(listener, shared, connections.clone()));
        Ok(Self { address, closing, connections, accepting })
    }

    /// The address bound, its port never 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nobody else in, ends what is idle, and what runs once it has been answered, or after `drain`.
    pub async fn shutdown(self, drain: Duration) {
        self.closing.cancel();
        self.connections.close();
        if tokio::time::timeout(drain, self.connections.wait()).await.is_err() {
            tracing::warn!(connections = self.connections.len(), "Postgres clients were cut in the middle of a query");
        }
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, connections: TaskTracker) {
    let sockets = Arc::new(Semaphore::new(shared.settings.max_connections.saturating_add(LOGGING_IN)));
    loop {
        let accepted = tokio::select! {
            () = shared.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "a Postgres client could not be let in");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Nothing is said to a flood.
        let Ok(socket_place) = Arc::clone(&sockets).try_acquire_owned() else {
            metrics::counter!("highwater_postgres_connections_refused_total").increment(1);
            continue;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _socket_place = socket_place;
            if let Err(error) = serve(socket, &shared).await {
                tracing::debug!(%error, "a Postgres connection ended");
            }
        });
    }
}

async fn serve(socket: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let login = tokio::time::timeout(LOGIN_TIMEOUT, login::login(socket, shared));
    let logged_in = tokio::select! {
        () = shared.closing.cancelled() => return Ok(()),
        login = login => login.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client did not log in in time"))??,
    };
    let Some((connection, _place)) = logged_in else { return Ok(()) };
    let open = metrics::gauge!("highwater_postgres_connections");
    open.increment(1.0);
    let ended = connection.run().await;
    open.decrement(1.0);
    ended
}
