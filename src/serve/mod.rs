//! The server: puts the rooms together, keeps them running, takes them down in order.
//!
//! Up: port, log (recovery), storage, doors, tasks and tables ([`workers`]), queries; then ready. Down: no new requests, tasks to a
//! snapshot, tables to a last commit, the log to a clean close. What was acknowledged is synced at every moment, so a stop that is
//! cut short costs time at the next start and nothing else.

mod http;
pub(crate) mod offline;
mod process;
mod readiness;
mod self_monitoring;
pub(crate) mod signals;
mod status;
mod topics;
pub(crate) mod topology;
mod workers;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use highwater_broker::{Broker, BrokerConfig, RealFs, SystemClock};
use highwater_pipeline::log::{EmbeddedLog, Log, TopicConfig};
use highwater_pipeline::sources::Ingest;
use highwater_pipeline::storage::{self, Storage};
use highwater_sinks::stream::StreamConfig;
use highwater_sql::Engine;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::ServeArgs;
use crate::config::{Config, Durability};
use crate::error::Error;
use http::{Door, Rooms};
use readiness::{Health, Phase};
pub(crate) use self_monitoring::OwnLogs;
use workers::Workers;

/// Longest that requests under way may take after a stop was asked for.
const DRAIN_REQUESTS: Duration = Duration::from_secs(10);
/// How often the metrics recorder tidies its histograms.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(args: ServeArgs, config: Config, own_logs: Option<OwnLogs>) -> Result<(), Error> {
    // Before anything touches a disk: a config that cannot work is refused here.
    let topology = topology::build(&config)?;
    let prometheus = install_metrics()?;
    let shutdown = CancellationToken::new();
    tokio::spawn(signals::cancel_on_stop(shutdown.clone()));

    let health = Health::starting();
    let door = Door::bind(config.http.listen).await?;
    let address = door.address();
    let rooms = Rooms::default();
    // The port closes after the rooms behind it were told to finish, so it has a token of its own.
    let closing = CancellationToken::new();
    let serving = tokio::spawn(door.serve(health.clone(), prometheus.clone(), rooms.clone(), closing.clone()));
    tokio::spawn(upkeep(prometheus, shutdown.clone()));

    let broker = open_broker(&config).await?;
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(Arc::clone(&broker)));
    let storage = open_storage(&config)?;
    let topic = workers::with_retention(&config, &TopicConfig::with_partitions(config.log.partitions));
    let ingest = Ingest::open(Arc::clone(&log), config.ingest.clone(), topic).await;
    let ingest = Arc::new(ingest.map_err(|error| Error::failed("opening the doors", error))?);
    let spill_dir = clear_spill_dir(&config.data_dir)?;
    let engine =
        Engine::new(config.sql.clone(), storage.clone(), Arc::clone(&log), topology.tables().to_vec(), &spill_dir)
            .map_err(|error| Error::failed("starting the query engine", error))?;
    let mut workers = Workers::start(&config, topology, &log, &storage, &engine).await?;

    let (reload, mut reload_requests) = mpsc::channel(1);
    rooms.open(
        highwater_pipeline::sources::http::router(Arc::clone(&ingest))
            .merge(highwater_sql::http::router(Arc::new(engine.clone())))
            .merge(highwater_sinks::alerts::router(Arc::clone(&log), StreamConfig::default(), shutdown.child_token()))
            .merge(highwater_sinks::stream::topics::router(
                Arc::clone(&log),
                workers.tables(),
                StreamConfig::default(),
                shutdown.child_token(),
            ))
            .merge(topics::router(Arc::clone(&log)))
            .merge(status::router(health.clone(), workers.view(), Arc::clone(&log)))
            .merge(reload_router(reload)),
    );
    announce(&config.data_dir, address)?;
    health.set_phase(Phase::Serving);
    tracing::info!(http = %address, data_dir = %config.data_dir.display(), "ready");

    tokio::spawn(status::observe(workers.view(), health.clone(), shutdown.clone()));
    let monitors = start_self_monitoring(&config, own_logs, &ingest, &shutdown);
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| Error::failed("listening for SIGHUP", error))?;
    loop {
        let answer = tokio::select! {
            () = shutdown.cancelled() => break,
            _ = hangup.recv() => None,
            Some(answer) = reload_requests.recv() => Some(answer),
        };
        let outcome = reload_workers(&args, &config, &mut workers, &log, &storage, &engine).await;
        match &outcome {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(error) => tracing::error!(%error, "reload refused; the old configuration stays"),
        }
        if let Some(answer) = answer {
            drop(answer.send(outcome.map_err(|error| error.to_string())));
        }
    }

    health.set_phase(Phase::Draining);
    for monitor in monitors {
        drop(monitor.await);
    }
    closing.cancel();
    if tokio::time::timeout(DRAIN_REQUESTS, serving).await.is_err() {
        tracing::warn!("some requests did not end within {DRAIN_REQUESTS:?} and were cut");
    }
    workers.stop().await;
    broker.shutdown().await;
    drop(std::fs::remove_file(config.data_dir.join("server.json")));
    tracing::info!("stopped");
    Ok(())
}

/// Applies what may change while running: rollups, rules, table timing. Anything wrong changes nothing.
async fn reload_workers(
    args: &ServeArgs,
    running: &Config,
    workers: &mut Workers,
    log: &Arc<dyn Log>,
    storage: &Storage,
    engine: &Engine,
) -> Result<(), Error> {
    let config = args.config()?;
    let topology = topology::build(&config)?;
    for (key, changed) in [
        ("data_dir", config.data_dir != running.data_dir),
        ("http.listen", config.http.listen != running.http.listen),
        ("log.partitions", config.log.partitions != running.log.partitions),
        ("storage.url", config.storage.url != running.storage.url),
    ] {
        if changed {
            tracing::warn!(key, "changed in the file; takes effect at the next start");
        }
    }
    workers.replace(&config, topology, log, storage, engine).await
}

/// Opens the log with what the config says of it; recovery happens here.
async fn open_broker(config: &Config) -> Result<Arc<Broker>, Error> {
    let mut broker = BrokerConfig::new(config.data_dir.join("log"));
    broker.durability = match config.durability {
        Durability::Sync => highwater_broker::Durability::Sync,
        Durability::Relaxed => highwater_broker::Durability::Relaxed,
    };
    broker.segment_size_bytes = config.log.segment_size_bytes;
    broker.disk_limit_bytes = config.log.disk_limit_bytes;
    let opened = tokio::task::spawn_blocking(move || Broker::open(broker, Arc::new(RealFs), Arc::new(SystemClock)))
        .await
        .map_err(|error| Error::failed("opening the log", error))?;
    opened.map(Arc::new).map_err(|error| Error::failed("opening the log", error))
}

/// Where the config says tables and snapshots are: the data directory unless `storage.url` names another place.
pub(crate) fn open_storage(config: &Config) -> Result<Storage, Error> {
    let data_dir = config.data_dir.display().to_string();
    storage::open(config.storage.url.as_deref().unwrap_or(&data_dir))
        .map_err(|error| Error::failed("opening storage", error))
}

/// An empty directory for what queries spill; whatever a killed process left there goes.
pub(crate) fn clear_spill_dir(data_dir: &Path) -> Result<std::path::PathBuf, Error> {
    let dir = data_dir.join("spill");
    let failed = |error| Error::failed(&format!("preparing {}", dir.display()), error);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(failed)?;
    }
    std::fs::create_dir_all(&dir).map_err(failed)?;
    Ok(dir)
}

/// The process-wide metrics recorder, read at `/metrics`.
fn install_metrics() -> Result<PrometheusHandle, Error> {
    /// Seconds, from a fast append to a slow commit.
    const BUCKETS_S: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS_S)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| Error::failed("starting the metrics recorder", error))
}

async fn upkeep(prometheus: PrometheusHandle, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(METRICS_UPKEEP)).await.is_some() {
        prometheus.run_upkeep();
    }
}

/// Says where this server listens, for scripts and tests that let it choose a port.
fn announce(data_dir: &Path, address: std::net::SocketAddr) -> Result<(), Error> {
    let text = serde_json::json!({"http": address.to_string(), "pid": std::process::id()}).to_string();
    let (written, wanted) = (data_dir.join("server.json.new"), data_dir.join("server.json"));
    std::fs::write(&written, text)
        .and_then(|()| std::fs::rename(&written, &wanted))
        .map_err(|error| Error::failed(&format!("writing {}", wanted.display()), error))
}

fn start_self_monitoring(
    config: &Config,
    own_logs: Option<OwnLogs>,
    ingest: &Arc<Ingest>,
    shutdown: &CancellationToken,
) -> Vec<tokio::task::JoinHandle<()>> {
    if !config.self_monitoring {
        return Vec::new();
    }
    let host = highwater_pipeline::agents::host_name();
    let collecting = self_monitoring::collect_host_metrics(Arc::clone(ingest), host.clone(), shutdown.clone());
    let mut monitors = vec![tokio::spawn(collecting)];
    if let Some(own_logs) = own_logs {
        monitors.push(tokio::spawn(own_logs.run(Arc::clone(ingest), host, shutdown.clone())));
    }
    monitors
}

type ReloadAnswer = tokio::sync::oneshot::Sender<Result<(), String>>;

/// `POST /-/reload`: answers once the new configuration is at work, or why it is not.
fn reload_router(requests: mpsc::Sender<ReloadAnswer>) -> Router {
    use axum::http::StatusCode;
    let handler = move || async move {
        let (answer, outcome) = tokio::sync::oneshot::channel();
        let said = match requests.send(answer).await {
            Ok(()) => outcome.await.unwrap_or_else(|_| Err("the server is stopping".to_owned())),
            Err(_) => Err("the server is stopping".to_owned()),
        };
        match said {
            Ok(()) => (StatusCode::OK, "reloaded\n".to_owned()),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    };
    Router::new().route("/-/reload", post(handler))
}
