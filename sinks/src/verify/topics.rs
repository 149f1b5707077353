//! Proof that the topics are whole: every offset there, every effect once and in order, every progress within bounds.
//!
//! For each partition of each topic:
//! 1. it is read from its log start to its end: no batch is missing or damaged (the log checks the order and the CRC of each as it reads it), and
//!    where only tasks write there is a record at every offset;
//! 2. the effects of each task are strictly ascending, and their epochs never go back: an effect that is there twice, or written by a run
//!    that had been replaced, shows here;
//! 3. what recovery would know of each task's highest effect is what the records say, so that a restart neither repeats an effect nor
//!    swallows one.
//!
//! For each task: its committed offset C lies within its input, and each of its snapshots can be read and lies at or below C.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use highwater_pipeline::log::{
    CommittedOffset, EFFECT_HEADER, EffectMark, Log, LogError, StoredRecord, TASKS_GROUP, TopicInfo, TopicPartition,
};
use highwater_pipeline::runtime::snapshot::SnapshotStore;
use highwater_pipeline::sources::bridge::CLAIM_PREFIX;
use highwater_pipeline::storage::Storage;
use serde::Serialize;

use crate::SinkError;

const FETCH_SIZE_BYTES: usize = 4 << 20;
/// Longest wait for records that are known to be there: a cluster takes a moment, a disk does not.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The highest effect of each task in each partition, as the log's recovery would have it.
pub type Guards = BTreeMap<TopicPartition, Vec<(Arc<str>, EffectMark)>>;

/// What the log cannot say through its own trait.
pub struct TopicChecks<'c> {
    /// Where it can be known: what recovery holds of each task in a partition.
    pub guards: Option<&'c Guards>,
    /// The topics in which an offset without a record is damage. Where clients write it may be a transaction's mark, an aborted record or
    /// compaction.
    pub dense: &'c (dyn Fn(&TopicInfo) -> bool + Sync),
    /// Which topics to read.
    pub chosen: &'c (dyn Fn(&str) -> bool + Sync),
}

/// What was found in all topics and tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TopicsReport {
    /// Partitions, by topic and number.
    pub partitions: Vec<TopicPartitionReport>,
    /// Tasks whose progress was checked.
    pub tasks: usize,
    /// Snapshots that were read.
    pub snapshots: usize,
    /// What is wrong.
    pub findings: Vec<TopicFinding>,
}

/// One partition that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicPartitionReport {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First offset held.
    pub from: i64,
    /// One past the last.
    pub to: i64,
    /// Records read.
    pub records: u64,
    /// Of these, effects of tasks.
    pub effects: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicFinding {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First offset concerned.
    pub from: i64,
    /// One past the last offset concerned.
    pub to: i64,
    /// For people.
    pub message: String,
}

impl TopicsReport {
    /// True where nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, place: &TopicPartition, offsets: std::ops::Range<i64>, message: impl Into<String>) {
        self.findings.push(TopicFinding {
            topic: place.topic.to_string(),
            partition: place.partition,
            from: offsets.start,
            to: offsets.end,
            message: message.into(),
        });
    }
}

impl fmt::Display for TopicFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {}/{} offsets {}..{}: {}", self.topic, self.partition, self.from, self.to, self.message)
    }
}

impl fmt::Display for TopicsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Empty partitions say nothing to anybody.
        let shown = || self.partitions.iter().filter(|p| p.to > 0);
        let width = shown().map(|p| p.topic.len() + 1 + p.partition.to_string().len()).max().unwrap_or(0).max(9);
        writeln!(f, "{:width$}  {:>12}  {:>12}  {:>12}  {:>12}", "topic", "from", "to", "records", "effects")?;
        for p in shown() {
            let name = format!("{}/{}", p.topic, p.partition);
            writeln!(f, "{name:width$}  {:>12}  {:>12}  {:>12}  {:>12}", p.from, p.to, p.records, p.effects)?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let records: u64 = self.partitions.iter().map(|p| p.records).sum();
        let (partitions, tasks, snapshots) = (self.partitions.len(), self.tasks, self.snapshots);
        match self.findings.len() {
            0 => write!(f, "clean: {partitions} partitions, {records} records, {tasks} tasks, {snapshots} snapshots"),
            1 => write!(f, "1 finding"),
            n => write!(f, "{n} findings"),
        }
    }
}

/// Verifies every topic of a log, and the tasks whose snapshots are under the storage root.
///
/// # Errors
/// Where log or storage cannot be read. What is wrong with their content is in the report, not an error.
pub async fn verify_topics(
    log: &dyn Log,
    storage: &Storage,
    checks: &TopicChecks<'_>,
) -> Result<TopicsReport, SinkError> {
    let mut report = TopicsReport::default();
    for topic in log.topics().await?.into_iter().filter(|topic| (checks.chosen)(&topic.name)) {
        for partition in 0..topic.config.partitions {
            let place = TopicPartition { topic: Arc::clone(&topic.name), partition };
            check_partition(log, &place, (checks.dense)(&topic), checks.guards, &mut report).await?;
        }
    }
    for committed in log.committed(TASKS_GROUP).await? {
        // A claim stands for a partition elsewhere; its offset is not one of ours.
        if !committed.topic.starts_with(CLAIM_PREFIX) {
            check_task(log, storage, &committed, &mut report).await?;
        }
    }
    Ok(report)
}

async fn check_partition(
    log: &dyn Log,
    place: &TopicPartition,
    is_dense: bool,
    guards: Option<&Guards>,
    report: &mut TopicsReport,
) -> Result<(), SinkError> {
    let offsets = log.offsets(&place.topic, place.partition).await?;
    let mut tasks: BTreeMap<String, (i32, EffectMark)> = BTreeMap::new();
    let (mut next, end) = (offsets.log_start, offsets.high_watermark);
    let mut read = TopicPartitionReport {
        topic: place.topic.to_string(),
        partition: place.partition,
        from: offsets.log_start,
        to: end,
        records: 0,
        effects: 0,
    };
    while next < end {
        let fetched = match log.read(&place.topic, place.partition, next, FETCH_SIZE_BYTES, MAX_WAIT).await {
            // Beside a running server, retention goes on.
            Err(LogError::OffsetOutOfRange { log_start, .. }) if log_start > next => {
                next = log_start;
                continue;
            }
            other => other?,
        };
        for gap in &fetched.gaps {
            report.find(place, gap.from..gap.to, format!("damaged: {}", gap.reason));
        }
        let declared = |from: i64, to: i64| fetched.gaps.iter().any(|gap| gap.from <= from && to <= gap.to);
        for record in &fetched.records {
            if record.offset < next {
                report.find(place, record.offset..next, "this offset is there twice, or out of order");
            } else if record.offset > next && is_dense && !declared(next, record.offset) {
                report.find(place, next..record.offset, "these offsets hold no record");
            }
            next = next.max(record.offset + 1);
            read.records += 1;
            if let Some((task, epoch, mark)) = effect(record) {
                read.effects += 1;
                check_effect(place, record.offset, task, epoch, mark, &mut tasks, report);
            }
        }
        if fetched.next_offset > next && is_dense && !declared(next, fetched.next_offset) {
            report.find(place, next..fetched.next_offset, "these offsets hold no record");
        }
        if fetched.next_offset <= next && fetched.records.is_empty() {
            report.find(place, next..end, "the log has these offsets and gives no record for them");
            break;
        }
        next = next.max(fetched.next_offset);
    }
    if let Some(guards) = guards {
        check_guards(place, guards.get(place).map_or(&[], Vec::as_slice), &tasks, &read, report);
    }
    report.partitions.push(read);
    Ok(())
}

/// The effect that a record says it is: `task` NUL `epoch` NUL `position` NUL `index`.
fn effect(record: &StoredRecord) -> Option<(&str, i32, EffectMark)> {
    let mut parts = std::str::from_utf8(record.header(EFFECT_HEADER)?).ok()?.rsplitn(4, '\0');
    let index = parts.next()?.parse().ok()?;
    let position = parts.next()?.parse().ok()?;
    let epoch = parts.next()?.parse().ok()?;
    Some((parts.next()?, epoch, EffectMark { position, index }))
}

fn check_effect(
    place: &TopicPartition,
    offset: i64,
    task: &str,
    epoch: i32,
    mark: EffectMark,
    tasks: &mut BTreeMap<String, (i32, EffectMark)>,
    report: &mut TopicsReport,
) {
    let at = offset..offset + 1;
    match tasks.get_mut(task) {
        None => {
            tasks.insert(task.to_owned(), (epoch, mark));
        }
        Some((last_epoch, last)) => {
            if mark <= *last {
                let EffectMark { position, index } = mark;
                let message = format!(
                    "effect {position}.{index} of task {task} comes after {}.{}: it is there twice, or out of order",
                    last.position, last.index
                );
                report.find(place, at.clone(), message);
            }
            if epoch < *last_epoch {
                let message = format!("epoch {epoch} of task {task} wrote after epoch {last_epoch} had begun");
                report.find(place, at, message);
            }
            (*last_epoch, *last) = ((*last_epoch).max(epoch), (*last).max(mark));
        }
    }
}

/// What recovery holds against what the records say. Retention may have removed a task's last effect here; recovery still knows it.
fn check_guards(
    place: &TopicPartition,
    guards: &[(Arc<str>, EffectMark)],
    tasks: &BTreeMap<String, (i32, EffectMark)>,
    read: &TopicPartitionReport,
    report: &mut TopicsReport,
) {
    let known: BTreeMap<&str, EffectMark> = guards.iter().map(|(task, mark)| (&**task, *mark)).collect();
    let all = read.from..read.to;
    for (task, (_, mark)) in tasks {
        let EffectMark { position, index } = mark;
        match known.get(task.as_str()) {
            Some(held) if held >= mark => {}
            held => {
                let held = held.map_or("nothing".to_owned(), |held| format!("{}.{}", held.position, held.index));
                let message = format!(
                    "task {task} has written up to effect {position}.{index}, but recovery holds {held}: effects would be repeated"
                );
                report.find(place, all.clone(), message);
            }
        }
    }
    for (task, held) in guards {
        let written = tasks.get(&**task).map(|(_, mark)| *mark);
        if read.from == 0 && written.is_none_or(|written| written < *held) {
            let message = format!(
                "recovery holds effect {}.{} of task {task}, which is not in the log: effects would be swallowed",
                held.position, held.index
            );
            report.find(place, all.clone(), message);
        }
    }
}

async fn check_task(
    log: &dyn Log,
    storage: &Storage,
    committed: &CommittedOffset,
    report: &mut TopicsReport,
) -> Result<(), SinkError> {
    let place = TopicPartition { topic: Arc::clone(&committed.topic), partition: committed.partition };
    let task = format!("{}/{}", place.topic, place.partition);
    let offset = committed.offset;
    report.tasks += 1;
    match log.offsets(&place.topic, place.partition).await {
        Ok(bounds) if offset > bounds.high_watermark => {
            let message =
                format!("task {task} has committed {offset}, but its input ends at {}", bounds.high_watermark);
            report.find(&place, bounds.high_watermark..offset, message);
        }
        Ok(bounds) if offset < bounds.log_start => {
            let message = format!("task {task} has committed {offset}, but its input begins at {}", bounds.log_start);
            report.find(&place, offset..bounds.log_start, message);
        }
        Ok(_) => {}
        Err(LogError::UnknownTopicOrPartition { .. }) => {
            report.find(
                &place,
                0..offset,
                format!("task {task} has committed {offset} of a partition that is not there"),
            );
        }
        Err(error) => return Err(error.into()),
    }
    let snapshots = SnapshotStore::new(Arc::clone(storage.objects()), &task);
    let names = match snapshots.list().await {
        Ok(names) => names,
        Err(error) => {
            report.find(&place, offset..offset, format!("the snapshots of task {task} cannot be listed: {error}"));
            return Ok(());
        }
    };
    for name in names {
        report.snapshots += 1;
        if name.offset > offset {
            let message =
                format!("a snapshot of task {task} is at {}, above its committed offset {offset}", name.offset);
            report.find(&place, offset..name.offset, message);
        }
        if let Err(error) = snapshots.load(name).await {
            let message = format!("the snapshot of task {task} at {} cannot be read: {error}", name.offset);
            report.find(&place, name.offset..name.offset, message);
        }
    }
    Ok(())
}
