//! The Kafka error code of each [`BrokerError`]. The match is exhaustive, so that a new error is given a code by whoever adds it.

use kafka_protocol::ResponseError;

use crate::batch::BatchError;
use crate::error::BrokerError;
use crate::groups::GroupError;

/// The error that a Kafka client is told.
pub(in crate::kafka) fn response_error(error: &BrokerError) -> ResponseError {
    match error {
        BrokerError::UnknownTopicOrPartition { .. } => ResponseError::UnknownTopicOrPartition,
        BrokerError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        BrokerError::Fenced { .. } => ResponseError::InvalidProducerEpoch,
        BrokerError::InvalidTopicName { .. } => ResponseError::InvalidTopicException,
        BrokerError::TopicExists { .. } => ResponseError::TopicAlreadyExists,
        BrokerError::InvalidPartitions { .. } => ResponseError::InvalidPartitions,
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
        BrokerError::Closed => ResponseError::BrokerNotAvailable,
    }
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
    error.code()
}
