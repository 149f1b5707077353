//! All tasks of a topology over topics in memory: what a process does, without its log, its clock and its threads.
//!
//! Records are appended by hand; tasks are stepped in an order the test chooses. A restart drops a task and makes it anew from its last snapshot; on
//! replay, effects that are in the topics already are suppressed as the log does it.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod oracle;
pub mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use highwater_pipeline::data::Control;
use highwater_pipeline::log::{EffectMark, Record, StoredRecord};
use highwater_pipeline::runtime::snapshot::StateReader;
use highwater_pipeline::runtime::{Effects, Scratch, ScratchDirectory, TaskCore, TaskSpec};
use highwater_processors::Topology;

type Partition = (String, i32);

/// Topics and tasks.
pub struct House {
    pub topics: BTreeMap<Partition, Vec<StoredRecord>>,
    tasks: Vec<Task>,
    now_ms: i64,
    /// Every task is killed and restored after every record.
    pub restless: bool,
    aside: Option<Aside>,
}

struct Task {
    spec: TaskSpec,
    core: TaskCore,
    snapshot: Option<Bytes>,
    /// What the log keeps: the highest mark per output partition.
    marks: BTreeMap<Partition, EffectMark>,
}

/// A directory where state is put aside as soon as it is packed; removed with it.
pub struct Aside {
    scratch: Arc<dyn Scratch>,
    _place: tempfile::TempDir,
}

impl Aside {
    /// No state that can be put aside stays in memory.
    pub fn all() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let scratch = ScratchDirectory::open(place.path(), 0, 1 << 30).expect("a scratch directory");
        Self { scratch: Arc::new(scratch), _place: place }
    }
}

impl House {
    pub fn new(topology: &Topology) -> Self {
        let tasks = topology.tasks.iter().cloned();
        let core = |spec: &TaskSpec| TaskCore::new(spec, 0).expect("a processor");
        let tasks = tasks.map(|spec| Task { core: core(&spec), spec, snapshot: None, marks: BTreeMap::new() });
        Self { topics: BTreeMap::new(), tasks: tasks.collect(), now_ms: 0, restless: false, aside: None }
    }

    /// The same, with no memory for state.
    pub fn putting_aside(topology: &Topology) -> Self {
        let mut house = Self { aside: Some(Aside::all()), ..Self::new(topology) };
        (0..house.task_count()).for_each(|task| house.restart(task));
        house
    }

    fn core(&self, spec: &TaskSpec) -> TaskCore {
        let scratch = self.aside.as_ref().map(|aside| Arc::clone(&aside.scratch));
        TaskCore::new(spec, 0).expect("a processor").with_scratch(scratch)
    }

    /// Appends a record at an append time; returns its offset.
    pub fn append(&mut self, topic: &str, partition: i32, append_time_ms: i64, record: Record) -> i64 {
        self.now_ms = self.now_ms.max(append_time_ms);
        let records = self.topics.entry((topic.to_owned(), partition)).or_default();
        let offset = records.len() as i64;
        let Record { key, value, headers, .. } = record;
        records.push(StoredRecord { offset, timestamp_ms: append_time_ms, key, value, headers });
        offset
    }

    /// Appends JSON as a foreign client would.
    pub fn append_json(&mut self, topic: &str, partition: i32, append_time_ms: i64, json: &str) -> i64 {
        let value = Some(Bytes::copy_from_slice(json.as_bytes()));
        self.append(topic, partition, append_time_ms, Record { value, ..Record::default() })
    }

    /// Appends a clock record.
    pub fn append_clock(
        &mut self,
        topic: &str,
        partition: i32,
        append_time_ms: i64,
        event_time_us: Option<i64>,
        idle: bool,
    ) {
        let key = (topic.to_owned(), partition);
        let is_row = |r: &&StoredRecord| r.header("content-type").is_none_or(|h| !h.ends_with(b"control+json"));
        let last = self.topics.get(&key).and_then(|records| records.iter().rev().find(is_row));
        let base_offset = last.map_or(-1, |r| r.offset);
        let control = Control::Clock { base_offset, event_time_us, idle };
        self.append(topic, partition, append_time_ms, control.to_record());
    }

    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Steps one task by one record. False where it has read everything.
    pub fn step(&mut self, index: usize) -> bool {
        let task = &mut self.tasks[index];
        let input = (task.spec.input.topic.to_string(), task.spec.input.partition);
        let Some(record) = self.topics.get(&input).and_then(|r| r.get(task.core.next_offset() as usize)) else {
            return false;
        };
        let record = record.clone();
        let request = task.core.asks(&record).expect("a request");
        let slice = request.map(|request| {
            let slice = stored::slice(&self.topics, &request);
            (request, slice)
        });
        let mut effects = Effects::new();
        task.core.step_with(&record, slice, &mut effects).expect("a step");
        for effect in effects.take() {
            let output = (effect.topic.to_string(), effect.partition);
            if task.marks.get(&output).is_some_and(|&highest| effect.mark <= highest) {
                continue;
            }
            task.marks.insert(output.clone(), effect.mark);
            let records = self.topics.entry(output).or_default();
            let Record { key, value, headers, .. } = effect.record;
            records.push(StoredRecord { offset: records.len() as i64, timestamp_ms: self.now_ms, key, value, headers });
        }
        if self.restless {
            self.snapshot(index);
            self.restart(index);
        }
        true
    }

    /// Steps all tasks in turn until nothing is left to read.
    pub fn settle(&mut self) {
        while self.round() {}
    }

    /// Steps every task by one record. False where all have read everything.
    pub fn round(&mut self) -> bool {
        let mut any = false;
        for task in 0..self.tasks.len() {
            any |= self.step(task);
        }
        any
    }

    /// Steps every task over its input as it is now. What tasks write goes into `outputs` and is read by nobody.
    pub fn settle_from_inputs_only(&mut self, outputs: &mut BTreeMap<Partition, Vec<StoredRecord>>) {
        let inputs = self.topics.clone();
        for task in 0..self.tasks.len() {
            self.topics = inputs.clone();
            self.topics.retain(|partition, _| {
                let input = &self.tasks[task].spec.input;
                partition.0 == *input.topic && partition.1 == input.partition
            });
            while self.step(task) {}
            let input = self.tasks[task].spec.input.clone();
            self.topics.remove(&(input.topic.to_string(), input.partition));
            for (partition, records) in std::mem::take(&mut self.topics) {
                outputs.entry(partition).or_default().extend(records);
            }
        }
        self.topics = inputs;
    }

    /// Takes a snapshot of a task.
    pub fn snapshot(&mut self, task: usize) {
        let task = &mut self.tasks[task];
        task.snapshot = Some(task.core.snapshot(1).expect("a snapshot"));
    }

    /// Kills a task and starts it from its last snapshot, or from nothing.
    pub fn restart(&mut self, task: usize) {
        let core = self.core(&self.tasks[task].spec);
        let task = &mut self.tasks[task];
        task.core = core;
        if let Some(snapshot) = &task.snapshot {
            task.core.restore(&StateReader::parse(snapshot).expect("a snapshot")).expect("a restore");
        }
    }

    /// [`Self::restart`], then replays to where the task was, so that the order of steps is as without it.
    pub fn restart_and_catch_up(&mut self, task: usize) {
        let before = self.tasks[task].core.next_offset();
        self.restart(task);
        while self.tasks[task].core.next_offset() < before {
            assert!(self.step(task), "what it had read is still there");
        }
    }

    /// Gives every task another configuration, as a restart with an edited file does.
    pub fn reconfigure(&mut self, topology: &Topology) {
        self.reconfigure_those(topology, |_| true);
    }

    /// The same, but only those tasks whose names are chosen: the others have not come so far.
    pub fn reconfigure_those(&mut self, topology: &Topology, is_chosen: impl Fn(&str) -> bool) {
        let mut old: BTreeMap<String, Task> =
            std::mem::take(&mut self.tasks).into_iter().map(|t| (t.spec.name.to_string(), t)).collect();
        for spec in topology.tasks.iter().cloned() {
            let before = old.remove(&*spec.name);
            let before = match before {
                Some(before) if !is_chosen(&spec.name) => {
                    self.tasks.push(before);
                    continue;
                }
                before => before,
            };
            let mut task = Task { core: self.core(&spec), spec, snapshot: None, marks: BTreeMap::new() };
            if let Some(mut before) = before {
                let snapshot = before.core.snapshot(1).expect("a snapshot");
                task.core.restore(&StateReader::parse(&snapshot).expect("a snapshot")).expect("a restore");
                (task.snapshot, task.marks) = (Some(snapshot), before.marks);
            }
            self.tasks.push(task);
        }
    }

    /// Steps a task until it has read everything below an offset.
    pub fn settle_one(&mut self, name: &str, below: i64) {
        let found = self.tasks.iter().position(|task| &*task.spec.name == name);
        let index = found.expect("a task of this name");
        while self.tasks[index].core.next_offset() < below && self.step(index) {}
    }

    /// A count of a rollup (`late_rows`, `too_late_rows`, `corrections`, `forgotten_windows`), as the snapshots of stage 2 have it.
    pub fn count(&mut self, rollup: &str, name: &str) -> u64 {
        let folds =
            self.tasks.iter_mut().filter(|task| &*task.spec.input.topic == highwater_processors::PARTIALS_TOPIC);
        let counts = folds.map(|task| {
            let snapshot = StateReader::parse(&task.core.snapshot(1).expect("a snapshot")).expect("a snapshot");
            let section = format!("rollup/{rollup}");
            let body = &snapshot.sections().iter().find(|s| s.name == section).expect("a section").body;
            let size = u32::from_le_bytes(body[..4].try_into().unwrap()) as usize;
            let manifest: serde_json::Value = serde_json::from_slice(&body[4..4 + size]).expect("a manifest");
            manifest["counts"][name].as_u64().expect("a count")
        });
        counts.sum()
    }

    pub fn records(&self, topic: &str, partition: i32) -> &[StoredRecord] {
        self.topics.get(&(topic.to_owned(), partition)).map_or(&[], Vec::as_slice)
    }
}
