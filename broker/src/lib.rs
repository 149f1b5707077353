//! The embedded log broker: segments of Kafka record batches, topics, committed offsets.

pub mod batch;
pub mod fs;

mod append;
mod broker;
mod clock;
mod config;
mod error;
mod record;
mod topic;

pub use append::{Append, Appended, EFFECT_HEADER, EffectMark, Guard, IDEMPOTENCY_HEADER, IDEMPOTENCY_HORIZON_MS};
pub use broker::Broker;
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{BrokerConfig, Durability, TimestampType, TopicConfig};
pub use error::BrokerError;
pub use fs::{Fs, FsFile, RealFs};
pub use record::{Header, Record, StoredRecord};
pub use topic::{Fetched, Gap, GroupOffset, PartitionOffsets, TopicInfo};
