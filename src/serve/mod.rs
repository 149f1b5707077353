//! The server: puts the rooms together, keeps them running, takes them down in order.
//!
//! Up: port, log (recovery), storage, doors (HTTP and Kafka), tasks and tables ([`workers`]), queries; then ready. Down: no new requests, tasks to a
//! snapshot, tables to a last commit, the log to a clean close. What was acknowledged is synced at every moment, so a stop that is
//! cut short costs time at the next start and nothing else.

mod bridges;
pub(crate) mod claim;
mod consumer_lag;
mod definitions;
mod history;
mod http;
mod kafka;
pub(crate) mod ledger;
mod log;
mod members;
mod notifiers;
pub(crate) mod offline;
mod otlp;
mod pgwire;
mod process;
mod prometheus;
mod readiness;
mod rollups;
mod rules_view;
mod scraping;
mod self_monitoring;
pub(crate) mod signals;
mod status;
mod table_storage;
mod topics;
pub(crate) mod topology;
mod workers;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use highwater_broker::SystemClock;
use highwater_broker::access::ApiKeys;
use highwater_broker::tls::Tls;
use highwater_pipeline::access::{Access as Doorkeeper, Need, Quotas, guard};
use highwater_pipeline::log::{Log, TopicConfig};
use highwater_pipeline::server::HttpServer;
use highwater_pipeline::sources::scrape::Scraper;
use highwater_pipeline::sources::{Ingest, mapped};
use highwater_pipeline::storage::{self, Access, Storage};
use highwater_pipeline::tables::TableSpec;
use highwater_processors::ProcessorsConfig;
use highwater_sinks::stream::StreamConfig;
use highwater_sql::Engine;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::RwLock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use self::kafka::is_of_tasks;
pub(crate) use self::log::OpenLog;
pub(crate) use self::topics::is_own as is_own_topic;
use crate::cli::ServeArgs;
use crate::config::{Config, Role, TablesSection, TlsSection};
use crate::error::Error;
use definitions::{LogDefinitions, Writes};
use http::Rooms;
use kafka::KafkaDoor;
use ledger::LedgerKeeper;
use members::Members;
use notifiers::Notifiers;
use otlp::OtlpDoors;
use pgwire::PostgresDoor;
use readiness::{Health, Phase};
pub(crate) use self_monitoring::OwnLogs;
use topology::Topology;
use workers::{Workers, WorkersView};

/// Longest that requests under way may take after a stop was asked for.
const DRAIN_REQUESTS: Duration = Duration::from_secs(10);
/// How often it is looked whether tasks have their state back.
const RESTORE_POLL: Duration = Duration::from_millis(20);
/// How often the metrics recorder tidies its histograms.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(args: ServeArgs, config: Config, own_logs: Option<OwnLogs>) -> Result<(), Error> {
    // Before anything touches a disk: a config that cannot work is refused here.
    let file = topology::processors(&config)?;
    let planned = topology::plan(&file)?;
    let prometheus = install_metrics()?;
    let shutdown = CancellationToken::new();
    tokio::spawn(signals::cancel_on_stop(shutdown.clone()));

    let health = Health::starting();
    let keys = ApiKeys::from(config.keys()?);
    let quotas = Quotas::new(config.limits.clone(), Arc::new(SystemClock));
    let access = Doorkeeper::new(keys.clone(), quotas.clone());
    let door = HttpServer::bind(
        "http",
        config.http.listen,
        config.http.tls.as_ref().map(TlsSection::files),
        config.http.limits.clone(),
    )
    .await
    .map_err(|error| Error::Failed(format!("{error}, with --http-listen")))?;
    let (address, tls, scheme) = (door.address(), door.tls(), door.scheme());
    let rooms = Rooms::default();
    // The port closes after the rooms behind it were told to finish, so it has a token of its own.
    let closing = CancellationToken::new();
    let router = http::router(health.clone(), prometheus.clone(), &access, rooms.clone());
    let serving = tokio::spawn(door.serve(router, closing.clone()));
    tokio::spawn(upkeep(prometheus, shutdown.clone()));

    let log = OpenLog::open(&config).await?;
    claim::check(&config, &log).await?;
    // A gateway alone needs none: it may not be allowed to reach it.
    let storage_access = if config.roles.has(Role::Worker) { Access::Write } else { Access::Read };
    let storage = match config.roles.has(Role::Worker) || config.roles.has(Role::Query) {
        true => Some(open_storage(&config, storage_access).await?),
        false => None,
    };
    workers::ensure_topics(&config, &planned, log.log()).await?;
    let definitions = LogDefinitions::start(log.log(), &file, Writes::of(&config)).await?;
    let topology = definitions.topology()?.unwrap_or(planned).promoted(&config.tables)?;
    workers::ensure_topics(&config, &topology, log.log()).await?;
    claim::make(&config, &log).await?;
    // Not before: a client that asks for a topic may make it, and it would not be as it has to be.
    let kafka = KafkaDoor::open(&config, &keys, &log).await?;
    let gateway = open_gateway(&config, &quotas, log.log()).await?;
    let engine = match storage.as_ref().filter(|_| config.roles.has(Role::Query)) {
        Some(storage) => Some(open_engine(&config, &topology, storage, log.log())?),
        None => None,
    };
    let postgres = PostgresDoor::open(&config, &access, engine.as_ref()).await?;
    let view = WorkersView::default();
    let specs = Arc::new(RwLock::new(topology.tables().to_vec()));
    let workers = match storage.as_ref().filter(|_| config.roles.has(Role::Worker)) {
        Some(storage) => {
            Some(Workers::start(&config, topology, definitions.tasks(), log.log(), storage, view.clone()).await?)
        }
        None => None,
    };
    let mut changes = definitions.changes();
    changes.mark_unchanged();
    tokio::spawn(definitions.clone().follow(shutdown.clone()));
    let ledger = LedgerKeeper::start(log.log(), gateway.as_ref(), engine.as_ref(), view.clone());
    let members = Members::open(&config, address, log.log()).await?;

    let mappings =
        mapped::Mappings::new(&config.mappings).map_err(|error| Error::failed("reading the mappings", error))?;
    let (reload, mut reload_requests) = mpsc::channel(1);
    let routes =
        topics::router(Arc::clone(log.log())).merge(rollups::router(definitions.clone())).merge(status::router(
            health.clone(),
            view.clone(),
            members.clone(),
            definitions.clone(),
            Arc::clone(log.log()),
            kafka.told().map(str::to_owned),
        ));
    let orders = reload_router(reload).merge(rollups::orders(definitions.clone()));
    let mut routes = guard(routes, &access, Need::Query).merge(guard(orders, &access, Need::Admin));
    if config.roles.has(Role::Gateway)
        && let Some(ingest) = &gateway
    {
        let senders = highwater_pipeline::sources::router(ingest).merge(mapped::router(ingest, &mappings));
        routes = routes.merge(guard(senders, &access, Need::Ingest));
    }
    let late_scraper = prometheus::LateScraper::default();
    if let Some(engine) = &engine {
        let specs = Arc::clone(&specs);
        let questions = highwater_sql::http::router(Arc::new(engine.clone()))
            .merge(prometheus::router(
                &config,
                address,
                engine,
                &late_scraper,
                rules_view::LogRules { definitions: definitions.clone(), log: Arc::clone(log.log()) },
            )?)
            .merge(highwater_sinks::alerts::router(
                Arc::clone(log.log()),
                StreamConfig::default(),
                shutdown.child_token(),
            ))
            .merge(highwater_sinks::stream::topics::router(
                Arc::clone(log.log()),
                Arc::new(move || specs.read().clone()),
                StreamConfig::default(),
                shutdown.child_token(),
            ));
        routes = routes.merge(guard(questions, &access, Need::Query));
    }
    let otlp = match gateway.as_ref().filter(|_| config.roles.has(Role::Gateway)) {
        Some(ingest) => OtlpDoors::open(&config, &access, ingest, &closing).await?,
        None => OtlpDoors::default(),
    };
    rooms.open(routes);
    announce(&config.data_dir, scheme, address, kafka.address(), &otlp, postgres.address())?;
    tokio::spawn(become_ready(health.clone(), view.clone(), address, shutdown.clone()));

    tokio::spawn(status::observe(view.clone(), health.clone(), shutdown.clone()));
    let scraper = match gateway.as_ref().filter(|_| config.roles.has(Role::Gateway)) {
        Some(ingest) => Some(scraping::start(&config, ingest, &members, log.log(), &shutdown)?),
        None => None,
    };
    let mut monitors = start_self_monitoring(&config, own_logs, gateway.as_ref(), &shutdown);
    monitors.extend(members.announce(health.clone(), view.clone(), Arc::clone(log.log()), &shutdown));
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| Error::failed("listening for SIGHUP", error))?;
    let (scraper, scraping) = scraper.unzip();
    if let Some(scraper) = &scraper {
        // Told once.
        drop(late_scraper.set(scraper.clone()));
    }
    monitors.extend(scraping.into_iter().flatten());
    let applying = Applying {
        keys,
        quotas,
        mappings,
        scraper,
        tls: tls.into_iter().chain(otlp.tls().iter().cloned()).collect(),
        definitions,
        table_settings: config.tables.clone(),
        workers: workers.as_ref(),
        engine: engine.as_ref(),
        specs: &specs,
    };
    loop {
        let answer = tokio::select! {
            () = shutdown.cancelled() => break,
            Ok(()) = changes.changed() => {
                let applied = applying.newest().await;
                if let Err(error) = &applied {
                    tracing::error!(%error, "the definitions in the log cannot be applied; tables stay as they are");
                }
                health.set_error("definitions", applied.err().map(|error| error.to_string()));
                continue;
            }
            _ = hangup.recv() => None,
            Some(answer) = reload_requests.recv() => Some(answer),
        };
        let outcome = applying.reload(&args, &config).await;
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
    kafka.close().await;
    postgres.close().await;
    let answered = async { tokio::join!(serving, otlp.closed()) };
    if tokio::time::timeout(DRAIN_REQUESTS, answered).await.is_err() {
        tracing::warn!("some requests did not end within {DRAIN_REQUESTS:?} and were cut");
    }
    ledger.stop().await;
    if let Some(workers) = workers {
        workers.stop().await;
    }
    log.close().await;
    drop(std::fs::remove_file(config.data_dir.join("server.json")));
    tracing::info!("stopped");
    Ok(())
}

/// What follows the definitions in the log, besides the tasks.
struct Applying<'a> {
    /// The keys of all doors.
    keys: ApiKeys,
    /// The limits of tenants.
    quotas: Quotas,
    /// What scrapes targets.
    scraper: Option<Scraper>,
    /// Mappings of JSON.
    mappings: mapped::Mappings,
    /// The certificates of HTTP and OTLP ports; the Kafka port looks after its own.
    tls: Vec<Arc<Tls>>,
    definitions: LogDefinitions,
    /// How tables are written, for as long as the process lives.
    table_settings: TablesSection,
    workers: Option<&'a Workers>,
    engine: Option<&'a Engine>,
    specs: &'a RwLock<Vec<TableSpec>>,
}

impl Applying<'_> {
    /// Makes the file's rollups and rules the newest version in the log. Anything wrong changes nothing.
    async fn reload(&self, args: &ServeArgs, running: &Config) -> Result<(), Error> {
        let config = args.config()?;
        let keys = config.keys()?;
        if keys.is_empty() != self.keys.is_empty() {
            return Err(Error::Failed(
                "api_keys: whether keys are asked for changes at a start and not at a reload; restart the server"
                    .into(),
            ));
        }
        let (partitions, rule_partitions) = (running.log.partitions, running.log.rule_partitions);
        let file = ProcessorsConfig { partitions, rule_partitions, ..topology::processors(&config)? };
        let topology = topology::plan(&file)?.promoted(&self.table_settings)?;
        let notifiers = Notifiers::open(&config)?;
        for tls in &self.tls {
            tls.reload().map_err(|error| Error::failed("tls", error))?;
        }
        self.keys.replace(keys);
        self.quotas.replace(config.limits.clone());
        self.mappings.replace(&config.mappings).map_err(|error| Error::failed("reading the mappings", error))?;
        if let Some(scraper) = &self.scraper {
            scraper.apply(config.scrape()?);
        }
        if let Some(workers) = self.workers {
            workers.notify(notifiers).await?;
        }
        for (key, changed) in [
            ("http", config.http != running.http),
            ("roles", config.roles != running.roles),
            ("data_dir", config.data_dir != running.data_dir),
            ("kafka", config.kafka != running.kafka),
            ("otlp", config.otlp != running.otlp),
            ("pgwire", config.pgwire != running.pgwire),
            ("log", config.log.kind != running.log.kind || config.log.kafka != running.log.kafka),
            ("sources", config.sources != running.sources),
            ("log.partitions", config.log.partitions != running.log.partitions),
            ("storage", config.storage.url != running.storage.url || config.storage.options != running.storage.options),
            ("state", config.state != running.state),
            ("tables", config.tables != running.tables),
        ] {
            if changed {
                tracing::warn!(key, "changed in the file; takes effect at the next start");
            }
        }
        if self.definitions.may_write() {
            // Tables first: their columns are there before the first row that has them.
            self.tables(topology).await?;
        }
        let proposed = self.definitions.propose(&file).await;
        // What applies now: the file's, or what another process has written since, or the old ones where the log refused.
        let applied = self.newest().await;
        proposed.and(applied)
    }

    /// Makes the tables those of the newest version in the log, whoever wrote it.
    async fn newest(&self) -> Result<(), Error> {
        match self.definitions.topology()? {
            Some(topology) => self.tables(topology.promoted(&self.table_settings)?).await,
            None => Ok(()),
        }
    }

    async fn tables(&self, topology: Topology) -> Result<(), Error> {
        let tables = topology.tables().to_vec();
        if let Some(workers) = self.workers {
            workers.apply(topology).await?;
        }
        if let Some(engine) = self.engine {
            engine.set_tables(tables.clone());
        }
        *self.specs.write() = tables;
        Ok(())
    }
}

/// Ready once tasks have their state back. What they are assigned later, from other workers, is restored beside the work.
async fn become_ready(health: Health, view: WorkersView, address: SocketAddr, shutdown: CancellationToken) {
    while view.restoring() {
        if shutdown.run_until_cancelled(tokio::time::sleep(RESTORE_POLL)).await.is_none() {
            return;
        }
    }
    health.serving();
    tracing::info!(http = %address, "ready");
}

/// The way into the log: for senders, and for what this process says of itself. `None` where it takes nothing in.
async fn open_gateway(config: &Config, quotas: &Quotas, log: &Arc<dyn Log>) -> Result<Option<Arc<Ingest>>, Error> {
    if !config.roles.has(Role::Gateway) && !config.self_monitoring {
        return Ok(None);
    }
    let topic = workers::with_retention(config, &TopicConfig::with_partitions(config.log.partitions));
    let ingest = Ingest::open(Arc::clone(log), config.ingest.clone(), topic).await;
    let ingest = ingest.map_err(|error| Error::failed("opening the doors", error))?;
    Ok(Some(Arc::new(ingest.with_quotas(quotas.clone()))))
}

fn open_engine(config: &Config, topology: &Topology, storage: &Storage, log: &Arc<dyn Log>) -> Result<Engine, Error> {
    let spill_dir = clear_spill_dir(&config.data_dir)?;
    let engine =
        Engine::new(config.sql.clone(), storage.clone(), Arc::clone(log), topology.tables().to_vec(), &spill_dir)
            .map_err(|error| Error::failed("starting the query engine", error))?;
    engine.register_view(table_storage::TABLE, Arc::new(table_storage::TableStorage(storage.clone())));
    engine.register_view(consumer_lag::TABLE, Arc::new(consumer_lag::ConsumerLag(Arc::clone(log))));
    Ok(engine)
}

/// Where the config says tables and snapshots are: the data directory unless `storage.url` names another place.
pub(crate) async fn open_storage(config: &Config, access: Access) -> Result<Storage, Error> {
    let data_dir = config.data_dir.display().to_string();
    let location = config.storage.url.as_deref().unwrap_or(&data_dir);
    storage::connect(location, &config.storage.options, access)
        .await
        .map_err(|error| Error::failed("opening storage", error))
}

/// An empty directory for what queries spill; whatever a killed process left there goes.
pub(crate) fn clear_spill_dir(data_dir: &Path) -> Result<std::path::PathBuf, Error> {
    clear_dir(&data_dir.join("spill"))
}

/// This directory, with nothing in it.
fn clear_dir(dir: &Path) -> Result<std::path::PathBuf, Error> {
    let failed = |error| Error::failed(&format!("preparing {}", dir.display()), error);
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(failed)?;
    }
    std::fs::create_dir_all(dir).map_err(failed)?;
    Ok(dir.to_owned())
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
fn announce(
    data_dir: &Path,
    scheme: &str,
    http: SocketAddr,
    kafka: Option<SocketAddr>,
    otlp: &OtlpDoors,
    pgwire: Option<SocketAddr>,
) -> Result<(), Error> {
    let text = serde_json::json!({
        "http": http.to_string(),
        "scheme": scheme,
        "kafka": kafka.map(|address| address.to_string()),
        "otlp_grpc": otlp.grpc().map(|address| address.to_string()),
        "otlp_http": otlp.http().map(|address| address.to_string()),
        "pgwire": pgwire.map(|address| address.to_string()),
        "pid": std::process::id(),
    })
    .to_string();
    let (written, wanted) = (data_dir.join("server.json.new"), data_dir.join("server.json"));
    std::fs::create_dir_all(data_dir)
        .and_then(|()| std::fs::write(&written, text))
        .and_then(|()| std::fs::rename(&written, &wanted))
        .map_err(|error| Error::failed(&format!("writing {}", wanted.display()), error))
}

fn start_self_monitoring(
    config: &Config,
    own_logs: Option<OwnLogs>,
    ingest: Option<&Arc<Ingest>>,
    shutdown: &CancellationToken,
) -> Vec<tokio::task::JoinHandle<()>> {
    let Some(ingest) = ingest.filter(|_| config.self_monitoring) else { return Vec::new() };
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
