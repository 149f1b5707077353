//! What the tests of the doors share: the real broker on a simulated filesystem, and what its topics hold.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use highwater_broker::fs::SimFs;
use highwater_broker::{Broker, BrokerConfig, ManualClock};

use super::{Ingest, IngestConfig};
use crate::data::{Decoded, Decoder, RowKind};
use crate::log::{EmbeddedLog, Log, StoredRecord, TopicConfig};

pub(crate) const PARTITIONS: i32 = 4;
pub(crate) const NOW_MS: i64 = 1_714_979_289_000;

pub(crate) struct World {
    pub(crate) fs: SimFs,
    pub(crate) log: Arc<EmbeddedLog>,
    pub(crate) ingest: Arc<Ingest>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(IngestConfig::default()).await
    }

    pub(crate) async fn with(config: IngestConfig) -> Self {
        Self::on(SimFs::new(), config).await
    }

    /// On a filesystem that may hold a log already.
    pub(crate) async fn on(fs: SimFs, config: IngestConfig) -> Self {
        let broker_config = BrokerConfig { segment_size_bytes: 1 << 20, ..BrokerConfig::new("/data") };
        let broker = Broker::open(broker_config, Arc::new(fs.clone()), Arc::new(ManualClock::new(NOW_MS))).unwrap();
        let log = Arc::new(EmbeddedLog::new(Arc::new(broker)));
        let topic = TopicConfig::with_partitions(PARTITIONS);
        let ingest = Ingest::open(Arc::clone(&log) as Arc<dyn Log>, config, topic).await.unwrap();
        Self { fs, log, ingest: Arc::new(ingest) }
    }

    /// All records of a topic, by partition.
    pub(crate) async fn records(&self, topic: &str) -> Vec<Vec<StoredRecord>> {
        let mut partitions = Vec::new();
        for partition in 0..PARTITIONS {
            let offsets = self.log.offsets(topic, partition).await.unwrap();
            let mut records = Vec::new();
            let mut offset = offsets.log_start;
            while offset < offsets.high_watermark {
                let fetched = self.log.read(topic, partition, offset, 64 << 20, Duration::ZERO).await.unwrap();
                offset = fetched.next_offset;
                records.extend(fetched.records);
            }
            partitions.push(records);
        }
        partitions
    }

    /// All rows of a topic, as its table will see them.
    pub(crate) async fn rows(&self, topic: &str, kind: RowKind) -> Vec<RecordBatch> {
        let decoder = Decoder::new(kind);
        let mut batches = Vec::new();
        for (partition, records) in (0..).zip(self.records(topic).await) {
            for record in records {
                match decoder.decode(partition, &record) {
                    Decoded::Rows { batch, refused } => {
                        assert_eq!(refused, []);
                        batches.push(batch);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        batches
    }

    /// The texts of a column of a topic's rows, sorted.
    pub(crate) async fn texts(&self, topic: &str, kind: RowKind, column: &str) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for batch in self.rows(topic, kind).await {
            let column = batch.column_by_name(column).unwrap().as_string::<i32>();
            texts.extend(column.iter().map(|text| text.unwrap_or("NULL").to_owned()));
        }
        texts.sort();
        texts
    }

    /// The messages in topic `logs`, sorted.
    pub(crate) async fn messages(&self) -> Vec<String> {
        self.texts("logs", RowKind::Logs, "message").await
    }
}
