//! What a run leaves behind for the next: C, and snapshots at C.

use std::sync::Arc;

use crate::log::{CommittedOffset, TaskCommit, TaskCommitted};
use crate::runtime::SNAPSHOTS_GROUP;
use crate::runtime::snapshot::SnapshotName;

use super::{Run, Step, TaskDriver, chain};

impl TaskDriver {
    pub(super) async fn commit_if_due(&self, run: &mut Run) -> Step<()> {
        if self.is_commit_due(run) {
            self.commit(run).await?;
        }
        Ok(())
    }

    pub(super) fn is_commit_due(&self, run: &Run) -> bool {
        self.clock.now_ms().abs_diff(run.committed_ms) >= self.config.commit_interval_ms.unsigned_abs()
    }

    /// Advances C. Everything caused below the next offset is durable when this is called.
    pub(super) async fn commit(&self, run: &mut Run) -> Step<()> {
        if run.core.next_offset() <= run.committed {
            run.committed_ms = self.clock.now_ms();
            return Ok(());
        }
        let commit = self.progress(run, true);
        // A stop must not keep the last commit from being made, so this is not retried against it but to its end.
        let committed = self.finish("commit", || self.log.commit_task(commit.clone())).await?;
        self.progressed(run, &commit, committed);
        Ok(())
    }

    /// How far the run has come, with nothing to append.
    pub(super) fn progress(&self, run: &Run, due: bool) -> TaskCommit {
        TaskCommit {
            task: Arc::clone(&self.spec.name),
            epoch: run.epoch,
            appends: Vec::new(),
            progress: self.input_offset(run.core.next_offset()),
            progress_due: due,
        }
    }

    pub(super) fn progressed(&self, run: &mut Run, commit: &TaskCommit, committed: TaskCommitted) {
        if committed.progressed {
            run.committed = commit.progress.offset;
            run.committed_ms = self.clock.now_ms();
        }
    }

    /// Retention leaves everything from `offset` on.
    pub(super) async fn hold_retention(&self, epoch: i32, offset: i64) -> Step<()> {
        let offsets = [self.input_offset(offset)];
        let task = Some((&*self.spec.name, epoch));
        self.finish("commit_offsets", || self.log.commit_offsets(SNAPSHOTS_GROUP, &offsets, task)).await
    }

    fn input_offset(&self, offset: i64) -> CommittedOffset {
        let input = &self.spec.input;
        CommittedOffset { topic: Arc::clone(&input.topic), partition: input.partition, offset, metadata: String::new() }
    }

    pub(super) async fn snapshot_if_due(&self, run: &mut Run) -> Step<()> {
        let records = run.core.next_offset() - run.snapshot_offset;
        let age_ms = self.clock.now_ms().abs_diff(run.snapshot_ms);
        let due = records >= self.config.snapshot_records
            || (records > 0 && age_ms >= self.config.snapshot_interval_ms.unsigned_abs());
        if due && run.core.next_offset() >= run.committed {
            self.commit(run).await?;
            self.snapshot(run).await?;
        }
        Ok(())
    }

    /// Writes a snapshot at C, drops the ones no longer needed, and lets retention advance. Storage that is away costs a
    /// longer replay, not the task.
    pub(super) async fn snapshot(&self, run: &mut Run) -> Step<()> {
        let offset = run.core.next_offset();
        if offset <= run.snapshot_offset && self.status.lock().snapshot_offset.is_some() || offset < run.committed {
            return Ok(());
        }
        run.snapshot_ms = self.clock.now_ms();
        let name = SnapshotName { offset, epoch: run.epoch };
        let state = run.core.state().map_err(|source| self.failed(offset, source))?;
        let saved = match self.snapshots.save(name, state).await {
            Ok(written) => self.snapshots.prune().await.map(|oldest| (written, oldest)),
            Err(error) => Err(error),
        };
        match saved {
            Ok((written, oldest)) => {
                run.snapshot_offset = offset;
                metrics::gauge!("highwater_task_snapshot_size_bytes", "task" => self.spec.name.to_string())
                    .set(written as f64);
                let took_ms = self.clock.now_ms().saturating_sub(run.snapshot_ms).max(0);
                metrics::histogram!("highwater_task_snapshot_seconds", "task" => self.spec.name.to_string())
                    .record(took_ms as f64 / 1e3);
                {
                    let mut status = self.status.lock();
                    let snapshots = &mut status.snapshots;
                    snapshots.count += 1;
                    snapshots.written_bytes += written;
                    snapshots.slowest_ms = snapshots.slowest_ms.max(took_ms);
                    (status.snapshot_ms, status.snapshot_offset) = (Some(run.snapshot_ms), Some(offset));
                }
                self.hold_retention(run.epoch, oldest.map_or(offset, |o| o.offset)).await
            }
            Err(error) => {
                metrics::counter!("highwater_task_snapshot_failures_total", "task" => self.spec.name.to_string())
                    .increment(1);
                tracing::error!(task = %self.spec.name, error = chain(&error), "snapshot not written; the last one stays");
                Ok(())
            }
        }
    }
}
