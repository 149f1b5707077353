//! PagerDuty's Events API v2: `trigger` and `resolve` by one dedup key per alert.

use std::collections::BTreeMap;

use async_trait::async_trait;
use highwater_pipeline::data::time;
use serde_json::json;

use super::channel::{Channel, Text};
use super::data::{Notice, Origin};
use super::error::NotifyError;
use super::http::Http;

pub(super) struct PagerDuty {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) routing_key: String,
    pub(super) severity: Text,
    pub(super) summary: Text,
    pub(super) http: Http,
    pub(super) origin: Origin,
}

/// Longest summary that it takes.
const MAX_SUMMARY: usize = 1_024;

#[async_trait]
impl Channel for PagerDuty {
    async fn tell(&self, notices: &[Notice], now_ms: i64) -> Result<(), NotifyError> {
        for notice in notices {
            let one = std::slice::from_ref(notice);
            let summary = self.summary.render(&self.name, one, &self.origin, now_ms);
            let severity = match self.severity.render(&self.name, one, &self.origin, now_ms).trim() {
                known @ ("critical" | "error" | "warning" | "info") => known.to_owned(),
                "page" => "critical".to_owned(),
                _ => "error".to_owned(),
            };
            let source = ["instance", "host", "service", "job"].iter().find_map(|name| notice.labels.get(*name));
            let event = json!({
                "routing_key": self.routing_key,
                "dedup_key": notice.fingerprint,
                "event_action": if notice.is_firing { "trigger" } else { "resolve" },
                "client": "Highwater",
                "client_url": self.origin.external_url,
                "payload": {
                    "summary": summary.chars().take(MAX_SUMMARY).collect::<String>(),
                    "source": source.map_or("highwater", String::as_str),
                    "severity": severity,
                    "timestamp": time::format(notice.starts_at_us),
                    "class": notice.alertname,
                    "custom_details": {
                        "labels": notice.labels, "annotations": notice.annotations, "dedupe_key": notice.dedupe_key,
                    },
                },
                "links": notice.generator_url(&self.origin).is_empty().then(Vec::new).unwrap_or_else(
                    || vec![json!({"href": notice.generator_url(&self.origin), "text": "expression"})],
                ),
            });
            let body = serde_json::to_vec(&event).map_err(|e| NotifyError::Refused { reason: e.to_string() })?;
            self.http.post(&self.url, body, &BTreeMap::new()).await?;
        }
        Ok(())
    }
}
