//! Transactions of producers, as Kafka's coordinator has them: producer ids, who is in charge of a transactional id, what belongs to its
//! transaction, how it ended, and the markers that tell readers so.
//!
//! ```text
//! InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn
//!        │
//!        ▼  commit thread: `machine` decides ──▶ journal entry ──▶ fdatasync ──▶ readers and writers see it, client is answered
//!        │                                                                             │
//!        │  decided: markers to all partitions, each synced ──▶ entry "complete"       ├─▶ may this batch be written? (writers)
//!        └─ tick: what takes too long is aborted, ids long unused are forgotten        └─▶ is an offset pending? (groups)
//! ```
//!
//! Invariants:
//! - **Decided is durable.** The decision, and the offsets that it commits, are one entry of the journal: after a crash there are both or neither.
//! - **A transaction ends everywhere the same way.** Markers are written until all are durable, again after a crash; the log takes
//!   each only once. A partition that was deleted meanwhile has nothing to end.
//! - **Nothing lands outside its transaction.** A writer asks right before each write whether the partition is in an ongoing transaction of
//!   the batch's producer, and a decision is visible to it before the markers are sent: no batch lands behind its marker.
//! - **Nothing waits for ever.** A transaction is aborted once its timeout is over, whoever began it, also where the clock is set back.
//!
//! This is transactions version 1 (Kafka's default before 4.0): EndTxn does not raise the epoch.

mod driver;
mod error;
pub(crate) mod machine;
mod requests;
mod settings;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use error::TransactionError;
pub(crate) use machine::PendingOffsets;
pub use machine::Producer;
pub use requests::Transactions;
pub use settings::TransactionSettings;
