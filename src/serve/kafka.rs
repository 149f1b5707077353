//! The Kafka port of the embedded log: opened once the log is recovered and its own topics are there, closed before those who work on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::access::ApiKeys;
use highwater_broker::kafka::{Advertised, DoorSettings, KafkaServer, MayWrite};
use highwater_pipeline::data;

use super::log::OpenLog;
use super::members;
use super::topics::is_own;
use crate::config::{Config, LogKind, Role, TlsSection};
use crate::error::Error;

/// Longest that requests under way may take after a stop was asked for. A fetch that waits for records is answered at once.
const DRAIN: Duration = Duration::from_secs(5);

/// The port, or none: it is off, or the log is elsewhere.
pub(crate) struct KafkaDoor {
    server: Option<KafkaServer>,
    told: Option<String>,
}

impl KafkaDoor {
    /// Opens it, where the configuration has one.
    pub(crate) async fn open(config: &Config, keys: &ApiKeys, log: &OpenLog) -> Result<Self, Error> {
        let (Some(listen), Some(broker)) = (config.kafka_address(), log.broker()) else {
            let elsewhere = (config.log.kind == LogKind::Kafka).then(|| config.log.kafka.brokers.clone());
            return Ok(Self { server: None, told: elsewhere });
        };
        let server = KafkaServer::start(Arc::clone(broker), settings(config, keys, listen)).await.map_err(|error| {
            Error::Failed(format!(
                "opening the Kafka port: {error}. Is another broker running? Choose another address with --kafka-listen, \
                 or do without: --kafka-listen off"
            ))
        })?;
        let told = config.kafka.advertised.as_ref().map_or_else(|| server.address().to_string(), ToString::to_string);
        tracing::info!(kafka = %server.address(), advertised = told, "Kafka clients may come in");
        Ok(Self { server: Some(server), told: Some(told) })
    }

    /// The address bound, its port never 0.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(KafkaServer::address)
    }

    /// What Kafka clients of this log are told to dial.
    pub(crate) fn told(&self) -> Option<&str> {
        self.told.as_deref()
    }

    /// Lets nobody else in, answers what has been asked, and closes.
    pub(crate) async fn close(self) {
        if let Some(server) = self.server {
            server.shutdown(DRAIN).await;
        }
    }
}

fn settings(config: &Config, keys: &ApiKeys, listen: SocketAddr) -> DoorSettings {
    let kafka = &config.kafka;
    DoorSettings {
        listen,
        advertised: kafka.advertised.as_ref().map(|at| Advertised { host: at.host.clone(), port: at.port }),
        tls: kafka.tls.as_ref().map(TlsSection::files),
        api_keys: keys.clone(),
        allow_insecure: kafka.allow_insecure,
        auto_create_partitions: kafka.auto_create_topics.then_some(kafka.default_partitions),
        may_write: may_write(config.roles.has(Role::Worker)),
        may_alter: Arc::new(|topic| !is_own(topic)),
        is_shared: Arc::new(is_own),
        has_tenants: Arc::new(has_tenants),
        tenant_header: data::FORCED_TENANT,
        max_connections: kafka.limits.max_connections,
        max_connections_per_address: kafka.limits.max_connections_per_address,
        max_in_flight_bytes: kafka.limits.max_in_flight_bytes,
        max_request_size_bytes: kafka.limits.max_request_size_bytes,
        max_answer_bytes: kafka.limits.max_answer_bytes,
        ..DoorSettings::default()
    }
}

/// Which topics clients write to. What tasks write is theirs where they run here: each effect is there once because nobody else puts
/// any there. Where they run elsewhere, they are clients.
fn may_write(works_here: bool) -> MayWrite {
    Arc::new(move |topic| !works_here || !is_of_tasks(topic))
}

/// True for what tasks write and nobody else: not for what people send, nor for what gateways and query nodes on this log write.
pub(crate) fn is_of_tasks(topic: &str) -> bool {
    let sent = [data::logs::TOPIC, data::metrics::TOPIC, data::spans::TOPIC, data::metric_metadata::TOPIC];
    let others = [members::TOPIC, "__highwater.keys", "__highwater.ledger"];
    is_own(topic) && !sent.contains(&topic) && !others.contains(&topic)
}

/// True for topics whose records are rows of tenants, which a client's login decides.
fn has_tenants(topic: &str) -> bool {
    is_own(topic) && !is_of_tasks(topic) && !topic.starts_with("__highwater")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_write_what_tasks_do_not() {
        let (here, elsewhere) = (may_write(true), may_write(false));
        for topic in ["logs", "metrics", "orders", "__highwater.members", "__highwater.keys", "__highwater.ledger"] {
            assert!(here(topic) && elsewhere(topic), "{topic}");
            assert_eq!(has_tenants(topic), ["logs", "metrics"].contains(&topic), "{topic}");
        }
        for topic in ["alerts", "dead-letter", "rollup.errors_10s", "__highwater.partials", "__highwater.config"] {
            assert!(!here(topic) && elsewhere(topic), "{topic}");
        }
    }
}
