//! A batch from a client, checked before it is stored as it is. What gets past this can be unpacked by every reader: a batch that lies
//! about itself is refused to its sender, who learns of it, and not stored for readers to stumble over.
//!
//! Compressed records are unpacked as a stream and thrown away, so a bomb costs no memory; the cap ends it early.

use std::io::BufRead;

use bytes::Bytes;

use super::compression::{Unpack, compress, unpack};
use super::header::{CRC_AT, CRC_FROM, set_leader_epoch};
use super::{BatchError, BatchHeader, Compression, HEADER_SIZE_BYTES, decompress, varint};

/// A record whose sender gave it no time.
const NO_TIMESTAMP: i64 = -1;

/// What a topic asks of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchRules {
    /// Cap of what the records unpack to, in bytes.
    pub(crate) max_unpacked_size_bytes: usize,
    /// What the times of records may be; `None` where they are replaced.
    pub(crate) times: Option<TimeRules>,
    /// True where records without a key are of no use: the topic is compacted.
    pub(crate) needs_keys: bool,
    /// How the records are to be packed; `None` leaves them as they come.
    pub(crate) compression: Option<Compression>,
}

/// How far from the broker's clock a record may be dated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeRules {
    /// The clock, Unix milliseconds.
    pub(crate) now_ms: i64,
    /// How far before it; `None`: as far as it likes.
    pub(crate) before_max_ms: Option<i64>,
    /// How far after it; `None`: as far as it likes.
    pub(crate) after_max_ms: Option<i64>,
}

impl TimeRules {
    /// A record without a time is of no time that could be wrong.
    fn check(&self, index: usize, timestamp_ms: i64) -> Result<(), BatchError> {
        let after_ms = timestamp_ms.saturating_sub(self.now_ms);
        let limit = |limit: Option<i64>, distance_ms: i64| limit.filter(|limit_ms| distance_ms > *limit_ms);
        match limit(self.after_max_ms, after_ms).or(limit(self.before_max_ms, after_ms.saturating_neg())) {
            Some(limit_ms) if timestamp_ms != NO_TIMESTAMP => {
                Err(BatchError::Timestamp { index, timestamp_ms, limit_ms })
            }
            _ => Ok(()),
        }
    }
}

/// See the module's text.
#[derive(Debug, Clone)]
pub(crate) struct CheckedBatch {
    header: BatchHeader,
    bytes: Bytes,
    /// Largest timestamp of the records, whatever the header says.
    max_timestamp_ms: i64,
    /// CRC32C of what follows the header: with it a changed header is sealed without looking at the records again.
    records_crc: u32,
}

impl CheckedBatch {
    /// Checks `bytes`, which must be exactly one batch.
    pub(crate) fn check(bytes: Bytes, rules: &BatchRules) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        if header.size_bytes > bytes.len() {
            return Err(BatchError::Truncated { what: "the batch", needed: header.size_bytes, available: bytes.len() });
        }
        if header.size_bytes < bytes.len() {
            let value = (bytes.len() - header.size_bytes) as i64;
            return Err(BatchError::Field { what: "number of bytes after the batch", value });
        }
        let records = bytes.get(HEADER_SIZE_BYTES..).unwrap_or_default();
        let records_crc = crc32c::crc32c(records);
        let computed = seal(bytes.get(..HEADER_SIZE_BYTES).unwrap_or_default(), records_crc, records.len());
        if computed != header.crc {
            return Err(BatchError::Crc { found: header.crc, computed });
        }
        check_header(&header)?;
        let max_timestamp_ms = match unpack(header.compression, records, rules.max_unpacked_size_bytes)? {
            Unpack::Plain(block) => walk(&header, block, rules)?,
            Unpack::Buffer(block) => walk(&header, block.as_slice(), rules)?,
            Unpack::Stream(stream) => walk(&header, stream, rules)?,
        };
        let checked = Self { header, bytes, max_timestamp_ms, records_crc };
        match rules.compression {
            Some(codec) if codec != header.compression => checked.packed(codec, rules.max_unpacked_size_bytes),
            _ => Ok(checked),
        }
    }

    /// The same records, packed another way.
    fn packed(self, codec: Compression, max_unpacked_size_bytes: usize) -> Result<Self, BatchError> {
        let block = decompress(self.header.compression, self.records(), max_unpacked_size_bytes)?;
        let records = compress(codec, &block)?;
        let mut bytes = self.bytes[..HEADER_SIZE_BYTES].to_vec();
        bytes.extend_from_slice(&records);
        let header = BatchHeader { compression: codec, ..self.header }.seal(&mut bytes);
        Ok(Self { header, bytes: Bytes::from(bytes), records_crc: crc32c::crc32c(&records), ..self })
    }

    /// The header as its sender wrote it.
    pub(crate) fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// What follows the header.
    pub(crate) fn records(&self) -> &[u8] {
        self.bytes.get(HEADER_SIZE_BYTES..).unwrap_or_default()
    }

    /// The header as it goes to disk: at its offset, with the time of append where the topic wants that (else with the true largest
    /// timestamp), and sealed anew where that changed what the CRC covers.
    pub(crate) fn stamp(
        &self,
        base_offset: i64,
        leader_epoch: i32,
        append_time_ms: Option<i64>,
    ) -> (BatchHeader, [u8; HEADER_SIZE_BYTES]) {
        let mut bytes = [0; HEADER_SIZE_BYTES];
        bytes.copy_from_slice(&self.bytes[..HEADER_SIZE_BYTES]);
        let mut header = BatchHeader { base_offset, leader_epoch, ..self.header };
        header.max_timestamp_ms = append_time_ms.unwrap_or(self.max_timestamp_ms);
        if append_time_ms.is_some() {
            header.attributes |= BatchHeader::log_append_time_attribute();
        }
        bytes[0..8].copy_from_slice(&base_offset.to_be_bytes());
        set_leader_epoch(&mut bytes, leader_epoch);
        if header.max_timestamp_ms != self.header.max_timestamp_ms || header.attributes != self.header.attributes {
            bytes[21..23].copy_from_slice(&header.attributes.to_be_bytes());
            bytes[35..43].copy_from_slice(&header.max_timestamp_ms.to_be_bytes());
            header.crc = seal(&bytes, self.records_crc, self.records().len());
            bytes[CRC_AT..CRC_FROM].copy_from_slice(&header.crc.to_be_bytes());
        }
        (header, bytes)
    }
}

/// The CRC of a batch with this header and records of this CRC and size.
fn seal(header: &[u8], records_crc: u32, records_size_bytes: usize) -> u32 {
    let head = crc32c::crc32c(header.get(CRC_FROM..).unwrap_or_default());
    crc32c::crc32c_combine(head, records_crc, records_size_bytes)
}

fn check_header(header: &BatchHeader) -> Result<(), BatchError> {
    let refuse = |reason| Err(BatchError::Refused { reason });
    let field = |what, value| Err(BatchError::Field { what, value });
    if header.base_offset != 0 {
        return field("base offset", header.base_offset);
    }
    if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
        return field("record count", i64::from(header.record_count));
    }
    if header.is_control() {
        return refuse("clients may not write control batches");
    }
    if header.has_delete_horizon() {
        return refuse("clients may not set the delete horizon");
    }
    if header.is_log_append_time() {
        return Err(BatchError::TimestampType);
    }
    if header.has_producer() {
        if header.producer_epoch < 0 {
            return field("producer epoch", i64::from(header.producer_epoch));
        }
        if header.base_sequence < 0 {
            return field("base sequence", i64::from(header.base_sequence));
        }
    } else if header.is_transactional() {
        return refuse("a transactional batch needs a producer id");
    }
    Ok(())
}

/// Walks the records and answers with their largest timestamp.
fn walk(header: &BatchHeader, block: impl BufRead, rules: &BatchRules) -> Result<i64, BatchError> {
    let mut walker = Walker { block, header, unpacked: 0, limit_bytes: rules.max_unpacked_size_bytes, left: 0 };
    let mut max_timestamp_ms = NO_TIMESTAMP;
    for index in 0..header.record_count as usize {
        walker.left = usize::MAX;
        let size = walker.varint_i32("record length")?;
        walker.left =
            usize::try_from(size).map_err(|_| BatchError::Field { what: "record length", value: i64::from(size) })?;
        walker.skip(1, "record attributes")?;
        let timestamp_ms = header.base_timestamp_ms.saturating_add(walker.varint("timestamp delta")?);
        let delta = walker.varint_i32("offset delta")?;
        if delta as usize != index {
            return Err(BatchError::Field { what: "offset delta", value: i64::from(delta) });
        }
        let has_key = walker.opaque("key length")?;
        if !has_key && rules.needs_keys {
            return Err(BatchError::Refused { reason: "a compacted topic takes no record without a key" });
        }
        walker.opaque("value length")?;
        let headers = walker.varint_i32("header count")?;
        if headers < 0 {
            return Err(BatchError::Field { what: "header count", value: i64::from(headers) });
        }
        for _ in 0..headers {
            if !walker.opaque("header name length")? {
                return Err(BatchError::Field { what: "header name length", value: -1 });
            }
            walker.opaque("header value length")?;
        }
        if walker.left != 0 {
            return Err(BatchError::Field { what: "record length", value: i64::from(size) });
        }
        if let Some(times) = &rules.times {
            times.check(index, timestamp_ms)?;
        }
        max_timestamp_ms = max_timestamp_ms.max(timestamp_ms);
    }
    walker.end()?;
    Ok(max_timestamp_ms)
}

struct Walker<'a, R> {
    block: R,
    header: &'a BatchHeader,
    unpacked: usize,
    limit_bytes: usize,
    /// Bytes left of the record.
    left: usize,
}

impl<R: BufRead> Walker<'_, R> {
    fn varint(&mut self, what: &'static str) -> Result<i64, BatchError> {
        let buffer = fill(&mut self.block, self.header)?;
        if buffer.len() >= varint::MAX_SIZE_BYTES {
            let mut rest = buffer;
            let value = varint::take(&mut rest, what)?;
            let taken = buffer.len() - rest.len();
            self.block.consume(taken);
            self.count(taken, what)?;
            return Ok(value);
        }
        // Near the end of what is unpacked so far, byte by byte.
        let mut bytes = Vec::with_capacity(varint::MAX_SIZE_BYTES);
        while bytes.len() < varint::MAX_SIZE_BYTES {
            let Some(&byte) = fill(&mut self.block, self.header)?.first() else { break };
            self.block.consume(1);
            self.count(1, what)?;
            bytes.push(byte);
            if byte < 0x80 {
                break;
            }
        }
        varint::take(&mut bytes.as_slice(), what)
    }

    fn varint_i32(&mut self, what: &'static str) -> Result<i32, BatchError> {
        let value = self.varint(what)?;
        i32::try_from(value).map_err(|_| BatchError::Field { what, value })
    }

    /// Passes nullable bytes; false where they are null.
    fn opaque(&mut self, what: &'static str) -> Result<bool, BatchError> {
        let size = self.varint_i32(what)?;
        if size == -1 {
            return Ok(false);
        }
        let size = usize::try_from(size).map_err(|_| BatchError::Field { what, value: i64::from(size) })?;
        self.skip(size, what)?;
        Ok(true)
    }

    fn skip(&mut self, size: usize, what: &'static str) -> Result<(), BatchError> {
        self.count(size, what)?;
        let mut rest = size;
        while rest > 0 {
            let available = fill(&mut self.block, self.header)?.len();
            if available == 0 {
                return Err(BatchError::Truncated { what, needed: size, available: size - rest });
            }
            let step = available.min(rest);
            self.block.consume(step);
            rest -= step;
        }
        Ok(())
    }

    fn count(&mut self, size: usize, what: &'static str) -> Result<(), BatchError> {
        if size > self.left {
            return Err(BatchError::Truncated { what, needed: size, available: self.left });
        }
        self.left -= size;
        self.unpacked += size;
        if self.unpacked > self.limit_bytes {
            return Err(BatchError::TooLarge { limit_bytes: self.limit_bytes });
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), BatchError> {
        match fill(&mut self.block, self.header)?.len() {
            0 => Ok(()),
            size => Err(BatchError::Field { what: "number of bytes after the last record", value: size as i64 }),
        }
    }
}

fn fill<'b>(block: &'b mut impl BufRead, header: &BatchHeader) -> Result<&'b [u8], BatchError> {
    let codec = header.compression.name();
    block.fill_buf().map_err(|error| BatchError::Codec { codec, reason: error.to_string() })
}
