//! What works behind the doors: stateful tasks and table writers, started from a topology and replaceable as a whole at reload.
//!
//! Replacing stops the old tasks at a snapshot and the old writers at a commit, then starts the new ones from there: what did not
//! change keeps its state, because state is restored by definition and not by name of the run.

use std::sync::Arc;

use highwater_broker::{Clock, SystemClock};
use highwater_pipeline::log::{Log, TopicConfig, TopicPartition};
use highwater_pipeline::runtime::{DriverConfig, TaskStatus, Tasks};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::TableSpec;
use highwater_sinks::stream::topics::TablesSource;
use highwater_sinks::tables::{TableStatus, Tables, TablesConfig};
use highwater_sql::Engine;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::topology::Topology;
use crate::config::Config;
use crate::error::Error;

/// Running tasks and table writers.
pub(crate) struct Workers {
    running: Option<Running>,
    view: WorkersView,
}

struct Running {
    tasks: Arc<Tasks>,
    tables: Arc<Tables>,
    stop_tables: CancellationToken,
}

/// The state of whatever runs now, for those who only look.
#[derive(Clone, Default)]
pub(crate) struct WorkersView(Arc<RwLock<Sources>>);

#[derive(Default)]
struct Sources {
    tasks: Option<Arc<Tasks>>,
    tables: Option<Arc<Tables>>,
    specs: Vec<TableSpec>,
}

impl WorkersView {
    /// Every task.
    pub(crate) fn tasks(&self) -> Vec<TaskStatus> {
        self.0.read().tasks.as_ref().map_or_else(Vec::new, |tasks| tasks.status())
    }

    /// Every table.
    pub(crate) fn tables(&self) -> Vec<TableStatus> {
        self.0.read().tables.as_ref().map_or_else(Vec::new, |tables| tables.statuses())
    }
}

impl Workers {
    /// Makes the topics that are missing and starts everything the topology names.
    pub(crate) async fn start(
        config: &Config,
        topology: Topology,
        log: &Arc<dyn Log>,
        storage: &Storage,
        engine: &Engine,
    ) -> Result<Self, Error> {
        let mut workers = Self { running: None, view: WorkersView::default() };
        workers.launch(config, topology, log, storage, engine).await?;
        Ok(workers)
    }

    /// A look at what runs, now and after every replacement.
    pub(crate) fn view(&self) -> WorkersView {
        self.view.clone()
    }

    /// Which tables there are, now and after every replacement.
    pub(crate) fn tables(&self) -> TablesSource {
        let view = self.view();
        Arc::new(move || view.0.read().specs.clone())
    }

    /// Stops what runs and starts what the new topology names.
    pub(crate) async fn replace(
        &mut self,
        config: &Config,
        topology: Topology,
        log: &Arc<dyn Log>,
        storage: &Storage,
        engine: &Engine,
    ) -> Result<(), Error> {
        // Topics first: if they cannot be made, the old workers are still there.
        ensure_topics(config, &topology, log).await?;
        self.stop().await;
        self.launch(config, topology, log, storage, engine).await
    }

    /// Stops tasks at a snapshot, then writers at a commit, so that what the last tasks wrote is still committed.
    pub(crate) async fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        for task in running.tasks.stop_all().await {
            if !task.state.is_healthy() {
                tracing::warn!(task = %task.task, state = task.state.name(), "task had not been running to the end");
            }
        }
        running.stop_tables.cancel();
        *self.view.0.write() = Sources::default();
        match Arc::try_unwrap(running.tables) {
            Ok(tables) => {
                if let Err(error) = tables.join().await {
                    tracing::error!(%error, "a table did not commit to the end; it will at the next start");
                }
            }
            Err(_) => tracing::error!("table writers are still being looked at and were left to end by themselves"),
        }
    }

    async fn launch(
        &mut self,
        config: &Config,
        topology: Topology,
        log: &Arc<dyn Log>,
        storage: &Storage,
        engine: &Engine,
    ) -> Result<(), Error> {
        ensure_topics(config, &topology, log).await?;
        engine.set_tables(topology.tables().to_vec());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stop_tables = CancellationToken::new();
        let tables_config = TablesConfig {
            commit_interval_ms: u64::try_from(config.tables.commit_interval.as_millis()).unwrap_or(u64::MAX),
            commit_size_bytes: config.tables.commit_size_bytes,
            ..TablesConfig::default()
        };
        if let Some(problem) = tables_config.problem() {
            return Err(Error::Failed(problem));
        }
        let tables = Arc::new(Tables::new(
            Arc::clone(log),
            storage.clone(),
            tables_config,
            Arc::clone(&clock),
            stop_tables.clone(),
        ));
        for table in topology.tables() {
            tables.start(table.clone());
        }
        tables.assign(&every_partition(&topology));
        let specs = topology.tables().to_vec();
        let tasks = Tasks::new(Arc::clone(log), Arc::clone(storage.objects()), clock, DriverConfig::default());
        for task in topology.into_tasks() {
            tasks.start(task);
        }
        let tasks = Arc::new(tasks);
        *self.view.0.write() = Sources { tasks: Some(Arc::clone(&tasks)), tables: Some(Arc::clone(&tables)), specs };
        self.running = Some(Running { tasks, tables, stop_tables });
        Ok(())
    }
}

/// Creates missing topics; existing ones stay as they are.
async fn ensure_topics(config: &Config, topology: &Topology, log: &Arc<dyn Log>) -> Result<(), Error> {
    for (name, wanted) in topology.topics() {
        let partitions = wanted.partitions;
        let topic = log
            .ensure_topic(name, with_retention(config, wanted))
            .await
            .map_err(|error| Error::failed(&format!("creating topic {name}"), error))?;
        if topic.config.partitions != partitions {
            return Err(Error::Failed(format!(
                "topic {name} has {} partitions, but the configuration wants {partitions}; \
                 the number is fixed when a topic is created: set log.partitions back, or start with a new data directory",
                topic.config.partitions
            )));
        }
    }
    Ok(())
}

/// Every partition of every topic: what a process that shares its log with nobody owns.
fn every_partition(topology: &Topology) -> Vec<TopicPartition> {
    topology
        .topics()
        .iter()
        .flat_map(|(name, config)| {
            let topic: Arc<str> = name.as_str().into();
            (0..config.partitions).map(move |partition| TopicPartition { topic: Arc::clone(&topic), partition })
        })
        .collect()
}

/// A topic that does not say how long it is kept is kept as the config says.
pub(super) fn with_retention(config: &Config, wanted: &TopicConfig) -> TopicConfig {
    let default = TopicConfig::default();
    let mut topic = wanted.clone();
    if topic.retention_ms == default.retention_ms {
        topic.retention_ms = Some(i64::try_from(config.log.retention.as_millis()).unwrap_or(i64::MAX));
    }
    if topic.retention_bytes == default.retention_bytes {
        topic.retention_bytes = Some(config.log.retention_size_bytes);
    }
    topic
}
