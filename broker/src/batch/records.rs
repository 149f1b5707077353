//! The records of a batch, unpacked. Values are slices of the batch (or of its one decompressed block), never copies.

use bytes::Bytes;

use super::{BatchError, BatchHeader, Compression, HEADER_SIZE_BYTES, decompress, varint};
use crate::record::{Header, StoredRecord};

/// The shortest record: length, attributes, two deltas, two null lengths, header count.
const MIN_RECORD_SIZE_BYTES: usize = 7;

/// Appends to `out` the records of `batch` whose offset is at or above `from_offset`. `batch` is the whole batch, its
/// CRC checked. Compressed records unpack to at most `max_size_bytes`. On an error `out` is as it was.
pub fn decode_records(
    header: &BatchHeader,
    batch: &Bytes,
    from_offset: i64,
    max_size_bytes: usize,
    out: &mut Vec<StoredRecord>,
) -> Result<(), BatchError> {
    let block = unpacked(header, batch, max_size_bytes)?;
    let before = out.len();
    let result = decode_block(header, &block, from_offset, out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

/// The block of records of a batch: as it is, or unpacked to at most `max_size_bytes`.
pub(super) fn unpacked(header: &BatchHeader, batch: &Bytes, max_size_bytes: usize) -> Result<Bytes, BatchError> {
    if batch.len() < header.size_bytes {
        return Err(BatchError::Truncated { what: "the batch", needed: header.size_bytes, available: batch.len() });
    }
    let packed = batch.slice(HEADER_SIZE_BYTES..header.size_bytes);
    Ok(match header.compression {
        Compression::None => packed,
        codec => Bytes::from(decompress(codec, &packed, max_size_bytes)?),
    })
}

fn decode_block(
    header: &BatchHeader,
    block: &Bytes,
    from_offset: i64,
    out: &mut Vec<StoredRecord>,
) -> Result<(), BatchError> {
    let count = header.record_count as usize;
    if count > block.len() / MIN_RECORD_SIZE_BYTES {
        return Err(BatchError::Field { what: "record count", value: i64::from(header.record_count) });
    }
    let mut rest: &[u8] = block;
    let mut next_delta = 0;
    for _ in 0..count {
        let size = varint::take_i32(&mut rest, "record length")?;
        let mut body = split(&mut rest, size, "record length")?;
        let record = decode_record(header, block, &mut body)?;
        if !body.is_empty() {
            return Err(BatchError::Field { what: "record length", value: i64::from(size) });
        }
        let delta = record.offset - header.base_offset;
        if delta < next_delta || delta > i64::from(header.last_offset_delta) {
            return Err(BatchError::Field { what: "offset delta", value: delta });
        }
        next_delta = delta + 1;
        if record.offset >= from_offset {
            out.push(record);
        }
    }
    if !rest.is_empty() {
        return Err(BatchError::Field { what: "number of bytes after the last record", value: rest.len() as i64 });
    }
    Ok(())
}

fn decode_record(header: &BatchHeader, block: &Bytes, body: &mut &[u8]) -> Result<StoredRecord, BatchError> {
    // One byte of attributes, unused in version 2.
    split(body, 1, "record attributes")?;
    let timestamp_delta = varint::take(body, "timestamp delta")?;
    let offset_delta = varint::take_i32(body, "offset delta")?;
    let key = take_bytes(block, body, "key length")?;
    let value = take_bytes(block, body, "value length")?;
    let header_count = varint::take_i32(body, "header count")?;
    if header_count < 0 || header_count as usize > body.len() / 2 {
        return Err(BatchError::Field { what: "header count", value: i64::from(header_count) });
    }
    let mut headers = Vec::new();
    for _ in 0..header_count {
        let size = varint::take_i32(body, "header name length")?;
        let name = split(body, size, "header name length")?;
        let value = take_bytes(block, body, "header value length")?;
        headers.push(Header { name: String::from_utf8_lossy(name).into_owned(), value });
    }
    let timestamp_ms = if header.is_log_append_time() {
        header.max_timestamp_ms
    } else {
        header.base_timestamp_ms.saturating_add(timestamp_delta)
    };
    Ok(StoredRecord { offset: header.base_offset + i64::from(offset_delta), timestamp_ms, key, value, headers })
}

/// Takes nullable bytes, as a slice of `block` that shares its memory.
fn take_bytes(block: &Bytes, body: &mut &[u8], what: &'static str) -> Result<Option<Bytes>, BatchError> {
    let size = varint::take_i32(body, what)?;
    if size == -1 {
        return Ok(None);
    }
    Ok(Some(block.slice_ref(split(body, size, what)?)))
}

fn split<'a>(bytes: &mut &'a [u8], size: i32, what: &'static str) -> Result<&'a [u8], BatchError> {
    let size = usize::try_from(size).map_err(|_| BatchError::Field { what, value: i64::from(size) })?;
    match bytes.split_at_checked(size) {
        Some((head, tail)) => {
            *bytes = tail;
            Ok(head)
        }
        None => Err(BatchError::Truncated { what, needed: size, available: bytes.len() }),
    }
}
