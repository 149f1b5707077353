//! Topics as server-sent events: what `GET /api/v1/alerts/stream` and `GET /api/v1/topics/{topic}/stream` have in common.
//!
//! | | |
//! |---|---|
//! | event `id` | `partition:offset` of the record |
//! | `Last-Event-ID: p:o`, `?from=p:o` | resume behind that record (the header wins) |
//! | `?from=earliest`, `?from=latest` | from the oldest record, or from now on (the default) |
//! | event `lost` | the log no longer had the records `from` to `to` of a partition; the stream goes on behind them |
//!
//! Every event is delivered at least once to a client that resumes with the last id it saw. Nothing is buffered for a slow client: the next
//! record is read when the last one has left, so all it holds is one read, and the log holds the rest. Comments keep idle connections open.

pub mod topics;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use futures::stream::unfold;
use highwater_pipeline::log::{Log, LogError, StoredRecord};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Limits of the streams of one kind.
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

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
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
    pub(crate) fn parse(text: &str) -> Option<Self> {
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

/// What a record becomes for its subscribers.
pub(crate) trait Render: Send {
    /// The texts to send for this record, in order; none where it is not for this subscriber. Each is sent under the record's id.
    fn render(&mut self, partition: i32, record: &StoredRecord) -> Vec<String>;
}

/// A door that streams topics.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) config: StreamConfig,
    shutdown: CancellationToken,
    seats: Arc<Semaphore>,
}

impl Door {
    /// A door with its own seats. Streams end when `shutdown` is cancelled.
    pub(crate) fn new(log: Arc<dyn Log>, config: StreamConfig, shutdown: CancellationToken) -> Self {
        let seats = Arc::new(Semaphore::new(config.max_subscribers));
        Self { log, config, shutdown, seats }
    }

    /// Answers with the stream of a topic, from where `from` or the request's `Last-Event-ID` says.
    pub(crate) async fn subscribe<R: Render + 'static>(
        &self,
        topic: &str,
        from: Option<&str>,
        headers: &HeaderMap,
        render: R,
    ) -> Response {
        let resume = headers.get("last-event-id").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
        let wanted = resume.or(from).unwrap_or("latest");
        let Some(from) = From::parse(wanted) else {
            return refuse(
                StatusCode::BAD_REQUEST,
                format!("cannot start from {wanted:?}: use earliest, latest or partition:offset, as in an event's id"),
            );
        };
        let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() else {
            let limit = self.config.max_subscribers;
            let mut full = refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{limit} subscribers are connected, which is the limit"),
            );
            full.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
            return full;
        };
        let reader = match Reader::start(self, topic, from, render, seat).await {
            Ok(reader) => reader,
            Err(e) => return refuse(StatusCode::SERVICE_UNAVAILABLE, format!("topic {topic} cannot be read: {e}")),
        };
        let keep_alive = KeepAlive::new().interval(Duration::from_millis(self.config.keep_alive_ms)).text("keep-alive");
        Sse::new(events(reader)).keep_alive(keep_alive).into_response()
    }
}

/// Whose data is asked for: the trusted `X-Scope-OrgID`, or `default`.
pub(crate) fn tenant(headers: &HeaderMap) -> String {
    headers.get("x-scope-orgid").and_then(|v| v.to_str().ok()).unwrap_or("default").to_string()
}

pub(crate) fn refuse(status: StatusCode, message: String) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

/// One subscription.
struct Reader<R> {
    log: Arc<dyn Log>,
    topic: String,
    fetch_size_bytes: usize,
    shutdown: CancellationToken,
    render: R,
    /// Next offset per partition; empty while the topic does not exist.
    next: Vec<i64>,
    /// The partition to read first, so that each has its turn.
    turn: usize,
    ready: VecDeque<Event>,
    _seat: OwnedSemaphorePermit,
}

impl<R> Drop for Reader<R> {
    fn drop(&mut self) {
        metrics::gauge!("highwater_stream_subscribers").decrement(1.0);
    }
}

impl<R: Render> Reader<R> {
    async fn start(
        door: &Door,
        topic: &str,
        from: From,
        render: R,
        seat: OwnedSemaphorePermit,
    ) -> Result<Self, LogError> {
        let next = starts(door.log.as_ref(), topic, from).await?;
        metrics::gauge!("highwater_stream_subscribers").increment(1.0);
        Ok(Self {
            log: Arc::clone(&door.log),
            fetch_size_bytes: door.config.fetch_size_bytes,
            shutdown: door.shutdown.clone(),
            render,
            topic: topic.to_string(),
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
                        tracing::warn!(%error, "a subscription ends: the log cannot be read");
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
            self.next = starts(self.log.as_ref(), &self.topic, From::Earliest).await?;
            return Ok(());
        }
        let i = self.turn % self.next.len();
        self.turn = i + 1;
        let partition = i32::try_from(i).unwrap_or(i32::MAX);
        let max_wait = Duration::from_millis(1_000 / self.next.len() as u64);
        match self.log.read(&self.topic, partition, self.next[i], self.fetch_size_bytes, max_wait).await {
            Ok(fetched) => {
                self.next[i] = fetched.next_offset.max(self.next[i]);
                for record in &fetched.records {
                    let id = format!("{partition}:{}", record.offset);
                    for data in self.render.render(partition, record) {
                        // A JSON text may span lines; server-sent events carry each as a line of data.
                        self.ready.push_back(Event::default().id(id.clone()).data(data));
                    }
                }
                metrics::counter!("highwater_stream_events_total").increment(self.ready.len() as u64);
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
async fn starts(log: &dyn Log, topic: &str, from: From) -> Result<Vec<i64>, LogError> {
    let Some(info) = log.topic(topic).await? else { return Ok(Vec::new()) };
    let mut next = Vec::new();
    for partition in 0..info.config.partitions {
        let offsets = log.offsets(topic, partition).await?;
        next.push(match from {
            From::Earliest => offsets.log_start,
            From::Latest => offsets.high_watermark,
            From::After { partition: seen, offset } if seen == partition => offset.saturating_add(1),
            From::After { partition: seen, offset } => match log.read(topic, seen, offset, 1, Duration::ZERO).await {
                Ok(fetched) => match fetched.records.first() {
                    Some(record) => log
                        .offset_for_time(topic, partition, record.timestamp_ms)
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

fn events<R: Render>(reader: Reader<R>) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    })
}
