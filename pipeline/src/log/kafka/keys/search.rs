//! Looking for the data of a key whose writer did not say that it is done.

use std::sync::Arc;
use std::time::Duration;

use highwater_broker::IDEMPOTENCY_HEADER;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as Rdkafka;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::book::Done;
use crate::log::kafka::cluster::{Cluster, TIMEOUT};
use crate::log::kafka::context::Context;
use crate::log::kafka::slot::headers;
use crate::log::kafka::watermarks::Watermarks;
use crate::log::{LogError, TopicPartition};

/// Polls of 100 ms without anything new before the search gives up.
const PATIENCE: u32 = 300;

/// Finds the records with this key that were appended at or after `from_ms`. Reads what is not committed as well: a plain append is there as
/// soon as it is acknowledged, also behind somebody's open transaction.
pub(super) async fn find(
    cluster: &Arc<Cluster>,
    watermarks: &Watermarks,
    at: &TopicPartition,
    from_ms: i64,
    scope: &str,
) -> Result<Option<Done>, LogError> {
    let Some(start) = watermarks.offset_for_time(&at.topic, at.partition, from_ms).await? else { return Ok(None) };
    let doing = format!("looking for an idempotency key in {}/{}", at.topic, at.partition);
    let consumer: BaseConsumer<Context> = cluster.create(&cluster.config.reader("read_uncommitted"), "key search")?;
    let (at, scope) = (at.clone(), scope.as_bytes().to_vec());
    let found = cluster.blocking(move || search(&consumer, &at, start, &scope)).await?;
    cluster.outcome(&doing, found)
}

fn search(
    consumer: &BaseConsumer<Context>,
    at: &TopicPartition,
    start: i64,
    scope: &[u8],
) -> Result<Option<Done>, Rdkafka> {
    let (_, end) = consumer.fetch_watermarks(&at.topic, at.partition, TIMEOUT)?;
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&at.topic, at.partition, Offset::Offset(start))?;
    consumer.assign(&list)?;
    let (mut found, mut silent): (Option<Done>, u32) = (None, 0);
    // Behind the last record there may be a marker, for which only the position tells.
    while position(consumer, at)?.unwrap_or(start) < end {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                silent = 0;
                if has_key(&message, scope) {
                    let time = message.timestamp().to_millis().unwrap_or(0);
                    let first = found.map_or((message.offset(), time), |f| (f.base_offset, f.append_time_ms));
                    found = Some(Done { base_offset: first.0, last_offset: message.offset(), append_time_ms: first.1 });
                }
            }
            None | Some(Err(Rdkafka::PartitionEOF(_))) => {
                silent += 1;
                if silent > PATIENCE {
                    return Err(Rdkafka::NoMessageReceived);
                }
            }
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(found)
}

fn position(consumer: &BaseConsumer<Context>, at: &TopicPartition) -> Result<Option<i64>, Rdkafka> {
    let positions = consumer.position()?;
    let found = positions.find_partition(&at.topic, at.partition);
    Ok(found.and_then(|element| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }))
}

fn has_key(message: &BorrowedMessage<'_>, scope: &[u8]) -> bool {
    headers(message).iter().any(|h| h.name == IDEMPOTENCY_HEADER && h.value.as_deref() == Some(scope))
}
