//! The answer to a fetch, written so that records are never copied: they stay the bytes that were read from the segment, and the rest is
//! written around them.
//!
//! `kafka-protocol` writes into one buffer, so this one answer is written by hand. Tests hold it against `kafka-protocol`, version by
//! version, byte by byte.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};

/// First version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;
/// Records shorter than this are cheaper to copy than to send as a piece of their own.
const COPIED_SIZE_BYTES: usize = 2 << 10;

/// Header and body of the answer, in pieces. Written are the fields that a broker without fetch sessions and followers sets; tagged
/// fields are none of them.
pub(in crate::kafka) fn encode_fetched(correlation: i32, response: &FetchResponse, version: i16) -> Vec<Bytes> {
    let mut out = Pieces { flexible: version >= FLEXIBLE, done: Vec::new(), buffer: BytesMut::new() };
    out.buffer.put_i32(correlation);
    out.tags();
    out.buffer.put_i32(response.throttle_time_ms);
    if version >= 7 {
        out.buffer.put_i16(response.error_code);
        out.buffer.put_i32(response.session_id);
    }
    out.length(Some(response.responses.len()));
    for topic in &response.responses {
        out.name(&topic.topic);
        out.length(Some(topic.partitions.len()));
        for partition in &topic.partitions {
            out.partition(partition, version);
        }
        out.tags();
    }
    out.tags();
    out.finish()
}

struct Pieces {
    flexible: bool,
    done: Vec<Bytes>,
    buffer: BytesMut,
}

impl Pieces {
    fn partition(&mut self, partition: &PartitionData, version: i16) {
        self.buffer.put_i32(partition.partition_index);
        self.buffer.put_i16(partition.error_code);
        self.buffer.put_i64(partition.high_watermark);
        self.buffer.put_i64(partition.last_stable_offset);
        if version >= 5 {
            self.buffer.put_i64(partition.log_start_offset);
        }
        self.length(partition.aborted_transactions.as_ref().map(Vec::len));
        for AbortedTransaction { producer_id, first_offset, .. } in partition.aborted_transactions.iter().flatten() {
            self.buffer.put_i64(producer_id.0);
            self.buffer.put_i64(*first_offset);
            self.tags();
        }
        if version >= 11 {
            self.buffer.put_i32(partition.preferred_read_replica.0);
        }
        self.length(partition.records.as_ref().map(Bytes::len));
        match &partition.records {
            Some(records) if records.len() >= COPIED_SIZE_BYTES => {
                self.done.push(self.buffer.split().freeze());
                self.done.push(records.clone());
            }
            Some(records) => self.buffer.put_slice(records),
            None => {}
        }
        self.tags();
    }

    fn name(&mut self, name: &str) {
        if self.flexible {
            self.length(Some(name.len()));
        } else {
            // Names of topics are checked to be short wherever they come from.
            self.buffer.put_i16(name.len() as i16);
        }
        self.buffer.put_slice(name.as_bytes());
    }

    /// Length of bytes or of a list, or null.
    fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.varint(length.map_or(0, |length| length as u32 + 1));
        } else {
            self.buffer.put_i32(length.map_or(-1, |length| length as i32));
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// No tagged fields.
    fn tags(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.done.push(self.buffer.freeze());
        self.done
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use kafka_protocol::messages::fetch_response::FetchableTopicResponse;
    use kafka_protocol::messages::{BrokerId, ProducerId, ResponseHeader, TopicName};
    use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn partition()(
            index in any::<i32>(),
            error in any::<i16>(),
            [high, stable, start] in any::<[i64; 3]>(),
            aborted in prop::option::of(prop::collection::vec((any::<i64>(), any::<i64>()), 0..4)),
            replica in any::<i32>(),
            records in prop::option::of((prop_oneof![0..300usize, 2000..5000usize], any::<u8>())),
        ) -> PartitionData {
            let transaction = |(producer_id, first_offset): (i64, i64)| {
                AbortedTransaction::default().with_producer_id(ProducerId(producer_id)).with_first_offset(first_offset)
            };
            PartitionData::default()
                .with_partition_index(index)
                .with_error_code(error)
                .with_high_watermark(high)
                .with_last_stable_offset(stable)
                .with_log_start_offset(start)
                .with_aborted_transactions(aborted.map(|aborted| aborted.into_iter().map(transaction).collect()))
                .with_preferred_read_replica(BrokerId(replica))
                .with_records(records.map(|(size, byte)| Bytes::from(vec![byte; size])))
        }
    }

    prop_compose! {
        fn response()(
            topics in prop::collection::vec(("[a-z]{0,200}", prop::collection::vec(partition(), 0..4)), 0..4),
        ) -> FetchResponse {
            let topic = |(name, partitions)| {
                let name = TopicName(StrBytes::from_string(name));
                FetchableTopicResponse::default().with_topic(name).with_partitions(partitions)
            };
            FetchResponse::default().with_responses(topics.into_iter().map(topic).collect())
        }
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_kafka_protocol(response in response(), version in 4i16..=12, session in any::<(i16, i32)>()) {
            let mut response = response;
            if version >= 7 {
                response = response.with_error_code(session.0).with_session_id(session.1);
            }
            for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if version < 11 {
                    partition.preferred_read_replica = BrokerId(-1);
                }
            }
            let mut expected = BytesMut::new();
            let header = ResponseHeader::default().with_correlation_id(9);
            header.encode(&mut expected, FetchResponse::header_version(version)).unwrap();
            response.encode(&mut expected, version).unwrap();
            prop_assert_eq!(encode_fetched(9, &response, version).concat(), expected);
        }
    }

    #[test]
    fn records_are_not_copied() {
        let records = Bytes::from(vec![7; 100_000]);
        let data = PartitionData::default().with_records(Some(records.clone()));
        let topic = FetchableTopicResponse::default().with_partitions(vec![data.clone(), data]);
        let pieces = encode_fetched(1, &FetchResponse::default().with_responses(vec![topic]), 12);
        let shared = pieces.iter().filter(|piece| piece.as_ptr() == records.as_ptr() && piece.len() == records.len());
        assert_eq!((shared.count(), pieces.len()), (2, 5));
    }
}
