//! One reader's place in one partition, on one lane.
//!
//! # Reaching the high watermark
//!
//! Transaction markers and aborted batches take offsets, and nothing is delivered for them, while readers have to get to the high
//! watermark to know that they are at the end. librdkafka queues a marker as an op that moves the consumer's *position* when it is
//! taken from the queue, in order with the records around it. So once the queue is empty, the position is where reading goes on. Since
//! every transaction ends in a marker, this reaches the end, but for two cases: an aborted batch whose marker is still
//! behind another open transaction (10 s at most), and a compacted tail. For these the slot, after [`STUCK_MS`],
//! starts a fetch anew at its offset and waits for it to report the end of the partition: all below the high watermark known
//! before that fetch has then been passed.
//!
//! # Moving to another offset
//!
//! librdkafka stamps what it queues with a version and raises it when an assignment ends, so records of the former place are never
//! taken for those of the new one. The position is cleared a moment later, and is not trusted before it has been.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_broker::{Header, StoredRecord};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as Rdkafka;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::context::Context;
use crate::log::TopicPartition;

/// Longer than a transaction can hold readers up.
const STUCK_MS: u64 = 12_000;

pub(super) struct Slot {
    lane: usize,
    consumer: Arc<BaseConsumer<Context>>,
    queue: PartitionQueue<Context>,
    arrived: Arc<Notify>,
    at: TopicPartition,
    place: Option<Place>,
    used_ms: i64,
}

/// Where an assigned slot stands.
struct Place {
    next_offset: i64,
    /// The position of the assignment before this one is gone.
    settled: bool,
    /// Since when nothing has come although there should be something.
    stuck_since_ms: Option<i64>,
    /// A high watermark known before the fetch whose end is awaited.
    proving: Option<i64>,
    /// An error met behind records that went out first.
    error: Option<Rdkafka>,
}

impl Place {
    fn at(next_offset: i64) -> Self {
        Self { next_offset, settled: false, stuck_since_ms: None, proving: None, error: None }
    }
}

/// What was in the queue.
#[derive(Default)]
pub(super) struct Drained {
    pub(super) records: Vec<StoredRecord>,
    pub(super) size_bytes: usize,
    pub(super) error: Option<Rdkafka>,
}

impl Slot {
    pub(super) fn new(
        lane: usize,
        consumer: &Arc<BaseConsumer<Context>>,
        at: &TopicPartition,
        now_ms: i64,
    ) -> Option<Self> {
        let mut queue = consumer.split_partition_queue(&at.topic, at.partition)?;
        let arrived = Arc::new(Notify::new());
        let notify = Arc::clone(&arrived);
        queue.set_nonempty_callback(move || notify.notify_one());
        let (consumer, at) = (Arc::clone(consumer), at.clone());
        Some(Self { lane, consumer, queue, arrived, at, place: None, used_ms: now_ms })
    }

    pub(super) fn lane(&self) -> usize {
        self.lane
    }

    pub(super) fn used_ms(&self) -> i64 {
        self.used_ms
    }

    pub(super) fn used(&mut self, now_ms: i64) {
        self.used_ms = now_ms;
    }

    /// Where reading goes on; `None` where the slot stands nowhere.
    pub(super) fn next_offset(&self) -> Option<i64> {
        self.place.as_ref().map(|place| place.next_offset)
    }

    /// Waits until something is in the queue.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Starts reading at this offset.
    pub(super) fn assign(&mut self, offset: i64) -> Result<(), Rdkafka> {
        self.leave();
        self.consumer.incremental_assign(&self.list(Offset::Offset(offset))?)?;
        self.place = Some(Place::at(offset));
        Ok(())
    }

    /// Stops reading.
    pub(super) fn leave(&mut self) {
        if self.place.take().is_some() {
            let ended = self.list(Offset::Invalid).and_then(|list| self.consumer.incremental_unassign(&list));
            if let Err(error) = ended {
                tracing::warn!(topic = &*self.at.topic, partition = self.at.partition, %error, "a reader's place was not let go");
            }
        }
    }

    /// Waits until the position of the assignment before is gone. False where it does not go.
    pub(super) async fn settle(&mut self) -> bool {
        for _ in 0..5_000 {
            match &mut self.place {
                Some(place) if place.settled => return true,
                None => return true,
                Some(_) => {}
            }
            if self.position().is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            } else if let Some(place) = &mut self.place {
                place.settled = true;
            }
        }
        self.leave();
        false
    }

    /// Takes what has been fetched, without waiting: up to about this size, at least one record if there is one.
    pub(super) fn drain(&mut self, max_size_bytes: usize) -> Drained {
        let mut drained = Drained::default();
        let Some(place) = &mut self.place else { return drained };
        if place.error.is_some() {
            drained.error = place.error.take();
            return drained;
        }
        while drained.size_bytes < max_size_bytes.max(1) {
            match self.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) if message.offset() < place.next_offset => {}
                Some(Ok(message)) => {
                    place.next_offset = message.offset() + 1;
                    place.stuck_since_ms = None;
                    drained.size_bytes += message.key_len() + message.payload_len() + 64;
                    drained.records.push(stored(&message));
                }
                Some(Err(Rdkafka::PartitionEOF(_))) => {
                    if let Some(high_watermark) = place.proving.take() {
                        place.next_offset = place.next_offset.max(high_watermark);
                    }
                }
                Some(Err(error)) => {
                    // Records go out first; the error waits for the next look.
                    if drained.records.is_empty() {
                        drained.error = Some(error)
                    } else {
                        place.error = Some(error)
                    }
                    break;
                }
            }
        }
        drained
    }

    /// Moves over markers that have been taken from the queue. Only for an empty queue.
    pub(super) fn pass_markers(&mut self) {
        let position = self.position();
        if let (Some(place), Some(position)) = (&mut self.place, position)
            && position > place.next_offset
        {
            place.next_offset = position;
            place.stuck_since_ms = None;
        }
    }

    /// Where nothing has come for long although there should be something: fetches anew, see the module's text.
    pub(super) fn prove(&mut self, high_watermark: i64, now_ms: i64) {
        let Some(place) = &mut self.place else { return };
        if place.next_offset >= high_watermark {
            place.stuck_since_ms = None;
            return;
        }
        let since_ms = *place.stuck_since_ms.get_or_insert(now_ms);
        if now_ms.abs_diff(since_ms) < STUCK_MS {
            return;
        }
        let offset = place.next_offset;
        tracing::debug!(topic = &*self.at.topic, partition = self.at.partition, offset, high_watermark, "reading anew");
        match self.assign(offset) {
            Ok(()) => {
                if let Some(place) = &mut self.place {
                    (place.proving, place.stuck_since_ms) = (Some(high_watermark), Some(now_ms));
                }
            }
            Err(error) => {
                self.place = Some(Place { error: Some(error), ..Place::at(offset) });
            }
        }
    }

    fn list(&self, offset: Offset) -> Result<TopicPartitionList, Rdkafka> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.at.topic, self.at.partition, offset)?;
        Ok(list)
    }

    /// The consumer's position in this partition.
    fn position(&self) -> Option<i64> {
        let positions = self.consumer.position().ok()?;
        match positions.find_partition(&self.at.topic, self.at.partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The record as it lies in the log. One without a time has time 0.
pub(super) fn stored(message: &BorrowedMessage<'_>) -> StoredRecord {
    StoredRecord {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers: headers(message),
    }
}

pub(super) fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let Some(headers) = message.headers() else { return Vec::new() };
    // rdkafka panics at a header whose name is not UTF-8. Whoever wrote that must not stop the partition.
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        headers
            .iter()
            .map(|header| Header { name: header.key.to_owned(), value: header.value.map(Bytes::copy_from_slice) })
            .collect()
    }));
    read.unwrap_or_else(|_| {
        tracing::warn!(
            topic = message.topic(),
            partition = message.partition(),
            offset = message.offset(),
            "a header's name is not UTF-8; the record is read without its headers"
        );
        Vec::new()
    })
}
