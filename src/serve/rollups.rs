//! `/api/v1/rollups`: what rollups there are, how they are kept up to date, and having one begin anew.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use highwater_processors::rollups::built_in_names;
use highwater_processors::topology;
use serde_json::json;

use super::definitions::LogDefinitions;
use crate::cli::RollupDescription;
use crate::error::Error;

/// The paths of those who look.
pub(crate) fn router(definitions: LogDefinitions) -> Router {
    Router::new()
        .route("/api/v1/rollups", get(list))
        .route("/api/v1/rollups/{rollup}", get(describe))
        .with_state(definitions)
}

/// The paths of those who change something.
pub(crate) fn orders(definitions: LogDefinitions) -> Router {
    Router::new().route("/api/v1/rollups/{rollup}/backfill", post(backfill)).with_state(definitions)
}

/// The rollups of the newest definitions in the log.
fn descriptions(definitions: &LogDefinitions) -> Result<Vec<RollupDescription>, Error> {
    let Some(config) = definitions.newest()? else { return Ok(Vec::new()) };
    let planned = topology(&config).map_err(|error| Error::failed("planning the rollups in the log", error))?;
    let describe = |plan: &std::sync::Arc<highwater_processors::rollups::RollupPlan>| {
        let rollup = config.rollups.iter().find(|rollup| rollup.name == plan.name())?;
        Some(RollupDescription {
            name: rollup.name.clone(),
            topic: plan.topic().to_owned(),
            reads: plan.upstream().map_or_else(|| plan.source().topic().to_owned(), |below| below.name().to_owned()),
            window: plan.window_text(),
            lateness_ms: rollup.lateness_ms,
            correction_horizon_ms: rollup.correction_horizon_ms,
            late: json!(rollup.late).as_str().unwrap_or_default().to_owned(),
            backfill: rollup.backfill,
            built_in: built_in_names().any(|name| name == rollup.name),
            definition: format!("{:016x}", plan.definition()),
            sql: rollup.sql.trim().to_owned(),
            columns: plan
                .output_schema()
                .fields()
                .iter()
                .map(|field| (field.name().clone(), field.data_type().to_string()))
                .collect(),
            explanation: plan.explain(),
        })
    };
    Ok(planned.rollups.iter().filter_map(describe).collect())
}

fn refuse(status: StatusCode, error: impl std::fmt::Display) -> Response {
    (status, Json(json!({"error": error.to_string()}))).into_response()
}

fn unknown(rollup: &str) -> Response {
    refuse(StatusCode::NOT_FOUND, format!("no rollup `{rollup}`; GET /api/v1/rollups lists them"))
}

async fn list(State(definitions): State<LogDefinitions>) -> Response {
    match descriptions(&definitions) {
        Ok(all) => Json(all).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

async fn describe(State(definitions): State<LogDefinitions>, Path(rollup): Path<String>) -> Response {
    match descriptions(&definitions) {
        Ok(all) => match all.into_iter().find(|found| found.name == rollup) {
            Some(found) => Json(found).into_response(),
            None => unknown(&rollup),
        },
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

async fn backfill(State(definitions): State<LogDefinitions>, Path(rollup): Path<String>) -> Response {
    match definitions.begin_anew(&rollup).await {
        Ok(true) => {
            let body = json!({"rollup": rollup, "definitions_version": definitions.version()});
            (StatusCode::ACCEPTED, Json(body)).into_response()
        }
        Ok(false) => unknown(&rollup),
        Err(error) => refuse(StatusCode::CONFLICT, error),
    }
}
