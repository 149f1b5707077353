//! The embedded log broker: topics of partitions, each a durable, replayable log of Kafka record batches; committed offsets of
//! consumer groups; epochs of tasks. It knows nothing of what the records mean.
//!
//! What callers may rely on:
//! - **An ack means synced.** [`Broker::append`] and [`Broker::commit_offsets`] answer after `fdatasync`, which many of them share.
//! - **Readers see only what is synced**, in offset order, below the high watermark.
//! - **Once.** A task's effects and a sender's keyed requests are applied at most once, across retries and restarts ([`Guard`]).
//! - **Damage is told, not hidden.** Lost ranges are passed over and reported ([`Gap`]); later records stay readable.
//! - **Bounded.** Batches, what they unpack to, bytes in flight, and keys remembered have limits; past them the answer is an error.
//!
//! Where to look: [`batch`] is the codec, [`log`] one partition (synchronous and deterministic), `coordinator` groups and tasks,
//! `broker` the threads and the async face, `groups` Kafka's consumer groups, [`fs`] the seam to the disk. `docs/formats/log.md` draws every file byte by byte.

pub mod access;
pub mod batch;
pub mod fs;
pub mod guests;
pub mod kafka;
pub mod log;
pub mod tls;

mod append;
mod broker;
mod clock;
mod config;
mod coordinator;
mod error;
mod groups;
mod raw;
mod record;
mod topic;
mod topic_config;
mod transactions;

pub use append::{Append, Appended, EFFECT_HEADER, EffectMark, Guard, IDEMPOTENCY_HEADER, IDEMPOTENCY_HORIZON_MS};
pub use broker::{Broker, HOLDING_GROUP_PREFIX, Stepper};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{BrokerConfig, Durability, TimestampType};
pub use error::BrokerError;
pub use fs::{Fs, FsFile, RealFs, SimFs};
pub use groups::{GroupDescription, GroupError, GroupListing, GroupSettings, GroupState, Groups, MemberDescription};
pub use raw::{AbortedTransaction, FetchedBatches, Isolation, PartitionEnds, Produced, TimeQuery, TransactionMarker};
pub use record::{Header, Record, StoredRecord};
pub use topic::{Fetched, Gap, GroupOffset, PartitionInfo, PartitionOffsets, TopicInfo};
pub use topic_config::{
    CleanupPolicy, DescribedSetting, SettingChange, SettingSource, SettingSynonym, SettingType, TOPIC_ID_SETTING,
    TopicConfig,
};
pub use transactions::{Producer, TransactionError, TransactionSettings, Transactions};
