//! A key, and how one is made.

use std::fmt;

use highwater_pipeline::data::Tenant;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// Begins every key that Highwater makes, so that scanners of leaked secrets and people know it.
const PREFIX: &str = "hw_";
/// Random bytes of a key.
const SECRET_SIZE_BYTES: usize = 32;

/// A key: everything but the secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiKey {
    /// What it is called.
    pub(crate) name: String,
    /// Whose data it reads and writes.
    pub(crate) tenant: Tenant,
    /// SHA-256 of the secret.
    pub(crate) sha256: [u8; 32],
}

/// The hash is shown to nobody who looks at a log.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("name", &self.name).field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// SHA-256 of a secret.
fn hash_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// A new secret and the hash to keep of it.
///
/// # Errors
/// Where the operating system has no randomness to give.
pub(crate) fn generate() -> Result<(String, String), Error> {
    let mut random = [0; SECRET_SIZE_BYTES];
    OsRng.try_fill_bytes(&mut random).map_err(|error| Error::failed("making a key", error))?;
    let secret = format!("{PREFIX}{}", hex(&random));
    let hash = hex(&hash_of(&secret));
    Ok((secret, hash))
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_long_and_never_the_same() {
        let (secret, hash) = generate().unwrap();
        assert_eq!((secret.len(), hash.len()), (PREFIX.len() + 2 * SECRET_SIZE_BYTES, 64));
        assert_eq!(hex(&hash_of(&secret)), hash);
        assert_ne!(generate().unwrap().0, secret);
    }

    #[test]
    fn a_key_shows_neither_secret_nor_hash() {
        let key = ApiKey { name: "a".into(), tenant: Tenant::default(), sha256: hash_of("test") };
        assert_eq!(format!("{key:?}"), r#"ApiKey { name: "a", tenant: Tenant("default"), .. }"#);
    }
}
