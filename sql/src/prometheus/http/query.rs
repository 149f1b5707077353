//! `/api/v1/query`, `/query_range`, `/query_exemplars`, `/format_query`.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use highwater_promql::parser::{self, Expr};
use highwater_promql::{Quoted, Steps, Value};

use super::Request;
use crate::prometheus::Prometheus;
use crate::prometheus::encode::{Remarks, TRUNCATED, query_answer, success};
use crate::prometheus::error::ApiError;
use crate::prometheus::params::{Form, Instant, MAX_TIME, MIN_TIME, NANOS_PER_MS, parse_duration};
use crate::prometheus::query::{Answered, Asked};

/// Points that a range query may ask for per series.
const MAX_POINTS: i64 = 11_000;
/// Warnings and infos that an answer shows, each.
const MAX_REMARKS: usize = 10;

/// `GET|POST /api/v1/query`.
pub(super) async fn instant(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let form = &request.form;
    let limit = form.limit()?;
    let time = form.time_or("time", Instant::from_ms(server.clock.now_ms()))?;
    answer(server, request, Steps::instant(time.ms()), limit).await
}

/// `GET|POST /api/v1/query_range`.
pub(super) async fn range(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let form = &request.form;
    let limit = form.limit()?;
    let start = form.time("start")?;
    let end = form.time("end")?;
    if end < start {
        return Err(ApiError::invalid_parameter("end", "end timestamp must not be before start time"));
    }
    let step_ns = form.duration_ns("step")?;
    if step_ns <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::invalid_parameter("step", why));
    }
    if end.nanos_since(start) / step_ns > MAX_POINTS {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    // Less than a millisecond is no step; so short a range has one point.
    let steps = Steps::range(start.ms(), end.ms(), (step_ns / NANOS_PER_MS).max(1))?;
    answer(server, request, steps, limit).await
}

async fn answer(server: &Prometheus, request: &Request, steps: Steps, limit: usize) -> Result<Response, ApiError> {
    let form = &request.form;
    let asked = Asked {
        tenant: request.tenant.as_str(),
        text: form.value("query"),
        steps,
        timeout: timeout(form)?,
        lookback: lookback(form)?,
    };
    let Answered { answer, stats } = server.ask(asked).await?;
    let query = form.value("query");
    let mut remarks = Remarks {
        warnings: answer.annotations.warnings(query, MAX_REMARKS),
        infos: answer.annotations.infos(query, MAX_REMARKS),
    };
    let mut value = answer.value;
    if limit > 0 && truncate(&mut value, limit) {
        remarks.warnings.push(TRUNCATED.to_owned());
    }
    let wants_stats = form.value("stats");
    if !["", "true", "all"].contains(&wants_stats) {
        remarks.warnings.push(format!(
            "value {} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\"",
            Quoted(wants_stats)
        ));
    }
    Ok(query_answer(value, (!wants_stats.is_empty()).then_some(&stats), &remarks))
}

fn timeout(form: &Form) -> Result<Option<Duration>, ApiError> {
    let text = form.value("timeout");
    if text.is_empty() {
        return Ok(None);
    }
    let nanos = parse_duration(text).map_err(|why| ApiError::invalid_parameter("timeout", &why))?;
    match u64::try_from(nanos) {
        Ok(nanos) if nanos > 0 => Ok(Some(Duration::from_nanos(nanos))),
        _ => Err(ApiError::invalid_parameter(
            "timeout",
            &format!("timeout must be positive, got {}s", nanos as f64 / 1e9),
        )),
    }
}

fn lookback(form: &Form) -> Result<Option<Duration>, ApiError> {
    let text = form.value("lookback_delta");
    if text.is_empty() {
        return Ok(None);
    }
    let refused = |why: String| ApiError::bad_data(format!("error parsing lookback delta duration: {why}"));
    let nanos = parse_duration(text).map_err(refused)?;
    // Nothing, or less, is the default.
    Ok(u64::try_from(nanos).ok().map(Duration::from_nanos))
}

/// Keeps the first results; whether there were more.
fn truncate(value: &mut Value, limit: usize) -> bool {
    let count = match value {
        Value::Vector(samples) => {
            let count = samples.len();
            samples.truncate(limit);
            count
        }
        Value::Matrix(series) => {
            let count = series.len();
            series.truncate(limit);
            count
        }
        Value::Scalar { .. } | Value::String { .. } => 0,
    };
    count > limit
}

/// `GET|POST /api/v1/query_exemplars`: none are kept.
pub(super) async fn exemplars(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let start = request.form.time_or("start", MIN_TIME)?;
    let end = request.form.time_or("end", MAX_TIME)?;
    if end < start {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let expr = parser::parse(request.form.value("query"), &server.parser_options())?;
    let mut selects = false;
    expr.walk(&mut |expr| selects |= matches!(expr, Expr::Vector(_) | Expr::Matrix(_)));
    if selects { Ok(success(&[(); 0])) } else { Ok(StatusCode::NO_CONTENT.into_response()) }
}

/// `GET|POST /api/v1/format_query`.
pub(super) async fn format(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let expr = parser::parse(request.form.value("query"), &server.parser_options());
    let expr = expr.map_err(|e| ApiError::from(e).in_parameter("query"))?;
    Ok(success(&expr.pretty()))
}
