//! How far a group has come.

use std::collections::BTreeMap;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::cli::kafka::{Kafka, Reader, TIMEOUT, patiently};
use crate::error::Error;

/// A topic and one of its partitions.
pub(super) type Place = (String, i32);

/// A client that speaks for the group without being a member of it.
pub(super) fn speaker(kafka: &Kafka, group: &str) -> Result<Reader, Error> {
    kafka.consumer(&[("group.id", group)])
}

/// Every partition there is, or those of one topic.
pub(super) fn places(consumer: &Reader, topic: Option<&str>) -> Result<Vec<Place>, KafkaError> {
    let metadata = consumer.fetch_metadata(topic, TIMEOUT)?;
    let known = metadata.topics().iter().filter(|topic| topic.error().is_none());
    let mut places: Vec<_> =
        known.flat_map(|topic| topic.partitions().iter().map(|p| (topic.name().to_owned(), p.id()))).collect();
    places.sort();
    Ok(places)
}

/// What the group has committed in these partitions, where it has.
pub(super) fn committed(consumer: &Reader, places: &[Place]) -> Result<BTreeMap<Place, i64>, KafkaError> {
    let mut asked = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        asked.add_partition(topic, *partition);
    }
    if places.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut committed = BTreeMap::new();
    for element in patiently(|| consumer.committed_offsets(asked.clone(), TIMEOUT))?.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            committed.insert((element.topic().to_owned(), element.partition()), offset);
        }
    }
    Ok(committed)
}
