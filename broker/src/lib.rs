//! The embedded log broker: segments of Kafka record batches, topics, committed offsets.

pub mod batch;
pub mod fs;

mod append;
mod broker;
mod clock;
mod config;
mod coordinator;
mod error;
pub mod log;
mod record;
mod topic;

pub use append::{Append, Appended, EFFECT_HEADER, EffectMark, Guard, IDEMPOTENCY_HEADER, IDEMPOTENCY_HORIZON_MS};
pub use broker::{Broker, HOLDING_GROUP_PREFIX};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{BrokerConfig, Durability, TimestampType, TopicConfig};
pub use error::BrokerError;
pub use fs::{Fs, FsFile, RealFs, SimFs};
pub use record::{Header, Record, StoredRecord};
pub use topic::{Fetched, Gap, GroupOffset, PartitionInfo, PartitionOffsets, TopicInfo};
