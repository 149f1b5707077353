//! A webhook: Alertmanager's payload, version 4, and in every alert a `dedupeKey`.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::channel::Channel;
use super::data::{Notice, Origin, Payload};
use super::error::NotifyError;
use super::http::Http;

pub(super) struct Webhook {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) http: Http,
    pub(super) origin: Origin,
}

#[async_trait]
impl Channel for Webhook {
    async fn tell(&self, notices: &[Notice], _now_ms: i64) -> Result<(), NotifyError> {
        let payload = Payload::new(&self.name, notices, &self.origin);
        let body = serde_json::to_vec(&payload).map_err(|e| NotifyError::Refused { reason: e.to_string() })?;
        let key = notices.last().map_or_else(String::new, |notice| notice.dedupe_key.clone());
        self.http.post(&self.url, body, &BTreeMap::from([("idempotency-key", key)])).await
    }
}
