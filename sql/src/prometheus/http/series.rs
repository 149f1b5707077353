//! `/api/v1/series`, `/api/v1/labels`, `/api/v1/label/<name>/values`.

use std::collections::BTreeSet;

use axum::response::Response;
use highwater_promql::{Labels, Quoted};
use serde::Serialize;

use super::{Request, match_sets};
use crate::prometheus::Prometheus;
use crate::prometheus::encode::{Remarks, TRUNCATED, success_with};
use crate::prometheus::error::ApiError;
use crate::prometheus::names::unescape;
use crate::prometheus::params::{MAX_TIME, MIN_TIME};
use crate::prometheus::source::Wanted;

/// `GET|POST /api/v1/series`.
pub(super) async fn series(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    if request.form.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let limit = request.form.limit()?;
    let wanted =
        wanted(request).map_err(|(error, of_match)| if of_match { error.in_parameter("match[]") } else { error })?;
    let found = server.find(request.tenant.as_str(), wanted).await?;
    Ok(limited(found, limit))
}

/// `GET|POST /api/v1/labels`.
pub(super) async fn label_names(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let limit = request.form.limit()?;
    let wanted = wanted(request).map_err(|(error, _)| error)?;
    let found = server.find(request.tenant.as_str(), wanted).await?;
    let names: BTreeSet<&str> = found.iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect();
    Ok(limited(names.into_iter().collect(), limit))
}

/// `GET /api/v1/label/<name>/values`.
pub(super) async fn label_values(server: &Prometheus, request: &Request, name: &str) -> Result<Response, ApiError> {
    let name = unescape(name);
    if name.is_empty() {
        return Err(ApiError::bad_data(format!("invalid label name: {}", Quoted(&name))));
    }
    let limit = request.form.limit()?;
    let wanted = wanted(request).map_err(|(error, _)| error)?;
    let found = server.find(request.tenant.as_str(), wanted).await?;
    let values: BTreeSet<&str> = found.iter().filter_map(|labels: &Labels| labels.get(&name)).collect();
    Ok(limited(values.into_iter().collect(), limit))
}

/// The series asked for; an error, and whether it is one of `match[]`.
fn wanted(request: &Request) -> Result<Wanted, (ApiError, bool)> {
    let other = |error: ApiError| (error, false);
    let start = request.form.time_or("start", MIN_TIME).map_err(other)?;
    let end = request.form.time_or("end", MAX_TIME).map_err(other)?;
    let sets = match_sets(&request.form).map_err(|error| (error, true))?;
    Wanted::new(sets.iter().map(Vec::as_slice), start.ms(), end.ms()).map_err(|error| (error.into(), true))
}

/// The first results, and a warning where there are more.
fn limited<T: Serialize>(mut results: Vec<T>, limit: usize) -> Response {
    let cut = limit > 0 && results.len() > limit;
    if cut {
        results.truncate(limit);
    }
    success_with(&results, &if cut { Remarks::warning(TRUNCATED) } else { Remarks::default() })
}
