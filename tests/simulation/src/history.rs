//! One seed, one history: from an empty disk through everything in its plan to the last check.

use std::sync::Arc;

use highwater_broker::fs::Crash;
use highwater_broker::{Clock, SimFs};
use highwater_pipeline::log::{Log, TASKS_GROUP};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::bugs::Bug;
use crate::coverage::Coverage;
use crate::ledger::Ledger;
use crate::log::Manners;
use crate::machine::{Machine, Process};
use crate::oracle::{Mirror, Replays, check_reach, check_rows, check_tables};
use crate::plan::{Event, Plan};
use crate::random::Random;
use crate::senders::{Doors, Sender};
use crate::setup::Setup;
use crate::storage::SimStorage;
use crate::table::Table;
use crate::time::Time;
use crate::trace::Trace;

/// How long tasks may take, once nothing is in their way, to read all there is.
const SETTLE_MS: i64 = 120_000;

/// Tables per history.
const TABLES: usize = 2;

/// A history that went well.
pub struct Outcome {
    /// What happened, as one number.
    pub trace: u64,
    /// What was met.
    pub coverage: Coverage,
}

/// Runs the history of a seed, with a bug if there is one.
///
/// # Errors
/// What was not as it must be.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Outcome, String> {
    let mut random = Random::new(seed);
    let plan = Plan::random(&mut random);
    let time = Time::new(random.fork());
    let trace = Trace::new(time.clone());
    let coverage = Coverage::default();
    let setup = Setup::of(plan.partitions);
    let mut topics: Vec<_> = setup.topics.iter().filter(|(name, _)| !name.starts_with("__")).collect();
    let first = plan.tables as usize % topics.len();
    topics.rotate_left(first);
    let machine = Machine {
        disk: SimFs::new(),
        time: time.clone(),
        storage: SimStorage::new(time.clone(), random.fork(), coverage.clone()),
        setup,
        definitions: plan.definitions,
        tables: topics.iter().take(TABLES).map(|(name, config)| Table::new(name.as_str(), config.partitions)).collect(),
        broker: plan.broker.clone(),
        driver: plan.driver,
        manners: plan.manners,
        bug,
        random: Mutex::new(random.fork()),
        trace: trace.clone(),
        coverage: coverage.clone(),
        topics: Arc::default(),
    };
    let mut history = History {
        oracle: Oracle { mirror: Mirror::default(), replays: Replays::new(setup) },
        doors: Doors::default(),
        ledger: Arc::default(),
        machine,
        latest_ms: 0,
        others: JoinSet::new(),
        random,
    };
    time.run(history.live(&plan))??;
    Ok(Outcome { trace: trace.hash(), coverage })
}

struct History {
    machine: Machine,
    oracle: Oracle,
    doors: Doors,
    ledger: Arc<Ledger>,
    /// The furthest that the wall clock ever was.
    latest_ms: i64,
    /// Senders, and troubles that pass.
    others: JoinSet<()>,
    random: Random,
}

struct Oracle {
    mirror: Mirror,
    replays: Replays,
}

impl History {
    async fn live(&mut self, plan: &Plan) -> Result<(), String> {
        let mut process = self.boot().await?;
        for (at_ms, event) in &plan.events {
            let wait_ms = at_ms - self.machine.time.elapsed_ms();
            self.machine.time.pause_ms(wait_ms).await;
            self.machine.trace.note(format_args!("{event:?}"));
            process = self.happen(event, process).await?;
            self.check(&process).await?;
        }
        self.end(plan, process).await
    }

    async fn happen(&mut self, event: &Event, mut process: Process) -> Result<Process, String> {
        let Machine { disk, time, storage, coverage, .. } = &self.machine;
        match event {
            Event::Send(batch) => {
                let sender = Sender {
                    doors: Arc::clone(&self.doors),
                    ledger: Arc::clone(&self.ledger),
                    time: time.clone(),
                    random: self.random.fork(),
                    partitions: self.machine.setup.partitions,
                    coverage: coverage.clone(),
                };
                self.others.spawn(sender.send(batch.clone()));
            }
            Event::Crash { kind, dying_after, again_after, down_ms } => {
                if let Some(changes) = dying_after {
                    disk.die_after(*changes);
                    time.pause_ms(self.random.between(0, 3_000)).await;
                }
                self.crash(process, *kind).await?;
                if let Some(changes) = again_after {
                    self.machine.disk.die_after(*changes);
                    // Whether it comes up or not, it dies again.
                    match self.machine.start().await {
                        Ok(process) => self.crash(process, *kind).await?,
                        Err(_) => self.machine.disk.crash(*kind),
                    }
                    self.machine.coverage.met("crashes while starting");
                }
                self.machine.time.pause_ms(*down_ms).await;
                process = self.boot().await?;
            }
            Event::Restart { down_ms } => {
                coverage.met("restarts in order");
                self.stop(process).await?;
                self.machine.time.pause_ms(*down_ms).await;
                process = self.boot().await?;
            }
            Event::DiskFull { room_bytes, for_ms } => {
                disk.set_capacity(Some(disk.used_bytes() + room_bytes));
                let (disk, pause) = (disk.clone(), time.pause_ms(*for_ms));
                self.others.spawn(async move {
                    pause.await;
                    disk.set_capacity(None);
                });
            }
            Event::FailSync { path, restart_after_ms, kind } => {
                disk.fail_next_sync(path);
                time.pause_ms(*restart_after_ms).await;
                self.crash(process, *kind).await?;
                process = self.boot().await?;
            }
            Event::Jump { by_ms } => {
                coverage.met("clock jumps");
                self.latest_ms = self.latest_ms.max(time.now_ms());
                time.jump_ms(*by_ms);
                self.latest_ms = self.latest_ms.max(time.now_ms());
            }
            Event::DoubleStart { task } => {
                coverage.met("double starts");
                self.machine.start_again(&mut process, *task);
            }
            Event::Reconfigure { definitions, rival } => {
                coverage.met("changes of definitions");
                let wanted = [Some(*definitions), *rival];
                for (by, which) in process.definitions.iter().zip(wanted) {
                    let Some(which) = which else { continue };
                    let (by, wanted) = (Arc::clone(by), self.machine.setup.definitions(which));
                    let time = time.clone();
                    self.others.spawn(async move {
                        // Where the process dies, so does the wish, unless the file has it.
                        while by.propose(wanted).await.is_err_and(|error| error.is_retryable()) {
                            time.pause_ms(200).await;
                        }
                    });
                }
                self.machine.definitions = *definitions;
            }
            Event::Storage { faults, for_ms } => {
                storage.set_faults(*faults);
                let (storage, pause) = (Arc::clone(storage), time.pause_ms(*for_ms));
                self.others.spawn(async move {
                    pause.await;
                    storage.set_faults(0);
                });
            }
        }
        Ok(process)
    }

    /// Starts a process and checks what it found.
    async fn boot(&mut self) -> Result<Process, String> {
        let process = match self.machine.start().await {
            Ok(process) => process,
            Err(reason) => {
                // A fault that still waited for its moment; somebody sees to the machine.
                self.machine.trace.note(&reason);
                self.machine.coverage.met("starts that failed");
                self.heal();
                self.machine.start().await?
            }
        };
        self.oracle.mirror.verify(&process.log).await?;
        self.check(&process).await?;
        *self.doors.lock() = Some((Arc::clone(&process.ingest), Arc::clone(&process.calls)));
        Ok(process)
    }

    /// Takes away every fault of the disk. The process must be down.
    fn heal(&self) {
        self.machine.disk.set_capacity(None);
        self.machine.disk.crash(Crash::Kill);
    }

    async fn crash(&mut self, process: Process, kind: Crash) -> Result<(), String> {
        self.machine.coverage.met(match kind {
            Crash::Kill => "crashes of the process",
            Crash::LoseUnsynced | Crash::Tear(_) => "losses of power",
        });
        *self.doors.lock() = None;
        self.check(&process).await?;
        check_failures(&process.failures())?;
        process.crash(&self.machine.disk, kind).await;
        Ok(())
    }

    async fn stop(&mut self, process: Process) -> Result<(), String> {
        *self.doors.lock() = None;
        check_failures(&process.failures())?;
        process.stop().await;
        Ok(())
    }

    /// What must hold at any moment.
    async fn check(&mut self, process: &Process) -> Result<(), String> {
        self.latest_ms = self.latest_ms.max(self.machine.time.now_ms());
        self.oracle.mirror.catch_up(&process.log).await?;
        let committed = process.log.committed(TASKS_GROUP).await.map_err(|e| e.to_string())?;
        self.oracle.replays.check(&self.oracle.mirror, &committed)?;
        check_reach(&self.machine.tables, &self.oracle.mirror)
    }

    /// No more trouble: everything comes to rest, and is counted.
    async fn end(&mut self, plan: &Plan, process: Process) -> Result<(), String> {
        match plan.last_crash {
            Some(kind) => self.crash(process, kind).await?,
            None => self.stop(process).await?,
        }
        self.heal();
        self.machine.storage.set_faults(0);
        self.machine.manners = Manners { lost_replies: 0, hangs: 0 };
        let mut process = self.boot().await?;
        process.behave();
        while self.others.join_next().await.is_some() {}
        self.machine.time.pause_ms(plan.silence_ms).await;
        process.settle(SETTLE_MS).await?;
        process.stop_tasks().await;
        self.check(&process).await?;
        self.settle_tables(&process).await?;
        self.check_from_scratch(&process).await?;
        check_rows(&self.ledger, &self.oracle.mirror, self.latest_ms)?;
        check_tables(&self.machine.tables, &self.oracle.mirror)?;
        self.measure();
        *self.doors.lock() = None;
        process.shut_down().await;
        let process = self.machine.start().await?;
        self.oracle.mirror.verify(&process.log).await?;
        process.crash(&self.machine.disk, Crash::LoseUnsynced).await;
        Ok(())
    }

    /// All of the log once more, by somebody who knows from the start what became of it: which version applied where must not depend on
    /// when one looked.
    async fn check_from_scratch(&self, process: &Process) -> Result<(), String> {
        let versions = self.oracle.replays.versions();
        self.machine.coverage.met_times("versions of definitions", versions);
        if versions < 2 {
            return Ok(());
        }
        let committed = process.log.committed(TASKS_GROUP).await.map_err(|e| e.to_string())?;
        Replays::new(self.machine.setup).check(&self.oracle.mirror, &committed)
    }

    async fn settle_tables(&mut self, process: &Process) -> Result<(), String> {
        let mut writers = JoinSet::new();
        for table in &self.machine.tables {
            let random = self.random.fork();
            writers.spawn(self.machine.table_writer(table, &process.calls, random, true).run());
        }
        let until_ms = self.machine.time.elapsed_ms() + SETTLE_MS;
        loop {
            let behind = self.machine.tables.iter().find(|table| {
                let end = |p: i32| self.oracle.mirror.records(&(Arc::from(table.topic()), p)).len() as i64;
                table.stands().into_iter().any(|(p, stands)| stands < end(p))
            });
            let Some(behind) = behind else { return Ok(()) };
            if self.machine.time.elapsed_ms() > until_ms {
                return Err(format!("the table of {} does not get to the end: {:?}", behind.topic(), behind.stands()));
            }
            self.machine.time.pause_ms(100).await;
        }
    }

    fn measure(&self) {
        let Machine { coverage, trace, .. } = &self.machine;
        for (what, prefix) in [
            ("rows of closed windows", "rollup."),
            ("records of partials", "__highwater.partials"),
            ("alert transitions", "alerts"),
            ("dead letters", "dead-letter"),
        ] {
            coverage.met_times(what, self.oracle.replays.effects(prefix));
        }
        coverage.met_times("rows sent", self.ledger.rows().len() as u64);
        for (partition, records) in self.oracle.mirror.partitions() {
            trace.note(format_args!("{partition:?}: {} records", records.len()));
            let moved = records
                .iter()
                .filter(|record| record.header("highwater-rows").is_some_and(|name| **name == *b"__moved"));
            coverage.met_times("rules that moved to another task", moved.count() as u64);
            for record in records {
                trace.note_bytes(record.value.as_deref().unwrap_or_default());
            }
        }
        for table in &self.machine.tables {
            trace.note(format_args!("table {}: {:?}", table.topic(), table.rows()));
        }
    }
}

/// A task may fail where the disk or the storage did; nothing else excuses it.
fn check_failures(failures: &[String]) -> Result<(), String> {
    let excused = ["stopped taking writes", "injected", "storage failed"];
    match failures.iter().find(|reason| !excused.iter().any(|excuse| reason.contains(excuse))) {
        Some(reason) => Err(format!("a task failed: {reason}")),
        None => Ok(()),
    }
}

/// [`run`], with a panic told as what was not as it must be.
///
/// # Errors
/// As [`run`].
pub fn run_guarded(seed: u64, bug: Option<Bug>) -> Result<Outcome, String> {
    let run = std::panic::AssertUnwindSafe(|| run(seed, bug));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Err(format!("panic: {}", text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()))
    })
}
