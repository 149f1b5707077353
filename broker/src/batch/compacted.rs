//! Batches with records taken out, as compaction makes them. Offsets stay: what is left keeps its place, and the header says which range
//! of offsets and sequences the batch had. Records are copied as they are, whatever is in them.
//!
//! Where all records of one or several batches go, a **hole** stays: a batch of no records that covers their offsets. So the batches of a
//! segment follow each other without gaps, compacted or not, and a missing batch is always damage.
//!
//! A batch that keeps tombstones, or a marker, for a while has the **delete horizon** flag, and in its base timestamp the time from which
//! on they may go; the records' times count from there. That is Kafka's own way, which every client reads.

use std::ops::Range;

use bytes::Bytes;

use super::header::DELETE_HORIZON;
use super::records::unpacked;
use super::{BatchError, BatchHeader, Compression, HEADER_SIZE_BYTES, compression, varint};

/// The records of a batch, unpacked but not decoded further than compaction needs.
pub(crate) struct RawRecords {
    block: Bytes,
    records: Vec<Raw>,
}

/// A record, by where its parts are in the block.
#[derive(Debug, Clone, Copy)]
struct Raw {
    start: usize,
    /// Where the key's length stands: behind attributes and deltas.
    key_at: usize,
    end: usize,
    attributes: u8,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<(usize, usize)>,
    is_tombstone: bool,
}

/// What compaction asks of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    pub(crate) offset: i64,
    pub(crate) key: Option<&'a [u8]>,
    /// True where the value is null: the key is deleted.
    pub(crate) is_tombstone: bool,
}

impl RawRecords {
    /// The records of `batch`, which is all of it, unpacked to at most `max_size_bytes`.
    pub(crate) fn parse(header: &BatchHeader, batch: &Bytes, max_size_bytes: usize) -> Result<Self, BatchError> {
        let block = unpacked(header, batch, max_size_bytes)?;
        let mut records = Vec::new();
        let mut rest: &[u8] = &block;
        for _ in 0..header.record_count {
            let start = block.len() - rest.len();
            let size = varint::take_i32(&mut rest, "record length")?;
            let body_at = block.len() - rest.len();
            let end = usize::try_from(size).ok().and_then(|size| body_at.checked_add(size));
            let Some(end) = end.filter(|end| *end <= block.len()) else {
                return Err(BatchError::Field { what: "record length", value: i64::from(size) });
            };
            records.push(parse_record(&block, start, body_at, end)?);
            rest = &block[end..];
        }
        if !rest.is_empty() {
            return Err(BatchError::Field { what: "number of bytes after the last record", value: rest.len() as i64 });
        }
        Ok(Self { block, records })
    }

    /// All of them, in order.
    pub(crate) fn iter(&self, header: &BatchHeader) -> impl Iterator<Item = RawRecord<'_>> {
        let base_offset = header.base_offset;
        self.records.iter().map(move |record| RawRecord {
            offset: base_offset + i64::from(record.offset_delta),
            key: record.key.map(|(from, to)| &self.block[from..to]),
            is_tombstone: record.is_tombstone,
        })
    }

    /// The batch with only those records for which `keep` is true, in order, and with a delete horizon where one is given. Answers with
    /// its header and bytes.
    pub(crate) fn rebuild(
        &self,
        header: &BatchHeader,
        keep: &[bool],
        delete_horizon_ms: Option<i64>,
    ) -> Result<(BatchHeader, Vec<u8>), BatchError> {
        let base_timestamp_ms = delete_horizon_ms.unwrap_or(header.base_timestamp_ms);
        let shift_ms = header.base_timestamp_ms.wrapping_sub(base_timestamp_ms);
        let mut out = vec![0; HEADER_SIZE_BYTES];
        let mut header = *header;
        header.record_count = 0;
        let mut max_timestamp_ms = i64::MIN;
        for (record, _) in self.records.iter().zip(keep).filter(|(_, keep)| **keep) {
            header.record_count += 1;
            let timestamp_delta = record.timestamp_delta.wrapping_add(shift_ms);
            max_timestamp_ms = max_timestamp_ms.max(base_timestamp_ms.wrapping_add(timestamp_delta));
            if shift_ms == 0 {
                out.extend_from_slice(&self.block[record.start..record.end]);
                continue;
            }
            let tail = &self.block[record.key_at..record.end];
            let offset_delta = i64::from(record.offset_delta);
            let size = 1 + varint::size(timestamp_delta) + varint::size(offset_delta) + tail.len();
            varint::put(&mut out, size as i64);
            out.push(record.attributes);
            varint::put(&mut out, timestamp_delta);
            varint::put(&mut out, offset_delta);
            out.extend_from_slice(tail);
        }
        if header.compression != Compression::None {
            let packed = compression::compress(header.compression, &out[HEADER_SIZE_BYTES..])?;
            out.truncate(HEADER_SIZE_BYTES);
            out.extend_from_slice(&packed);
        }
        if out.len() > i32::MAX as usize {
            return Err(BatchError::Field { what: "batch length", value: out.len() as i64 });
        }
        header.base_timestamp_ms = base_timestamp_ms;
        if !header.is_log_append_time() && header.record_count > 0 {
            header.max_timestamp_ms = max_timestamp_ms;
        }
        if delete_horizon_ms.is_some() {
            header.attributes |= DELETE_HORIZON;
        }
        let header = header.seal(&mut out);
        Ok((header, out))
    }
}

fn parse_record(block: &[u8], start: usize, body_at: usize, end: usize) -> Result<Raw, BatchError> {
    let mut rest = &block[body_at..end];
    let Some((attributes, tail)) = rest.split_first() else {
        return Err(BatchError::Truncated { what: "record attributes", needed: 1, available: 0 });
    };
    rest = tail;
    let timestamp_delta = varint::take(&mut rest, "timestamp delta")?;
    let offset_delta = varint::take_i32(&mut rest, "offset delta")?;
    let key_at = end - rest.len();
    let key_size = varint::take_i32(&mut rest, "key length")?;
    let key = match key_size {
        -1 => None,
        size => {
            let from = end - rest.len();
            let to = usize::try_from(size).ok().and_then(|size| from.checked_add(size)).filter(|to| *to <= end);
            let to = to.ok_or(BatchError::Field { what: "key length", value: i64::from(size) })?;
            rest = &block[to..end];
            Some((from, to))
        }
    };
    let is_tombstone = varint::take_i32(&mut rest, "value length")? == -1;
    Ok(Raw { start, key_at, end, attributes: *attributes, timestamp_delta, offset_delta, key, is_tombstone })
}

/// Appends the batches that stand for the offsets `from..to`, of which nothing is left.
pub(crate) fn put_hole(from: i64, to: i64, mut each: impl FnMut(BatchHeader, Vec<u8>)) {
    let mut base_offset = from;
    while base_offset < to {
        let last_offset_delta = i32::try_from(to - base_offset - 1).unwrap_or(i32::MAX);
        let header = BatchHeader {
            base_offset,
            size_bytes: HEADER_SIZE_BYTES,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta,
            base_timestamp_ms: -1,
            max_timestamp_ms: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
            compression: Compression::None,
        };
        let mut bytes = vec![0; HEADER_SIZE_BYTES];
        let header = header.seal(&mut bytes);
        base_offset = header.next_offset();
        each(header, bytes);
    }
}

impl BatchHeader {
    /// The offsets of a batch of which nothing is left.
    pub(crate) fn hole(&self) -> Option<Range<i64>> {
        (self.record_count == 0).then(|| self.base_offset..self.next_offset())
    }

    /// From when on its tombstones, or its marker, may go, Unix milliseconds.
    pub(crate) fn delete_horizon_ms(&self) -> Option<i64> {
        self.has_delete_horizon().then_some(self.base_timestamp_ms)
    }
}
