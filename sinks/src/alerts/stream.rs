//! `GET /api/v1/alerts/stream`: alert transitions as server-sent events.
//!
//! | | |
//! |---|---|
//! | event `id` | `partition:offset` of the record |
//! | event `data` | the record: one JSON object |
//! | `Last-Event-ID: p:o`, `?from=p:o` | resume behind that record (the header wins) |
//! | `?from=earliest`, `?from=latest` | from the oldest record, or from now on (the default) |
//! | `?state=firing,resolved` | only these states |
//! | `X-Scope-OrgID` | only this tenant's alerts |
//! | event `lost` | the log no longer had the records `from` to `to` of a partition; the stream goes on behind them |
//!
//! Every event is delivered at least once to a client that resumes with the last id it saw. Nothing is buffered for a slow client: the next
//! record is read when the last one has left, so all it holds is one read, and the log holds the rest. Comments keep idle connections open.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::Stream;
use futures::stream::unfold;
use highwater_pipeline::log::{Log, LogError};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::TOPIC;
use super::current::AlertRecord;

/// Limits of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// Subscribers at the same time; one more is told 503.
    pub max_subscribers: usize,
    /// Milliseconds between keep-alive comments.
    pub keep_alive_ms: u64,
    /// Bytes read from the log at a time, per subscriber.
    pub fetch_size_bytes: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { max_subscribers: 256, keep_alive_ms: 15_000, fetch_size_bytes: 64 << 10 }
    }
}

/// The route. Streams end when `shutdown` is cancelled.
pub fn router(log: Arc<dyn Log>, config: StreamConfig, shutdown: CancellationToken) -> Router {
    let seats = Arc::new(Semaphore::new(config.max_subscribers));
    Router::new().route("/api/v1/alerts/stream", get(subscribe)).with_state(Door { log, config, shutdown, seats })
}

#[derive(Clone)]
struct Door {
    log: Arc<dyn Log>,
    config: StreamConfig,
    shutdown: CancellationToken,
    seats: Arc<Semaphore>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    from: Option<String>,
    state: Option<String>,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Earliest,
    Latest,
    /// Behind this record.
    After {
        partition: i32,
        offset: i64,
    },
}

impl From {
    /// `earliest`, `latest` or `partition:offset`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            _ => {
                let (partition, offset) = text.split_once(':')?;
                let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
                (partition >= 0 && offset >= 0).then_some(Self::After { partition, offset })
            }
        }
    }
}

/// Which alerts a subscriber wants.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    /// Empty: all.
    states: Vec<String>,
    tenant: Option<String>,
}

impl Filter {
    /// The filter of a `state` parameter, or the state that does not exist.
    fn parse(states: Option<&str>, tenant: Option<String>) -> Result<Self, String> {
        let states: Vec<String> = states
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(str::to_string)
            .collect();
        match states.iter().find(|s| !["pending", "firing", "resolved"].contains(&s.as_str())) {
            Some(unknown) => Err(unknown.clone()),
            None => Ok(Self { states, tenant }),
        }
    }

    fn wants(&self, alert: &AlertRecord) -> bool {
        (self.states.is_empty() || self.states.contains(&alert.state))
            && self.tenant.as_ref().is_none_or(|t| *t == alert.tenant)
    }
}

async fn subscribe(State(door): State<Door>, Query(params): Query<Params>, headers: HeaderMap) -> Response {
    let resume = headers.get("last-event-id").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
    let wanted = resume.or(params.from.as_deref()).unwrap_or("latest");
    let Some(from) = From::parse(wanted) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            format!("cannot start from {wanted:?}: use earliest, latest or partition:offset, as in an event's id"),
        );
    };
    let tenant = headers.get("x-scope-orgid").and_then(|v| v.to_str().ok()).map(str::to_string);
    let filter = match Filter::parse(params.state.as_deref(), tenant) {
        Ok(filter) => filter,
        Err(unknown) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                format!("unknown state {unknown:?}: use pending, firing or resolved, separated by commas"),
            );
        }
    };
    let Ok(seat) = Arc::clone(&door.seats).try_acquire_owned() else {
        let mut full = refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "{} subscribers are connected, which is the limit (alerts.stream.max_subscribers)",
                door.config.max_subscribers
            ),
        );
        full.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        return full;
    };
    let reader = match Reader::start(&door, from, filter, seat).await {
        Ok(reader) => reader,
        Err(e) => return refuse(StatusCode::SERVICE_UNAVAILABLE, format!("the alerts topic cannot be read: {e}")),
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_millis(door.config.keep_alive_ms)).text("keep-alive");
    Sse::new(events(reader)).keep_alive(keep_alive).into_response()
}

fn refuse(status: StatusCode, message: String) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

/// One subscription.
struct Reader {
    log: Arc<dyn Log>,
    fetch_size_bytes: usize,
    shutdown: CancellationToken,
    filter: Filter,
    /// Next offset per partition; empty while the topic does not exist.
    next: Vec<i64>,
    /// The partition to read first, so that each has its turn.
    turn: usize,
    ready: VecDeque<Event>,
    _seat: OwnedSemaphorePermit,
}

impl Drop for Reader {
    fn drop(&mut self) {
        metrics::gauge!("highwater_alert_subscribers").decrement(1.0);
    }
}

impl Reader {
    async fn start(door: &Door, from: From, filter: Filter, seat: OwnedSemaphorePermit) -> Result<Self, LogError> {
        let next = starts(door.log.as_ref(), from).await?;
        metrics::gauge!("highwater_alert_subscribers").increment(1.0);
        Ok(Self {
            log: Arc::clone(&door.log),
            fetch_size_bytes: door.config.fetch_size_bytes,
            shutdown: door.shutdown.clone(),
            filter,
            next,
            turn: 0,
            ready: VecDeque::new(),
            _seat: seat,
        })
    }

    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.shutdown.is_cancelled() {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let shutdown = self.shutdown.clone();
            tokio::select! {
                () = shutdown.cancelled() => return None,
                read = self.read() => {
                    if let Err(error) = read {
                        tracing::warn!(%error, "an alert subscription ends: the log cannot be read");
                        return None;
                    }
                }
            }
        }
    }

    /// Reads on in the partition whose turn it is, waiting a little.
    async fn read(&mut self) -> Result<(), LogError> {
        if self.next.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            // It did not exist when the subscription began, so all it holds came later.
            self.next = starts(self.log.as_ref(), From::Earliest).await?;
            return Ok(());
        }
        let i = self.turn % self.next.len();
        self.turn = i + 1;
        let partition = i32::try_from(i).unwrap_or(i32::MAX);
        let max_wait = Duration::from_millis(1_000 / self.next.len() as u64);
        match self.log.read(TOPIC, partition, self.next[i], self.fetch_size_bytes, max_wait).await {
            Ok(fetched) => {
                self.next[i] = fetched.next_offset.max(self.next[i]);
                for alert in fetched.records.iter().filter_map(|r| AlertRecord::of(partition, r)) {
                    if self.filter.wants(&alert) {
                        let id = format!("{}:{}", alert.partition, alert.offset);
                        // A JSON text may span lines; server-sent events carry each as a line of data.
                        self.ready.push_back(Event::default().id(id).data(alert.json.get()));
                    }
                }
                metrics::counter!("highwater_alert_events_total").increment(self.ready.len() as u64);
                Ok(())
            }
            Err(LogError::OffsetOutOfRange { log_start, .. }) if log_start > self.next[i] => {
                let lost = json!({ "partition": partition, "from": self.next[i], "to": log_start });
                self.ready.push_back(Event::default().event("lost").data(lost.to_string()));
                self.next[i] = log_start;
                Ok(())
            }
            // Asked to resume behind a record that is not there: from the end.
            Err(LogError::OffsetOutOfRange { high_watermark, .. }) => {
                self.next[i] = high_watermark;
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}

/// Where to begin in each partition. Behind a record of one partition, the others begin at the first record appended no earlier than that
/// one: what the client may have missed it sees, some perhaps again.
async fn starts(log: &dyn Log, from: From) -> Result<Vec<i64>, LogError> {
    let Some(topic) = log.topic(TOPIC).await? else { return Ok(Vec::new()) };
    let mut next = Vec::new();
    for partition in 0..topic.config.partitions {
        let offsets = log.offsets(TOPIC, partition).await?;
        next.push(match from {
            From::Earliest => offsets.log_start,
            From::Latest => offsets.high_watermark,
            From::After { partition: seen, offset } if seen == partition => offset.saturating_add(1),
            From::After { partition: seen, offset } => match log.read(TOPIC, seen, offset, 1, Duration::ZERO).await {
                Ok(fetched) => match fetched.records.first() {
                    Some(record) => log
                        .offset_for_time(TOPIC, partition, record.timestamp_ms)
                        .await?
                        .unwrap_or(offsets.high_watermark),
                    None => offsets.high_watermark,
                },
                Err(_) => offsets.log_start,
            },
        });
    }
    Ok(next)
}

fn events(reader: Reader) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    })
}
