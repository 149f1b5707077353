//! Targets out of HTTP servers that list them.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};

use super::client::{self, Client};
use super::config::{HttpSdConfig, TargetGroup};
use super::target::{FoundGroup, URL};

/// An answer beyond this is a mistake.
const MAX_SIZE_BYTES: usize = 256 << 20;

/// What the server says, within one interval.
pub(super) async fn ask(client: &Client, config: &HttpSdConfig) -> Result<Vec<FoundGroup>, String> {
    let interval: Duration = config.refresh_interval.0;
    let asking = async {
        let request = client
            .get(config.url.clone())
            .await?
            .header(ACCEPT, "application/json")
            .header("X-Prometheus-Refresh-Interval-Seconds", interval.as_secs_f64().to_string());
        let response = client.send(request, &config.url).await?;
        let content_type = client::text(&response, CONTENT_TYPE).unwrap_or_default();
        if !is_json(&content_type) {
            return Err(format!("unsupported content type {content_type:?}"));
        }
        let body = client::body(response, MAX_SIZE_BYTES, &config.url).await?;
        body.ok_or_else(|| format!("it answers with more than {MAX_SIZE_BYTES} bytes"))
    };
    let body = tokio::time::timeout(interval, asking).await;
    let body = body.map_err(|_| format!("no answer came within {interval:?}"))??;
    let groups: Vec<TargetGroup> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let place = Some((URL, config.url.to_string()));
    Ok(groups.into_iter().map(|group| FoundGroup { place: place.clone(), group }).collect())
}

/// JSON, in UTF-8 where it says in what.
fn is_json(content_type: &str) -> bool {
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let charset = parameters.trim();
    media_type.trim().eq_ignore_ascii_case("application/json")
        && (charset.is_empty() || charset.to_ascii_lowercase().replace('"', "") == "charset=utf-8")
}
