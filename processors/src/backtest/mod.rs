//! Rules over stored rows instead of the log: what they would have said.
//!
//! The tasks are those of [`topology`](crate::topology()), all of them, in one thread. Rows of tables stand in for the records of the input topics, in the order
//! of their event time, and a virtual clock for the clock records: behind the rows of each second every partition is told that the second is over. So rules
//! and rollups see what they see live where rows come in time; what came late there is in its place here.
//!
//! What tasks write for each other is stepped through at once; transitions are kept; rows of rollups and recorded samples are dropped, because the rules
//! that look at them have had them from the tasks.

mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use highwater_pipeline::data::alerts::{self, Transition};
use highwater_pipeline::data::{Control, RowKind};
use highwater_pipeline::log::{StoredRecord, TopicPartition};
use highwater_pipeline::runtime::watermark::MAX_BEHIND_US;
use highwater_pipeline::runtime::{
    At, Effect, Effects, Input, InputKind, Processor, ProcessorError, Rows, TaskCore, TaskSpec,
};

use crate::config::ProcessorsConfig;
use crate::error::ProcessorsError;
use crate::rollups::{RollupPlan, Source};
use crate::rules::promql::{GroupPlan, Kind, Selectors};
use crate::topology::topology;
use rows::Timed;

/// One beat of the virtual clock.
const BEAT_US: i64 = 1_000_000;
/// The furthest that time goes in one step where no rows come, until everything has settled. Partitions take the step one after the other, and nobody
/// waits for one that lies too far behind, so it is well within that.
const LEAP_US: i64 = MAX_BEHIND_US / 2;
/// Silence beyond ranges, windows and holds after which nothing is expected to change any more.
const SILENCE_US: i64 = 7_200 * BEAT_US;
/// Time that has to pass behind a moment until everything about it is decided, besides the lateness of rollups.
const SETTLE_US: i64 = 10 * BEAT_US;

/// What a backtest looks at in one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    /// The table.
    pub source: Source,
    /// Of `metrics`, the names of the series that rules select; `None`: all rows.
    pub names: Option<BTreeSet<String>>,
    /// Of `metrics`, what other rules have recorded is wanted as well, but for what these record themselves; `None`: nothing recorded is wanted.
    pub recorded: Option<BTreeSet<String>>,
}

/// A configuration's tasks, and how far they have come.
pub struct Backtest {
    partitions: i32,
    reads: Vec<Reads>,
    warmup_us: i64,
    settle_us: i64,
    sources: BTreeMap<Source, Vec<SourceTask>>,
    stages: BTreeMap<(Arc<str>, i32), TaskCore>,
    /// Next offset of each stage partition.
    offsets: BTreeMap<(Arc<str>, i32), i64>,
    now_us: i64,
    /// The end of the last beat that had rows.
    last_rows_us: i64,
    transitions: Vec<Transition>,
}

/// A task of an input partition: it is given rows, and not records.
struct SourceTask {
    processor: Box<dyn Processor>,
    position: i64,
    watermark_us: Option<i64>,
}

impl Backtest {
    /// The tasks of this configuration, before the first row. Rollups that no rule reads are left out.
    ///
    /// # Errors
    /// Where a rollup or a rule is not one this version can run.
    pub fn new(config: &ProcessorsConfig) -> Result<Self, ProcessorsError> {
        let mut wanted = BTreeSet::new();
        for rule in &topology(config)?.rules {
            let mut next = Some(rule.rollup());
            while let Some(rollup) = next {
                wanted.insert(rollup.name().to_owned());
                next = rollup.upstream();
            }
        }
        let mut config = config.clone();
        config.has_history = false;
        config.rollups.retain(|rollup| wanted.contains(&rollup.name));
        for rollup in &mut config.rollups {
            // All rows come from the tables here.
            rollup.backfill = false;
        }
        let topology = topology(&config)?;
        let selectors = Selectors::of(&topology.groups)?;
        let is_read = |source: Source| match source {
            Source::Metrics if !selectors.is_empty() => true,
            source => topology.rollups.iter().any(|rollup| rollup.source() == source),
        };
        let mut reads = Vec::new();
        let mut sources = BTreeMap::new();
        for source in Source::ALL.into_iter().filter(|source| is_read(*source)) {
            let rolled_up = topology.rollups.iter().any(|rollup| rollup.source() == source);
            let names = match source {
                Source::Metrics if !rolled_up => selectors.names(),
                _ => None,
            };
            let rules = topology.groups.iter().flat_map(|group| &group.rules);
            let recorded = rules.filter(|rule| !rule.is_alerting()).map(|rule| rule.name.clone()).collect();
            let recorded = (source == Source::Metrics && !rolled_up).then_some(recorded);
            reads.push(Reads { source, names, recorded });
            let tasks = (0..config.partitions).map(|partition| {
                let input = TopicPartition { topic: source.topic().into(), partition };
                topology.processor(&input).map(|processor| SourceTask { processor, position: 0, watermark_us: None })
            });
            sources.insert(source, tasks.collect::<Result<Vec<_>, _>>().map_err(ProcessorsError::Processor)?);
        }
        let mut stages = BTreeMap::new();
        for spec in topology.tasks.iter().filter(|spec| is_stage(spec)) {
            let core = TaskCore::new(spec, 0).map_err(ProcessorsError::Processor)?;
            stages.insert((Arc::clone(&spec.input.topic), spec.input.partition), core);
        }
        Ok(Self {
            partitions: config.partitions,
            reads,
            warmup_us: warmup_us(&topology.groups, &topology.rules, &topology.rollups),
            settle_us: settle_us(&topology.rollups),
            sources,
            stages,
            offsets: BTreeMap::new(),
            now_us: i64::MIN,
            last_rows_us: i64::MIN,
            transitions: Vec::new(),
        })
    }

    /// The tables it looks at.
    pub fn reads(&self) -> &[Reads] {
        &self.reads
    }

    /// How long before the first moment of interest it has to begin, microseconds: ranges, windows, and how long rules hold. An alert that is up by
    /// then is told as having begun no earlier.
    pub fn warmup_us(&self) -> i64 {
        self.warmup_us
    }

    /// How long behind the last moment of interest time has to go on until all about it is decided, microseconds.
    pub fn settle_us(&self) -> i64 {
        self.settle_us
    }

    /// Takes the rows of tables up to a moment, each in the order of time, and goes on to that moment, microseconds. Rows have the columns of
    /// their table as [`Source::schema`] has them.
    ///
    /// # Errors
    /// Where a task fails. The backtest is not used again then.
    pub fn slice(&mut self, tables: &[(Source, RecordBatch)], until_us: i64) -> Result<(), ProcessorError> {
        let mut tables = tables
            .iter()
            .filter(|(source, batch)| batch.num_rows() > 0 && self.sources.contains_key(source))
            .map(|(source, batch)| Timed::new(*source, batch))
            .collect::<Result<Vec<_>, _>>()?;
        loop {
            let next_us = tables.iter().filter_map(Timed::next_us).min().filter(|next_us| *next_us < until_us);
            let Some(next_us) = next_us else {
                return self.pass_until(until_us);
            };
            let beat_us = next_us.div_euclid(BEAT_US) * BEAT_US;
            if self.now_us > i64::MIN {
                self.pass_until(beat_us)?;
            }
            let end_us = (beat_us + BEAT_US).min(until_us);
            for table in &mut tables {
                for (partition, batch) in table.until(end_us, self.partitions)? {
                    self.rows(table.source, partition, &batch)?;
                }
            }
            self.last_rows_us = end_us;
            self.beat(end_us)?;
        }
    }

    /// The transitions since the last call, in the order of their time.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        let mut transitions = std::mem::take(&mut self.transitions);
        transitions.sort_by(|a, b| {
            (a.timestamp_us, &a.group_name, &a.alertname).cmp(&(b.timestamp_us, &b.group_name, &b.alertname))
        });
        transitions
    }

    /// Goes on in silence, in leaps.
    fn pass_until(&mut self, until_us: i64) -> Result<(), ProcessorError> {
        if self.now_us == i64::MIN {
            self.now_us = until_us.saturating_sub(BEAT_US);
        }
        while self.now_us < until_us {
            // Once ranges, windows and holds are over nothing can change any more: the rest of the silence is one leap.
            let settled_us = self.last_rows_us.saturating_add(2 * self.warmup_us).saturating_add(SILENCE_US);
            let next_us = if self.now_us > settled_us { until_us } else { self.now_us.saturating_add(LEAP_US) };
            self.beat(next_us.min(until_us))?;
        }
        Ok(())
    }

    /// Every partition has come to the end of what is before this moment.
    fn beat(&mut self, end_us: i64) -> Result<(), ProcessorError> {
        self.now_us = end_us;
        let mut caused = Effects::new();
        for tasks in self.sources.values_mut() {
            for task in tasks {
                let watermark_us = task.watermark_us.max(Some(end_us - 1));
                task.watermark_us = watermark_us;
                let clock = Control::Clock { base_offset: task.position - 1, event_time_us: watermark_us, idle: false };
                task.process(end_us, Input::Control(&clock), &mut caused)?;
            }
        }
        self.follow(caused.take(), end_us)
    }

    fn rows(&mut self, source: Source, partition: i32, batch: &RecordBatch) -> Result<(), ProcessorError> {
        let Some(task) = usize::try_from(partition).ok().and_then(|at| self.sources.get_mut(&source)?.get_mut(at))
        else {
            return Ok(());
        };
        let watermarks_us = rows::running_watermarks(batch, task.watermark_us)?;
        task.watermark_us = watermarks_us.last().copied().filter(|last| *last > i64::MIN);
        let now_us = watermarks_us.last().copied().unwrap_or(self.now_us);
        let mut caused = Effects::new();
        task.process(now_us, Input::Rows(Rows { batch, watermarks_us: &watermarks_us }), &mut caused)?;
        self.follow(caused.take(), now_us)
    }

    /// Steps what has been caused through the tasks behind, to its end.
    fn follow(&mut self, caused: Vec<Effect>, now_us: i64) -> Result<(), ProcessorError> {
        let mut queue = VecDeque::from(caused);
        while let Some(effect) = queue.pop_front() {
            if &*effect.topic == alerts::TOPIC {
                // A tombstone is no transition.
                let Some(value) = &effect.record.value else { continue };
                let transition = Transition::parse(value)
                    .map_err(|error| ProcessorError::caused("a transition cannot be read back", error))?;
                self.transitions.push(transition);
                continue;
            }
            let place = (effect.topic, effect.partition);
            let Some(task) = self.stages.get_mut(&place) else { continue };
            let offset = self.offsets.entry(place).or_default();
            let record = StoredRecord {
                offset: *offset,
                timestamp_ms: now_us.div_euclid(1_000),
                key: effect.record.key,
                value: effect.record.value,
                headers: effect.record.headers,
            };
            *offset += 1;
            let mut more = Effects::new();
            task.step(&record, &mut more)?;
            queue.extend(more.take());
        }
        Ok(())
    }
}

impl SourceTask {
    fn process(&mut self, now_us: i64, input: Input<'_>, caused: &mut Effects) -> Result<(), ProcessorError> {
        let at = At { position: self.position, append_time_us: now_us, watermark_us: self.watermark_us, idle: false };
        self.position += 1;
        self.processor.process(at, input, caused)
    }
}

fn is_stage(spec: &TaskSpec) -> bool {
    // Not those that ask tables for rows.
    !matches!(spec.kind, InputKind::Table(RowKind::Logs | RowKind::Metrics | RowKind::Spans) | InputKind::Slices)
}

fn warmup_us(groups: &[Arc<GroupPlan>], rules: &[Arc<crate::rules::RulePlan>], rollups: &[Arc<RollupPlan>]) -> i64 {
    let group = |group: &Arc<GroupPlan>| {
        let holds = group.rules.iter().map(|rule| match &rule.kind {
            Kind::Recording => 0,
            Kind::Alerting { for_ms, keep_firing_for_ms, .. } => for_ms.saturating_add(*keep_firing_for_ms),
        });
        let holds_ms = holds.max().unwrap_or(0);
        group.reach_ms().saturating_add(holds_ms).saturating_add(2 * group.interval_ms).saturating_mul(1_000)
    };
    let promql = groups.iter().map(group).max().unwrap_or(0);
    let windows = rollups.iter().map(|rollup| 2 * rollup.width_us()).max().unwrap_or(0);
    let holds = rules.iter().map(|rule| rule.holds_us()).max().unwrap_or(0);
    promql.max(windows.saturating_add(holds))
}

fn settle_us(rollups: &[Arc<RollupPlan>]) -> i64 {
    let late = |rollup: &Arc<RollupPlan>| rollup.closes_us(0).saturating_sub(rollup.width_us());
    rollups.iter().map(late).max().unwrap_or(0).saturating_add(SETTLE_US)
}
