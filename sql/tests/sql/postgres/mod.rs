//! The Postgres door, with clients that none of us wrote.
//!
//! A client in Rust runs always. psql, psycopg, asyncpg, SQLAlchemy and pgjdbc run where they are; `HIGHWATER_REQUIRE_PSQL=1`,
//! `HIGHWATER_REQUIRE_PSYCOPG=1` and `HIGHWATER_REQUIRE_PGJDBC=1` make their absence a failure. Python is `$HIGHWATER_PYTHON`, the driver for Java is
//! brought by Maven.

mod catalog;
mod hostile;
mod jdbc;
mod native;
mod psql;
mod python;
mod security;
mod tls;

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::SystemClock;
use highwater_broker::access::{ApiKey, ApiKeys};
use highwater_pipeline::access::{Access, Quotas};
use highwater_sql::SqlConfig;
use highwater_sql::postgres::{PostgresServer, PostgresSettings};
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use crate::fixture::{Fixture, sample, small};

/// Longest that a client's program may run on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// An open door over the sample's rows.
pub(crate) struct Door {
    pub(crate) fixture: Fixture,
    pub(crate) server: PostgresServer,
}

/// Those with one of these keys come in; anybody where there are none.
pub(crate) fn access(keys: Vec<ApiKey>) -> Access {
    Access::new(ApiKeys::from(keys), Quotas::new(Default::default(), Arc::new(SystemClock)))
}

impl Door {
    pub(crate) async fn new() -> Self {
        Self::with(small()).await
    }

    pub(crate) async fn with(config: SqlConfig) -> Self {
        Self::over(sample(false, false, config).await, access(Vec::new()), 20).await
    }

    pub(crate) async fn over(fixture: Fixture, access: Access, max_connections: usize) -> Self {
        let settings = PostgresSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            max_connections,
            tls: None,
            require_tls: false,
            access,
        };
        let server = PostgresServer::start(fixture.engine.clone(), settings).await.unwrap();
        Self { fixture, server }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// A client that has logged in.
    pub(crate) async fn client(&self) -> Client {
        self.client_with("").await.unwrap()
    }

    pub(crate) async fn client_with(&self, more: &str) -> Result<Client, tokio_postgres::Error> {
        let config = format!("host=127.0.0.1 port={} user=reader dbname=highwater {more}", self.port());
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }
}

/// What a program printed, where it ended well.
async fn run(command: &mut Command) -> Result<String, String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).output();
    let ran = tokio::time::timeout(PATIENCE, child).await.map_err(|_| "it did not end".to_string())?;
    let ran = ran.map_err(|e| e.to_string())?;
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if ran.status.success() { Ok(out.into_owned()) } else { Err(format!("{}\n{out}{err}", ran.status)) }
}

/// Says that a client is not there; fails where it has to be.
fn skipped(client: &str, variable: &str, why: &str) {
    assert!(std::env::var(variable).is_err(), "{client} is missing, and {variable} is set: {why}");
    drop(writeln!(std::io::stderr(), "\nSKIPPED: tests with {client}: {why}"));
}
