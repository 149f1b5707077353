//! `/api/v1/metadata` and `/api/v1/targets/metadata`.

use std::collections::BTreeMap;

use axum::response::Response;

use super::Request;
use crate::prometheus::Prometheus;
use crate::prometheus::encode::success;
use crate::prometheus::error::ApiError;
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

/// `GET /api/v1/targets/metadata`: which target a metric is of is not kept.
pub(super) async fn target_metadata(_: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    number(request.form.value("limit"), "limit")?;
    let target = request.form.value("match_target");
    if !target.is_empty() {
        let selector = highwater_promql::parser::parse_selector(target);
        selector.map_err(|e| ApiError::from(e).in_parameter("match_target"))?;
    }
    Ok(success(&[(); 0]))
}

/// A limit; `None` for none, a negative one included.
fn number(text: &str, name: &str) -> Result<Option<usize>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = parse_int(text).map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(number).ok())
}
