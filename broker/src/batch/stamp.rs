//! A batch of a client, with a header that it has not been asked about: whose tenant its records are.
//!
//! The batch is unpacked and packed anew, with everything else as it was: times, keys, values, headers, the producer's id, epoch and sequence. It has passed no check yet,
//! and is checked afterwards like any other.

use bytes::Bytes;

use super::encode::{Draft, EncodeOptions, encode};
use super::header::TRANSACTIONAL;
use super::{BatchError, BatchHeader, decode_records};
use crate::config::TimestampType;
use crate::record::Record;

/// The same batch, every record of which has this header, once and with this value.
pub(crate) fn with_header(
    batch: &Bytes,
    name: &'static str,
    value: &Bytes,
    max_unpacked_size_bytes: usize,
) -> Result<Bytes, BatchError> {
    let header = BatchHeader::parse(batch)?;
    header.check_crc(batch)?;
    let mut stored = Vec::new();
    decode_records(&header, batch, i64::MIN, max_unpacked_size_bytes, &mut stored)?;
    let records: Vec<Record> = stored
        .into_iter()
        .map(|record| Record {
            key: record.key,
            value: record.value,
            headers: record.headers.into_iter().filter(|header| header.name != name).collect(),
            timestamp_ms: Some(record.timestamp_ms),
        })
        .collect();
    let drafts: Vec<_> =
        records.iter().map(|record| Draft { record, guard: Some((name, Bytes::clone(value))) }).collect();
    let options = EncodeOptions {
        base_offset: header.base_offset,
        leader_epoch: header.leader_epoch,
        append_time_ms: header.max_timestamp_ms,
        timestamp_type: TimestampType::CreateTime,
        compression: header.compression,
    };
    let mut out = Vec::new();
    let made = encode(&drafts, &options, &mut out)?;
    let sealed = BatchHeader {
        attributes: header.attributes & TRANSACTIONAL,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        ..made
    };
    sealed.seal(&mut out);
    Ok(Bytes::from(out))
}
