//! API keys: how programs say who they are. A key is a secret with a name and a tenant; what is kept of it is its SHA-256.
//!
//! ```yaml
//! api_keys:                                  # here, or `api_keys: /etc/highwater/keys.yaml` with the same list in that file
//!   - name: checkout                         # what it is called in logs; the user name of a Kafka client
//!     tenant: shop                           # whose data it reads and writes; `default` where left out
//!     sha256: 9f86d081884c7d65...            # of the secret: highwater api-key new, or printf %s "$KEY" | sha256sum
//! ```
//!
//! Keys made by `highwater api-key new` hold 256 random bits, so a fast hash is enough: there is nothing to guess.

mod config;
mod key;

pub(crate) use config::ApiKeysConfig;
pub(crate) use key::generate;
