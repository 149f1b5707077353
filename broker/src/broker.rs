//! The broker: the async face of the log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::append::{Append, Appended};
use crate::clock::Clock;
use crate::config::{BrokerConfig, TopicConfig};
use crate::error::BrokerError;
use crate::fs::Fs;
use crate::topic::{Fetched, GroupOffset, PartitionOffsets, TopicInfo};

/// The embedded log broker.
#[derive(Debug)]
pub struct Broker {}

impl Broker {
    /// Opens the broker on its data directory, taking the lock of it, and recovers every partition.
    pub fn open(_config: BrokerConfig, _fs: Arc<dyn Fs>, _clock: Arc<dyn Clock>) -> Result<Self, BrokerError> {
        Err(BrokerError::Closed)
    }

    /// Opens the data directory for reading, also while another process runs on it.
    pub fn open_read_only(
        _data_dir: impl Into<PathBuf>,
        _fs: Arc<dyn Fs>,
        _clock: Arc<dyn Clock>,
    ) -> Result<Self, BrokerError> {
        Err(BrokerError::Closed)
    }

    /// Creates the topic if it is missing; an existing one is returned as it is.
    pub async fn ensure_topic(&self, _name: &str, _config: TopicConfig) -> Result<TopicInfo, BrokerError> {
        Err(BrokerError::Closed)
    }

    /// Deletes a topic and its records.
    pub async fn delete_topic(&self, _name: &str) -> Result<(), BrokerError> {
        Err(BrokerError::Closed)
    }

    /// All topics, sorted by name.
    pub fn topics(&self) -> Vec<TopicInfo> {
        Vec::new()
    }

    /// One topic, or `None`.
    pub fn topic(&self, _name: &str) -> Option<TopicInfo> {
        None
    }

    /// Appends one batch to one partition. Durable when it returns `Ok`.
    pub async fn append(&self, _append: Append) -> Result<Appended, BrokerError> {
        Err(BrokerError::Closed)
    }

    /// Reads records from `offset` on.
    pub async fn read(
        &self,
        _topic: &str,
        _partition: i32,
        _offset: i64,
        _max_size_bytes: usize,
        _max_wait: Duration,
    ) -> Result<Fetched, BrokerError> {
        Err(BrokerError::Closed)
    }

    /// Log start and high watermark of a partition.
    pub fn offsets(&self, _topic: &str, _partition: i32) -> Result<PartitionOffsets, BrokerError> {
        Err(BrokerError::Closed)
    }

    /// First offset whose timestamp is at or after `timestamp_ms`; `None` past the end.
    pub async fn offset_for_time(
        &self,
        _topic: &str,
        _partition: i32,
        _timestamp_ms: i64,
    ) -> Result<Option<i64>, BrokerError> {
        Err(BrokerError::Closed)
    }

    /// Advances the log start to `offset`, durably, and frees what lies wholly below.
    pub async fn delete_records(&self, _topic: &str, _partition: i32, _offset: i64) -> Result<i64, BrokerError> {
        Err(BrokerError::Closed)
    }

    /// Starts a run of a task.
    pub async fn begin_task(&self, _task: &str) -> Result<i32, BrokerError> {
        Err(BrokerError::Closed)
    }

    /// Commits a group's progress, durably.
    pub async fn commit_offsets(
        &self,
        _group: &str,
        _offsets: Vec<GroupOffset>,
        _task: Option<(&str, i32)>,
    ) -> Result<(), BrokerError> {
        Err(BrokerError::Closed)
    }

    /// All committed offsets of a group, sorted by topic and partition.
    pub fn committed(&self, _group: &str) -> Vec<GroupOffset> {
        Vec::new()
    }

    /// Names of all groups that committed an offset, sorted.
    pub fn groups(&self) -> Vec<String> {
        Vec::new()
    }

    /// Syncs, checkpoints and stops. Later writes are refused with [`BrokerError::Closed`].
    pub async fn shutdown(&self) {}
}
