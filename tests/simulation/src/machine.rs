//! A machine, and the process that runs on it between two crashes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use highwater_broker::fs::Crash;
use highwater_broker::{Broker, BrokerConfig, Clock, SimFs, Stepper};
use highwater_pipeline::definitions::Definitions;
use highwater_pipeline::log::{EmbeddedLog, Log, LogError, TopicConfig};
use highwater_pipeline::runtime::{
    DriverConfig, History, RecordedVersions, TaskSpec, TaskState, Tasks, VersionedFactory, Versions,
};
use highwater_pipeline::sources::{Ingest, IngestConfig};
use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bugs::{BadLog, Bug};
use crate::coverage::Coverage;
use crate::log::{Bells, Manners, SimLog};
use crate::random::Random;
use crate::setup::Setup;
use crate::storage::SimStorage;
use crate::stored::StoredRows;
use crate::table::{Table, TableWriter};
use crate::time::Time;
use crate::trace::Trace;

/// How often a start tries what a full disk or a lost answer has refused.
const START_TRIES: usize = 20;
/// Writers of each table at once.
const TABLE_WRITERS: usize = 2;

/// What outlives a crash, and what a start needs.
pub struct Machine {
    /// The disk.
    pub disk: SimFs,
    /// The clock.
    pub time: Time,
    /// Object storage.
    pub storage: Arc<SimStorage>,
    /// Topics and definitions.
    pub setup: &'static Setup,
    /// Which definitions the configuration file has.
    pub definitions: usize,
    /// The tables.
    pub tables: Vec<Arc<Table>>,
    /// Settings of the broker.
    pub broker: BrokerConfig,
    /// Settings of tasks.
    pub driver: DriverConfig,
    /// How the log behaves.
    pub manners: Manners,
    /// A bug put in.
    pub bug: Option<Bug>,
    /// Chance, for each process anew.
    pub random: Mutex<Random>,
    /// What happens.
    pub trace: Trace,
    /// What is met.
    pub coverage: Coverage,
    /// Topics made so far.
    pub topics: Arc<AtomicU64>,
}

/// A running process.
pub struct Process {
    /// The log as it is, for the oracle.
    pub log: EmbeddedLog,
    /// The door of senders.
    pub ingest: Arc<Ingest>,
    /// The log as everybody else reaches it.
    pub calls: Arc<dyn Log>,
    /// The definitions as the process reads and writes them; and as another process would.
    pub definitions: [Arc<Definitions>; 2],
    sim: Arc<SimLog>,
    stepper: Arc<Mutex<Option<Stepper>>>,
    workers: JoinSet<()>,
    tasks: Tasks,
    /// Second runs of tasks that run already.
    zombies: Vec<Tasks>,
    /// Where tasks read tables.
    stored: Arc<dyn History>,
    time: Time,
}

impl Machine {
    /// Starts a process on what the disk holds.
    ///
    /// # Errors
    /// Where the disk does not let it.
    pub async fn start(&self) -> Result<Process, String> {
        let mut random = self.random.lock().fork();
        let topics = Arc::clone(&self.topics);
        let (broker, stepper) = Broker::open_stepped(
            self.broker.clone(),
            Bug::disk(self.bug, self.disk.clone()),
            Arc::new(self.time.clone()),
            move || Uuid::from_u64_pair(1, topics.fetch_add(1, Ordering::SeqCst)),
        )
        .map_err(|e| format!("the broker does not open: {e}"))?;
        let log = EmbeddedLog::new(Arc::new(broker));
        let bells = Arc::new(Bells::new(stepper.writers()));
        let stepper = Arc::new(Mutex::new(Some(stepper)));
        let mut workers = JoinSet::new();
        for index in 0..bells.work.len() {
            workers.spawn(work(index, Arc::clone(&stepper), Arc::clone(&bells), self.time.clone(), random.fork()));
        }
        let sim = Arc::new(SimLog::new(
            log.clone(),
            bells,
            self.time.clone(),
            random.fork(),
            self.manners,
            self.trace.clone(),
            self.coverage.clone(),
        ));
        let objects: Arc<dyn ObjectStore> = Arc::<SimStorage>::clone(&self.storage);
        let calls: Arc<dyn Log> = match self.bug {
            None => Arc::<SimLog>::clone(&sim),
            Some(bug) => {
                let (bad, promises) =
                    BadLog::new(Arc::clone(&sim), bug, Arc::clone(&objects), self.time.clone(), random.fork());
                workers.spawn(promises);
                bad
            }
        };
        self.ensure_topics(&*calls).await?;
        let definitions = [self.open_definitions(&calls).await?, self.open_definitions(&calls).await?];
        let mut tries = START_TRIES;
        while let Err(error) = definitions[0].propose(self.setup.definitions(self.definitions)).await {
            self.wait_to_retry(&mut tries, error.is_retryable(), &error.to_string()).await?;
        }
        let topic = TopicConfig::with_partitions(self.setup.partitions_of("logs"));
        let ingest = self.ingest(&calls, topic).await?;
        let clock: Arc<dyn Clock> = Arc::new(self.time.clone());
        let stored: Arc<dyn History> = Arc::new(StoredRows {
            log: log.clone(),
            time: self.time.clone(),
            random: Mutex::new(random.fork()),
            bug: self.bug,
            coverage: self.coverage.clone(),
        });
        let tasks = Tasks::new(Arc::clone(&calls), objects, clock, self.driver).reading(Arc::clone(&stored));
        for spec in self.tasks(&definitions[0]) {
            tasks.start(spec);
        }
        for table in &self.tables {
            for _ in 0..TABLE_WRITERS {
                workers.spawn(self.table_writer(table, &calls, random.fork(), false).run());
            }
        }
        let zombies = Vec::new();
        let time = self.time.clone();
        Ok(Process { log, ingest, calls, definitions, sim, stepper, workers, tasks, zombies, stored, time })
    }

    /// Runs a task a second time, beside the first.
    pub fn start_again(&self, process: &mut Process, task: usize) {
        let objects: Arc<dyn ObjectStore> = Arc::<SimStorage>::clone(&self.storage);
        let zombie = Tasks::new(Arc::clone(&process.calls), objects, Arc::new(self.time.clone()), self.driver)
            .reading(Arc::clone(&process.stored));
        let mut specs = self.tasks(&process.definitions[1]);
        zombie.start(specs.swap_remove(task % specs.len()));
        process.zombies.push(zombie);
    }

    /// A writer of a table.
    pub fn table_writer(&self, table: &Arc<Table>, log: &Arc<dyn Log>, random: Random, calm: bool) -> TableWriter {
        TableWriter {
            table: Arc::clone(table),
            log: Arc::clone(log),
            time: self.time.clone(),
            random,
            looks: self.bug != Some(Bug::TableDoesNotLook),
            calm,
            coverage: self.coverage.clone(),
        }
    }

    fn tasks(&self, definitions: &Arc<Definitions>) -> Vec<TaskSpec> {
        let setup = self.setup;
        let make: VersionedFactory = Arc::new(|version, input| setup.processor(version, input));
        let versions: Arc<dyn Versions> = Arc::new(RecordedVersions::new(Arc::clone(definitions), make));
        highwater_processors::tasks(setup.partitions, setup.partitions, &versions)
    }

    async fn open_definitions(&self, log: &Arc<dyn Log>) -> Result<Arc<Definitions>, String> {
        let mut tries = START_TRIES;
        loop {
            match Definitions::open(Arc::clone(log), self.setup.inputs()).await {
                Ok(definitions) => return Ok(definitions),
                Err(error) => self.wait_to_retry(&mut tries, error.is_retryable(), &error.to_string()).await?,
            }
        }
    }

    async fn ensure_topics(&self, log: &dyn Log) -> Result<(), String> {
        for (name, config) in &self.setup.topics {
            let mut tries = START_TRIES;
            while let Err(error) = log.ensure_topic(name, config.clone()).await {
                self.wait_to_retry(&mut tries, error.is_retryable(), &error.to_string()).await?;
            }
        }
        Ok(())
    }

    async fn ingest(&self, calls: &Arc<dyn Log>, topic: TopicConfig) -> Result<Arc<Ingest>, String> {
        let mut tries = START_TRIES;
        loop {
            match Ingest::open(Arc::clone(calls), IngestConfig::default(), topic.clone()).await {
                Ok(ingest) => return Ok(Arc::new(ingest)),
                Err(error) => self.wait_to_retry(&mut tries, error.is_retryable(), &error.to_string()).await?,
            }
        }
    }

    async fn wait_to_retry(&self, tries: &mut usize, retryable: bool, error: &str) -> Result<(), String> {
        *tries -= 1;
        if !retryable || *tries == 0 {
            return Err(format!("the process does not start: {error}"));
        }
        self.time.pause_ms(500).await;
        Ok(())
    }
}

impl Process {
    /// Ends where it stands; what the disk keeps is up to the crash.
    pub async fn crash(mut self, disk: &SimFs, crash: Crash) {
        // Nothing runs between these: it is one moment.
        *self.stepper.lock() = None;
        self.workers.abort_all();
        drop(self.tasks);
        drop(self.zombies);
        disk.crash(crash);
        while self.workers.join_next().await.is_some() {}
    }

    /// Stops in order.
    pub async fn stop(mut self) {
        self.stop_tasks().await;
        self.shut_down().await;
    }

    /// Stops the tasks and nothing else.
    pub async fn stop_tasks(&mut self) {
        self.zombies.clear();
        self.tasks.stop_all().await;
    }

    /// Closes the log.
    pub async fn shut_down(mut self) {
        self.workers.abort_all();
        while self.workers.join_next().await.is_some() {}
        let stepper = self.stepper.lock().take();
        if let Some(stepper) = stepper {
            stepper.finish();
        }
    }

    /// No more pauses, no more lost answers, no more zombies.
    pub fn behave(&mut self) {
        self.zombies.clear();
        self.sim.behave();
    }

    /// Why tasks have failed.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.tasks.status().into_iter().filter_map(|status| match status.state {
            TaskState::Failed(reason) => Some(format!("{}: {reason}", status.task)),
            _ => None,
        });
        failed.collect()
    }

    /// Waits until every task has read, and committed, all there is.
    ///
    /// # Errors
    /// Where one does not within this time.
    pub async fn settle(&self, within_ms: i64) -> Result<(), String> {
        let until_ms = self.time.elapsed_ms() + within_ms;
        let mut quiet = 0;
        while quiet < 3 {
            let mut behind = None;
            for status in self.tasks.status() {
                let end = self.log.offsets(&status.topic, status.partition).await;
                let end = end.map_err(|e: LogError| e.to_string())?.high_watermark;
                if status.epoch == 0 || status.committed_offset < end || status.state != TaskState::Running {
                    behind = Some((status, end));
                }
            }
            if let Some((status, end)) = &behind
                && (self.time.elapsed_ms() > until_ms || !status.state.is_healthy())
            {
                return Err(format!("a task does not get to the end, which is {end}: {status:?}"));
            }
            quiet = if behind.is_some() { 0 } else { quiet + 1 };
            self.time.pause_ms(20).await;
        }
        Ok(())
    }
}

/// Does the work of one writer of the broker, or of its committer.
async fn work(index: usize, stepper: Arc<Mutex<Option<Stepper>>>, bells: Arc<Bells>, time: Time, mut random: Random) {
    loop {
        let idle = time.pause_ms(random.between(50, 2_000));
        futures::future::select(std::pin::pin!(bells.work[index].notified()), idle).await;
        // While it makes up its mind, more work gathers.
        let ms = random.between(-2, 4);
        if ms > 0 {
            time.pause_ms(ms).await;
        }
        {
            let mut stepper = stepper.lock();
            let Some(stepper) = stepper.as_mut() else { return };
            if index < stepper.writers() { stepper.step_writer(index) } else { stepper.step_committer() }
        }
        bells.moved.notify_waiters();
    }
}
