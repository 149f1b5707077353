//! What works behind the doors: stateful tasks and table writers, on the partitions this process owns.
//!
//! One actor owns them. It hears from the group which partitions come and go, from the server which tables there are, and keeps
//! tasks and writers in step with both. The tasks are the same whatever the rollups and rules: they follow the versions in the log by themselves. A partition that goes is left at a commit and a snapshot, tasks before writers, so that what the last
//! tasks wrote is still committed; one that is lost is abandoned where it stands.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use highwater_broker::{Clock, SystemClock};
use highwater_pipeline::log::{Change, Log, LogError, Membership, TopicConfig, TopicPartition};
use highwater_pipeline::runtime::{DriverConfig, TaskSpec, TaskState, TaskStatus, Tasks};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::TableSpec;
use highwater_processors::RULES_TOPIC;
use highwater_sinks::tables::{TableStatus, Tables};
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::bridges::Bridges;
use super::history::StoredRows;
use super::notifiers::Notifiers;
use super::topology::Topology;
use crate::config::Config;
use crate::error::Error;

/// Longest that a segment of a compacted topic is open, in milliseconds.
const LONGEST_SEGMENT_MS: i64 = 24 * 60 * 60 * 1_000;

/// Running tasks and table writers, from outside.
pub(crate) struct Workers {
    orders: mpsc::Sender<Order>,
    view: WorkersView,
}

/// The state of whatever runs now, for those who only look.
#[derive(Clone, Default)]
pub(crate) struct WorkersView(Arc<RwLock<Sources>>);

#[derive(Default)]
struct Sources {
    tasks: Option<Arc<Tasks>>,
    tables: Option<Arc<Tables>>,
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

    /// True while a task takes its epoch, restores its state or replays up to where it was.
    pub(crate) fn restoring(&self) -> bool {
        self.tasks().iter().any(|task| matches!(task.state, TaskState::Starting | TaskState::Replaying))
    }
}

enum Order {
    Apply(Box<Topology>, oneshot::Sender<Result<(), Error>>),
    Notify(Notifiers, oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

impl Workers {
    /// Makes the topics that are missing, joins the group and starts what is assigned. `view` shows what runs.
    pub(crate) async fn start(
        config: &Config,
        topology: Topology,
        specs: Vec<TaskSpec>,
        log: &Arc<dyn Log>,
        storage: &Storage,
        view: WorkersView,
    ) -> Result<Self, Error> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let tables_config = config.tables.settings();
        if let Some(problem) = tables_config.problem() {
            return Err(Error::Failed(problem));
        }
        let stop_tables = CancellationToken::new();
        let tables =
            Tables::new(Arc::clone(log), storage.clone(), tables_config, Arc::clone(&clock), stop_tables.clone());
        let bridges = Bridges::open(&config.sources.kafka, log.as_ref(), &clock).await?;
        let notifiers = Notifiers::open(config)?;
        let tasks =
            Tasks::new(Arc::clone(log), Arc::clone(storage.objects()), Arc::clone(&clock), DriverConfig::default())
                .reading(StoredRows::open(&config.data_dir, storage, log)?)
                .putting_aside(Arc::new(config.state.open(&config.data_dir)?));
        let (tables, tasks) = (Arc::new(tables), Arc::new(tasks));
        *view.0.write() = Sources { tasks: Some(Arc::clone(&tasks)), tables: Some(Arc::clone(&tables)) };
        let (orders, inbox) = mpsc::channel(4);
        let mut actor = Actor {
            config: config.clone(),
            log: Arc::clone(log),
            tasks,
            tables,
            stop_tables,
            specs,
            topology,
            bridges,
            notifiers,
            clock,
            owned: BTreeSet::new(),
        };
        let joined = Arc::clone(log).join(actor.shared_topics()).await;
        let mut member = joined.map_err(|error| Error::failed("joining the group of workers", error))?;
        actor.start_tables();
        // Alone, all is ours at once: what is started here counts when it is asked whether anything is still restoring.
        if let Some(Ok(change)) = member.next().now_or_never() {
            actor.change(change).await;
        }
        tokio::spawn(actor.run(member, inbox));
        Ok(Self { orders, view })
    }

    /// Makes the tables those of this topology: starts writers of new ones, stops those of removed ones, whose data stays, and starts changed ones
    /// again. What did not change goes on untouched.
    pub(crate) async fn apply(&self, topology: Topology) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Error::Failed("the workers have stopped".to_owned());
        self.orders.send(Order::Apply(Box::new(topology), reply)).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Makes the receivers of alerts these: stops those that are gone or have changed, once they have told what they were at, and starts the others. Each goes on
    /// where the one of its name was; one that has not changed is left alone.
    pub(crate) async fn notify(&self, notifiers: Notifiers) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Error::Failed("the workers have stopped".to_owned());
        self.orders.send(Order::Notify(notifiers, reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }

    /// Stops tasks at a snapshot, then writers at a commit, then leaves the group.
    pub(crate) async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.orders.send(Order::Stop(reply)).await.is_ok() {
            drop(answer.await);
        }
        *self.view.0.write() = Sources::default();
    }
}

struct Actor {
    config: Config,
    specs: Vec<TaskSpec>,
    log: Arc<dyn Log>,
    tasks: Arc<Tasks>,
    tables: Arc<Tables>,
    stop_tables: CancellationToken,
    topology: Topology,
    bridges: Bridges,
    notifiers: Notifiers,
    clock: Arc<dyn Clock>,
    owned: BTreeSet<TopicPartition>,
}

impl Actor {
    /// The topics whose partitions are shared out: those that tasks and tables read, and those that stand for bridged ones.
    fn shared_topics(&self) -> Vec<String> {
        let mut topics = self.topology.shared_topics();
        topics.extend(self.bridges.topics());
        topics
    }

    async fn run(mut self, mut member: Box<dyn Membership>, mut inbox: mpsc::Receiver<Order>) {
        loop {
            let order = tokio::select! {
                order = inbox.recv() => order,
                change = member.next() => match change {
                    Ok(change) => {
                        self.change(change).await;
                        continue;
                    }
                    Err(error) => {
                        member = self.rejoin(member, &error).await;
                        continue;
                    }
                },
            };
            match order {
                Some(Order::Apply(topology, reply)) => {
                    let applied = self.apply(*topology, member.as_mut()).await;
                    drop(reply.send(applied));
                }
                Some(Order::Notify(notifiers, reply)) => {
                    self.notify(notifiers).await;
                    // Nobody may be waiting any more.
                    reply.send(()).unwrap_or_default();
                }
                Some(Order::Stop(reply)) => {
                    self.stop().await;
                    member.leave().await;
                    // Nobody may be waiting any more.
                    reply.send(()).unwrap_or_default();
                    return;
                }
                // Nobody can order any more: the process is on its way out.
                None => return,
            }
        }
    }

    async fn change(&mut self, change: Change) {
        match change {
            Change::Assigned(partitions) => {
                tracing::info!(partitions = listed(&partitions), "partitions assigned");
                self.owned.extend(partitions.iter().cloned());
                self.start_tasks(&partitions);
                self.tables.assign(&partitions);
            }
            Change::Revoked { partitions, done } => {
                tracing::info!(partitions = listed(&partitions), "partitions revoked");
                self.owned.retain(|owned| !partitions.contains(owned));
                self.tasks.stop(&partitions).await;
                self.tables.revoke(&partitions).await;
                drop(done);
            }
            Change::Lost(partitions) => {
                tracing::warn!(
                    partitions = listed(&partitions),
                    "partitions lost; somebody else may have them already"
                );
                self.owned.retain(|owned| !partitions.contains(owned));
                self.tasks.abandon(&partitions);
                self.tables.lose(&partitions);
            }
        }
    }

    /// After the place in the group is lost for good: everything is abandoned, and a new place asked for until there is one.
    async fn rejoin(&mut self, old: Box<dyn Membership>, error: &LogError) -> Box<dyn Membership> {
        tracing::error!(%error, "the place in the group of workers is lost; joining again");
        drop(old);
        let all: Vec<_> = std::mem::take(&mut self.owned).into_iter().collect();
        self.tasks.abandon(&all);
        self.tables.lose(&all);
        loop {
            match Arc::clone(&self.log).join(self.shared_topics()).await {
                Ok(member) => return member,
                Err(error) => {
                    tracing::error!(%error, "cannot join the group of workers; trying again");
                    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                }
            }
        }
    }

    async fn apply(&mut self, topology: Topology, member: &mut dyn Membership) -> Result<(), Error> {
        // Topics first: if they cannot be made, nothing has changed yet.
        ensure_topics(&self.config, &topology, &self.log).await?;
        let before = std::mem::replace(&mut self.topology, topology);
        for gone in before.tables().iter().filter(|old| !self.topology.tables().iter().any(|new| is_same(old, new))) {
            if let Err(error) = self.tables.stop(&gone.name).await {
                tracing::error!(table = gone.name, %error, "the table did not commit to the end; it will when it is started again");
            }
        }
        self.start_tables();
        if self.topology.shared_topics() == before.shared_topics() {
            return Ok(());
        }
        member
            .subscribe(self.shared_topics())
            .await
            .map_err(|error| Error::failed("sharing in the topics of new rollups", error))
    }

    async fn notify(&mut self, notifiers: Notifiers) {
        let before = std::mem::replace(&mut self.notifiers, notifiers);
        let gone = before.gone_in(&self.notifiers);
        if !gone.is_empty() {
            tracing::info!(receivers = gone.join(" "), "receivers of alerts have changed or are gone");
        }
        self.tasks.stop_named(&gone).await;
        self.notifiers.start(&self.tasks, &self.log, &self.clock, &self.owned);
    }

    /// Stops tasks, then writers, so that what the last tasks wrote is still committed.
    async fn stop(&self) {
        for task in self.tasks.stop_all().await {
            if !task.state.is_healthy() {
                tracing::warn!(task = %task.task, state = task.state.name(), "task had not been running to the end");
            }
        }
        self.stop_tables.cancel();
        if let Err(error) = self.tables.join().await {
            tracing::error!(%error, "a table did not commit to the end; it will at the next start");
        }
    }

    fn start_tasks(&self, partitions: &[TopicPartition]) {
        for task in &self.specs {
            if partitions.contains(&task.input) {
                self.tasks.start(task.clone());
            }
        }
        self.bridges.start(&self.tasks, &self.log, &self.clock, partitions);
        self.notifiers.start(&self.tasks, &self.log, &self.clock, partitions);
    }

    /// Writers of all tables there are, each on those of its partitions that are ours.
    fn start_tables(&self) {
        for table in self.topology.tables() {
            self.tables.start(table.clone());
        }
    }
}

fn listed(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(|p| format!("{}/{}", p.topic, p.partition)).collect::<Vec<_>>().join(" ")
}

/// True where a writer of the one does what a writer of the other would.
fn is_same(old: &TableSpec, new: &TableSpec) -> bool {
    (&old.name, &old.topics, &old.time_column, &old.sort_columns)
        == (&new.name, &new.topics, &new.time_column, &new.sort_columns)
        && old.row_schema() == new.row_schema()
        && old.retention == new.retention
}

/// Creates missing topics; existing ones stay as they are.
pub(crate) async fn ensure_topics(config: &Config, topology: &Topology, log: &Arc<dyn Log>) -> Result<(), Error> {
    for (name, wanted) in topology.topics() {
        let partitions = wanted.partitions;
        let topic = log
            .ensure_topic(name, with_retention(config, wanted))
            .await
            .map_err(|error| Error::failed(&format!("creating topic {name}"), error))?;
        if topic.config.partitions != partitions {
            let key = if name == RULES_TOPIC { "log.rule_partitions" } else { "log.partitions" };
            return Err(Error::Failed(format!(
                "topic {name} has {} partitions, but the configuration wants {partitions}; \
                 the number is fixed when a topic is created: set {key} back, or start with a new data directory",
                topic.config.partitions
            )));
        }
    }
    Ok(())
}

/// A topic that does not say how long it is kept is kept as the config says.
pub(super) fn with_retention(config: &Config, wanted: &TopicConfig) -> TopicConfig {
    let default = TopicConfig::default();
    let mut topic = wanted.clone();
    if topic.cleanup.compacts() && topic.min_compaction_lag_ms == default.min_compaction_lag_ms {
        // All of it for as long as others are kept, then the newest of each key.
        topic.min_compaction_lag_ms = i64::try_from(config.log.retention.as_millis()).unwrap_or(i64::MAX);
        // What is in the open segment is not compacted, and few alerts would never fill one.
        topic.segment_ms = topic.segment_ms.or(Some(topic.min_compaction_lag_ms.clamp(1, LONGEST_SEGMENT_MS)));
    }
    if topic.retention_ms == default.retention_ms {
        topic.retention_ms = Some(i64::try_from(config.log.retention.as_millis()).unwrap_or(i64::MAX));
    }
    if topic.retention_bytes == default.retention_bytes {
        topic.retention_bytes = Some(config.log.retention_size_bytes);
    }
    topic
}
