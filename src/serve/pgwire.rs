//! The Postgres port: open where queries are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::tls::Tls;
use highwater_pipeline::access::Access;
use highwater_sql::Engine;
use highwater_sql::postgres::{Acceptor, PostgresServer, PostgresSettings};

use crate::config::Config;
use crate::error::Error;

/// Longest that queries under way may take after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// The port, or none: it is off, or this process answers no queries.
pub(crate) struct PostgresDoor(Option<PostgresServer>);

impl PostgresDoor {
    /// Opens it, where the configuration has one and there is an engine behind it.
    pub(crate) async fn open(config: &Config, access: &Access, engine: Option<&Engine>) -> Result<Self, Error> {
        let (Some(listen), Some(engine)) = (config.pgwire.address(), engine) else { return Ok(Self(None)) };
        let settings = PostgresSettings {
            listen,
            max_connections: config.pgwire.max_connections,
            tls: acceptor(config)?,
            require_tls: config.pgwire.tls.is_some() && !listen.ip().is_loopback() && !config.pgwire.allow_insecure,
            access: access.clone(),
        };
        let server = PostgresServer::start(engine.clone(), settings).await.map_err(|error| {
            Error::Failed(format!(
                "opening the Postgres port on {listen}: {error}. Choose another address with --pgwire-listen, or do without: --pgwire-listen off"
            ))
        })?;
        tracing::info!(pgwire = %server.address(), keys = !access.is_open(), "Postgres clients may come in");
        Ok(Self(Some(server)))
    }

    /// The address bound, its port never 0.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.0.as_ref().map(PostgresServer::address)
    }

    /// Lets nobody else in, answers what has been asked, and closes.
    pub(crate) async fn close(self) {
        if let Some(server) = self.0 {
            server.shutdown(DRAIN).await;
        }
    }
}

fn acceptor(config: &Config) -> Result<Option<Acceptor>, Error> {
    let Some(section) = &config.pgwire.tls else { return Ok(None) };
    let tls = Tls::open("Postgres", section.files(), &[])
        .map_err(|error| Error::failed("opening the Postgres port", error))?;
    Ok(Some(Arc::new(move || tls.acceptor())))
}
