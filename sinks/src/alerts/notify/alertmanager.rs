//! Alertmanager's API v2. Grouping, silences and inhibition are its job.
//!
//! Every instance of a cluster is told everything; one that takes it is enough to go on. What fires is told again each `resend_delay`, with an `endsAt` four
//! of them ahead, so that an alert whose teller is gone ends by itself.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::future::join_all;
use highwater_pipeline::data::time;
use recloser::{AsyncRecloser, Recloser};
use serde_json::json;

use super::channel::Channel;
use super::data::{Notice, Origin};
use super::error::NotifyError;
use super::http::Http;

/// Most alerts of one request.
const MAX_ALERTS: usize = 64;

pub(super) struct Alertmanager {
    instances: Vec<Instance>,
    http: Http,
    origin: Origin,
    resend_ms: i64,
}

struct Instance {
    url: String,
    /// Open after failures: one that does not answer is left alone for a while, so that the others are told in time.
    breaker: AsyncRecloser,
}

impl Alertmanager {
    pub(super) fn new(urls: Vec<String>, http: Http, origin: Origin, resend_ms: i64) -> Self {
        let instances = urls.into_iter().map(|url| {
            let breaker = Recloser::custom()
                .error_rate(0.5)
                .closed_len(4)
                .half_open_len(2)
                .open_wait(std::time::Duration::from_secs(10))
                .build();
            let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
            Instance { url, breaker: AsyncRecloser::from(breaker) }
        });
        Self { instances: instances.collect(), http, origin, resend_ms }
    }
}

#[async_trait]
impl Channel for Alertmanager {
    async fn tell(&self, notices: &[Notice], now_ms: i64) -> Result<(), NotifyError> {
        let until_us = now_ms.saturating_add(4 * self.resend_ms).saturating_mul(1_000);
        for chunk in notices.chunks(MAX_ALERTS) {
            let alerts: Vec<_> = chunk
                .iter()
                .map(|notice| {
                    json!({
                        "labels": notice.labels,
                        "annotations": notice.annotations,
                        "startsAt": time::format(notice.starts_at_us),
                        "endsAt": time::format(notice.ends_at_us.unwrap_or(until_us)),
                        "generatorURL": notice.generator_url(&self.origin),
                    })
                })
                .collect();
            let body = serde_json::to_vec(&alerts).map_err(|e| NotifyError::Refused { reason: e.to_string() })?;
            let key = chunk.last().map_or_else(String::new, |notice| notice.dedupe_key.clone());
            let headers = BTreeMap::from([("idempotency-key", key)]);
            let told = self.instances.iter().map(|instance| {
                let told = self.http.post(&instance.url, body.clone(), &headers);
                instance.breaker.call_with(|error: &NotifyError| error.is_retryable(), told)
            });
            let mut last = NotifyError::unavailable("no instance is configured");
            let mut taken = false;
            for answer in join_all(told).await {
                match answer {
                    Ok(()) => taken = true,
                    Err(recloser::Error::Inner(error)) => last = error,
                    Err(recloser::Error::Rejected) if !taken => {
                        last = NotifyError::unavailable("it did not answer, and is left alone for a while");
                    }
                    Err(recloser::Error::Rejected) => {}
                }
            }
            if !taken {
                return Err(last);
            }
        }
        Ok(())
    }

    fn resend_ms(&self) -> Option<i64> {
        Some(self.resend_ms)
    }
}
