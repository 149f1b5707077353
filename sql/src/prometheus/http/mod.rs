//! The doors of the API: one file per group of paths, one function per path.

mod envelope;
mod federate;
mod metadata;
mod query;
mod rules;
mod series;
mod status;
mod syntax;
mod targets;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, Uri};
use axum::routing::get;
use highwater_pipeline::data::Tenant;
use highwater_promql::{Matcher, parser};

use super::Prometheus;
use super::error::ApiError;
use super::params::Form;
use crate::http::tenant;

/// Longest request body, bytes: what Go takes of a form.
const MAX_BODY_BYTES: usize = 10 << 20;

/// A request, read.
struct Request {
    tenant: Tenant,
    form: Form,
}

impl Request {
    fn new(uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<Self, ApiError> {
        let tenant = tenant(headers).map_err(ApiError::bad_data)?;
        Ok(Self { tenant, form: Form::new(uri, headers, body) })
    }
}

/// A handler that reads the request and hands it to a function.
macro_rules! door {
    ($answer:path) => {
        |State(server): State<Arc<Prometheus>>, uri: Uri, headers: HeaderMap, body: Bytes| async move {
            $answer(&server, &Request::new(&uri, &headers, &body)?).await
        }
    };
}

/// All routes. Where a query can be long a form may be posted; what the server is, is asked by GET alone.
pub(super) fn router(server: Arc<Prometheus>) -> Router {
    let label_values =
        |State(server): State<Arc<Prometheus>>, Path(name): Path<String>, uri: Uri, headers: HeaderMap| async move {
            series::label_values(&server, &Request::new(&uri, &headers, &[])?, &name).await
        };
    Router::new()
        .route("/api/v1/query", get(door!(query::instant)).post(door!(query::instant)))
        .route("/api/v1/query_range", get(door!(query::range)).post(door!(query::range)))
        .route("/api/v1/query_exemplars", get(door!(query::exemplars)).post(door!(query::exemplars)))
        .route("/api/v1/format_query", get(door!(query::format)).post(door!(query::format)))
        .route("/api/v1/parse_query", get(door!(syntax::parse)).post(door!(syntax::parse)))
        .route("/api/v1/series", get(door!(series::series)).post(door!(series::series)))
        .route("/api/v1/labels", get(door!(series::label_names)).post(door!(series::label_names)))
        .route("/api/v1/label/{name}/values", get(label_values))
        .route("/api/v1/metadata", get(door!(metadata::metadata)))
        .route("/api/v1/targets/metadata", get(door!(metadata::target_metadata)))
        .route("/api/v1/targets", get(door!(targets::targets)))
        .route("/api/v1/scrape_pools", get(door!(targets::scrape_pools)))
        .route("/api/v1/alertmanagers", get(door!(targets::alertmanagers)))
        .route("/api/v1/rules", get(door!(rules::rules)))
        .route("/api/v1/alerts", get(door!(rules::alerts)))
        .route("/api/v1/status/buildinfo", get(door!(status::build_info)))
        .route("/api/v1/status/runtimeinfo", get(door!(status::runtime_info)))
        .route("/api/v1/status/config", get(door!(status::config)))
        .route("/api/v1/status/flags", get(door!(status::flags)))
        .route("/api/v1/status/tsdb", get(door!(status::tsdb)))
        .route("/api/v1/status/walreplay", get(door!(status::wal_replay)))
        .route("/federate", get(federate::federate))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn(envelope::wrap))
        .with_state(server)
}

/// The selectors of `match[]`. None at all is every series; one that an empty series satisfies is refused.
fn match_sets(form: &Form) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let sets = any_match_sets(form)?;
    for set in &sets {
        let compiled = set.iter().map(Matcher::compile).collect::<Result<Vec<_>, _>>()?;
        if compiled.iter().all(|matcher| matcher.matches("")) {
            return Err(ApiError::bad_data("match[] must contain at least one non-empty matcher"));
        }
    }
    Ok(sets)
}

/// The same where a selector may select everything.
fn any_match_sets(form: &Form) -> Result<Vec<Vec<Matcher>>, ApiError> {
    form.all("match[]").map(|text| Ok(parser::parse_selector(text)?)).collect()
}
