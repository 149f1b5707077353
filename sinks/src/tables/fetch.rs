//! Reading a partition: records in, decoded chunk out.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::Array;
use highwater_pipeline::data::{Control, Decoded, Decoder};
use highwater_pipeline::log::{Fetched, Log, LogError, TopicInfo};
use highwater_pipeline::tables::{Cover, TableSpec, stored_batch};

use super::buffer::Chunk;
use crate::SinkError;

/// How long a read waits for the first record.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// What is needed to read any partition of a table.
#[derive(Clone)]
pub(super) struct Fetcher {
    pub(super) spec: Arc<TableSpec>,
    pub(super) log: Arc<dyn Log>,
    pub(super) decoder: Arc<Decoder>,
    pub(super) fetch_size_bytes: usize,
}

impl Fetcher {
    /// Reads on from `offset`. `None` where nothing is there yet.
    pub(super) async fn fetch(
        &self,
        topic: &TopicInfo,
        partition: i32,
        offset: i64,
    ) -> Result<Option<Chunk>, SinkError> {
        let read = self.log.read(&topic.name, partition, offset, self.fetch_size_bytes, MAX_WAIT).await;
        match read {
            Ok(fetched) if fetched.next_offset > offset => {
                self.decode(topic, partition, offset, fetched).await.map(Some)
            }
            Ok(_) => Ok(None),
            Err(LogError::OffsetOutOfRange { log_start, .. }) if log_start > offset => {
                Ok(Some(self.lost(topic, partition, offset, log_start)))
            }
            Err(LogError::OffsetOutOfRange { high_watermark, .. }) => Err(SinkError::AheadOfLog {
                table: self.spec.name.clone(),
                topic: topic.name.to_string(),
                partition,
                stands_at: offset,
                high_watermark,
            }),
            Err(e) => Err(e.into()),
        }
    }

    /// The log starts beyond where the table stands.
    fn lost(&self, topic: &TopicInfo, partition: i32, from: i64, to: i64) -> Chunk {
        super::metrics::lost(&self.spec.name, from, to);
        tracing::error!(
            table = %self.spec.name, topic = %topic.name, partition, from, to,
            "the log no longer holds records that the table had not read; the table records a gap"
        );
        Chunk { covers: vec![self.cover(topic, partition, from, to, true)], ..Chunk::default() }
    }

    fn cover(&self, topic: &TopicInfo, partition: i32, from: i64, to: i64, gap: bool) -> Cover {
        Cover { topic: topic.name.to_string(), topic_id: topic.id, partition, from, to, rows: 0, gap }
    }

    async fn decode(
        &self,
        topic: &TopicInfo,
        partition: i32,
        offset: i64,
        fetched: Fetched,
    ) -> Result<Chunk, SinkError> {
        let (this, topic) = (self.clone(), topic.clone());
        let decoded = tokio::task::spawn_blocking(move || this.decode_now(&topic, partition, offset, &fetched)).await;
        decoded.unwrap_or_else(|e| Err(SinkError::Broken { table: self.spec.name.clone(), reason: e.to_string() }))
    }

    fn decode_now(
        &self,
        topic: &TopicInfo,
        partition: i32,
        offset: i64,
        fetched: &Fetched,
    ) -> Result<Chunk, SinkError> {
        let mut covers = Vec::with_capacity(1);
        let mut at = offset;
        for gap in &fetched.gaps {
            let (from, to) = (gap.from.max(at), gap.to);
            if to <= from {
                continue;
            }
            super::metrics::lost(&self.spec.name, from, to);
            tracing::error!(
                table = %self.spec.name, topic = %topic.name, partition, from, to, reason = %gap.reason,
                "the log has damaged records here; the table records a gap"
            );
            if from > at {
                covers.push(self.cover(topic, partition, at, from, false));
            }
            covers.push(self.cover(topic, partition, from, to, true));
            at = to;
        }
        if fetched.next_offset > at {
            covers.push(self.cover(topic, partition, at, fetched.next_offset, false));
        }
        let mut chunk = Chunk { covers, ..Chunk::default() };
        for record in &fetched.records {
            let batch = match self.decoder.decode(partition, record) {
                Decoded::Rows { batch, .. } => batch,
                Decoded::Control(Control::Superseded { window_start_us, .. }) if self.spec.is_revised() => {
                    chunk.superseded.add(partition, window_start_us, record.offset);
                    continue;
                }
                // What cannot be decoded is the first-stage task's to dead-letter; here it only counts as covered.
                Decoded::Control(_) | Decoded::Undecodable(_) => continue,
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let stored = stored_batch(&self.spec, &topic.name, &batch)?;
            if let Some(cover) = chunk.covers.iter_mut().find(|c| (c.from..c.to).contains(&record.offset)) {
                cover.rows += stored.num_rows() as u64;
            }
            chunk.bytes += stored.columns().iter().map(|c| size_bytes(c.as_ref())).sum::<usize>();
            chunk.batches.push(stored);
        }
        Ok(chunk)
    }
}

/// Bytes that a column's rows take, without what else lies in buffers it shares.
fn size_bytes(column: &dyn Array) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
}
