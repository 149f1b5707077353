//! Errors of Kafka as the log gives them on: what failed, where, and whether trying again can help.

use rdkafka::error::{KafkaError as Rdkafka, RDKafkaErrorCode as Code};

use crate::log::LogError;

/// Why Kafka refused, or could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// A setting that cannot work.
    #[error("invalid Kafka setting: {reason}")]
    Config {
        /// Which, and what is allowed.
        reason: String,
    },
    /// The cluster does not answer, or is not ready (a leader moves, a coordinator loads). It may be in a moment.
    #[error(
        "Kafka at {brokers} is not ready for {doing}: {reason}; check that its brokers run and that log.kafka.brokers names them"
    )]
    Unavailable {
        /// The brokers asked.
        brokers: String,
        /// What was tried.
        doing: String,
        /// What librdkafka says.
        reason: String,
    },
    /// The cluster does not take who we say we are, or we do not take its certificate.
    #[error(
        "Kafka at {brokers} refuses to talk while {doing}: {reason}; check security.protocol, sasl.mechanism, sasl.username, \
         sasl.password and ssl.ca.location in log.kafka.security"
    )]
    Authentication {
        /// The brokers asked.
        brokers: String,
        /// What was tried.
        doing: String,
        /// What librdkafka says.
        reason: String,
    },
    /// The cluster knows us and does not allow this.
    #[error("Kafka does not allow {doing}: {reason}; grant {grant}")]
    NotAllowed {
        /// What was tried.
        doing: String,
        /// What Kafka says.
        reason: String,
        /// The permission that is missing.
        grant: &'static str,
    },
    /// A record above the limit.
    #[error(
        "a record for {topic}/{partition} is larger than {limit_bytes} bytes: send smaller ones, or raise \
         log.kafka.max_record_size_bytes and the topic's max.message.bytes"
    )]
    RecordTooLarge {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// The limit on our side; the topic's may be lower.
        limit_bytes: usize,
    },
    /// A transaction did not go through; nothing of it is visible.
    #[error("the transaction of task {task} was aborted: {reason}; nothing of it is visible, and it is tried again")]
    Aborted {
        /// The task.
        task: String,
        /// Why.
        reason: String,
    },
    /// An append or commit that contradicts itself.
    #[error("invalid request on {topic}/{partition}: {reason}")]
    InvalidRequest {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// What is wrong with it.
        reason: String,
    },
    /// A stored batch cannot be read.
    #[error("records of {topic}/{partition} from offset {offset} on cannot be read: {reason}")]
    Unreadable {
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// Where reading stopped.
        offset: i64,
        /// What librdkafka says.
        reason: String,
    },
    /// Anything else Kafka says no to.
    #[error("Kafka at {brokers} refused {doing}: {reason}")]
    Refused {
        /// The brokers asked.
        brokers: String,
        /// What was tried.
        doing: String,
        /// What Kafka says.
        reason: String,
    },
    /// The log is closed.
    #[error("the Kafka log is closed")]
    Closed,
}

impl KafkaError {
    /// True where the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Aborted { .. })
    }
}

impl From<KafkaError> for LogError {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error)
    }
}

/// The code inside, if there is one.
pub(super) fn code_of(error: &Rdkafka) -> Option<Code> {
    match error {
        Rdkafka::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// What kind of failure a code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Transient,
    Credentials,
    NotAllowed(&'static str),
    Final,
}

pub(super) fn kind_of(code: Code) -> Kind {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::SSL => {
            Kind::Credentials
        }
        Code::TopicAuthorizationFailed => Kind::NotAllowed(
            "DESCRIBE, DESCRIBE_CONFIGS, READ and WRITE on the topic (CREATE for topics Highwater makes)",
        ),
        Code::GroupAuthorizationFailed => Kind::NotAllowed("READ on the groups whose name begins with log.kafka.group"),
        Code::ClusterAuthorizationFailed => Kind::NotAllowed("IDEMPOTENT_WRITE and CREATE on the cluster"),
        Code::TransactionalIdAuthorizationFailed => {
            Kind::NotAllowed("DESCRIBE and WRITE on the transactional ids that begin with log.kafka.group")
        }
        Code::BrokerDestroy
        | Code::Fail
        | Code::BrokerTransportFailure
        | Code::Resolve
        | Code::MessageTimedOut
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::QueueFull
        | Code::ISRInsufficient
        | Code::NodeUpdate
        | Code::WaitingForCoordinator
        | Code::InProgress
        | Code::PreviousInProgress
        | Code::State
        | Code::TimedOutQueue
        | Code::WaitCache
        | Code::Interrupted
        | Code::Partial
        | Code::Underflow
        | Code::Retry
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::UnknownBroker
        | Code::DestroyBroker
        | Code::Conflict
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::RequestTimedOut
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::StaleControllerEpoch
        | Code::NetworkException
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::RebalanceInProgress
        | Code::NotController
        | Code::ConcurrentTransactions
        | Code::OperationNotAttempted
        | Code::KafkaStorageError
        | Code::ReassignmentInProgress
        | Code::FetchSessionIdNotFound
        | Code::InvalidFetchSessionEpoch
        | Code::ListenerNotFound
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::StaleBrokerEpoch
        | Code::OffsetNotAvailable
        | Code::MemberIdRequired
        | Code::PreferredLeaderNotAvailable
        | Code::EligibleLeadersNotAvailable
        | Code::UnstableOffsetCommit
        | Code::ThrottlingQuotaExceeded
        | Code::UnknownTopicId
        | Code::UnknownProducerId
        | Code::OutOfOrderSequenceNumber
        | Code::RebootstrapRequired => Kind::Transient,
        _ => Kind::Final,
    }
}

/// True where the topic or the partition does not exist.
pub(super) fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::InvalidTopic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_retryable_and_what_does_not_is_not() {
        for code in
            [Code::BrokerTransportFailure, Code::OperationTimedOut, Code::NotLeaderForPartition, Code::QueueFull]
        {
            assert_eq!(kind_of(code), Kind::Transient, "{code:?}");
        }
        for code in [Code::InvalidTopic, Code::MessageSizeTooLarge, Code::Fenced, Code::BadMessage] {
            assert_eq!(kind_of(code), Kind::Final, "{code:?}");
        }
        assert_eq!(kind_of(Code::SaslAuthenticationFailed), Kind::Credentials);
        assert!(matches!(kind_of(Code::GroupAuthorizationFailed), Kind::NotAllowed(_)));
    }
}
