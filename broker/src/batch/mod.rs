//! Kafka RecordBatch v2: the unit of appending, storing and serving. The codec is ours because it must be bounded:
//! no allocation is ever made from a length or count on the wire, only from bytes that are there.
//!
//! ```text
//! at  size  field                 covered by CRC
//!  0   8    base offset           no   patched on append
//!  8   4    batch length          no   bytes after this field
//! 12   4    partition leader epoch no  patched on append; on our disk: unsynced bytes, see below
//! 16   1    magic                 no   always 2
//! 17   4    CRC32C                no   of everything from 21 on
//! 21   2    attributes            yes  bits 0-2 compression, 3 LogAppendTime, 4 transactional, 5 control
//! 23   4    last offset delta     yes
//! 27   8    base timestamp, ms    yes
//! 35   8    max timestamp, ms     yes
//! 43   8    producer id           yes  -1: none
//! 51   2    producer epoch        yes
//! 53   4    base sequence         yes
//! 57   4    record count          yes
//! 61   ..   records               yes  compressed as one block where attributes say so
//! ```
//!
//! All integers are big-endian. A record is, in zigzag varints: length, attributes (one byte), timestamp delta, offset
//! delta, key length (-1: null) and key, value length and value, header count, and per header name length, name, value
//! length, value.
//!
//! **The leader epoch field.** There is one leader here, so the field is free, and being outside the CRC it can be set on
//! append and cleared on the way to a client. On disk its lower 30 bits hold how many bytes of the segment directly before the
//! batch were not yet synced when it was written: 0 proves that all before it was durable. Recovery uses this to tell bytes
//! that were acknowledged and then damaged from bytes of a group that power loss tore before anybody was told. Bit 30 says that a
//! client made the batch and it is stored verbatim: headers in it that look like our guards are the client's, and mean nothing.

use serde::{Deserialize, Serialize};

mod check;
#[cfg(test)]
mod check_tests;
mod compacted;
mod compression;
mod control;
mod encode;
mod header;
mod probe;
mod records;
mod stamp;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod varint;

pub(crate) use check::{BatchRules, CheckedBatch, TimeRules};
pub(crate) use compacted::{RawRecords, put_hole};
pub use compression::decompress;
pub(crate) use control::{decode_marker, encode_marker};
pub(crate) use encode::record_size_bytes;
pub use encode::{Draft, EncodeOptions, encode};
pub use header::{BatchHeader, HEADER_SIZE_BYTES};
pub(crate) use header::{add_to_sequence, disk_field, set_leader_epoch};
#[doc(hidden)]
pub use probe::probe;
#[cfg(test)]
pub(crate) use probe::tests::good_batches;
pub use records::decode_records;
pub(crate) use stamp::with_header;

/// How the records of a batch are compressed; the numbers on the wire are Kafka's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all (0).
    #[default]
    None,
    /// gzip (1).
    Gzip,
    /// Snappy (2): written in xerial framing as Java does, read in that and raw.
    Snappy,
    /// LZ4 frame (3).
    Lz4,
    /// zstd (4).
    Zstd,
}

impl Compression {
    fn from_attributes(attributes: i16) -> Result<Self, BatchError> {
        match attributes & 0x7 {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            code => Err(BatchError::Compression { code }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    fn to_attributes(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// Why bytes are not a batch, or not one that may be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a field, or the batch's own length, needs.
    #[error("it is cut short: {what} needs {needed} bytes, {available} are there")]
    Truncated {
        /// Which part.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// Not version 2.
    #[error("its magic byte is {magic}; only version 2 is supported (Kafka 0.11 or newer)")]
    Magic {
        /// The byte.
        magic: i8,
    },
    /// A length, count or delta that contradicts the rest.
    #[error("its {what} is {value}, which cannot be")]
    Field {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: i64,
    },
    /// The checksum does not match.
    #[error("its CRC32C is {found:08x}, but the bytes give {computed:08x}")]
    Crc {
        /// As stored.
        found: u32,
        /// As computed.
        computed: u32,
    },
    /// An unknown compression code.
    #[error("its compression code {code} is unknown")]
    Compression {
        /// The code.
        code: i16,
    },
    /// The compressed block is broken.
    #[error("its {codec} block is broken: {reason}")]
    Codec {
        /// Which codec.
        codec: &'static str,
        /// The codec's words.
        reason: String,
    },
    /// Well formed, but not what a client may write.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: &'static str,
    },
    /// It says that its times are those of the append, which only the broker can know.
    #[error("it claims LogAppendTime, which only the broker may set")]
    TimestampType,
    /// A record that is dated too far from now.
    #[error("its record {index} has the timestamp {timestamp_ms}, more than {limit_ms} ms from the broker's clock")]
    Timestamp {
        /// Which record of the batch.
        index: usize,
        /// Its timestamp.
        timestamp_ms: i64,
        /// How far it may be, in the direction in which it is.
        limit_ms: i64,
    },
    /// More than the cap comes out of the compressed block.
    #[error("it unpacks to more than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The cap.
        limit_bytes: usize,
    },
}
