//! What all parts of a Kafka log share: settings, clock, a client for look-ups, and the way from librdkafka's errors to ours.

use std::sync::Arc;
use std::time::Duration;

use highwater_broker::Clock;
use parking_lot::Mutex;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError as Rdkafka;
use rdkafka::{ClientConfig, config::FromClientConfigAndContext};
use tokio::sync::Semaphore;

use super::config::KafkaConfig;
use super::context::{Context, Trouble};
use super::error::{KafkaError, Kind, code_of, is_unknown, kind_of};
use crate::log::LogError;

/// Longest wait for one answer of the cluster.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Blocking look-ups at the same time; the rest waits, so that a silent cluster does not take every thread of the pool.
const LOOKUPS: usize = 16;

pub(super) type Lookup = BaseConsumer<Context>;

pub(super) struct Cluster {
    pub(super) config: KafkaConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) trouble: Arc<Trouble>,
    /// For look-ups that concern no group.
    lookup: Arc<Lookup>,
    permits: Semaphore,
}

impl Cluster {
    pub(super) fn new(config: KafkaConfig, clock: Arc<dyn Clock>) -> Result<Self, LogError> {
        config.validate()?;
        let trouble = Arc::new(Trouble::default());
        let lookup = create(&config.lookups(&config.group), &config, context_of("lookup", &trouble))?;
        Ok(Self { config, clock, trouble, lookup: Arc::new(lookup), permits: Semaphore::new(LOOKUPS) })
    }

    pub(super) fn lookup_client(&self) -> &Arc<Lookup> {
        &self.lookup
    }

    pub(super) fn context(&self, role: &str) -> Context {
        context_of(role, &self.trouble)
    }

    /// Makes a client. Fails only for settings: nothing is sent yet.
    pub(super) fn create<T: FromClientConfigAndContext<Context>>(
        &self,
        client: &ClientConfig,
        role: &str,
    ) -> Result<T, LogError> {
        create(client, &self.config, self.context(role))
    }

    /// Runs a call that blocks on the pool made for it.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LogError> {
        let _permit = self.permits.acquire().await.map_err(|_| KafkaError::Closed)?;
        // The task fails only by panicking or because the runtime is going down.
        Ok(tokio::task::spawn_blocking(call).await.map_err(|_| KafkaError::Closed)?)
    }

    /// A look-up with the shared client.
    pub(super) async fn lookup<T: Send + 'static>(
        &self,
        doing: &str,
        call: impl FnOnce(&Lookup) -> Result<T, Rdkafka> + Send + 'static,
    ) -> Result<T, LogError> {
        let client = Arc::clone(&self.lookup);
        let result = self.blocking(move || call(&client)).await?;
        self.outcome(doing, result)
    }

    /// The result of a call, and with a success the end of whatever trouble there was.
    pub(super) fn outcome<T>(&self, doing: &str, result: Result<T, Rdkafka>) -> Result<T, LogError> {
        match result {
            Ok(value) => {
                self.trouble.clear();
                Ok(value)
            }
            Err(error) => Err(self.failed(doing, &error)),
        }
    }

    /// The same for a call about one partition, where "unknown" has an error of its own.
    pub(super) fn outcome_of<T>(
        &self,
        doing: &str,
        topic: &str,
        partition: i32,
        result: Result<T, Rdkafka>,
    ) -> Result<T, LogError> {
        match result {
            Err(error) if code_of(&error).is_some_and(is_unknown) => {
                Err(LogError::UnknownTopicOrPartition { topic: topic.to_owned(), partition })
            }
            other => self.outcome(doing, other),
        }
    }

    pub(super) fn failed(&self, doing: &str, error: &Rdkafka) -> LogError {
        // What has no code is a client that is closing or an assignment out of turn: neither is for ever.
        let kind = code_of(error).map_or(Kind::Transient, kind_of);
        let (brokers, doing, reason) = (self.config.brokers.clone(), doing.to_owned(), reason_of(error));
        let error = match kind {
            Kind::Credentials => {
                KafkaError::Authentication { brokers, doing, reason: self.trouble.refused().unwrap_or(reason) }
            }
            Kind::Transient => match self.trouble.refused() {
                Some(reason) => KafkaError::Authentication { brokers, doing, reason },
                None => KafkaError::Unavailable { brokers, doing, reason },
            },
            Kind::NotAllowed(grant) => KafkaError::NotAllowed { doing, reason, grant },
            Kind::Final => KafkaError::Refused { brokers, doing, reason },
        };
        error.into()
    }

    pub(super) fn unavailable(&self, doing: &str, reason: impl Into<String>) -> LogError {
        KafkaError::Unavailable { brokers: self.config.brokers.clone(), doing: doing.to_owned(), reason: reason.into() }
            .into()
    }
}

fn context_of(role: &str, trouble: &Arc<Trouble>) -> Context {
    Context { role: role.into(), trouble: Arc::clone(trouble), undelivered: Arc::new(Mutex::default()) }
}

fn create<T: FromClientConfigAndContext<Context>>(
    client: &ClientConfig,
    config: &KafkaConfig,
    context: Context,
) -> Result<T, LogError> {
    let role = Arc::clone(&context.role);
    client.create_with_context(context).map_err(|error| {
        let reason = match error {
            // The value is left out: it may be a password.
            Rdkafka::ClientConfig(_, what, key, _) => format!("property {key} is not accepted: {what}"),
            other => other.to_string(),
        };
        KafkaError::Config { reason: format!("the {role} client of {} cannot be made: {reason}", config.brokers) }
            .into()
    })
}

/// What librdkafka says, without its enum's name.
pub(super) fn reason_of(error: &Rdkafka) -> String {
    match (error, code_of(error)) {
        (Rdkafka::Transaction(error), _) => error.to_string(),
        (_, Some(code)) => code.to_string(),
        (other, None) => other.to_string(),
    }
}
