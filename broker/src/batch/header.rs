//! The fixed 61 bytes in front of a batch's records.

use super::{BatchError, Compression};

/// Size of a batch's header.
pub const HEADER_SIZE_BYTES: usize = 61;

/// Bytes up to and including the batch length, which counts those after it.
const LENGTH_END: usize = 12;
pub(super) const CRC_AT: usize = 17;
pub(super) const CRC_FROM: usize = 21;
const COMPRESSION: i16 = 0x7;
const LOG_APPEND_TIME: i16 = 1 << 3;
pub(super) const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;
pub(super) const DELETE_HORIZON: i16 = 1 << 6;
/// In the leader epoch field on our disk.
const VERBATIM: i32 = 1 << 30;

/// A batch's header, its fields checked against each other but not yet against the CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Size of the whole batch, this header included.
    pub size_bytes: usize,
    /// The leader epoch field; on our disk, see [`crate::batch`].
    pub leader_epoch: i32,
    /// CRC32C of everything from the attributes on.
    pub crc: u32,
    /// Compression, timestamp type and flags.
    pub attributes: i16,
    /// Offset of the last record, less the base offset.
    pub last_offset_delta: i32,
    /// Time that records' deltas count from, Unix milliseconds.
    pub base_timestamp_ms: i64,
    /// Largest timestamp, Unix milliseconds; under LogAppendTime the one of every record.
    pub max_timestamp_ms: i64,
    /// Kafka's idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence of its first record, or -1.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
    /// How the records are compressed.
    pub compression: Compression,
}

impl BatchHeader {
    /// Reads and checks the header at the front of `bytes`, which need not hold the whole batch.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(fixed) = bytes.first_chunk::<HEADER_SIZE_BYTES>() else {
            return Err(BatchError::Truncated {
                what: "the header",
                needed: HEADER_SIZE_BYTES,
                available: bytes.len(),
            });
        };
        let magic = fixed[16] as i8;
        if magic != 2 {
            return Err(BatchError::Magic { magic });
        }
        let length = i32_at(fixed, 8);
        let base_offset = i64_at(fixed, 0);
        let last_offset_delta = i32_at(fixed, 23);
        let record_count = i32_at(fixed, 57);
        let attributes = i16_at(fixed, 21);
        let bad = |what, value| Err(BatchError::Field { what, value });
        if length < (HEADER_SIZE_BYTES - LENGTH_END) as i32 {
            return bad("batch length", i64::from(length));
        }
        if last_offset_delta < 0 {
            return bad("last offset delta", i64::from(last_offset_delta));
        }
        if base_offset < 0 || base_offset > i64::MAX - i64::from(i32::MAX) - 1 {
            return bad("base offset", base_offset);
        }
        // Compaction may take records out of a batch, nothing puts any in.
        if record_count < 0 || i64::from(record_count) > i64::from(last_offset_delta) + 1 {
            return bad("record count", i64::from(record_count));
        }
        Ok(Self {
            base_offset,
            size_bytes: length as usize + LENGTH_END,
            leader_epoch: i32_at(fixed, 12),
            crc: i32_at(fixed, CRC_AT) as u32,
            attributes,
            last_offset_delta,
            base_timestamp_ms: i64_at(fixed, 27),
            max_timestamp_ms: i64_at(fixed, 35),
            producer_id: i64_at(fixed, 43),
            producer_epoch: i16_at(fixed, 51),
            base_sequence: i32_at(fixed, 53),
            record_count,
            compression: Compression::from_attributes(attributes)?,
        })
    }

    /// Checks the CRC over the whole batch, which begins at the front of `bytes`.
    pub fn check_crc(&self, bytes: &[u8]) -> Result<(), BatchError> {
        let Some(covered) = bytes.get(CRC_FROM..self.size_bytes) else {
            return Err(BatchError::Truncated { what: "the batch", needed: self.size_bytes, available: bytes.len() });
        };
        let computed = crc32c::crc32c(covered);
        if computed == self.crc { Ok(()) } else { Err(BatchError::Crc { found: self.crc, computed }) }
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset after the last record.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// True where every record carries the time of its append.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// True for a batch of a transaction, markers included.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// True where the base timestamp is not a time of records but the time from which on tombstones may go.
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON != 0
    }

    /// True where it comes from a producer that numbers its batches.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence of the last record; after the highest comes 0.
    pub fn last_sequence(&self) -> i32 {
        add_to_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// True for a stored batch that a client made: nothing in it is to be taken for our own bookkeeping.
    pub fn is_verbatim(&self) -> bool {
        self.leader_epoch & VERBATIM != 0
    }

    /// How many bytes directly before a stored batch were not yet synced when it was written.
    pub fn unsynced_bytes(&self) -> u64 {
        u64::try_from(self.leader_epoch & !VERBATIM).unwrap_or(0)
    }

    /// True for a batch of transaction markers, which consumers do not see.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Writes the header over the first 61 bytes of `batch`, whose length and CRC are computed here.
    pub(super) fn seal(mut self, batch: &mut [u8]) -> Self {
        self.attributes = self.attributes & !COMPRESSION | self.compression.to_attributes();
        self.size_bytes = batch.len();
        batch[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        batch[8..12].copy_from_slice(&((self.size_bytes - LENGTH_END) as i32).to_be_bytes());
        batch[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        batch[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp_ms.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp_ms.to_be_bytes());
        batch[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        batch[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        self.crc = crc32c::crc32c(&batch[CRC_FROM..]);
        batch[CRC_AT..CRC_FROM].copy_from_slice(&self.crc.to_be_bytes());
        self
    }

    /// The attribute bit for LogAppendTime.
    pub(super) fn log_append_time_attribute() -> i16 {
        LOG_APPEND_TIME
    }
}

/// The sequence so many records after this one.
pub(crate) fn add_to_sequence(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

/// What goes into the leader epoch field on our disk; a segment, and so `unsynced_bytes`, stays below 2^30.
pub(crate) fn disk_field(unsynced_bytes: u64, verbatim: bool) -> i32 {
    let unsynced = i32::try_from(unsynced_bytes).unwrap_or(i32::MAX) & !VERBATIM;
    if verbatim { unsynced | VERBATIM } else { unsynced }
}

/// Sets the leader epoch field of a batch; it is outside the CRC.
pub(crate) fn set_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    if let Some(field) = batch.get_mut(LENGTH_END..LENGTH_END + 4) {
        field.copy_from_slice(&leader_epoch.to_be_bytes());
    }
}

fn i16_at(bytes: &[u8; HEADER_SIZE_BYTES], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn i32_at(bytes: &[u8; HEADER_SIZE_BYTES], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8; HEADER_SIZE_BYTES], at: usize) -> i64 {
    (i64::from(i32_at(bytes, at)) << 32) | i64::from(i32_at(bytes, at + 4) as u32)
}
