//! What one run of a task hands to the log: its outputs and how far it has come.

use std::sync::Arc;

use futures::future::join_all;

use super::{Append, CommittedOffset, Log, LogError, TASKS_GROUP};

/// Outputs of a task and its progress, to be made durable.
#[derive(Debug, Clone)]
pub struct TaskCommit {
    /// The task, e.g. `logs/2`.
    pub task: Arc<str>,
    /// The epoch that [`Log::begin_task`] gave this run.
    pub epoch: i32,
    /// Guarded by [`Guard::Effects`](super::Guard::Effects) of this task and epoch; those of one output partition in the order of their marks.
    pub appends: Vec<Append>,
    /// C: the task's input and the next offset it will read. Everything caused below it is in the log already or in `appends`.
    pub progress: CommittedOffset,
    /// True where the progress is to be durable as well; else a log that tells effects apart by their marks may leave it.
    pub progress_due: bool,
}

/// What became of a [`TaskCommit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskCommitted {
    /// Records left out because the log had them already.
    pub suppressed: usize,
    /// True where the progress is durable.
    pub progressed: bool,
}

/// [`Log::commit_task`] of a log that tells effects apart by their marks: outputs first, progress behind them. A crash in between costs a
/// replay whose effects the guard leaves out.
pub(super) async fn outputs_then_progress<L: Log + ?Sized>(
    log: &L,
    commit: TaskCommit,
) -> Result<TaskCommitted, LogError> {
    let mut lanes: Vec<Vec<Append>> = Vec::new();
    for append in commit.appends {
        let lane = lanes.iter_mut().find(|lane| {
            lane.first().is_some_and(|first| first.partition == append.partition && first.topic == append.topic)
        });
        match lane {
            Some(lane) => lane.push(append),
            None => lanes.push(vec![append]),
        }
    }
    let appended = join_all(lanes.into_iter().map(|lane| async move {
        let mut suppressed = 0;
        for append in lane {
            suppressed += log.append(append).await?.suppressed;
        }
        Ok::<_, LogError>(suppressed)
    }))
    .await;
    let suppressed = appended.into_iter().sum::<Result<usize, LogError>>()?;
    if commit.progress_due {
        log.commit_offsets(TASKS_GROUP, &[commit.progress], Some((&commit.task, commit.epoch))).await?;
    }
    Ok(TaskCommitted { suppressed, progressed: commit.progress_due })
}
