//! API keys. Kept is a key's SHA-256, which is enough for secrets that are random and long: there is nothing to guess.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::kafka::Principal;

/// A key that opens the door.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Whom it stands for. Its name is the user name of a login.
    pub principal: Principal,
    /// SHA-256 of the secret, which is the password of a login.
    pub sha256: [u8; 32],
}

/// The hash is shown to nobody who looks at a log.
impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// Whom a name and a secret stand for. Takes as long whether the name, the secret or nothing is wrong.
pub(super) fn login<'a>(keys: &'a [ApiKey], name: &str, secret: &[u8]) -> Option<&'a Principal> {
    let hash: [u8; 32] = Sha256::digest(secret).into();
    let mut found = None;
    for key in keys {
        let right = key.sha256.ct_eq(&hash);
        if key.principal.name == name && bool::from(right) {
            found = Some(&key.principal);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str) -> ApiKey {
        let principal = Principal { name: name.into(), tenant: format!("{name}s") };
        ApiKey { principal, sha256: Sha256::digest(secret).into() }
    }

    #[test]
    fn a_login_takes_the_name_and_the_secret_of_one_key() {
        let keys = [key("a", "one"), key("b", "two")];
        assert_eq!(login(&keys, "b", b"two").unwrap().tenant, "bs");
        for (name, secret) in [("a", "two"), ("b", "one"), ("c", "one"), ("", "one"), ("a", ""), ("A", "one")] {
            assert_eq!(login(&keys, name, secret.as_bytes()), None, "{name} {secret}");
        }
        assert_eq!(login(&[], "a", b"one"), None);
    }

    #[test]
    fn the_hash_is_not_printed() {
        let text = format!("{:?}", key("a", "one"));
        assert!(text.contains("tenant: \"as\"") && !text.contains("sha256") && !text.contains('['), "{text}");
    }
}
