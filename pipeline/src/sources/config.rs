//! Limits of the doors.

use serde::{Deserialize, Serialize};

use super::IngestError;
use crate::data::json::Limits;

/// Settings of all doors. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// Largest request body, as received and again once decompressed. Past it: 413.
    pub max_body_size_bytes: usize,
    /// Bodies of all requests together, as received plus decompressed. Past it: 429. At least twice the largest body.
    pub max_in_flight_size_bytes: usize,
    /// Largest message or other value of an entry, as written in JSON. Past it the entry is refused.
    pub max_value_size_bytes: usize,
    /// Most attributes of a log, or labels of a metric. Past it the entry is refused.
    pub max_attributes: usize,
    /// Largest name of an attribute or a label. Past it the entry is refused.
    pub max_name_size_bytes: usize,
    /// Largest value of a sample's label, and at most `max_value_size_bytes`. Past it the sample is refused.
    pub max_label_size_bytes: usize,
    /// How long a sender may pause inside a body, in milliseconds. Past it: 408.
    pub body_timeout_ms: u64,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            max_body_size_bytes: 64 << 20,
            max_in_flight_size_bytes: 256 << 20,
            max_value_size_bytes: 1 << 20,
            max_attributes: 256,
            max_name_size_bytes: 1 << 10,
            max_label_size_bytes: 16 << 10,
            body_timeout_ms: 30_000,
        }
    }
}

impl IngestConfig {
    /// Refuses settings with which some allowed request could never succeed.
    ///
    /// # Errors
    /// [`IngestError::Config`], naming the setting.
    pub fn validate(&self) -> Result<(), IngestError> {
        let refuse = |reason: String| Err(IngestError::Config { reason });
        for (name, value) in [
            ("max_body_size_bytes", self.max_body_size_bytes),
            ("max_value_size_bytes", self.max_value_size_bytes),
            ("max_attributes", self.max_attributes),
            ("max_name_size_bytes", self.max_name_size_bytes),
            ("max_label_size_bytes", self.max_label_size_bytes),
        ] {
            if value == 0 {
                return refuse(format!("{name} is 0, so nothing could be ingested"));
            }
        }
        // Arrow counts the bytes of a text column in an Int32.
        if self.max_body_size_bytes > 1 << 30 {
            return refuse(format!("max_body_size_bytes is {}; the most is 1 GiB", self.max_body_size_bytes));
        }
        if self.max_in_flight_size_bytes < 2 * self.max_body_size_bytes {
            return refuse(format!(
                "max_in_flight_size_bytes ({}) is below twice max_body_size_bytes ({}): the largest body could never pass",
                self.max_in_flight_size_bytes, self.max_body_size_bytes
            ));
        }
        Ok(())
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_value_size_bytes: self.max_value_size_bytes,
            max_attributes: self.max_attributes,
            max_name_size_bytes: self.max_name_size_bytes,
            max_label_size_bytes: self.max_label_size_bytes.min(self.max_value_size_bytes),
        }
    }
}
