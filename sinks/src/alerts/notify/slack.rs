//! Slack's incoming webhooks.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::json;

use super::channel::{Channel, Text};
use super::data::{Notice, Origin};
use super::error::NotifyError;
use super::http::Http;

pub(super) struct Slack {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) channel: Option<String>,
    pub(super) username: Option<String>,
    pub(super) title: Text,
    pub(super) text: Text,
    pub(super) http: Http,
    pub(super) origin: Origin,
}

#[async_trait]
impl Channel for Slack {
    async fn tell(&self, notices: &[Notice], now_ms: i64) -> Result<(), NotifyError> {
        let is_firing = notices.iter().any(|notice| notice.is_firing);
        let title = self.title.render(&self.name, notices, &self.origin, now_ms);
        let link = notices.first().map(|notice| notice.generator_url(&self.origin)).filter(|url| !url.is_empty());
        let mut message = json!({
            "attachments": [{
                "title": title,
                "title_link": link,
                "fallback": title,
                "text": self.text.render(&self.name, notices, &self.origin, now_ms),
                "color": if is_firing { "danger" } else { "good" },
                "mrkdwn_in": ["fallback", "pretext", "text"],
            }],
        });
        for (name, value) in [("channel", &self.channel), ("username", &self.username)] {
            if let Some(value) = value {
                message[name] = json!(value);
            }
        }
        let body = serde_json::to_vec(&message).map_err(|e| NotifyError::Refused { reason: e.to_string() })?;
        self.http.post(&self.url, body, &BTreeMap::new()).await
    }
}
