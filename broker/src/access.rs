//! API keys: who may come in, whose data is theirs, and what they may do with it. The ports of the log use them, and those above it.
//!
//! Kept is a key's SHA-256, which is enough for secrets that are random and long: there is nothing to guess. Hashes are compared in
//! constant time.

use std::sync::Arc;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct May {
    /// Sends logs, metrics and spans; writes topics.
    pub ingest: bool,
    /// Asks: SQL, PromQL, alerts, status; reads topics.
    pub query: bool,
    /// Reloads, and deletes or alters what is there.
    pub admin: bool,
}

impl May {
    /// Everything.
    pub const ALL: Self = Self { ingest: true, query: true, admin: true };
    /// Nothing.
    pub const NONE: Self = Self { ingest: false, query: false, admin: false };
}

/// Whom an API key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The name of the key.
    pub name: String,
    /// The tenant that it belongs to.
    pub tenant: String,
    /// What it may do.
    pub may: May,
    /// True where it speaks for other tenants too, and says for which: gateways, dashboards, operators.
    pub any_tenant: bool,
}

impl Principal {
    /// One that may do everything, for its own tenant.
    pub fn new(name: impl Into<String>, tenant: impl Into<String>) -> Self {
        Self { name: name.into(), tenant: tenant.into(), may: May::ALL, any_tenant: false }
    }
}

/// A key that opens the ports.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Whom it stands for. Its name is the user name of a login.
    pub principal: Principal,
    /// SHA-256 of the secret, which is the password of a login.
    pub sha256: [u8; 32],
}

impl ApiKey {
    /// A key of this secret.
    pub fn of(principal: Principal, secret: &[u8]) -> Self {
        Self { principal, sha256: hash_of(secret) }
    }
}

/// The hash is shown to nobody who looks at a log.
impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// SHA-256 of a secret.
pub fn hash_of(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// The keys in use. Clones share them, so that a reload reaches every port.
#[derive(Clone, Default)]
pub struct ApiKeys(Arc<RwLock<Arc<[ApiKey]>>>);

impl ApiKeys {
    /// True where nobody is asked who they are.
    pub fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    /// These from now on. Connections that logged in with others stay open.
    pub fn replace(&self, keys: Vec<ApiKey>) {
        *self.0.write() = keys.into();
    }

    /// Whom a name and a secret stand for. Takes as long whether the name, the secret or nothing is wrong.
    pub fn login(&self, name: &str, secret: &[u8]) -> Option<Principal> {
        self.find(secret, |principal| principal.name == name)
    }

    /// Whom a secret stands for, where it comes without a name. Takes as long whichever key it is, and where it is none.
    pub fn of_secret(&self, secret: &[u8]) -> Option<Principal> {
        self.find(secret, |_| true)
    }

    fn find(&self, secret: &[u8], is_meant: impl Fn(&Principal) -> bool) -> Option<Principal> {
        let keys = Arc::clone(&self.0.read());
        let hash = hash_of(secret);
        let mut found = None;
        for key in keys.iter() {
            let right = bool::from(key.sha256.ct_eq(&hash));
            if is_meant(&key.principal) && right {
                found = Some(&key.principal);
            }
        }
        found.cloned()
    }
}

impl From<Vec<ApiKey>> for ApiKeys {
    fn from(keys: Vec<ApiKey>) -> Self {
        Self(Arc::new(RwLock::new(keys.into())))
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.read().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str) -> ApiKey {
        ApiKey::of(Principal::new(name, format!("{name}s")), secret.as_bytes())
    }

    #[test]
    fn a_login_takes_the_name_and_the_secret_of_one_key() {
        let keys = ApiKeys::from(vec![key("a", "one"), key("b", "two")]);
        assert_eq!(keys.login("b", b"two").unwrap().tenant, "bs");
        for (name, secret) in [("a", "two"), ("b", "one"), ("c", "one"), ("", "one"), ("a", ""), ("A", "one")] {
            assert_eq!(keys.login(name, secret.as_bytes()), None, "{name} {secret}");
        }
        assert_eq!(ApiKeys::default().login("a", b"one"), None);
    }

    #[test]
    fn a_secret_alone_names_its_key() {
        let keys = ApiKeys::from(vec![key("a", "one"), key("b", "two")]);
        assert_eq!(keys.of_secret(b"one").unwrap().name, "a");
        assert_eq!(keys.of_secret(b"One"), None);
        assert_eq!(keys.of_secret(b""), None);
        let shared = keys.clone();
        shared.replace(vec![key("c", "three")]);
        assert_eq!((keys.of_secret(b"one"), keys.of_secret(b"three").unwrap().name.as_str()), (None, "c"));
        assert!(!keys.is_empty() && ApiKeys::default().is_empty());
    }

    #[test]
    fn the_hash_is_not_printed() {
        let text = format!("{:?}", ApiKeys::from(vec![key("a", "one")]));
        assert!(text.contains("tenant: \"as\"") && !text.contains("sha256") && !text.contains(", 1"), "{text}");
    }
}
