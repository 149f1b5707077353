//! Errors of the log, as tasks and doors see them.

use highwater_broker::BrokerError;

/// Why the log refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No such topic or partition.
    #[error("unknown topic or partition {topic}/{partition}: create the topic first, or check the name")]
    UnknownTopicOrPartition {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
    },
    /// The offset is not in the log any more, or not yet.
    #[error("offset {offset} of {topic}/{partition} is out of range: the log holds {log_start}..{high_watermark}")]
    OffsetOutOfRange {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// The offset asked for.
        offset: i64,
        /// First offset held.
        log_start: i64,
        /// One past the last durable offset.
        high_watermark: i64,
    },
    /// A newer run of the task has taken over.
    #[error("task {task} epoch {epoch} is fenced: epoch {current} runs now; this run must stop")]
    Fenced {
        /// The task.
        task: String,
        /// The epoch that tried.
        epoch: i32,
        /// The epoch in charge.
        current: i32,
    },
    /// Anything else the broker says.
    #[error(transparent)]
    Broker(BrokerError),
    /// Anything else Kafka says, or does not say.
    #[error(transparent)]
    Kafka(super::kafka::KafkaError),
}

impl LogError {
    /// True where the same call may succeed later (disk full, backpressure); false where it never will.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_retryable(),
            Self::Kafka(error) => error.is_retryable(),
            Self::UnknownTopicOrPartition { .. } | Self::OffsetOutOfRange { .. } | Self::Fenced { .. } => false,
        }
    }
}

impl From<BrokerError> for LogError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::UnknownTopicOrPartition { topic, partition } => {
                Self::UnknownTopicOrPartition { topic, partition }
            }
            BrokerError::OffsetOutOfRange { topic, partition, offset, log_start, high_watermark } => {
                Self::OffsetOutOfRange { topic, partition, offset, log_start, high_watermark }
            }
            BrokerError::Fenced { task, epoch, current } => Self::Fenced { task, epoch, current },
            other => Self::Broker(other),
        }
    }
}
