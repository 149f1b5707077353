//! The broker as Kafka clients use it: whole batches in and out, lookups, the ends of transactions.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::Broker;
use super::inner::Topic;
use super::writer::Command;
use crate::batch::{BatchError, BatchHeader, CheckedBatch, Compression, with_header};
use crate::error::BrokerError;
use crate::log::LogSettings;
use crate::raw::{FetchedBatches, Isolation, PartitionEnds, Produced, TimeQuery, TransactionMarker};

/// A batch of a client that was checked.
pub(crate) struct Prepared {
    topic: Arc<Topic>,
    index: usize,
    batch: CheckedBatch,
    size_bytes: usize,
}

impl Broker {
    /// Appends exactly one batch of a client, which is checked and then stored as it is, but for its base offset and leader epoch and, where
    /// the topic says so, its time. Durable when it returns `Ok`, unless durability is relaxed and the batch is of no transaction. A
    /// batch that its producer sent before is answered as it was then. Waits while too many bytes are on their way.
    pub async fn produce(&self, topic: &str, partition: i32, batch: Bytes) -> Result<Produced, BrokerError> {
        let prepared = self.prepare(topic, partition, batch).await?;
        self.submit(prepared).await?.await
    }

    /// A batch of a client on its way to a partition, with one more header in each record (see [`crate::batch::with_header`]).
    pub(crate) async fn with_header(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        (name, value): (&'static str, Bytes),
    ) -> Result<Bytes, BrokerError> {
        let limit_bytes = self.inner.config.max_decompressed_size_bytes;
        let topic = topic.to_owned();
        let refuse = move |source: BatchError| BrokerError::InvalidBatch { topic, partition, source };
        let work = move || with_header(&batch, name, &value, limit_bytes).map_err(refuse);
        self.inner.crew.blocking(work).await
    }

    /// The first step of [`Self::produce`]: checks the batch. Batches may be checked side by side and then submitted in their order.
    pub(crate) async fn prepare(&self, topic: &str, partition: i32, batch: Bytes) -> Result<Prepared, BrokerError> {
        self.check_writable("produce")?;
        let (found, index) = self.inner.find(topic, partition)?;
        let settings = LogSettings::new(&self.inner.config, &found.info.config);
        let size_bytes = batch.len();
        if size_bytes > settings.max_batch_size_bytes {
            let (topic, limit_bytes) = (topic.to_owned(), settings.max_batch_size_bytes);
            return Err(BrokerError::BatchTooLarge { topic, partition, size_bytes, limit_bytes });
        }
        let rules = settings.batch_rules(self.inner.clock.now_ms());
        let refuse = {
            let topic = topic.to_owned();
            move |source: BatchError| BrokerError::InvalidBatch { topic, partition, source }
        };
        // To pack and unpack takes long; to look at what is not packed does not.
        let is_packed = |header: BatchHeader| header.compression != Compression::None;
        let takes_long = settings.recompression.is_some() || BatchHeader::parse(&batch).is_ok_and(is_packed);
        let check = move || CheckedBatch::check(batch, &rules).map_err(refuse);
        let batch = if takes_long { self.inner.crew.blocking(check).await? } else { check()? };
        Ok(Prepared { topic: found, index, batch, size_bytes })
    }

    /// The second step: hands the batch to its writer, behind those that were submitted before. Waits while too many bytes are on their way.
    /// The future that it answers with is ready when [`Self::produce`] is.
    pub(crate) async fn submit(
        &self,
        prepared: Prepared,
    ) -> Result<impl Future<Output = Result<Produced, BrokerError>> + use<>, BrokerError> {
        let Prepared { topic, index, batch, size_bytes } = prepared;
        let permits = u32::try_from(size_bytes.min(self.inner.config.max_in_flight_bytes)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.in_flight).acquire_many_owned(permits).await.map_err(|_| BrokerError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let partition = &topic.partitions[index];
        let key = (topic.info.id, partition.id.partition);
        let command = Command::Produce { key, topic: Arc::clone(&topic.info.name), batch, permit, reply };
        self.inner.send(partition.writer, command)?;
        Ok(async { answer.await.map_err(|_| BrokerError::Closed)? })
    }

    /// Batches from the one that holds `offset` on: at least one if there is one that this isolation may see, no further one that would
    /// make them more than `max_size_bytes`. Never waits for more to come; see [`Self::watch`].
    pub async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_size_bytes: usize,
        isolation: Isolation,
    ) -> Result<FetchedBatches, BrokerError> {
        let (found, index) = self.inner.find(topic, partition)?;
        let view = &found.partitions[index].view;
        let ends = view.ends();
        let end = match isolation {
            Isolation::ReadUncommitted => ends.high_watermark,
            Isolation::ReadCommitted => ends.last_stable_offset,
        };
        if (end..=ends.high_watermark).contains(&offset) {
            return Ok(FetchedBatches { batches: Bytes::new(), ends, aborted: Vec::new() });
        }
        let view = Arc::clone(view);
        let result = self.inner.crew.blocking(move || view.fetch(offset, max_size_bytes, isolation)).await;
        if result.is_err() {
            // Where the topic was deleted meanwhile, that is the answer, not the file that is missing.
            self.inner.find(topic, partition)?;
        }
        result
    }

    /// Where a partition begins and ends.
    pub fn ends(&self, topic: &str, partition: i32) -> Result<PartitionEnds, BrokerError> {
        let (found, index) = self.inner.find(topic, partition)?;
        Ok(found.partitions[index].view.ends())
    }

    /// Follows where a partition begins and ends, sync by sync. The channel closes when the topic is deleted or the broker shuts down.
    pub fn watch(&self, topic: &str, partition: i32) -> Result<watch::Receiver<PartitionEnds>, BrokerError> {
        let (found, index) = self.inner.find(topic, partition)?;
        Ok(found.partitions[index].ends.clone())
    }

    /// Offset and timestamp of the record that is asked for, below the high watermark; `None` where there is none.
    pub async fn timestamp_lookup(
        &self,
        topic: &str,
        partition: i32,
        query: TimeQuery,
    ) -> Result<Option<(i64, i64)>, BrokerError> {
        let (found, index) = self.inner.find(topic, partition)?;
        let view = Arc::clone(&found.partitions[index].view);
        self.inner.crew.blocking(move || view.timestamp_lookup(query)).await
    }

    /// Ends a producer's transaction in a partition, durably when this returns, and answers with the offset of the marker. Asked again, it
    /// answers the same and writes nothing.
    pub async fn end_transaction(
        &self,
        topic: &str,
        partition: i32,
        marker: TransactionMarker,
    ) -> Result<i64, BrokerError> {
        self.check_writable("end a transaction")?;
        let (found, index) = self.inner.find(topic, partition)?;
        let (reply, answer) = oneshot::channel();
        let (key, topic) = ((found.info.id, partition), Arc::clone(&found.info.name));
        let command = Command::EndTransaction { key, topic, marker, reply };
        self.inner.send(found.partitions[index].writer, command)?;
        answer.await.map_err(|_| BrokerError::Closed)?
    }
}
