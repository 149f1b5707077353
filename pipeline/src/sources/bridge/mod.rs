//! Kafka topics as a door: what users' existing topics hold becomes rows of `logs` or `metrics`, exactly once.
//!
//! ```text
//!  user's topic/p ──► BridgeTask ──► logs/0..n (or metrics), dead-letter
//!                         │
//!                         └── C: offset committed for the claim of topic/p, with what was received up to there
//! ```
//!
//! A bridge is a task per partition of the user's topic. It keeps no state but its place, so it has
//! neither snapshots nor a watermark. Invariants:
//! - a foreign record's rows are in our log exactly once, whatever is killed: on the embedded log by the marks of its effects
//!   (see [`pending`]), on Kafka because rows and place are one transaction;
//! - the rows of an output partition, and their order, are a function of the foreign partition; only where records of ours begin
//!   and end is not;
//! - what cannot be read goes to `dead-letter` with its coordinate, and the partition goes on; so does a range that the
//!   foreign log has lost;
//! - the time of a row that states none is that of the foreign record; the tenant is the config's.
//!
//! **Claims.** A user's topic may be in another cluster, where we commit nothing. So each of its partitions has one of ours that stands for
//! it, in an empty topic `__highwater.bridge.<source>.<topic>.<block>`: whoever owns that one runs the bridge, C is the offset committed for it, and
//! the task has its name.
//!
//! `docs/decisions/0010-bridge-and-ledger.md` says why; `docs/guides/kafka-source.md` shows how.

use std::sync::Arc;

use arrow::error::ArrowError;
use futures::FutureExt;
use highwater_broker::Clock;
use tokio_util::sync::CancellationToken;

use crate::data::ipc::IpcError;
use crate::log::{Log, LogError, TopicConfig, TopicPartition};
use crate::runtime::TaskRun;

mod config;
mod format;
mod pending;
mod progress;
mod rows;
mod task;
#[cfg(test)]
mod tests;

use config::CLAIMS_PER_TOPIC;
pub use config::{BridgedSignal, CLAIM_PREFIX, Format, KafkaSourceConfig, Start, validate_all};
pub use progress::Progress;
pub use task::{BridgeTask, BridgeTimes};

/// One partition of a user's topic, to be bridged.
#[derive(Debug, Clone)]
pub struct BridgeSpec {
    /// The task's name.
    pub name: Arc<str>,
    /// The partition of ours that stands for it.
    pub claim: TopicPartition,
    /// The partition read.
    pub input: TopicPartition,
    /// What the config says of its source.
    pub source: Arc<KafkaSourceConfig>,
}

impl BridgeSpec {
    /// Runs of this bridge, for [`Tasks::start_runs`](crate::runtime::Tasks::start_runs).
    pub fn runs(
        self,
        input: Arc<dyn Log>,
        output: Arc<dyn Log>,
        clock: Arc<dyn Clock>,
        times: BridgeTimes,
    ) -> impl Fn(CancellationToken) -> TaskRun + Send + Sync + 'static {
        move |stop| {
            let (input, output, clock) = (Arc::clone(&input), Arc::clone(&output), Arc::clone(&clock));
            let task = BridgeTask::new(self.clone(), input, output, clock, times, stop);
            let status = task.status();
            TaskRun { status, is_fenced: async { task.run().await.is_err_and(|error| error.is_fenced()) }.boxed() }
        }
    }
}

/// The name of this source in the ledger.
pub fn ledger_source(topic: &str) -> String {
    format!("kafka:{topic}")
}

/// Makes the claims of a source's topics, and names a bridge for each of them. There are more claims than partitions, mostly: a bridge whose
/// partition is not there waits for it. A cluster that cannot be asked now is asked by the bridges later.
///
/// # Errors
/// Where a claim topic cannot be made in our log.
pub async fn claims(
    source: &Arc<KafkaSourceConfig>,
    input: &dyn Log,
    output: &dyn Log,
) -> Result<Vec<BridgeSpec>, BridgeError> {
    let known = output.topics().await.map_err(BridgeError::Claims)?;
    let mut specs = Vec::new();
    for topic in &source.topics {
        let partitions = match input.topic(topic).await {
            Ok(Some(found)) => found.config.partitions,
            Ok(None) => {
                tracing::warn!(source = source.name, topic, "the topic to bridge does not exist yet");
                0
            }
            Err(error) => {
                tracing::warn!(source = source.name, topic, %error, "the cluster to bridge from does not answer yet");
                0
            }
        };
        let mut blocks = (partitions + CLAIMS_PER_TOPIC - 1) / CLAIMS_PER_TOPIC;
        while known.iter().any(|info| *info.name == source.claim_topic(topic, blocks)) {
            blocks += 1;
        }
        for block in 0..blocks.max(1) {
            let claim = source.claim_topic(topic, block);
            let config = TopicConfig { retention_ms: None, ..TopicConfig::with_partitions(CLAIMS_PER_TOPIC) };
            output.ensure_topic(&claim, config).await.map_err(BridgeError::Claims)?;
        }
        for partition in 0..blocks.max(1) * CLAIMS_PER_TOPIC {
            let claim = source.claim(topic, partition);
            specs.push(BridgeSpec {
                name: format!("{}/{}", claim.topic, claim.partition).into(),
                claim,
                input: TopicPartition { topic: topic.as_str().into(), partition },
                source: Arc::clone(source),
            });
        }
    }
    Ok(specs)
}

/// Why a bridge cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The config cannot work.
    #[error("{key}: {reason}")]
    Config {
        /// Which key.
        key: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A claim topic could not be made.
    #[error("the topic that keeps a bridge's progress cannot be made: {0}")]
    Claims(#[source] LogError),
    /// One of the two logs refused something for good.
    #[error("{what} of {name} failed: {source}")]
    Log {
        /// The task.
        name: Arc<str>,
        /// Which call.
        what: &'static str,
        /// Why.
        #[source]
        source: LogError,
    },
    /// The foreign partition ends before the place where the bridge stands.
    #[error(
        "{topic}/{partition} ends at {end}, but {name} has read up to {offset}: the topic was made anew, or lost its end. \
         Give the source another `name` to read it from its start"
    )]
    Behind {
        /// The task.
        name: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Where the bridge stands.
        offset: i64,
        /// Where the partition ends.
        end: i64,
    },
    /// Committed progress that this version cannot read.
    #[error("the progress kept for {name} is not readable: {reason}")]
    Progress {
        /// The task.
        name: Arc<str>,
        /// What is wrong with it.
        reason: String,
    },
    /// Arrow refused an operation; a defect.
    #[error("rows could not be dealt to partitions: {0}")]
    Arrow(#[source] ArrowError),
    /// Rows could not be written as a record; a defect.
    #[error("rows could not be encoded: {0}")]
    Encode(#[source] IpcError),
    /// A record made a reader panic; a defect.
    #[error("{topic}/{partition} offset {offset}: its reader panicked; this is a defect, please report it")]
    Panicked {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The record.
        offset: i64,
    },
}

impl BridgeError {
    /// True where the same start may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Claims(source) | Self::Log { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// True where a newer run of the same bridge has taken over.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Log { source: LogError::Fenced { .. }, .. })
    }
}
