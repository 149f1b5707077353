//! Letting in: from credentials and a wish to a caller with a tenant.

use std::sync::Arc;

use highwater_broker::access::{ApiKeys, Principal};
use highwater_broker::{Clock, SystemClock};

use super::credentials::Credentials;
use super::quotas::Quotas;
use super::seldom::Seldom;
use crate::data::{InvalidTenant, Tenant};

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Send logs, metrics or spans.
    Ingest,
    /// Ask.
    Query,
    /// Change how the server works, or what it holds.
    Admin,
}

impl Need {
    /// As in configuration: `ingest`, `query`, `admin`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Query => "query",
            Self::Admin => "admin",
        }
    }

    fn is_granted(self, principal: &Principal) -> bool {
        match self {
            Self::Ingest => principal.may.ingest,
            Self::Query => principal.may.query,
            Self::Admin => principal.may.admin,
        }
    }
}

/// Who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of its key; `None` where nobody is asked for one.
    pub name: Option<String>,
    /// Whose data it reads and writes.
    pub tenant: Tenant,
}

/// Why somebody was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No credentials.
    #[error(
        "an API key is needed: send it as `Authorization: Bearer KEY`, as the password of `Authorization: Basic`, or as `X-API-Key`"
    )]
    Missing,
    /// Credentials that cannot be read.
    #[error(
        "{0}: send an API key as `Authorization: Bearer KEY`, as the password of `Authorization: Basic`, or as `X-API-Key`"
    )]
    Malformed(&'static str),
    /// No key that there is.
    #[error("the API key is not one that this server knows")]
    Unknown,
    /// A key for other things.
    #[error("the API key `{name}` may not {}: its `may` does not have it", need.name())]
    Forbidden {
        /// Its name.
        name: String,
        /// What it may not.
        need: Need,
    },
    /// A key of another tenant.
    #[error("the API key `{name}` belongs to tenant `{tenant}` and cannot speak for another in X-Scope-OrgID")]
    OtherTenant {
        /// Its name.
        name: String,
        /// Its tenant.
        tenant: String,
    },
    /// A tenant that cannot be.
    #[error(transparent)]
    Tenant(#[from] InvalidTenant),
}

impl Denied {
    /// A short name of the kind of refusal: a metric label of few values.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "no_key",
            Self::Malformed(_) => "malformed",
            Self::Unknown => "unknown_key",
            Self::Forbidden { .. } => "forbidden",
            Self::OtherTenant { .. } => "other_tenant",
            Self::Tenant(_) => "tenant",
        }
    }

    /// True where other credentials would help: HTTP's 401.
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Missing | Self::Malformed(_) | Self::Unknown)
    }
}

/// What every door asks. Clones share keys and counts.
#[derive(Debug, Clone)]
pub struct Access {
    keys: ApiKeys,
    quotas: Quotas,
    seldom: Arc<Seldom>,
}

impl Access {
    /// With these keys; with none, everybody is let in, as far as the limits go.
    pub fn new(keys: ApiKeys, quotas: Quotas) -> Self {
        metrics::describe_counter!(
            "highwater_access_refused_total",
            "Requests refused for who sent them, by what they wanted and why"
        );
        Self { keys, quotas, seldom: Arc::default() }
    }

    /// True where nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    /// The limits of tenants.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Lets somebody in who wants this, and says which tenant's data it is about. `asked` is the tenant that the sender names (`X-Scope-OrgID`): believed where
    /// there are no keys and where its key speaks for any tenant; of others it may only be their own.
    ///
    /// # Errors
    /// [`Denied`]; counted and, now and then, logged.
    pub fn admit(&self, credentials: &Credentials, asked: Option<&[u8]>, need: Need) -> Result<Caller, Denied> {
        let admitted = self.decide(credentials, asked, need);
        if let Err(denied) = &admitted {
            let (wanted, reason) = (need.name(), denied.code());
            metrics::counter!("highwater_access_refused_total", "need" => wanted, "reason" => reason).increment(1);
            // Names of keys are bounded by the configuration; what strangers send is not, and is not told.
            if let Some(times) = self.seldom.times(&denied.to_string(), SystemClock.now_ms()) {
                tracing::warn!(need = wanted, reason, times, "refused: {denied}");
            }
        }
        admitted
    }

    fn decide(&self, credentials: &Credentials, asked: Option<&[u8]>, need: Need) -> Result<Caller, Denied> {
        let asked = asked.map(|name| Tenant::new(&String::from_utf8_lossy(name)));
        if self.is_open() {
            return Ok(Caller { name: None, tenant: asked.transpose()?.unwrap_or_default() });
        }
        let principal = match credentials {
            Credentials::None => return Err(Denied::Missing),
            Credentials::Malformed(what) => return Err(Denied::Malformed(what)),
            Credentials::Secret(secret) => self.keys.of_secret(secret),
            Credentials::Login { name, secret } => self.keys.login(name, secret),
        };
        let principal = principal.ok_or(Denied::Unknown)?;
        if !need.is_granted(&principal) {
            return Err(Denied::Forbidden { name: principal.name, need });
        }
        let own = Tenant::new(&principal.tenant)?;
        let tenant = match asked {
            None => own,
            Some(asked) if principal.any_tenant => asked?,
            Some(Ok(asked)) if asked == own => own,
            Some(_) => return Err(Denied::OtherTenant { name: principal.name, tenant: principal.tenant }),
        };
        Ok(Caller { name: Some(principal.name), tenant })
    }
}

#[cfg(test)]
mod tests {
    use highwater_broker::access::{ApiKey, May};

    use super::*;

    fn unlimited() -> Quotas {
        Quotas::new(Default::default(), Arc::new(SystemClock))
    }

    fn access() -> Access {
        let sender = Principal { may: May { ingest: true, ..May::NONE }, ..Principal::new("sender", "shop") };
        let gateway = Principal { any_tenant: true, ..Principal::new("gateway", "default") };
        Access::new(ApiKeys::from(vec![ApiKey::of(sender, b"one"), ApiKey::of(gateway, b"two")]), unlimited())
    }

    fn secret(text: &str) -> Credentials {
        Credentials::Secret(text.as_bytes().to_vec())
    }

    #[test]
    fn the_tenant_is_the_keys() {
        let access = access();
        let caller = access.admit(&secret("one"), None, Need::Ingest).unwrap();
        assert_eq!((caller.name.as_deref(), caller.tenant.as_str()), (Some("sender"), "shop"));
        assert_eq!(access.admit(&secret("one"), Some(b"shop"), Need::Ingest).unwrap().tenant.as_str(), "shop");
        let denied = access.admit(&secret("one"), Some(b"bank"), Need::Ingest).unwrap_err();
        assert_eq!((denied.code(), denied.is_unauthenticated()), ("other_tenant", false));
        let login = Credentials::Login { name: "sender".into(), secret: b"one".to_vec() };
        assert_eq!(access.admit(&login, None, Need::Ingest).unwrap().tenant.as_str(), "shop");
        let stolen = Credentials::Login { name: "gateway".into(), secret: b"one".to_vec() };
        assert_eq!(access.admit(&stolen, None, Need::Ingest), Err(Denied::Unknown));
    }

    #[test]
    fn a_key_of_any_tenant_says_which() {
        let access = access();
        for (asked, tenant) in [(None, "default"), (Some(b"bank".as_slice()), "bank")] {
            assert_eq!(access.admit(&secret("two"), asked, Need::Query).unwrap().tenant.as_str(), tenant);
        }
        assert_eq!(access.admit(&secret("two"), Some(b"a/b"), Need::Query).unwrap_err().code(), "tenant");
    }

    #[test]
    fn a_key_does_what_it_may() {
        let access = access();
        let denied = access.admit(&secret("one"), None, Need::Query).unwrap_err();
        assert!(!denied.is_unauthenticated() && denied.to_string().contains("`sender` may not query"), "{denied}");
        assert_eq!(access.admit(&Credentials::None, None, Need::Ingest), Err(Denied::Missing));
        assert_eq!(access.admit(&secret("One"), None, Need::Ingest), Err(Denied::Unknown));
    }

    #[test]
    fn without_keys_nobody_is_asked() {
        let open = Access::new(ApiKeys::default(), unlimited());
        let caller = open.admit(&Credentials::None, Some(b"shop"), Need::Admin).unwrap();
        assert_eq!((caller.name, caller.tenant.as_str()), (None, "shop"));
        assert_eq!(open.admit(&secret("any"), None, Need::Query).unwrap().tenant.as_str(), "default");
        assert!(open.admit(&Credentials::None, Some(b".."), Need::Ingest).is_err());
    }
}
