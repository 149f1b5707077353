//! A sender's name for one request, by which a retry is known.

use super::IngestError;
use crate::data::Tenant;

/// 1 to 256 visible ASCII characters, chosen by the sender, unique per request of a tenant for 24 hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Checks a key.
    ///
    /// # Errors
    /// [`IngestError::InvalidKey`].
    pub fn new(key: &str) -> Result<Self, IngestError> {
        if (1..=256).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(key.to_owned()))
        } else {
            Err(IngestError::InvalidKey)
        }
    }

    /// What the log remembers: `tenant` NUL `key`, and for the second and later records of the request in a partition NUL and
    /// the record's number. Where a body is cut depends on the body alone, so a retry has the same scopes.
    pub(super) fn scope(&self, tenant: &Tenant, record: usize) -> String {
        match record {
            0 => format!("{tenant}\0{}", self.0),
            _ => format!("{tenant}\0{}\0{record}", self.0),
        }
    }
}
