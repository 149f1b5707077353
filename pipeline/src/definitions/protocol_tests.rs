//! The protocol, step by step: processes that write definitions, help each other, read, step and crash, interleaved by a seed at every single read
//! and append. Whatever the order, an offset is stepped under one version, by everybody and for ever. To show that this could fail, the same
//! runs are made with one rule broken, and a violation must be found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::{ConfigRecord, History};
use crate::log::{StoredRecord, TopicPartition};

const PARTITIONS: usize = 2;
const PROCESSES: usize = 3;
const STEPS: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// None is broken.
    None,
    /// High watermarks are read before the definitions are appended.
    OffsetsBehindDefinitions,
    /// A task reads the definitions before it reads its records.
    DefinitionsBehindRecords,
    /// A task does not wait for the start of definitions.
    WaitForStart,
}

#[derive(Clone, Copy)]
enum Task {
    Idle,
    Fetched { end: usize },
    Ready { end: usize },
}

/// A process on its way to a start record.
#[derive(Default)]
struct Start {
    version: Option<u32>,
    /// Per partition, as far as they have been read.
    from: Vec<i64>,
    /// Of a writer that has not appended its definitions yet; the broken rule only.
    definitions: Option<ConfigRecord>,
}

struct Process {
    history: History,
    tasks: [(Task, usize); PARTITIONS],
    start: Option<Start>,
}

struct World {
    broken: Rule,
    random: SmallRng,
    ends: [usize; PARTITIONS],
    config: Vec<StoredRecord>,
    processes: Vec<Process>,
    applied: BTreeMap<(usize, usize), u32>,
    violation: Option<String>,
}

fn input(partition: usize) -> TopicPartition {
    TopicPartition { topic: "logs".into(), partition: partition as i32 }
}

impl World {
    fn new(seed: u64, broken: Rule) -> Self {
        let process = || Process { history: History::default(), tasks: [(Task::Idle, 0); PARTITIONS], start: None };
        let processes = (0..PROCESSES).map(|_| process()).collect();
        let random = SmallRng::seed_from_u64(seed);
        let (ends, config, applied) = ([0; PARTITIONS], Vec::new(), BTreeMap::new());
        let mut world = Self { broken, random, ends, config, processes, applied, violation: None };
        world.append(&ConfigRecord::definitions(&json!({"rollups": "first"})));
        world.append(&ConfigRecord::Start { version: 1, from: BTreeMap::new() });
        world
    }

    fn append(&mut self, record: &ConfigRecord) {
        let record = record.to_record().unwrap();
        let offset = self.config.len() as i64;
        self.config.push(StoredRecord {
            offset,
            timestamp_ms: 0,
            key: None,
            value: record.value,
            headers: record.headers,
        });
    }

    fn fold(&mut self, process: usize) {
        let history = &mut self.processes[process].history;
        for record in &self.config[history.next_offset() as usize..] {
            history.fold(record).unwrap();
        }
    }

    fn step(&mut self) {
        let process = self.random.random_range(0..PROCESSES);
        match self.random.random_range(0..100) {
            0..20 => self.ends[self.random.random_range(0..PARTITIONS)] += 1,
            20..24 => self.propose(process),
            24..40 => self.go_on(process),
            40..42 => self.crash(process),
            _ => {
                let partition = self.random.random_range(0..PARTITIONS);
                self.task(process, partition);
            }
        }
    }

    fn propose(&mut self, process: usize) {
        if self.processes[process].start.is_some() {
            return;
        }
        self.fold(process);
        let definitions = json!({"rollups": self.random.random_range(0..4)});
        let start = if self.processes[process].history.is_newest(&definitions) {
            Start::default()
        } else if self.broken == Rule::OffsetsBehindDefinitions {
            Start { definitions: Some(ConfigRecord::definitions(&definitions)), ..Start::default() }
        } else {
            self.append(&ConfigRecord::definitions(&definitions));
            Start::default()
        };
        self.processes[process].start = Some(start);
    }

    /// One read or append further on the way to a start record.
    fn go_on(&mut self, process: usize) {
        let Some(mut start) = self.processes[process].start.take() else { return };
        if start.version.is_none() && start.definitions.is_none() {
            self.fold(process);
            start.version = self.processes[process].history.pending();
            if start.version.is_none() {
                return;
            }
        } else if let Some(&end) = self.ends.get(start.from.len()) {
            start.from.push(end as i64);
        } else if let Some(definitions) = start.definitions.take() {
            self.append(&definitions);
        } else if let Some(version) = start.version {
            let from = start.from.iter().enumerate().map(|(p, &end)| (format!("logs/{p}"), end)).collect();
            self.append(&ConfigRecord::Start { version, from });
            return;
        }
        self.processes[process].start = Some(start);
    }

    fn crash(&mut self, process: usize) {
        let random = &mut self.random;
        let process = &mut self.processes[process];
        (process.history, process.start) = (History::default(), None);
        // From a snapshot, or from the other's: anywhere below.
        process.tasks = process.tasks.map(|(_, next)| (Task::Idle, random.random_range(0..=next)));
    }

    fn task(&mut self, process: usize, partition: usize) {
        let (task, next) = self.processes[process].tasks[partition];
        let catch_up_first = self.broken == Rule::DefinitionsBehindRecords;
        let task = match task {
            Task::Idle if catch_up_first => match self.catch_up(process) {
                true => Task::Fetched { end: next },
                false => Task::Idle,
            },
            Task::Idle => Task::Fetched { end: self.fetch(partition, next) },
            Task::Fetched { .. } if catch_up_first => Task::Ready { end: self.fetch(partition, next) },
            Task::Fetched { end } => match self.catch_up(process) {
                true => Task::Ready { end },
                false => Task::Fetched { end },
            },
            Task::Ready { end } if next < end => {
                let version =
                    self.processes[process].history.version_at(&input(partition), next as i64).unwrap().number;
                self.apply(partition, next, version);
                self.processes[process].tasks[partition].1 += 1;
                Task::Ready { end }
            }
            Task::Ready { .. } => Task::Idle,
        };
        self.processes[process].tasks[partition].0 = task;
    }

    fn fetch(&mut self, partition: usize, next: usize) -> usize {
        self.ends[partition].min(next + self.random.random_range(1..5))
    }

    /// As `Definitions::catch_up`, without the waiting: true where the task may go on.
    fn catch_up(&mut self, process: usize) -> bool {
        self.fold(process);
        if self.processes[process].history.pending().is_none() || self.broken == Rule::WaitForStart {
            return true;
        }
        if self.processes[process].start.is_none() && self.random.random_range(0..4) == 0 {
            self.processes[process].start = Some(Start::default());
        }
        false
    }

    fn apply(&mut self, partition: usize, offset: usize, version: u32) {
        let before = *self.applied.entry((partition, offset)).or_insert(version);
        if before != version {
            self.violation = Some(format!("logs/{partition} offset {offset}: version {before}, then {version}"));
        }
    }

    /// All steps, and then what a reader of the whole topic says.
    fn run(mut self) -> (Option<String>, u32) {
        for _ in 0..STEPS {
            self.step();
        }
        let mut whole = History::default();
        for record in &self.config {
            whole.fold(record).unwrap();
        }
        for ((partition, offset), _) in self.applied.clone() {
            self.apply(partition, offset, whole.version_at(&input(partition), offset as i64).unwrap().number);
        }
        (self.violation, self.applied.values().copied().max().unwrap_or(0))
    }
}

#[test]
fn an_offset_is_stepped_under_one_version() {
    let mut versions = 0;
    for seed in 0..2_000 {
        let (violation, newest) = World::new(seed, Rule::None).run();
        assert_eq!(violation, None, "seed {seed}");
        versions = versions.max(newest);
    }
    assert!(versions >= 5, "the runs get past several versions: {versions}");
}

#[test]
fn each_rule_is_needed() {
    for rule in [Rule::OffsetsBehindDefinitions, Rule::DefinitionsBehindRecords, Rule::WaitForStart] {
        let found = (0..2_000).find(|&seed| World::new(seed, rule).run().0.is_some());
        assert!(found.is_some(), "without {rule:?} no run goes wrong");
    }
}
