//! Compacting a partition from the maintenance thread: the work is done here, and each step that changes the log on its writer.

use std::sync::Arc;

use super::inner::{Inner, Partition, Topic};
use super::maintenance::{HOLDING_GROUP_PREFIX, ask};
use super::writer::Command;
use crate::error::BrokerError;
use crate::log::{Interrupted, PartitionLog, Tally};

/// Compacts a partition where it is time. `stop` is asked now and then whether to give up.
pub(super) fn compact(inner: &Arc<Inner>, topic: &Topic, partition: &Partition, stop: &dyn Fn() -> bool) {
    let Err(error) = try_compact(inner, topic, partition, stop) else { return };
    match error {
        // Shut down, deleted meanwhile, or retention took what was being compacted.
        BrokerError::Closed => tracing::debug!(partition = %partition.id, "compaction given up"),
        error => tracing::warn!(partition = %partition.id, %error, "compaction failed; it is tried again later"),
    }
}

fn try_compact(
    inner: &Arc<Inner>,
    topic: &Topic,
    partition: &Partition,
    stop: &dyn Fn() -> bool,
) -> Result<(), BrokerError> {
    let labels = partition.id.labels();
    let mut resume = false;
    loop {
        let hold_back = inner.coordinator.lowest(HOLDING_GROUP_PREFIX, &topic.info.name, partition.id.partition);
        let begin = move |log: &mut PartitionLog, now_ms| log.begin_compaction(hold_back, resume, now_ms);
        let Some(pass) = on_log(inner, topic, partition, begin)? else { return Ok(()) };
        let put = |new| on_log(inner, topic, partition, move |log, _| log.replace_segments(new));
        match pass.run(stop, put) {
            Ok(done) => {
                on_log(inner, topic, partition, move |log, _| log.finish_compaction(&done))?;
                metrics::counter!("highwater_broker_compactions_total", &labels).increment(1);
                tell(partition, &done.tally);
                resume = done.until < done.planned_until;
                if !resume {
                    return Ok(());
                }
            }
            Err(Interrupted::Damaged(damage)) => {
                // Said loudly by the log. The next time it is gone around.
                return on_log(inner, topic, partition, move |log, _| {
                    log.note_damage(&damage);
                    Ok(())
                });
            }
            Err(Interrupted::Failed(error)) => return Err(error),
        }
    }
}

fn tell(partition: &Partition, tally: &Tally) {
    let Tally { kept, superseded, tombstones, aborted, markers, without_key } = *tally;
    tracing::info!(
        partition = %partition.id, kept, superseded, tombstones, aborted, markers, without_key, "compacted"
    );
    for (reason, count) in [
        ("superseded", superseded),
        ("tombstone", tombstones),
        ("aborted", aborted),
        ("marker", markers),
        ("without_key", without_key),
    ] {
        let [topic, number] = partition.id.labels();
        let labels = [topic, number, ("reason", reason.to_owned())];
        metrics::counter!("highwater_broker_compacted_records_total", &labels).increment(count);
    }
    if without_key > 0 {
        tracing::warn!(
            partition = %partition.id, records = without_key,
            "records without a key were in a topic of cleanup.policy compact, from before it had that policy, and are gone"
        );
    }
}

/// Does something with a partition's log on its writer, and waits for the answer.
fn on_log<T: Send + 'static>(
    inner: &Inner,
    topic: &Topic,
    partition: &Partition,
    run: impl FnOnce(&mut PartitionLog, i64) -> Result<T, BrokerError> + Send + 'static,
) -> Result<T, BrokerError> {
    let key = (topic.info.id, partition.id.partition);
    ask(inner, partition.writer, |reply| Command::OnLog {
        key,
        run: Box::new(move |log, now_ms| {
            // Where nobody waits any more, nobody minds.
            reply.send(log.and_then(|log| run(log, now_ms))).ok();
        }),
    })
}
