//! Access: who may come in, whose data is theirs, what they may do, and how much of it.
//!
//! ```yaml
//! api_keys:                                  # here, or `api_keys: /etc/highwater/keys.yaml` with the same list in that file
//!   - name: checkout                         # what it is called in logs; the user name of a Kafka client
//!     tenant: shop                           # whose data it reads and writes; `default` where left out
//!     may: [ingest, query]                   # and admin; ingest and query where left out
//!     sha256: 9f86d081884c7d65...            # of the secret: highwater api-key new, or printf %s "$KEY" | sha256sum
//!   - name: grafana
//!     any_tenant: true                       # its X-Scope-OrgID is believed
//!     may: [query]
//!     secret_env: GRAFANA_KEY                # the secret itself, in this environment variable
//! ```
//!
//! Every door asks [`Access::admit`], HTTP doors through [`guard`]. Behind it the request carries the tenant in `X-Scope-OrgID`, whatever the sender wrote
//! there, so that a door reads it from one place and never from a body. Without keys nobody is asked, and the header is believed.
//!
//! Keys made by `highwater api-key new` hold 256 random bits, so a fast hash is enough: there is nothing to guess.

mod admission;
mod config;
mod credentials;
mod guard;
mod quotas;
mod secret;
mod seldom;

pub use admission::{Access, Caller, Denied, Need};
pub use config::{AccessError, ApiKeysConfig};
pub use credentials::Credentials;
pub use guard::{TENANT_HEADER, guard};
pub use quotas::{Limited, LimitsConfig, Quotas, SeriesGate, TenantLimits};
pub use secret::{Secret, generate};
pub use seldom::Seldom;
