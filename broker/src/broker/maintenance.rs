//! The thread that applies retention, compacts, and minds the disk limit from time to time.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::compaction::compact;
use super::inner::Inner;
use super::writer::Command;
use crate::error::BrokerError;
use crate::log::{PartitionId, Retained, RetentionLimits, SegmentSummary, disk_limit_plan};
use crate::topic::TopicInfo;

/// Retention never passes what a group of this prefix has committed: tables and tasks of Highwater itself.
pub const HOLDING_GROUP_PREFIX: &str = "__highwater.";

/// Starts the thread; dropping the sender ends it.
pub(super) fn start(inner: Weak<Inner>, interval_ms: u64) -> Result<(Sender<()>, JoinHandle<()>), BrokerError> {
    let (sender, stop) = channel();
    let name = "highwater-retention";
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || run(&inner, &stop, Duration::from_millis(interval_ms)))
        .map_err(|e| BrokerError::io("start the thread", name, &e))?;
    Ok((sender, thread))
}

fn run(inner: &Weak<Inner>, stop: &Receiver<()>, interval: Duration) {
    while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let Some(inner) = inner.upgrade() else { return };
        apply(&inner, &|| stop.try_recv() == Err(TryRecvError::Disconnected));
    }
}

/// Applies retention to every partition, compacts those for which it is time, and then applies the disk limit. Returns the bytes that
/// retention and limit freed. `stop` is asked now and then whether to give up.
pub(super) fn apply(inner: &Arc<Inner>, stop: &dyn Fn() -> bool) -> u64 {
    // One at a time: two passes over one partition would write the same files.
    let _alone = inner.maintenance.lock();
    let mut freed_bytes = 0;
    for topic in inner.all_topics() {
        for partition in &topic.partitions {
            if stop() {
                return freed_bytes;
            }
            let config = &topic.info.config;
            let deletes = config.cleanup.deletes();
            let limits = RetentionLimits {
                retention_ms: config.retention_ms.filter(|_| deletes),
                retention_bytes: config.retention_bytes.filter(|_| deletes),
                hold_back: inner.coordinator.lowest(HOLDING_GROUP_PREFIX, &topic.info.name, partition.id.partition),
            };
            let result = ask(inner, partition.writer, |reply| Command::Retain {
                key: (topic.info.id, partition.id.partition),
                limits,
                reply,
            });
            match result {
                Ok(Retained { freed_bytes: freed, held_back }) => {
                    freed_bytes += freed;
                    let gauge = metrics::gauge!("highwater_broker_retention_held_back", &partition.id.labels());
                    gauge.set(if held_back { 1.0 } else { 0.0 });
                    if freed > 0 {
                        tracing::info!(partition = %partition.id, freed_bytes = freed, "retention freed segments");
                    }
                }
                Err(error) => tracing::debug!(partition = %partition.id, %error, "retention not applied"),
            }
            if config.cleanup.compacts() {
                compact(inner, &topic, partition, stop);
            }
        }
    }
    freed_bytes + apply_disk_limit(inner)
}

fn apply_disk_limit(inner: &Arc<Inner>) -> u64 {
    let Some(limit_bytes) = inner.config.disk_limit_bytes else { return 0 };
    let topics = inner.all_topics();
    let partitions: Vec<_> =
        topics.iter().flat_map(|t| &t.partitions).map(|p| (p.id.clone(), p.view.segments())).collect();
    let mut freed_bytes = 0;
    for (id, log_start) in disk_limit_plan(&partitions, limit_bytes) {
        let found = topics.iter().find(|t| t.info.name == id.topic).and_then(|topic| {
            let partition = topic.partitions.iter().find(|p| p.id == id)?;
            Some((&topic.info, partition))
        });
        let Some((info, partition)) = found else { continue };
        warn_if_unread(inner, info, &id, log_start);
        let key = (info.id, id.partition);
        match ask(inner, partition.writer, |reply| Command::AdvanceLogStart { key, offset: log_start, reply }) {
            Ok(_) => {
                let segments = partitions.iter().filter(|(known, _)| *known == id).flat_map(|(_, segments)| segments);
                let gone = |s: &&SegmentSummary| s.closed && s.next_offset <= log_start;
                freed_bytes += segments.filter(gone).map(|s| s.size_bytes).sum::<u64>();
            }
            Err(error) => tracing::error!(partition = %id, %error, "the disk limit could not be applied"),
        }
    }
    freed_bytes
}

/// Says loudly that records go which some table or task has not read.
fn warn_if_unread(inner: &Inner, info: &TopicInfo, id: &PartitionId, log_start: i64) {
    let held = inner.coordinator.lowest(HOLDING_GROUP_PREFIX, &info.name, id.partition);
    if let Some(offset) = held.filter(|offset| *offset < log_start) {
        let lost = (log_start - offset) as u64;
        metrics::counter!("highwater_broker_disk_limit_unread_offsets_total", &id.labels()).increment(lost);
        tracing::error!(
            partition = %id, from = offset, to = log_start,
            "disk limit: deleting records that a table or task has not read yet; raise disk_limit_bytes or mend the reader"
        );
    }
}

/// Sends a command to a writer thread and waits for the answer, off the async runtime.
pub(super) fn ask<T>(
    inner: &Inner,
    writer: usize,
    command: impl FnOnce(oneshot::Sender<Result<T, BrokerError>>) -> Command,
) -> Result<T, BrokerError> {
    let (reply, answer) = oneshot::channel();
    inner.send(writer, command(reply))?;
    answer.blocking_recv().map_err(|_| BrokerError::Closed)?
}
