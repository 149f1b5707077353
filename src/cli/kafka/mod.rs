//! What the commands that speak Kafka share: whom to speak to, and how.
//!
//! One way for a Highwater server's own Kafka port and for any other Kafka or Redpanda cluster. librdkafka's calls block, so commands run on a
//! thread made for that.

mod assignment;
mod patience;
mod position;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{FromClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{ClientConfig, ClientContext};

use super::{ServerArg, Status};
use crate::client::Client;
use crate::error::Error;

pub(super) use assignment::partitions_of_assignment;
pub(super) use patience::patiently;
pub(super) use position::Position;

/// Longest wait for one answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Whom to speak Kafka to.
#[derive(Debug, Clone, Args)]
pub(crate) struct KafkaArgs {
    /// Any Kafka or Redpanda cluster, instead of the Kafka port of a Highwater server.
    #[arg(long, value_name = "HOST:PORT,...", env = "HIGHWATER_BROKERS", conflicts_with = "server")]
    brokers: Option<String>,
    /// A librdkafka property, as `-X security.protocol=SASL_SSL`; may repeat.
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// A file of librdkafka properties, one NAME=VALUE a line: passwords stay off the command line.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_KAFKA_PROPERTIES")]
    properties_file: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArg,
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

/// A consumer of these commands.
pub(super) type Reader = BaseConsumer<Quiet>;

/// To reach the end of a partition is no error worth a line.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        if !matches!(error, KafkaError::PartitionEOF(_)) && error.rdkafka_error_code() != Some(Code::PartitionEOF) {
            tracing::error!("librdkafka: {error}: {reason}");
        }
    }
}

impl ConsumerContext for Quiet {}

/// A cluster to speak to.
#[derive(Debug, Clone)]
pub(super) struct Kafka {
    /// Where it answers.
    pub(super) brokers: String,
    config: ClientConfig,
}

impl KafkaArgs {
    /// Finds out where to go. Without `--brokers` the server says where its Kafka port is.
    pub(super) async fn find(&self) -> Result<Kafka, Error> {
        let brokers = match &self.brokers {
            Some(brokers) => brokers.clone(),
            None => self.of_server().await?,
        };
        let mut config = ClientConfig::new();
        config.set("client.id", "highwater-cli").set("log.connection.close", "false");
        for (name, value) in self.of_file()?.into_iter().chain(self.properties.iter().cloned()) {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &brokers);
        Ok(Kafka { brokers, config })
    }

    async fn of_server(&self) -> Result<String, Error> {
        let server = &self.server.server;
        let status: Status = Client::new(&self.server)?.get("/api/v1/status").await?;
        let address = status.kafka.ok_or_else(|| {
            Error::Failed(format!(
                "the server at {server} has no Kafka port (kafka.listen is off); name a cluster with --brokers"
            ))
        })?;
        Ok(reachable(&address, server))
    }

    fn of_file(&self) -> Result<Vec<(String, String)>, Error> {
        let Some(file) = &self.properties_file else { return Ok(Vec::new()) };
        let place = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| Error::failed(&format!("reading {place}"), error))?;
        let lines =
            text.lines().enumerate().filter(|(_, line)| !matches!(line.trim().chars().next(), None | Some('#')));
        lines
            .map(|(index, line)| property(line).map_err(|what| Error::Failed(format!("{place}:{}: {what}", index + 1))))
            .collect()
    }
}

/// A server that listens everywhere is dialled where its HTTP port is.
fn reachable(address: &str, server: &str) -> String {
    let Some((host, port)) = address.rsplit_once(':') else { return address.to_owned() };
    if !matches!(host, "0.0.0.0" | "[::]") {
        return address.to_owned();
    }
    let authority = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or(authority);
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => authority,
    };
    format!("{name}:{port}")
}

impl Kafka {
    /// A client of it with more properties; nothing is sent yet.
    pub(super) fn client<T: FromClientConfig>(&self, more: &[(&str, &str)]) -> Result<T, Error> {
        self.config_with(more).create().map_err(|error| self.not_made(error))
    }

    /// The same, that tells this context what happens.
    pub(super) fn client_with<C: ClientContext, T: FromClientConfigAndContext<C>>(
        &self,
        more: &[(&str, &str)],
        context: C,
    ) -> Result<T, Error> {
        self.config_with(more).create_with_context(context).map_err(|error| self.not_made(error))
    }

    fn config_with(&self, more: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.config.clone();
        for (name, value) in more {
            config.set(*name, *value);
        }
        config
    }

    fn not_made(&self, error: KafkaError) -> Error {
        match error {
            // The value is left out: it may be a password.
            KafkaError::ClientConfig(_, what, name, _) => Error::Usage(format!("property {name}: {what}")),
            other => self.failed("starting the Kafka client", &other),
        }
    }

    /// A consumer that reads what is committed, for look-ups and for reading by partition.
    pub(super) fn consumer(&self, more: &[(&str, &str)]) -> Result<Reader, Error> {
        let fixed = [("enable.auto.commit", "false"), ("allow.auto.create.topics", "false")];
        self.client_with(&[fixed.as_slice(), more].concat(), Quiet)
    }

    pub(super) fn admin(&self) -> Result<AdminClient<DefaultClientContext>, Error> {
        self.client(&[])
    }

    /// An error of a call, with what was being done and where.
    pub(super) fn failed(&self, doing: &str, error: &KafkaError) -> Error {
        let reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        Error::Failed(format!("{doing} at {}: {reason}", self.brokers))
    }

    /// Runs calls that block.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        let ran = tokio::task::spawn_blocking(move || call(&this)).await;
        ran.map_err(|error| Error::failed("speaking to the Kafka cluster", error))?
    }
}

/// Options of an administrative request.
pub(super) fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_dialled_where_it_was_found() {
        for (address, server, dialled) in [
            ("127.0.0.1:9092", "http://10.0.0.7:8080", "127.0.0.1:9092"),
            ("0.0.0.0:9092", "http://10.0.0.7:8080/", "10.0.0.7:9092"),
            ("0.0.0.0:9092", "hw.example.org", "hw.example.org:9092"),
            ("[::]:9092", "http://[::1]:8080", "[::1]:9092"),
            ("[::]:9092", "http://[::1]", "[::1]:9092"),
        ] {
            assert_eq!(reachable(address, server), dialled, "{address} {server}");
        }
    }

    #[test]
    fn properties_are_names_and_values() {
        assert_eq!(property("a.b = c=d").unwrap(), ("a.b".to_owned(), "c=d".to_owned()));
        assert_eq!(property("a.b=").unwrap(), ("a.b".to_owned(), String::new()));
        assert!(property("a.b").is_err() && property("=x").is_err());
    }
}
