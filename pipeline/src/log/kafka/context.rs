//! What librdkafka says on the side: its log, and errors that belong to no call.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as Rdkafka, RDKafkaErrorCode as Code};
use rdkafka::producer::{DeliveryResult, ProducerContext};

/// The last refusal of credentials since anything succeeded. librdkafka lets the calls concerned run into timeouts, and says
/// only here why.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    refused: Mutex<Option<String>>,
}

impl Trouble {
    pub(super) fn note(&self, code: Code, reason: &str) {
        let about_credentials = matches!(
            code,
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::SSL
        );
        if about_credentials {
            *self.refused.lock() = Some(reason.to_owned());
        }
    }

    pub(super) fn clear(&self) {
        *self.refused.lock() = None;
    }

    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().clone()
    }
}

/// The context of every client of a log.
#[derive(Clone)]
pub(super) struct Context {
    /// What the client is for, in log lines.
    pub(super) role: Arc<str>,
    pub(super) trouble: Arc<Trouble>,
    /// Of a task's producer: why the first message since [`Self::take_undelivered`] was not delivered.
    pub(super) undelivered: Arc<Mutex<Option<Code>>>,
}

impl Context {
    pub(super) fn take_undelivered(&self) -> Option<Code> {
        self.undelivered.lock().take()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let role = &*self.role;
        match level {
            // Properties of consumers given to producers, and the reverse: `options` is for all clients.
            _ if facility == "CONFWARN" => tracing::debug!(role, facility, message, "librdkafka"),
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(role, facility, message, "librdkafka");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(role, facility, message, "librdkafka");
            }
            _ => tracing::debug!(role, facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: Rdkafka, reason: &str) {
        if let Rdkafka::Global(code) = error {
            self.trouble.note(code, reason);
        }
        tracing::debug!(role = &*self.role, %error, reason, "librdkafka");
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result
            && let Some(code) = error.rdkafka_error_code()
        {
            self.undelivered.lock().get_or_insert(code);
        }
    }
}
