//! Why the coordinator of transactions refuses.

use crate::error::BrokerError;

/// Why a request about a transaction was refused. Each is one of Kafka's errors, by the same name.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransactionError {
    /// No such transactional id, or another producer id has it.
    #[error("producer id {producer_id} is not that of transactional id {id:?}: initialise the producer first")]
    InvalidProducerIdMapping {
        /// The transactional id.
        id: String,
        /// The producer id that was named.
        producer_id: i64,
    },
    /// Another run of the transactional id has taken over, or its transaction was aborted because it took too long.
    #[error(
        "epoch {epoch} of transactional id {id:?} is fenced: epoch {current} is in charge; this producer must stop"
    )]
    ProducerFenced {
        /// The transactional id.
        id: String,
        /// The epoch that was named.
        epoch: i16,
        /// The epoch in charge.
        current: i16,
    },
    /// The last transaction is being ended.
    #[error("the last transaction of transactional id {id:?} is not complete yet: try again")]
    ConcurrentTransactions {
        /// The transactional id.
        id: String,
    },
    /// Not possible where the transaction stands.
    #[error("transactional id {id:?}: cannot {action} {state}")]
    InvalidState {
        /// The transactional id.
        id: String,
        /// What was asked.
        action: &'static str,
        /// Where it stands.
        state: &'static str,
    },
    /// `transaction.timeout.ms` out of bounds.
    #[error("transaction timeout of {timeout_ms} ms: it must be 1 to {limit_ms} ms")]
    InvalidTimeout {
        /// What was asked for.
        timeout_ms: i32,
        /// What is allowed.
        limit_ms: i32,
    },
    /// A request that contradicts itself.
    #[error("invalid transactional request: {reason}")]
    InvalidRequest {
        /// What is wrong with it.
        reason: String,
    },
    /// There are as many transactional ids as there may be.
    #[error("there are {limit} transactional ids, which is the limit: reuse ids, or wait until unused ones expire")]
    TooManyIds {
        /// The limit.
        limit: usize,
    },
    /// The broker could not write it down.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}
