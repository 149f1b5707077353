//! Reading, following and writing the config topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::history::{Folded, History, Version};
use super::record::ConfigRecord;
use super::{DefinitionsError, TOPIC};
use crate::log::{Append, Guard, Log, LogError, Record, TopicConfig, TopicPartition};

/// How much is read at a time, in bytes.
const READ_SIZE_BYTES: usize = 1 << 20;
/// How long whoever wrote definitions has to write their start before others do it, too.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a read waits for records that are known to be there.
const READ_WAIT: Duration = Duration::from_secs(1);
/// The longest wait for a new record while following; and the pause after an error.
const FOLLOW_WAIT: Duration = Duration::from_secs(1);

/// The definitions in a log: one per process, shared by everything that applies them.
pub struct Definitions {
    log: Arc<dyn Log>,
    /// The topics that tasks read.
    inputs: Vec<Arc<str>>,
    history: RwLock<History>,
    /// Held while records are read or written, so that they are folded once and in order.
    turn: Mutex<()>,
    newest: watch::Sender<u32>,
}

impl Definitions {
    /// Makes sure of the topic and reads all of it. `inputs` are the topics that tasks read, whatever the definitions; they must have been made before.
    pub async fn open(
        log: Arc<dyn Log>,
        inputs: impl IntoIterator<Item = Arc<str>>,
    ) -> Result<Arc<Self>, DefinitionsError> {
        let kept_for_ever =
            TopicConfig { partitions: 1, retention_ms: None, retention_bytes: None, ..TopicConfig::default() };
        log.ensure_topic(TOPIC, kept_for_ever)
            .await
            .map_err(|source| DefinitionsError::Log { action: "create", source })?;
        let inputs = inputs.into_iter().collect();
        let (newest, _) = watch::channel(0);
        let definitions = Self { log, inputs, history: RwLock::new(History::default()), turn: Mutex::new(()), newest };
        definitions.catch_up().await?;
        Ok(Arc::new(definitions))
    }

    /// Returns once every version is known that can apply to a record which could be read before this was called: the topic has been read to its
    /// end, and none of its definitions is without a start.
    pub async fn catch_up(&self) -> Result<(), DefinitionsError> {
        // First the end, then what is known: the other way round, a record could slip in between.
        let end = self.high_watermark().await?;
        if self.is_settled_at(end) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        self.read_to_end().await?;
        self.settle(PATIENCE).await
    }

    /// Makes these the newest definitions and starts them. Returns the version that applies from now on: theirs, or a newer one that another process
    /// wrote at the same time. Writes nothing where they are the newest already.
    pub async fn propose(&self, definitions: &Value) -> Result<Option<Arc<Version>>, DefinitionsError> {
        let _turn = self.turn.lock().await;
        self.read_to_end().await?;
        if !self.history.read().is_newest(definitions) {
            self.append(ConfigRecord::definitions(definitions).to_record()?).await?;
            self.read_to_end().await?;
        }
        self.settle(Duration::ZERO).await?;
        Ok(self.newest())
    }

    /// The version that applies to the record at this offset, as far as is known: after [`Self::catch_up`], to every record that was there before it.
    pub fn version_at(&self, input: &TopicPartition, offset: i64) -> Option<Arc<Version>> {
        self.history.read().version_at(input, offset).map(Arc::clone)
    }

    /// A started version.
    pub fn version(&self, number: u32) -> Option<Arc<Version>> {
        self.history.read().version(number).map(Arc::clone)
    }

    /// The newest started version.
    pub fn newest(&self) -> Option<Arc<Version>> {
        self.history.read().newest().map(Arc::clone)
    }

    /// True where the newest version has these definitions.
    pub fn is_newest(&self, definitions: &Value) -> bool {
        self.history.read().is_newest(definitions)
    }

    /// True where the newest or an older version has these definitions.
    pub fn knows(&self, definitions: &Value) -> bool {
        self.history.read().knows(definitions)
    }

    /// The number of the newest started version, whenever it changes.
    pub fn changes(&self) -> watch::Receiver<u32> {
        self.newest.subscribe()
    }

    /// Keeps up with what other processes write until `stop`. Tasks do so by themselves; this is for everything else.
    pub async fn follow(&self, stop: CancellationToken) {
        let follow = async {
            loop {
                let next = self.history.read().next_offset();
                let read = self.log.read(TOPIC, 0, next, READ_SIZE_BYTES, FOLLOW_WAIT).await;
                let outcome = match read {
                    Ok(_) => self.catch_up().await,
                    Err(source) => Err(DefinitionsError::Log { action: "read", source }),
                };
                if let Err(error) = outcome {
                    tracing::warn!(%error, "definitions cannot be followed; trying again");
                    tokio::time::sleep(FOLLOW_WAIT).await;
                }
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    fn is_settled_at(&self, end: i64) -> bool {
        let history = self.history.read();
        history.next_offset() >= end && history.pending().is_none()
    }

    async fn high_watermark(&self) -> Result<i64, DefinitionsError> {
        let offsets = self.log.offsets(TOPIC, 0).await;
        Ok(offsets.map_err(|source| DefinitionsError::Log { action: "read", source })?.high_watermark)
    }

    async fn read_to_end(&self) -> Result<(), DefinitionsError> {
        let end = self.high_watermark().await?;
        while self.history.read().next_offset() < end {
            self.read(READ_WAIT).await?;
        }
        Ok(())
    }

    /// Reads and folds some records; false where there were none. With the turn.
    async fn read(&self, wait: Duration) -> Result<bool, DefinitionsError> {
        let next = self.history.read().next_offset();
        let fetched = match self.log.read(TOPIC, 0, next, READ_SIZE_BYTES, wait).await {
            Ok(fetched) => fetched,
            Err(LogError::OffsetOutOfRange { log_start, .. }) if next < log_start => {
                return Err(DefinitionsError::Truncated { log_start });
            }
            Err(source) => return Err(DefinitionsError::Log { action: "read", source }),
        };
        let mut history = self.history.write();
        for record in &fetched.records {
            match history.fold(record)? {
                Folded::Proposed(version) => tracing::debug!(version, "new definitions"),
                Folded::Started(version) => {
                    metrics::gauge!("highwater_definitions_version").set(f64::from(version));
                    self.newest.send_replace(version);
                    tracing::info!(version, "definitions apply");
                }
                Folded::Void(reason) => tracing::debug!(offset = record.offset, reason, "void record of {TOPIC}"),
            }
        }
        history.skip_to(fetched.next_offset);
        Ok(history.next_offset() > next)
    }

    /// Sees to it that the newest definitions have a start: waits for the one who wrote them for as long as `patience`, then writes it. With the turn.
    async fn settle(&self, patience: Duration) -> Result<(), DefinitionsError> {
        loop {
            let Some(version) = self.history.read().pending() else { return Ok(()) };
            if !patience.is_zero() && self.read(patience).await? {
                continue;
            }
            // The definitions are durable, so these are read after whatever a task read before it knew of them.
            let from = self.high_watermarks().await?;
            self.append(ConfigRecord::Start { version, from }.to_record()?).await?;
            self.read_to_end().await?;
        }
    }

    /// Of every partition that a task reads. A topic that is not there yet has no records, so it needs no entry.
    async fn high_watermarks(&self) -> Result<BTreeMap<String, i64>, DefinitionsError> {
        let failed = |source| DefinitionsError::Log { action: "read the inputs for", source };
        let mut from = BTreeMap::new();
        for name in &self.inputs {
            let Some(topic) = self.log.topic(name).await.map_err(failed)? else { continue };
            for partition in 0..topic.config.partitions {
                let offsets = self.log.offsets(name, partition).await.map_err(failed)?;
                from.insert(format!("{name}/{partition}"), offsets.high_watermark);
            }
        }
        Ok(from)
    }

    async fn append(&self, record: Record) -> Result<(), DefinitionsError> {
        let append = Append { topic: TOPIC.into(), partition: 0, records: vec![record], guard: Guard::None };
        let appended = self.log.append(append).await;
        appended.map(drop).map_err(|source| DefinitionsError::Log { action: "append to", source })
    }
}
