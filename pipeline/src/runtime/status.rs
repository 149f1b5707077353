//! What a task says about itself.

use std::sync::Arc;

/// What a task is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// For its input, which does not exist yet.
    Waiting,
    /// Taking its epoch, restoring.
    Starting,
    /// Reading records it had read before the last stop, up to C.
    Replaying,
    /// At work.
    Running,
    /// Stopped as asked.
    Stopped,
    /// A newer run has taken over.
    Fenced,
    /// Stopped by an error; the text says which, where, and what caused it.
    Failed(String),
}

impl TaskState {
    /// One lower-case word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Replaying => "replaying",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Fenced => "fenced",
            Self::Failed(_) => "failed",
        }
    }

    /// True where the task does what it should, or has stopped because it was asked to.
    pub fn is_healthy(&self) -> bool {
        !matches!(self, Self::Fenced | Self::Failed(_))
    }
}

/// The snapshots that a run has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// How many.
    pub count: u64,
    /// What they came to: new chunks and the snapshots themselves, in bytes.
    pub written_bytes: u64,
    /// How long the task waited for the slowest one, in milliseconds.
    pub slowest_ms: i64,
}

/// One task, at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    /// The task's name, e.g. `logs/2`.
    pub task: Arc<str>,
    /// Input topic.
    pub topic: Arc<str>,
    /// Input partition.
    pub partition: i32,
    /// Epoch of this run; 0 until it has one.
    pub epoch: i32,
    /// The version of the definitions that it applies; 0 where there is only one.
    pub version: u32,
    /// Next input offset to read.
    pub offset: i64,
    /// C: outputs caused below this offset are durable.
    pub committed_offset: i64,
    /// Records in the input partition that are not read yet.
    pub lag: i64,
    /// How far event time has come, Unix microseconds.
    pub watermark_us: Option<i64>,
    /// True while the input partition is idle.
    pub idle: bool,
    /// When the last snapshot was written, Unix milliseconds.
    pub snapshot_ms: Option<i64>,
    /// Offset of that snapshot.
    pub snapshot_offset: Option<i64>,
    /// Snapshots that this run has written.
    pub snapshots: Snapshots,
    /// What it is doing.
    pub state: TaskState,
}

impl TaskStatus {
    pub(crate) fn starting(task: &Arc<str>, topic: &Arc<str>, partition: i32) -> Self {
        Self {
            task: Arc::clone(task),
            topic: Arc::clone(topic),
            partition,
            epoch: 0,
            version: 0,
            offset: 0,
            committed_offset: 0,
            lag: 0,
            watermark_us: None,
            idle: false,
            snapshot_ms: None,
            snapshot_offset: None,
            snapshots: Snapshots::default(),
            state: TaskState::Starting,
        }
    }

    /// Age of the last snapshot at `now_ms`, in milliseconds.
    pub fn snapshot_age_ms(&self, now_ms: i64) -> Option<i64> {
        self.snapshot_ms.map(|at| now_ms.saturating_sub(at))
    }
}
