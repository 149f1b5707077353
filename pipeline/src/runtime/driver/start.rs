//! The start of a run: epoch, C, the newest usable snapshot.

use crate::runtime::TASKS_GROUP;
use crate::runtime::clock_records::ClockSchedule;
use crate::runtime::core::TaskCore;
use crate::runtime::error::RuntimeError;
use crate::runtime::retry::{Retried, retry};
use crate::runtime::snapshot::SnapshotName;

use super::{End, Run, Step, TaskDriver, chain};

impl TaskDriver {
    /// Takes the epoch, finds C, restores.
    pub(super) async fn start(&self) -> Step<Run> {
        let name = &*self.spec.name;
        let epoch = self.call("begin_task", || self.log.begin_task(name)).await?;
        let input = &self.spec.input;
        let groups = self.call("committed", || self.log.committed(TASKS_GROUP)).await?;
        let committed =
            groups.iter().find(|o| o.topic == input.topic && o.partition == input.partition).map(|o| o.offset);
        let offsets = self.call("offsets", || self.log.offsets(&input.topic, input.partition)).await?;
        self.catch_up().await?;
        let now_ms = self.clock.now_ms();
        let mut run = Run {
            epoch,
            core: self.build(offsets.log_start)?,
            committed: committed.unwrap_or(offsets.log_start),
            committed_ms: now_ms,
            snapshot_offset: offsets.log_start,
            snapshot_ms: now_ms,
            schedule: ClockSchedule::default(),
            high_watermark: offsets.high_watermark,
        };
        if let Some(snapshot) = self.restore(&mut run, offsets.log_start).await? {
            run.snapshot_offset = snapshot.offset;
            let mut status = self.status.lock();
            status.snapshot_offset = Some(snapshot.offset);
        } else if committed.is_some_and(|c| c > offsets.log_start) {
            tracing::warn!(
                task = name,
                committed,
                log_start = offsets.log_start,
                "no usable snapshot; state is built anew from the start of the log"
            );
        }
        // Until there is a snapshot, retention must leave the records from which state would be rebuilt.
        self.hold_retention(run.epoch, run.snapshot_offset).await?;
        tracing::debug!(task = name, epoch, from = run.core.next_offset(), committed = run.committed, "task started");
        self.publish(&run);
        Ok(run)
    }

    fn build(&self, next_offset: i64) -> Result<TaskCore, RuntimeError> {
        TaskCore::new(&self.spec, next_offset)
            .map(|core| core.with_scratch(self.scratch.clone()))
            .map_err(|source| RuntimeError::Build { task: self.spec.name.to_string(), source })
    }

    /// Restores the newest snapshot at or below C that is whole and whose replay the log still holds.
    async fn restore(&self, run: &mut Run, log_start: i64) -> Step<Option<SnapshotName>> {
        for name in self.stored("list the snapshots of", || self.snapshots.list()).await? {
            if name.offset > run.committed {
                // Of a run that wrote it and stopped before its commit; the log may not have its outputs.
                continue;
            }
            if name.offset < log_start {
                let reason = "the log begins behind it; records between are gone";
                tracing::warn!(task = %self.spec.name, offset = name.offset, log_start, reason, "snapshot passed over");
                continue;
            }
            let loaded = match self.stored("load a snapshot of", || self.snapshots.load(name)).await {
                Ok(loaded) => loaded,
                // Corrupt, or deleted meanwhile by another run of this task, which keeps newer ones.
                Err(End::Error(error)) if !error.is_retryable() => {
                    self.pass_over(name, &chain(&error));
                    continue;
                }
                Err(end) => return Err(end),
            };
            let mut core = self.build(log_start)?;
            match core.restore(&loaded) {
                Ok(()) => {
                    run.core = core;
                    return Ok(Some(name));
                }
                Err(error) => self.pass_over(name, &chain(&error)),
            }
        }
        Ok(None)
    }

    /// A call to storage that is retried until it succeeds or the task is to stop.
    async fn stored<T, F, Fut>(&self, what: &str, call: F) -> Step<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, RuntimeError>>,
    {
        match retry(&self.spec.name, what, &*self.clock, &self.stop, call).await {
            Retried::Done(value) => Ok(value),
            Retried::Stopped => Err(End::Stopped),
            Retried::Failed(error) => Err(error.into()),
        }
    }

    fn pass_over(&self, name: SnapshotName, reason: &str) {
        metrics::counter!("highwater_task_snapshots_unusable_total", "task" => self.spec.name.to_string()).increment(1);
        tracing::error!(task = %self.spec.name, offset = name.offset, epoch = name.epoch, reason, "snapshot is unusable; trying an older one");
    }
}
