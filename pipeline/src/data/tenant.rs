//! Who data belongs to.

use std::fmt;
use std::sync::Arc;

use super::Refusal;

/// The header of a record that says whose rows it holds, where they do not say so themselves. Taken at its word, as the HTTP doors take theirs.
pub(super) const HEADER: &str = "tenant";

/// The header of a record that says whose rows it holds, whatever they say themselves: the Kafka door sets it for clients of one tenant.
pub const FORCED_TENANT: &str = "highwater-tenant";

/// A tenant's name: 1 to 128 of `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`. It names directories, so nothing else passes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

/// A name that no tenant can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "tenant {name:?} is not allowed: use 1 to 128 of a-z, A-Z, 0-9, '.', '_' and '-', and neither \".\" nor \"..\""
)]
pub struct InvalidTenant {
    /// The name, cut short.
    pub name: String,
}

impl Tenant {
    /// The name of the tenant of data that names none.
    pub const DEFAULT: &'static str = "default";

    /// The tenant of this name.
    ///
    /// # Errors
    /// [`InvalidTenant`] where no tenant can have it.
    pub fn new(name: &str) -> Result<Self, InvalidTenant> {
        Self::check(name).map(|()| Self(Arc::from(name)))
    }

    /// Checks a name.
    pub(crate) fn check(name: &str) -> Result<(), InvalidTenant> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=128).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != ".." {
            Ok(())
        } else {
            Err(InvalidTenant { name: Refusal::excerpt(name) })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self(Arc::from(Self::DEFAULT))
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
