//! Batches of Kafka clients, stored as they are, and the markers that end their transactions.

use super::super::producers::{Judged, MarkerJudged, OngoingTransactions, Refused};
use super::PartitionLog;
use crate::batch::{BatchRules, CheckedBatch, TimeRules, disk_field, encode_marker, set_leader_epoch};
use crate::config::TimestampType;
use crate::error::BrokerError;
use crate::log::{LogSettings, PartitionId};
use crate::raw::{Produced, TransactionMarker};

impl LogSettings {
    /// What is asked of a client's batch at this time.
    pub(crate) fn batch_rules(&self, now_ms: i64) -> BatchRules {
        BatchRules {
            max_unpacked_size_bytes: self.max_decompressed_size_bytes,
            times: (self.timestamp_type == TimestampType::CreateTime).then_some(TimeRules {
                now_ms,
                before_max_ms: self.timestamp_before_max_ms,
                after_max_ms: self.timestamp_after_max_ms,
            }),
            needs_keys: self.compaction.is_some(),
            compression: self.recompression,
        }
    }
}

/// A producer that a partition remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownProducer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    /// It has a transaction open here.
    pub(crate) has_open_transaction: bool,
}

impl PartitionLog {
    /// The producers that the partition remembers.
    pub(crate) fn producers(&self) -> impl Iterator<Item = KnownProducer> {
        self.state.producers.iter().map(|(id, producer)| KnownProducer {
            id,
            epoch: producer.epoch,
            has_open_transaction: producer.open_from.is_some(),
        })
    }

    /// Writes a client's batch, verbatim but for what [`CheckedBatch::stamp`] sets. As with [`Self::append`] it may be acknowledged once
    /// [`Self::sync`] has returned, repetitions too.
    pub(crate) fn produce(
        &mut self,
        batch: &CheckedBatch,
        now_ms: i64,
        ongoing: &dyn OngoingTransactions,
    ) -> Result<Produced, BrokerError> {
        self.check_running()?;
        let header = batch.header();
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        let judged = self.state.producers.judge(header, ongoing, &self.id);
        let log_start = self.view.offsets().log_start;
        let own_time = self.settings.timestamp_type == TimestampType::LogAppendTime;
        if let Judged::Repeated(written) =
            judged.map_err(|refused| refusal(&self.id, producer_id, (epoch, header.base_sequence), refused))?
        {
            return Ok(Produced {
                base_offset: written.base_offset(),
                last_offset: written.last_offset,
                append_time_ms: own_time.then_some(written.timestamp_ms),
                log_start,
                duplicate: true,
            });
        }
        let unsynced_bytes = self.make_room(header)?;
        let append_time_ms = own_time.then_some(now_ms);
        let (header, bytes) = batch.stamp(self.next_offset, disk_field(unsynced_bytes, true), append_time_ms);
        self.put(&header, &[&bytes, batch.records()], now_ms)?;
        self.state.producers.note_batch(&header, now_ms);
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        Ok(Produced { base_offset, last_offset, append_time_ms, log_start, duplicate: false })
    }

    /// Ends a producer's transaction in this partition and answers with the offset of the marker. One that is there already is not
    /// written again. Durable once [`Self::sync`] has returned.
    pub(crate) fn end_transaction(&mut self, marker: &TransactionMarker, now_ms: i64) -> Result<i64, BrokerError> {
        self.check_running()?;
        let judged = self.state.producers.judge_marker(marker).map_err(|refused| {
            let tried = (marker.producer_epoch, marker.coordinator_epoch);
            refusal(&self.id, marker.producer_id, tried, refused)
        })?;
        if let MarkerJudged::Repeated(offset) = judged {
            return Ok(offset);
        }
        let mut batch = Vec::new();
        let timestamp_type = self.settings.timestamp_type;
        let header = encode_marker(marker, self.next_offset, now_ms, timestamp_type, &mut batch)
            .map_err(|e| self.invalid(e.to_string()))?;
        let unsynced_bytes = self.make_room(&header)?;
        set_leader_epoch(&mut batch, disk_field(unsynced_bytes, false));
        self.put(&header, &[&batch], now_ms)?;
        self.state.producers.note_marker(marker, header.base_offset, now_ms);
        Ok(header.base_offset)
    }
}

/// `tried` is the epoch of the producer, and the sequence or the coordinator's epoch.
fn refusal(id: &PartitionId, producer_id: i64, tried: (i16, i32), refused: Refused) -> BrokerError {
    let (topic, partition) = (id.topic.to_string(), id.partition);
    match refused {
        Refused::OutOfOrder { expected } => {
            BrokerError::OutOfOrderSequence { topic, partition, producer_id, sequence: tried.1, expected }
        }
        Refused::Fenced { current } => {
            BrokerError::ProducerFenced { topic, partition, producer_id, epoch: tried.0, current }
        }
        Refused::CoordinatorFenced { current } => {
            BrokerError::CoordinatorFenced { topic, partition, epoch: tried.1, current }
        }
        Refused::Transaction(reason) => BrokerError::InvalidTransactionState { topic, partition, producer_id, reason },
    }
}
