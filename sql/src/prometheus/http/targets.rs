//! `/api/v1/targets`, `/api/v1/scrape_pools`, `/api/v1/alertmanagers`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use highwater_promql::Labels;
use highwater_promql::parser::format_duration_ms;
use serde::Serialize;

use super::Request;
use super::rules::time;
use crate::prometheus::Prometheus;
use crate::prometheus::encode::success;
use crate::prometheus::error::{ApiError, ApiErrorKind};
use crate::prometheus::views::{Target, Targets};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetsData {
    active_targets: Vec<TargetData>,
    dropped_targets: Vec<DroppedData>,
    dropped_target_counts: Option<BTreeMap<String, usize>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetData {
    discovered_labels: Labels,
    labels: Labels,
    scrape_pool: String,
    scrape_url: String,
    global_url: String,
    last_error: String,
    last_scrape: String,
    last_scrape_duration: f64,
    health: &'static str,
    scrape_interval: String,
    scrape_timeout: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DroppedData {
    discovered_labels: Labels,
    scrape_pool: String,
}

/// `GET /api/v1/targets`.
pub(super) async fn targets(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let state = request.form.url_value("state").to_lowercase();
    let wants = |kind: &str| ["", "any", kind].contains(&state.as_str());
    let pool = request.form.url_value("scrapePool");
    let of_pool = |name: &str| pool.is_empty() || name == pool;
    let Targets { active, dropped, dropped_counts } = known(server, request).await?;
    let active = active.into_iter().filter(|target| wants("active") && of_pool(&target.scrape_pool));
    let dropped = dropped.into_iter().filter(|(pool, _)| wants("dropped") && of_pool(pool));
    Ok(success(&TargetsData {
        active_targets: active.map(target_data).collect(),
        dropped_targets: dropped
            .map(|(scrape_pool, discovered_labels)| DroppedData { discovered_labels, scrape_pool })
            .collect(),
        dropped_target_counts: wants("dropped").then_some(dropped_counts),
    }))
}

/// `GET /api/v1/scrape_pools`.
pub(super) async fn scrape_pools(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct PoolsData {
        scrape_pools: Vec<String>,
    }
    let Targets { active, dropped, .. } = known(server, request).await?;
    let of_active = active.into_iter().map(|target| target.scrape_pool);
    let mut scrape_pools: Vec<String> = of_active.chain(dropped.into_iter().map(|(pool, _)| pool)).collect();
    scrape_pools.sort();
    scrape_pools.dedup();
    Ok(success(&PoolsData { scrape_pools }))
}

/// `GET /api/v1/alertmanagers`: alerts leave by notifiers, none of which is discovered.
pub(super) async fn alertmanagers(_: &Prometheus, _: &Request) -> Result<Response, ApiError> {
    Ok(success(&serde_json::json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] })))
}

async fn known(server: &Prometheus, request: &Request) -> Result<Targets, ApiError> {
    let Some(view) = server.targets.as_ref().map(Arc::clone) else { return Ok(Targets::default()) };
    view.targets(request.tenant.as_str()).await.map_err(|e| ApiError::new(ApiErrorKind::Unavailable, e.to_string()))
}

fn target_data(target: Target) -> TargetData {
    let health = match (target.last_scrape_ms, &target.last_error) {
        (None, _) => "unknown",
        (Some(_), None) => "up",
        (Some(_), Some(_)) => "down",
    };
    TargetData {
        discovered_labels: target.discovered_labels,
        labels: target.labels,
        scrape_pool: target.scrape_pool,
        global_url: target.scrape_url.clone(),
        scrape_url: target.scrape_url,
        last_error: target.last_error.unwrap_or_default(),
        last_scrape: time(target.last_scrape_ms),
        last_scrape_duration: target.last_scrape_duration_s,
        health,
        scrape_interval: duration(target.scrape_interval_s),
        scrape_timeout: duration(target.scrape_timeout_s),
    }
}

fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "settings, in whole milliseconds")]
    format_duration_ms((seconds * 1000.0).round() as i64)
}
