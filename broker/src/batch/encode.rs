//! Making batches.

use bytes::Bytes;

use super::compression::compress;
use super::{BatchError, BatchHeader, Compression, HEADER_SIZE_BYTES, varint};
use crate::config::TimestampType;
use crate::record::Record;

/// A record on its way into a batch, with the header that its guard adds.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// The record.
    pub record: &'a Record,
    /// Name and value of a header to add behind the record's own.
    pub guard: Option<(&'static str, Bytes)>,
}

/// What a batch says about itself.
#[derive(Debug, Clone, Copy)]
pub struct EncodeOptions {
    /// Offset of the first record.
    pub base_offset: i64,
    /// The leader epoch field, see [`crate::batch`].
    pub leader_epoch: i32,
    /// The time of this append, Unix milliseconds.
    pub append_time_ms: i64,
    /// Whose time the records carry.
    pub timestamp_type: TimestampType,
    /// How to compress the records.
    pub compression: Compression,
}

/// Writes one batch of at least one record to `out`, over what was there, and returns its header.
pub fn encode(drafts: &[Draft<'_>], options: &EncodeOptions, out: &mut Vec<u8>) -> Result<BatchHeader, BatchError> {
    let last = drafts.len().checked_sub(1).and_then(|last| i32::try_from(last).ok());
    let Some(last_offset_delta) = last else {
        return Err(BatchError::Field { what: "record count", value: drafts.len() as i64 });
    };
    let time_of = |draft: &Draft<'_>| match options.timestamp_type {
        TimestampType::LogAppendTime => options.append_time_ms,
        TimestampType::CreateTime => draft.record.timestamp_ms.unwrap_or(options.append_time_ms),
    };
    let base_timestamp_ms = time_of(&drafts[0]);
    let max_timestamp_ms = drafts.iter().map(time_of).max().unwrap_or(base_timestamp_ms);

    out.clear();
    out.resize(HEADER_SIZE_BYTES, 0);
    for (delta, draft) in drafts.iter().enumerate() {
        put_record(out, draft, time_of(draft).wrapping_sub(base_timestamp_ms), delta as i64)?;
    }
    if options.compression != Compression::None {
        let packed = compress(options.compression, &out[HEADER_SIZE_BYTES..])?;
        out.truncate(HEADER_SIZE_BYTES);
        out.extend_from_slice(&packed);
    }
    if out.len() > i32::MAX as usize {
        return Err(BatchError::Field { what: "batch length", value: out.len() as i64 });
    }
    let attributes = match options.timestamp_type {
        TimestampType::LogAppendTime => BatchHeader::log_append_time_attribute(),
        TimestampType::CreateTime => 0,
    };
    let header = BatchHeader {
        base_offset: options.base_offset,
        size_bytes: out.len(),
        leader_epoch: options.leader_epoch,
        crc: 0,
        attributes,
        last_offset_delta,
        base_timestamp_ms,
        max_timestamp_ms,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: last_offset_delta + 1,
        compression: options.compression,
    };
    Ok(header.seal(out))
}

/// Upper bound of what a record takes in a batch before compression, without its guard's header.
pub(crate) fn record_size_bytes(record: &Record) -> usize {
    let opaque = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len) + 5;
    let headers: usize = record.headers.iter().map(|h| h.name.len() + 5 + opaque(&h.value)).sum();
    // Length, attributes, two deltas, header count at their widest.
    5 + 1 + 10 + 5 + 5 + opaque(&record.key) + opaque(&record.value) + headers
}

fn put_record(out: &mut Vec<u8>, draft: &Draft<'_>, timestamp_delta: i64, offset_delta: i64) -> Result<(), BatchError> {
    let record = draft.record;
    let header_count = record.headers.len() + usize::from(draft.guard.is_some());
    let mut size = 1 + varint::size(timestamp_delta) + varint::size(offset_delta);
    size += opaque_size(record.key.as_deref()) + opaque_size(record.value.as_deref());
    size += varint::size(header_count as i64);
    for header in &record.headers {
        size += opaque_size(Some(header.name.as_bytes())) + opaque_size(header.value.as_deref());
    }
    if let Some((name, value)) = &draft.guard {
        size += opaque_size(Some(name.as_bytes())) + opaque_size(Some(value));
    }
    if size > i32::MAX as usize {
        return Err(BatchError::Field { what: "record length", value: size as i64 });
    }
    out.reserve(size + varint::size(size as i64));
    varint::put(out, size as i64);
    out.push(0);
    varint::put(out, timestamp_delta);
    varint::put(out, offset_delta);
    put_opaque(out, record.key.as_deref());
    put_opaque(out, record.value.as_deref());
    varint::put(out, header_count as i64);
    for header in &record.headers {
        put_opaque(out, Some(header.name.as_bytes()));
        put_opaque(out, header.value.as_deref());
    }
    if let Some((name, value)) = &draft.guard {
        put_opaque(out, Some(name.as_bytes()));
        put_opaque(out, Some(value));
    }
    Ok(())
}

fn opaque_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |b| varint::size(b.len() as i64) + b.len())
}

fn put_opaque(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
