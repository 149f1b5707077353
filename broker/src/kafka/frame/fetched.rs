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
