//! Highwater watching itself: this process's own log lines and this host's metrics go in by the same door as everybody's,
//! so that there is something to query within seconds of the first start.
//!
//! Own lines wait in a bounded queue; when the log cannot take them they are dropped and counted
//! (`highwater_self_dropped_total`), because a process must not stall on talking about itself. They are on stderr in any case.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use highwater_broker::{Clock, SystemClock};
use highwater_pipeline::agents::metrics::{CollectOptions, Collector};
use highwater_pipeline::data::Tenant;
use highwater_pipeline::sources::Ingest;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Own lines that may wait to be shipped.
const QUEUE_LINES: usize = 10_000;
/// How often own lines are shipped.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How often host metrics are taken.
const COLLECT_EVERY: Duration = Duration::from_secs(10);
/// The `service` of own lines.
const SERVICE: &str = "highwater";
/// The lines waiting to be shipped; the other end of [`OwnLogsLayer`].
pub(crate) struct OwnLogs {
    lines: mpsc::Receiver<serde_json::Map<String, serde_json::Value>>,
}

/// Takes this process's events of level INFO and above and queues them as JSON log entries.
pub(crate) struct OwnLogsLayer {
    lines: mpsc::Sender<serde_json::Map<String, serde_json::Value>>,
    clock: SystemClock,
}

impl OwnLogs {
    /// The layer to install, and the queue it fills.
    pub(crate) fn new() -> (OwnLogsLayer, Self) {
        let (send, receive) = mpsc::channel(QUEUE_LINES);
        (OwnLogsLayer { lines: send, clock: SystemClock }, Self { lines: receive })
    }

    /// Ships lines until `shutdown`; what is queued by then is shipped first.
    pub(crate) async fn run(mut self, ingest: Arc<Ingest>, host: String, shutdown: CancellationToken) {
        let mut body = BytesMut::new();
        loop {
            let stopping = tokio::select! {
                () = shutdown.cancelled() => true,
                () = tokio::time::sleep(FLUSH_EVERY) => false,
            };
            let mut lines = 0u64;
            while let Ok(mut line) = self.lines.try_recv() {
                line.insert("host".into(), host.as_str().into());
                if let Ok(line) = serde_json::to_vec(&line) {
                    body.extend_from_slice(&line);
                    body.extend_from_slice(b"\n");
                    lines += 1;
                }
            }
            if !body.is_empty() && ingest.ingest_logs(&Tenant::default(), body.split().freeze(), None).await.is_err() {
                // Saying so in a log line would queue another one; the counter is the message.
                metrics::counter!("highwater_self_dropped_total", "reason" => "log_unavailable").increment(lines);
            }
            if stopping {
                return;
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for OwnLogsLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || !metadata.target().starts_with("highwater") {
            return;
        }
        let mut line = serde_json::Map::new();
        event.record(&mut Fields(&mut line));
        line.entry("message").or_insert_with(|| metadata.name().into());
        line.insert("timestamp".into(), self.clock.now_ms().into());
        line.insert("level".into(), metadata.level().as_str().into());
        line.insert("service".into(), SERVICE.into());
        line.insert("logger".into(), metadata.target().into());
        if self.lines.try_send(line).is_err() {
            metrics::counter!("highwater_self_dropped_total", "reason" => "queue_full").increment(1);
        }
    }
}

/// Fields of an event as JSON; anything without a JSON form of its own in its debug form.
struct Fields<'a>(&'a mut serde_json::Map<String, serde_json::Value>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }
}

/// Takes this host's metrics every ten seconds, the first at once, until `shutdown`.
pub(crate) async fn collect_host_metrics(ingest: Arc<Ingest>, host: String, shutdown: CancellationToken) {
    let options = CollectOptions { service: SERVICE.to_owned(), host, ..CollectOptions::default() };
    let mut collector = Collector::new(&options);
    loop {
        let now_us = SystemClock.now_ms() * 1000;
        // Asking every file system for its space may block.
        let taken = tokio::task::spawn_blocking(move || {
            let collection = collector.collect(now_us);
            (collector, collection)
        });
        let Ok((returned, collection)) = taken.await else {
            tracing::error!("collecting host metrics panicked; there will be no more of them");
            return;
        };
        collector = returned;
        if ingest.ingest_metrics(&Tenant::default(), collection.body.into(), None).await.is_err() {
            metrics::counter!("highwater_self_dropped_total", "reason" => "log_unavailable")
                .increment(collection.samples);
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(COLLECT_EVERY)).await.is_none() {
            return;
        }
    }
}
