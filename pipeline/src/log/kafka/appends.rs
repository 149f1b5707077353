//! Plain appends: what doors and clock records write. One idempotent producer for all of them, so that librdkafka's own retries double nothing.
//!
//! Records of one append go out one behind the other, with nothing of this process in between, and mostly in one batch; a failure may leave the
//! first of them in the log. A caller that tries again after an error is at-least-once, unless it gave a key (see [`super::keys`]).

use std::sync::Arc;
use std::time::Duration;

use highwater_broker::{Append, Appended, Record};
use parking_lot::Mutex;
use rdkafka::error::{KafkaError as Rdkafka, RDKafkaErrorCode as Code};
use rdkafka::message::{Header as OwnedHeader, OwnedHeaders};
use rdkafka::producer::future_producer::Delivery;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use tokio::sync::Semaphore;

use super::cluster::Cluster;
use super::config::MAX_IN_FLIGHT_BYTES;
use super::context::Context;
use super::error::KafkaError;
use super::watermarks::Watermarks;
use crate::log::LogError;

/// Appends to one partition are queued under one of these locks, so that their records stay together.
const SHARDS: usize = 16;

pub(super) struct Appends {
    cluster: Arc<Cluster>,
    watermarks: Arc<Watermarks>,
    producer: Mutex<FutureProducer<Context>>,
    shards: [Mutex<()>; SHARDS],
    in_flight: Semaphore,
}

impl Appends {
    pub(super) fn new(cluster: &Arc<Cluster>, watermarks: &Arc<Watermarks>) -> Result<Self, LogError> {
        Ok(Self {
            cluster: Arc::clone(cluster),
            watermarks: Arc::clone(watermarks),
            producer: Mutex::new(cluster.create(&cluster.config.producer(), "producer")?),
            shards: std::array::from_fn(|_| Mutex::default()),
            in_flight: Semaphore::new(MAX_IN_FLIGHT_BYTES),
        })
    }

    /// Writes the records and waits until all in-sync replicas have them. `header` goes on each of them.
    pub(super) async fn write(&self, append: &Append, header: Option<(&str, &[u8])>) -> Result<Appended, LogError> {
        if append.records.is_empty() {
            return Err(KafkaError::InvalidRequest {
                topic: append.topic.to_string(),
                partition: append.partition,
                reason: "an append holds at least one record".into(),
            }
            .into());
        }
        let size_bytes = append.records.iter().map(size_bytes).sum::<usize>().min(MAX_IN_FLIGHT_BYTES);
        let permits = u32::try_from(size_bytes).unwrap_or(u32::MAX);
        let _permit = self.in_flight.acquire_many(permits).await.map_err(|_| KafkaError::Closed)?;
        let producer = self.producer.lock().clone();
        let (sent, mut failed) = self.queue(&producer, append, header);
        let mut delivered: Option<(Delivery, i64)> = None;
        for delivery in sent {
            match delivery.await {
                Ok(Ok(delivery)) => {
                    let last = delivery.offset;
                    delivered = Some((delivered.map_or(delivery, |(first, _)| first), last));
                }
                Ok(Err((error, _))) => failed = failed.or(Some(error)),
                Err(_) => failed = failed.or(Some(Rdkafka::Canceled)),
            }
        }
        self.watermarks.moved(&append.topic, append.partition);
        if let Some(error) = failed {
            return Err(self.failed(&producer, append, &error));
        }
        self.cluster.trouble.clear();
        let (first, last_offset) = delivered.ok_or(KafkaError::Closed)?;
        Ok(Appended {
            base_offset: first.offset,
            last_offset,
            append_time_ms: first.timestamp.to_millis().unwrap_or_else(|| self.cluster.clock.now_ms()),
            duplicate: false,
            suppressed: 0,
        })
    }

    /// Hands the records to librdkafka; as many as it takes.
    fn queue(
        &self,
        producer: &FutureProducer<Context>,
        append: &Append,
        header: Option<(&str, &[u8])>,
    ) -> (Vec<DeliveryFuture>, Option<Rdkafka>) {
        let shard = append.partition.unsigned_abs() as usize + append.topic.len();
        let _order = self.shards[shard % SHARDS].lock();
        let mut sent = Vec::with_capacity(append.records.len());
        for record in &append.records {
            let mut message: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&append.topic).partition(append.partition);
            message.payload = record.value.as_deref();
            message.key = record.key.as_deref();
            message.timestamp = record.timestamp_ms;
            message.headers = headers(record, header);
            match producer.send_result(message) {
                Ok(delivery) => sent.push(delivery),
                Err((error, _)) => return (sent, Some(error)),
            }
        }
        (sent, None)
    }

    fn failed(&self, producer: &FutureProducer<Context>, append: &Append, error: &Rdkafka) -> LogError {
        if producer.client().fatal_error().is_some() {
            self.replace(producer);
        }
        append_error(&self.cluster, append, error)
    }

    /// A producer with a fatal error takes nothing any more; another one does.
    fn replace(&self, dead: &FutureProducer<Context>) {
        let mut producer = self.producer.lock();
        if std::ptr::eq(producer.client().context().as_ref(), dead.client().context().as_ref()) {
            match self.cluster.create(&self.cluster.config.producer(), "producer") {
                Ok(new) => *producer = new,
                Err(error) => tracing::error!(%error, "the producer is dead and no other can be made"),
            }
        }
    }

    /// Gives what is on its way a moment to arrive.
    pub(super) fn flush(&self) {
        let producer = self.producer.lock().clone();
        if let Err(error) = producer.flush(Duration::from_secs(5)) {
            tracing::warn!(%error, "appends on their way were given up");
        }
    }
}

/// What a failed message says about an append.
pub(super) fn append_error(cluster: &Cluster, append: &Append, error: &Rdkafka) -> LogError {
    let (topic, partition) = (append.topic.to_string(), append.partition);
    if is_too_large(error) {
        let limit_bytes = cluster.config.max_record_size_bytes;
        return KafkaError::RecordTooLarge { topic, partition, limit_bytes }.into();
    }
    let doing = format!("an append to {topic}/{partition}");
    match cluster.outcome_of::<()>(&doing, &topic, partition, Err(error.clone())) {
        Err(error) => error,
        Ok(()) => KafkaError::Closed.into(),
    }
}

pub(super) fn is_too_large(error: &Rdkafka) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge))
}

/// The record's headers, then ours.
pub(super) fn headers(record: &Record, ours: Option<(&str, &[u8])>) -> Option<OwnedHeaders> {
    if record.headers.is_empty() && ours.is_none() {
        return None;
    }
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 1);
    for header in &record.headers {
        headers = headers.insert(OwnedHeader { key: &header.name, value: header.value.as_deref() });
    }
    if let Some((key, value)) = ours {
        headers = headers.insert(OwnedHeader { key, value: Some(value) });
    }
    Some(headers)
}

fn size_bytes(record: &Record) -> usize {
    record.value.as_ref().map_or(0, |v| v.len()) + record.key.as_ref().map_or(0, |k| k.len()) + 256
}
