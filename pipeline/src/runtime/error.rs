//! Errors of the runtime.

use super::processor::ProcessorError;
use crate::definitions::DefinitionsError;
use crate::log::LogError;

/// Why a task stopped or could not start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The log refused something for good (what may pass is retried, and never seen here).
    #[error("the log refused task {task}")]
    Log {
        /// The task.
        task: String,
        /// What it said.
        #[source]
        source: LogError,
    },
    /// The definitions in the log could not be read.
    #[error("task {task} does not know which definitions apply")]
    Definitions {
        /// The task.
        task: String,
        /// Why.
        #[source]
        source: DefinitionsError,
    },
    /// A snapshot could not be read or written.
    #[error("storage failed at {path}")]
    Storage {
        /// Path in the object store.
        path: String,
        /// What it said.
        #[source]
        source: object_store::Error,
    },
    /// State that was put aside could not be read back.
    #[error("state that was put aside cannot be read")]
    Scratch {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The bytes of a snapshot are not what was written.
    #[error("snapshot is corrupt: {reason}")]
    CorruptSnapshot {
        /// What does not fit.
        reason: String,
    },
    /// The processor of a task could not be made from its configuration.
    #[error("task {task} cannot be built")]
    Build {
        /// The task.
        task: String,
        /// Why.
        #[source]
        source: ProcessorError,
    },
    /// A processor returned an error. The task stops in front of this record.
    #[error("task {task} failed at {topic}/{partition} offset {offset}")]
    Processor {
        /// The task.
        task: String,
        /// Input topic.
        topic: String,
        /// Input partition.
        partition: i32,
        /// Offset of the record in hand.
        offset: i64,
        /// Why.
        #[source]
        source: ProcessorError,
    },
    /// A processor panicked: a defect. The task stops in front of this record.
    #[error(
        "task {task} panicked at {topic}/{partition} offset {offset}: {message}; this is a defect, please report it"
    )]
    Panicked {
        /// The task.
        task: String,
        /// Input topic.
        topic: String,
        /// Input partition.
        partition: i32,
        /// Offset of the record in hand.
        offset: i64,
        /// The panic's message.
        message: String,
    },
}

impl RuntimeError {
    /// True where another run of the task may get further with nothing changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Log { source, .. } => source.is_retryable(),
            Self::Definitions { source, .. } => source.is_retryable(),
            // What is not there will not come.
            Self::Storage { source, .. } => !matches!(source, object_store::Error::NotFound { .. }),
            Self::Scratch { .. }
            | Self::CorruptSnapshot { .. }
            | Self::Build { .. }
            | Self::Processor { .. }
            | Self::Panicked { .. } => false,
        }
    }

    /// True where a newer run of the same task has taken over.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Log { source: LogError::Fenced { .. }, .. })
    }
}
