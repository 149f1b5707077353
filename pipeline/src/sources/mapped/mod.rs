//! `POST /api/v1/json/<mapping>`: JSON of any shape, made logs and metrics at once by a mapping in the configuration.
//!
//! ```yaml
//! mappings:
//!   telemetry:                                   # {"ts": 1700000000, "action": "pay", "success": true, "latency_ms": 12.5, "payload": {...}, "error": null}
//!     log:
//!       timestamp: "{ts}"
//!       message: "{action} {error}"
//!       level: { of: "{success}", when: { "true": INFO, "false": ERROR } }
//!       service: checkout
//!     metrics:
//!       - { name: action_latency_ms, kind: gauge, value: "{latency_ms}", labels: { action: "{action}", success: "{success}" } }
//! ```
//!
//! A body is what `POST /logs` takes: one object, an array, or one object per line. Each object becomes a log entry, with its own members beside those that
//! the mapping sets, and a sample for each metric whose value it has. Answers are those of `POST /logs`; refused samples are counted beside the entries.

mod config;
mod mapping;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::json;

pub use config::{MappingConfig, MappingError};
use mapping::{Mapped, Mapping};

use super::encoding::Encoding;
use super::http::{answer, request};
use super::ingest::{self, Ingest};
use super::meter::Meter;
use super::{IngestError, IngestReport};
use crate::data::logs::{self, Logs};
use crate::data::metrics::Metrics;

const DOOR: &str = "json";

/// All mappings, by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Mappings(Arc<parking_lot::RwLock<BTreeMap<String, Arc<Mapping>>>>);

impl Mappings {
    /// These.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn new(configs: &BTreeMap<String, MappingConfig>) -> Result<Self, MappingError> {
        let mappings = Self::default();
        mappings.replace(configs)?;
        Ok(mappings)
    }

    /// These from now on; where one is wrong, the old ones stay.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn replace(&self, configs: &BTreeMap<String, MappingConfig>) -> Result<(), MappingError> {
        let compiled = configs.iter().map(|(name, config)| Ok((name.clone(), Arc::new(Mapping::new(name, config)?))));
        *self.0.write() = compiled.collect::<Result<_, MappingError>>()?;
        Ok(())
    }

    fn named(&self, name: &str) -> Option<Arc<Mapping>> {
        self.0.read().get(name).map(Arc::clone)
    }
}

#[derive(Clone)]
struct Door {
    ingest: Arc<Ingest>,
    mappings: Mappings,
}

/// The door.
pub fn router(ingest: &Arc<Ingest>, mappings: &Mappings) -> Router {
    let door = Door { ingest: Arc::clone(ingest), mappings: mappings.clone() };
    Router::new().route("/api/v1/json/{mapping}", post(take)).with_state(door)
}

async fn take(State(door): State<Door>, Path(name): Path<String>, request: Request) -> Response {
    let ingest = &door.ingest;
    let meter = Meter { door: DOOR, signal: logs::TOPIC, doors: ingest.doors() };
    let Some(mapping) = door.mappings.named(&name) else {
        let error = format!("there is no mapping {name:?}: name one that is in the configuration, under mappings");
        return (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response();
    };
    let (head, mut body) = request.into_parts();
    let read = match Encoding::named(&request::content_encoding(&head.headers)) {
        Ok(encoding) => request::read(DOOR, ingest, &head.headers, &mut body, encoding).await,
        Err(error) => Err(error),
    };
    match read {
        Ok(request) => match store(ingest, mapping, request).await {
            Ok((logs, metrics)) => report(&logs, &metrics),
            Err(error) => answer::error(&error),
        },
        Err(error) => {
            request::refused(&error, &head.headers, body, meter).await;
            answer::error(&error)
        }
    }
}

/// Maps a request and stores both kinds of rows. With a key, what is stored of a request that failed is not stored again.
async fn store(
    ingest: &Ingest,
    mapping: Arc<Mapping>,
    request: ingest::Request,
) -> Result<(IngestReport, IngestReport), IngestError> {
    let ingest::Request { door, tenant, body, encoding, inside, key, mut reservation } = request;
    let limit_bytes = ingest.config().max_body_size_bytes;
    let work = tokio::task::spawn_blocking(move || {
        let body = encoding.decode(body, limit_bytes, &mut reservation)?;
        let body = inside.decode(body, limit_bytes, &mut reservation)?;
        let mapped = mapping.apply(&body)?;
        reservation.grow(mapped.logs.len() + mapped.metrics.len())?;
        Ok::<_, IngestError>((mapped, reservation))
    });
    let done = work.await.map_err(|error| IngestError::Abandoned { reason: error.to_string() })?;
    // Held until both are stored.
    let (Mapped { logs, metrics }, _reservation) = done?;
    let of = |body: Vec<u8>| ingest::Request {
        door,
        tenant: tenant.clone(),
        body: Bytes::from(body),
        encoding: Encoding::Identity,
        inside: Encoding::Identity,
        key: key.clone(),
        reservation: ingest.reservation(),
    };
    let logs = ingest.take_json::<Logs>(of(logs), true).await?;
    let metrics = match metrics.is_empty() {
        true => IngestReport::default(),
        false => ingest.take_json::<Metrics>(of(metrics), true).await?,
    };
    Ok((logs, metrics))
}

fn report(logs: &IngestReport, metrics: &IngestReport) -> Response {
    let none_stored = logs.accepted == 0 && logs.rejected > 0;
    let status = if none_stored { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let body = json!({
        "accepted": logs.accepted,
        "rejected": logs.rejected,
        "errors": logs.errors,
        "duplicate": logs.duplicate,
        "metrics": { "accepted": metrics.accepted, "rejected": metrics.rejected, "errors": metrics.errors },
    });
    (status, Json(body)).into_response()
}
