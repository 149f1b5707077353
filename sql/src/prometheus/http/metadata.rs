//! `/api/v1/metadata` and `/api/v1/targets/metadata`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use highwater_promql::parser::parse_selector;
use highwater_promql::{Labels, Matcher};
use serde::Serialize;

use super::Request;
use crate::prometheus::Prometheus;
use crate::prometheus::encode::success;
use crate::prometheus::error::{ApiError, ApiErrorKind};
use crate::prometheus::params::parse_int;

/// `GET /api/v1/metadata`.
pub(super) async fn metadata(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let form = &request.form;
    let limit = number(form.value("limit"), "limit")?.unwrap_or(usize::MAX);
    let per_metric = number(form.value("limit_per_metric"), "limit_per_metric")?.filter(|limit| *limit > 0);
    let metric = form.value("metric");
    let all = server.metadata(request.tenant.as_str()).await?;
    let asked = all.into_iter().filter(|(name, _)| metric.is_empty() || name == metric).take(limit);
    let cut = asked.map(|(name, mut metadata)| {
        metadata.truncate(per_metric.unwrap_or(usize::MAX));
        (name, metadata)
    });
    Ok(success(&cut.collect::<BTreeMap<_, _>>()))
}

#[derive(Serialize)]
struct TargetMetadataData {
    target: Labels,
    /// Left out where the request names it.
    #[serde(skip_serializing_if = "String::is_empty")]
    metric: String,
    #[serde(rename = "type")]
    kind: String,
    help: String,
    unit: String,
}

/// `GET /api/v1/targets/metadata`: what targets say of their families. Once there are as many as `limit`, no further target is looked at.
pub(super) async fn target_metadata(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let form = &request.form;
    let limit = number(form.value("limit"), "limit")?.unwrap_or(usize::MAX);
    let selector = form.value("match_target");
    let matchers = match selector {
        "" => Vec::new(),
        text => parse_selector(text).map_err(|e| ApiError::from(e).in_parameter("match_target"))?,
    };
    let compiled = matchers.iter().map(Matcher::compile).collect::<Result<Vec<_>, _>>();
    let matchers = compiled.map_err(|e| ApiError::from(e).in_parameter("match_target"))?;
    let Some(view) = server.targets.as_ref().map(Arc::clone) else { return Ok(success(&[(); 0])) };
    let all = view.metadata(request.tenant.as_str()).await;
    let all = all.map_err(|e| ApiError::new(ApiErrorKind::Unavailable, e.to_string()))?;
    let metric = form.value("metric");
    let mut found: Vec<TargetMetadataData> = Vec::new();
    for of_target in all.chunk_by(|a, b| a.target == b.target) {
        if found.len() >= limit {
            break;
        }
        if !matchers.iter().all(|matcher| matcher.matches_labels(&of_target[0].target)) {
            continue;
        }
        let asked = of_target.iter().filter(|told| metric.is_empty() || told.metric == metric);
        found.extend(asked.map(|told| TargetMetadataData {
            target: told.target.clone(),
            metric: if metric.is_empty() { told.metric.clone() } else { String::new() },
            kind: told.kind.clone(),
            help: told.help.clone(),
            unit: told.unit.clone(),
        }));
    }
    Ok(success(&found))
}

/// A limit; `None` for none, a negative one included.
fn number(text: &str, name: &str) -> Result<Option<usize>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = parse_int(text).map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(number).ok())
}
