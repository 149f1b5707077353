//! Why one item of a request is refused: an error code, and words for the person behind the client.

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::errors::response_error;
use crate::error::BrokerError;

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kafka) struct Refusal {
    pub(in crate::kafka) error: ResponseError,
    pub(in crate::kafka) message: String,
}

impl Refusal {
    pub(in crate::kafka) fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }

    /// The error's code.
    pub(in crate::kafka) fn code(&self) -> i16 {
        self.error.code()
    }

    /// The words.
    pub(in crate::kafka) fn text(&self) -> Option<StrBytes> {
        Some(StrBytes::from_string(self.message.clone()))
    }

    /// The topic is one that clients may not change.
    pub(in crate::kafka) fn not_writable(topic: &str) -> Self {
        let message = format!("topic {topic} is Highwater's own: clients may read it, not change it");
        Self::new(ResponseError::TopicAuthorizationFailed, message)
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        Self::new(response_error(&error), error.to_string())
    }
}
