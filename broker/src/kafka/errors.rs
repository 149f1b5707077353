//! The Kafka error code of each [`BrokerError`]. The match is exhaustive, so that a new error is given a code by whoever adds it.

use kafka_protocol::ResponseError;

use crate::batch::BatchError;
use crate::error::BrokerError;
use crate::groups::GroupError;
use crate::transactions::TransactionError;

/// Counts an error that a client is told, by its name.
fn counted(error: ResponseError) -> ResponseError {
    metrics::counter!("highwater_kafka_errors_total", "error" => format!("{error:?}")).increment(1);
    error
}

/// The error that a Kafka client is told.
pub(in crate::kafka) fn response_error(error: &BrokerError) -> ResponseError {
    counted(match error {
        BrokerError::UnknownTopicOrPartition { .. } => ResponseError::UnknownTopicOrPartition,
        BrokerError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        BrokerError::Fenced { .. } => ResponseError::InvalidProducerEpoch,
        BrokerError::InvalidTopicName { .. } => ResponseError::InvalidTopicException,
        BrokerError::TopicExists { .. } => ResponseError::TopicAlreadyExists,
        BrokerError::InvalidPartitions { .. } => ResponseError::InvalidPartitions,
        BrokerError::TooManyPartitions { .. } => ResponseError::PolicyViolation,
        BrokerError::InvalidConfig { .. } => ResponseError::InvalidConfig,
        BrokerError::InvalidRequest { .. } => ResponseError::InvalidRequest,
        BrokerError::BatchTooLarge { .. } => ResponseError::MessageTooLarge,
        BrokerError::InvalidBatch { source, .. } => match source {
            BatchError::Truncated { .. } | BatchError::Crc { .. } => ResponseError::CorruptMessage,
            BatchError::Compression { .. } => ResponseError::UnsupportedCompressionType,
            BatchError::Timestamp { .. } | BatchError::TimestampType => ResponseError::InvalidTimestamp,
            BatchError::TooLarge { .. } => ResponseError::MessageTooLarge,
            BatchError::Magic { .. }
            | BatchError::Field { .. }
            | BatchError::Codec { .. }
            | BatchError::Refused { .. } => ResponseError::InvalidRecord,
        },
        BrokerError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        BrokerError::ProducerFenced { .. } => ResponseError::InvalidProducerEpoch,
        BrokerError::InvalidTransactionState { .. } => ResponseError::InvalidTxnState,
        BrokerError::CoordinatorFenced { .. } => ResponseError::TransactionCoordinatorFenced,
        // A client tries again on this one, and the next try may find room.
        BrokerError::DiskFull { .. } => ResponseError::KafkaStorageError,
        BrokerError::Stopped { .. }
        | BrokerError::Io { .. }
        | BrokerError::Corrupt { .. }
        | BrokerError::Batch { .. } => ResponseError::KafkaStorageError,
        BrokerError::Locked { .. } | BrokerError::ReadOnly { .. } | BrokerError::Stepped { .. } => {
            ResponseError::UnknownServerError
        }
        // A client tries again on this one too, after it has looked where the partition is: the broker may be back by then.
        BrokerError::Closed => ResponseError::NotLeaderOrFollower,
    })
}

/// The code of [`response_error`].
pub(in crate::kafka) fn code(error: &BrokerError) -> i16 {
    response_error(error).code()
}

/// The code of what a consumer group refused.
pub(in crate::kafka) fn group_code(error: GroupError) -> i16 {
    let error = match error {
        GroupError::CoordinatorNotAvailable => ResponseError::CoordinatorNotAvailable,
        GroupError::InvalidGroupId => ResponseError::InvalidGroupId,
        GroupError::UnknownMemberId => ResponseError::UnknownMemberId,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::FencedInstanceId => ResponseError::FencedInstanceId,
        GroupError::InconsistentGroupProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        GroupError::GroupMaxSizeReached => ResponseError::GroupMaxSizeReached,
        GroupError::MemberIdRequired => ResponseError::MemberIdRequired,
        GroupError::NonEmptyGroup => ResponseError::NonEmptyGroup,
        GroupError::GroupIdNotFound => ResponseError::GroupIdNotFound,
        GroupError::GroupAuthorizationFailed => ResponseError::GroupAuthorizationFailed,
        GroupError::TooLarge => ResponseError::InvalidCommitOffsetSize,
    };
    counted(error).code()
}

/// What the coordinator of transactions refused. Clients that do not know PRODUCER_FENCED are told INVALID_PRODUCER_EPOCH, which has
/// the same meaning to them.
pub(in crate::kafka) fn transaction_error(error: &TransactionError, knows_fenced: bool) -> ResponseError {
    counted(match error {
        TransactionError::InvalidProducerIdMapping { .. } => ResponseError::InvalidProducerIdMapping,
        TransactionError::ProducerFenced { .. } if knows_fenced => ResponseError::ProducerFenced,
        TransactionError::ProducerFenced { .. } => ResponseError::InvalidProducerEpoch,
        TransactionError::ConcurrentTransactions { .. } => ResponseError::ConcurrentTransactions,
        TransactionError::InvalidState { .. } => ResponseError::InvalidTxnState,
        TransactionError::InvalidTimeout { .. } => ResponseError::InvalidTransactionTimeout,
        TransactionError::InvalidRequest { .. } => ResponseError::InvalidRequest,
        TransactionError::TooManyIds { .. } => ResponseError::PolicyViolation,
        // Too large for one entry of the journal.
        TransactionError::Broker(BrokerError::InvalidConfig { .. }) => ResponseError::InvalidRequest,
        // The journal takes no writes now, for want of room or until a restart: clients try again on this one.
        TransactionError::Broker(_) => ResponseError::CoordinatorNotAvailable,
    })
}
