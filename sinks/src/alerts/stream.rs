//! `GET /api/v1/alerts/stream`: alert transitions as server-sent events, as [`crate::stream`] has them, and:
//!
//! | | |
//! |---|---|
//! | event `data` | the record: one JSON object |
//! | `?state=firing,resolved` | only these states |
//! | `X-Scope-OrgID` | whose alerts; `default` without one |

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use highwater_pipeline::log::{Log, StoredRecord};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::TOPIC;
use super::current::AlertRecord;
use crate::stream::{Door, Render, StreamConfig, refuse};

/// What a transition may be to.
const STATES: [&str; 6] = ["pending", "firing", "resolved", "inactive", "corrected", "retracted"];

/// The route. Streams end when `shutdown` is cancelled.
pub fn router(log: Arc<dyn Log>, config: StreamConfig, shutdown: CancellationToken) -> Router {
    Router::new().route("/api/v1/alerts/stream", get(subscribe)).with_state(Door::new(log, config, shutdown))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    from: Option<String>,
    state: Option<String>,
}

/// Which alerts a subscriber wants.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    /// Empty: all.
    states: Vec<String>,
    tenant: String,
}

impl Filter {
    /// The filter of a `state` parameter, or the state that does not exist.
    fn parse(states: Option<&str>, tenant: String) -> Result<Self, String> {
        let states: Vec<String> = states
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(str::to_string)
            .collect();
        match states.iter().find(|s| !STATES.contains(&s.as_str())) {
            Some(unknown) => Err(unknown.clone()),
            None => Ok(Self { states, tenant }),
        }
    }

    fn wants(&self, alert: &AlertRecord) -> bool {
        (self.states.is_empty() || self.states.contains(&alert.state)) && self.tenant == alert.tenant
    }
}

impl Render for Filter {
    fn render(&mut self, partition: i32, record: &StoredRecord) -> Vec<String> {
        let alert = AlertRecord::of(partition, record).filter(|alert| self.wants(alert));
        alert.map(|alert| alert.json.get().to_string()).into_iter().collect()
    }
}

async fn subscribe(State(door): State<Door>, Query(params): Query<Params>, headers: HeaderMap) -> Response {
    match Filter::parse(params.state.as_deref(), crate::stream::tenant(&headers)) {
        Ok(filter) => door.subscribe(TOPIC, params.from.as_deref(), &headers, filter).await,
        Err(unknown) => refuse(
            StatusCode::BAD_REQUEST,
            format!("unknown state {unknown:?}: use {}, separated by commas", STATES.join(", ")),
        ),
    }
}
