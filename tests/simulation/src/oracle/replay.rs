//! The run that nothing interrupts, against what is in the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::ipc::reader::StreamReader;
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use highwater_broker::EFFECT_HEADER;
use highwater_pipeline::definitions::{self, DefinitionsError, History};
use highwater_pipeline::log::{CommittedOffset, EffectMark, StoredRecord, TopicPartition};
use highwater_pipeline::runtime::{
    Effect, Effects, InputKind, Processor, ProcessorError, TaskCore, TaskSpec, Versions,
};
use parking_lot::Mutex;

use super::mirror::{Mirror, Partition};
use crate::setup::Setup;
use crate::stored;

/// One run of every task.
pub struct Replays {
    setup: &'static Setup,
    versions: Arc<Seen>,
    tasks: BTreeMap<Arc<str>, Replay>,
    /// How many records of each partition are checked.
    checked: BTreeMap<Partition, usize>,
}

/// The versions that the log shows.
struct Seen {
    setup: &'static Setup,
    history: Mutex<History>,
}

struct Replay {
    spec: TaskSpec,
    core: TaskCore,
    outputs: BTreeMap<Partition, Output>,
    committed: i64,
}

#[derive(Default)]
struct Output {
    /// What the task must have written here, in order.
    expected: Vec<Effect>,
    /// How much of it is in the log.
    found: usize,
    epoch: i32,
}

impl Replays {
    /// From the start of the log.
    pub fn new(setup: &'static Setup) -> Self {
        let versions = Arc::new(Seen { setup, history: Mutex::default() });
        Self { setup, versions, tasks: BTreeMap::new(), checked: BTreeMap::new() }
    }

    /// Runs on over what is new in the inputs, and compares what is new in the outputs and in C.
    ///
    /// # Errors
    /// Where anything is missing, twice, or different.
    pub fn check(&mut self, mirror: &Mirror, committed: &[CommittedOffset]) -> Result<(), String> {
        if !self.versions.learn(mirror)? {
            // Until the newest definitions have a start, nobody can say what applies to the newest records.
            return Ok(());
        }
        if self.tasks.is_empty() {
            let versions: Arc<dyn Versions> = Arc::<Seen>::clone(&self.versions);
            for spec in highwater_processors::tasks(self.setup.partitions, self.setup.partitions, &versions) {
                let core = TaskCore::new(&spec, 0).map_err(|e| format!("{}: {e}", spec.name))?;
                let replay = Replay { spec, core, outputs: BTreeMap::new(), committed: 0 };
                self.tasks.insert(Arc::clone(&replay.spec.name), replay);
            }
        }
        for replay in self.tasks.values_mut() {
            replay.step(mirror)?;
        }
        for (partition, records) in mirror.partitions() {
            let from = self.checked.insert(partition.clone(), records.len()).unwrap_or(0);
            for record in &records[from..] {
                self.compare(partition, record)?;
            }
        }
        for replay in self.tasks.values_mut() {
            let input = &replay.spec.input;
            let c = committed.iter().find(|o| o.topic == input.topic && o.partition == input.partition);
            replay.check_committed(c.map_or(0, |o| o.offset), mirror)?;
        }
        Ok(())
    }

    fn compare(&mut self, partition: &Partition, record: &StoredRecord) -> Result<(), String> {
        let (topic, number) = partition;
        let at = || format!("{topic}/{number} offset {}", record.offset);
        let Some((task, epoch, mark)) = effect(record)? else {
            let is_input = self.tasks.values().any(|t| t.spec.input.topic == *topic && t.is_root());
            return if is_input || &**topic == definitions::TOPIC {
                Ok(())
            } else {
                Err(format!("{}: a record that is no task's effect", at()))
            };
        };
        let known = self.tasks.get_mut(task.as_str()).ok_or_else(|| format!("{}: unknown task {task}", at()))?;
        let output = known.outputs.entry(partition.clone()).or_default();
        if epoch < output.epoch {
            return Err(format!("{}: {task} wrote as epoch {epoch} after epoch {}", at(), output.epoch));
        }
        output.epoch = epoch;
        let Some(expected) = output.expected.get(output.found) else {
            return Err(format!("{}: {task} wrote {mark:?}, which an uninterrupted run does not", at()));
        };
        if expected.mark != mark {
            return Err(format!("{}: {task} wrote {mark:?} where {:?} was to come", at(), expected.mark));
        }
        let headers = record.headers.iter().filter(|h| h.name != EFFECT_HEADER);
        if expected.record.key != record.key
            || expected.record.value != record.value
            || !headers.eq(&expected.record.headers)
        {
            return Err(format!(
                "{}: {task} wrote as {mark:?}, {:?}\n{}\nan uninterrupted run {:?}\n{}",
                at(),
                record.headers,
                shown(record.value.as_deref()),
                expected.record.headers,
                shown(expected.record.value.as_deref())
            ));
        }
        output.found += 1;
        Ok(())
    }

    /// How many versions of the definitions there were.
    pub fn versions(&self) -> u64 {
        self.versions.history.lock().newest().map_or(0, |newest| u64::from(newest.number))
    }

    /// How many effects there are in topics whose name begins so.
    pub fn effects(&self, prefix: &str) -> u64 {
        let outputs = self.tasks.values().flat_map(|t| &t.outputs);
        outputs.filter(|((topic, _), _)| topic.starts_with(prefix)).map(|(_, output)| output.found as u64).sum()
    }
}

/// A record for people: its rows where it has any.
fn shown(value: Option<&[u8]>) -> String {
    let rows = || {
        let reader = StreamReader::try_new(value?, None).ok()?;
        let batches: Vec<_> = reader.collect::<Result<_, _>>().ok()?;
        Some(pretty_format_batches(&batches).ok()?.to_string())
    };
    rows().unwrap_or_else(|| String::from_utf8_lossy(value.unwrap_or_default()).into_owned())
}

impl Seen {
    /// Reads what is new; false where the newest definitions apply nowhere yet.
    fn learn(&self, mirror: &Mirror) -> Result<bool, String> {
        let mut history = self.history.lock();
        let records = mirror.records(&(definitions::TOPIC.into(), 0));
        let from = usize::try_from(history.next_offset()).expect("offsets begin at 0");
        for record in &records[from..] {
            history.fold(record).map_err(|e| e.to_string())?;
        }
        Ok(history.newest().is_some() && history.pending().is_none())
    }
}

#[async_trait]
impl Versions for Seen {
    async fn catch_up(&self) -> Result<(), DefinitionsError> {
        Ok(())
    }

    fn version_at(&self, input: &TopicPartition, offset: i64) -> u32 {
        self.history.lock().version_at(input, offset).map_or(0, |version| version.number)
    }

    fn make(&self, version: u32, input: &TopicPartition) -> Result<Box<dyn Processor>, ProcessorError> {
        let version = self.history.lock().version(version).map(Arc::clone);
        let version = version.ok_or_else(|| ProcessorError::new("a version that the log does not have"))?;
        self.setup.processor(&version, input)
    }
}

impl Replay {
    /// True where others than tasks write its input.
    fn is_root(&self) -> bool {
        matches!(self.spec.kind, InputKind::Table(_))
    }

    fn step(&mut self, mirror: &Mirror) -> Result<(), String> {
        let input = (Arc::clone(&self.spec.input.topic), self.spec.input.partition);
        let from = usize::try_from(self.core.next_offset()).expect("offsets begin at 0");
        let mut effects = Effects::new();
        for record in &mirror.records(&input)[from..] {
            let at = |e: &dyn std::fmt::Display| format!("{} at {}: {e}", self.spec.name, record.offset);
            let slice = match self.core.asks(record).map_err(|e| at(&e))? {
                Some(request) => {
                    let records = mirror.records(&(request.table.as_str().into(), request.partition));
                    let slice = stored::slice(records, &request).map_err(|e| at(&e))?;
                    Some((request, slice))
                }
                None => None,
            };
            self.core.step_with(record, slice, &mut effects).map_err(|e| at(&e))?;
        }
        for effect in effects.take() {
            let output = self.outputs.entry((Arc::clone(&effect.topic), effect.partition)).or_default();
            output.expected.push(effect);
        }
        Ok(())
    }

    fn check_committed(&mut self, c: i64, mirror: &Mirror) -> Result<(), String> {
        let input = (Arc::clone(&self.spec.input.topic), self.spec.input.partition);
        let name = &self.spec.name;
        if c < self.committed {
            return Err(format!("C of {name} went back from {} to {c}", self.committed));
        }
        self.committed = c;
        let end = mirror.records(&input).len() as i64;
        if c > end {
            return Err(format!("C of {name} is {c}, but its input ends at {end}"));
        }
        for ((topic, partition), output) in &self.outputs {
            if let Some(missing) = output.expected.get(output.found).filter(|missing| missing.mark.position < c) {
                return Err(format!("C of {name} is {c}, but {topic}/{partition} lacks {:?}", missing.mark));
            }
        }
        Ok(())
    }
}

/// Task, epoch and mark of a record that is an effect.
fn effect(record: &StoredRecord) -> Result<Option<(String, i32, EffectMark)>, String> {
    let Some(value) = record.header(EFFECT_HEADER) else { return Ok(None) };
    let text = String::from_utf8_lossy(value).into_owned();
    let mut parts = text.rsplitn(4, '\0');
    let mut number = || parts.next().and_then(|part| part.parse::<i64>().ok());
    let (index, position, epoch) = (number(), number(), number());
    match (index, position, epoch, parts.next()) {
        (Some(index), Some(position), Some(epoch), Some(task)) => {
            let mark = EffectMark { position, index: index as i32 };
            Ok(Some((task.to_owned(), epoch as i32, mark)))
        }
        _ => Err(format!("offset {}: unreadable effect header {text:?}", record.offset)),
    }
}
