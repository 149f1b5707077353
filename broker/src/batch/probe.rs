//! Bytes of a stranger through all that reads batches, for fuzzing and for the property tests below.

use bytes::Bytes;

use super::header::{CRC_AT, CRC_FROM};
use super::{BatchHeader, BatchRules, CheckedBatch, decode_records};

/// What the records may unpack to.
const MAX_UNPACKED_SIZE_BYTES: usize = 4 << 20;

/// Reads bytes as a batch, as [`crate::Broker::produce`] and readers do, and says whether a client may write it. Whatever the bytes are, this
/// neither panics nor allocates beyond the cap, and what may be written can be read: every record of it.
///
/// # Errors
/// Where it may be written and then not be read, which is a bug.
#[doc(hidden)]
pub fn probe(bytes: &[u8]) -> Result<bool, String> {
    let mut sealed = bytes.to_vec();
    // With the CRC that belongs to them, or nothing would get past it.
    if let Some(crc) = sealed.get(CRC_FROM..).map(crc32c::crc32c) {
        sealed[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    }
    let sealed = Bytes::from(sealed);
    let Ok(header) = BatchHeader::parse(&sealed) else { return Ok(false) };
    let mut records = Vec::new();
    let decoded = decode_records(&header, &sealed, i64::MIN, MAX_UNPACKED_SIZE_BYTES, &mut records);
    let rules = BatchRules {
        max_unpacked_size_bytes: MAX_UNPACKED_SIZE_BYTES,
        times: None,
        needs_keys: false,
        compression: None,
    };
    if CheckedBatch::check(sealed, &rules).is_err() {
        return Ok(false);
    }
    decoded.map_err(|error| format!("it was let past and does not decode: {error}"))?;
    let count = usize::try_from(header.record_count).map_err(|error| error.to_string())?;
    match records.len() == count {
        true => Ok(true),
        false => Err(format!("it says {count} records, and {} were decoded", records.len())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{Compression, Draft, EncodeOptions, HEADER_SIZE_BYTES, encode};
    use crate::config::TimestampType;
    use crate::record::{Header, Record};

    fn good(values: usize, compression: Compression) -> Vec<u8> {
        let record = |i: usize| Record {
            key: i.is_multiple_of(2).then(|| Bytes::from(format!("k{i}"))),
            value: Some(Bytes::from(format!("value {i}"))),
            headers: vec![Header::new("name", "content")],
            timestamp_ms: Some(1_000 + i as i64),
        };
        let records: Vec<_> = (0..values).map(record).collect();
        let drafts: Vec<_> = records.iter().map(|record| Draft { record, guard: None }).collect();
        let options = EncodeOptions {
            base_offset: 0,
            leader_epoch: 0,
            append_time_ms: 1_000,
            timestamp_type: TimestampType::CreateTime,
            compression,
        };
        let mut bytes = Vec::new();
        encode(&drafts, &options, &mut bytes).unwrap();
        bytes
    }

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// A batch per codec, with its name.
    pub(crate) fn good_batches() -> Vec<(String, Vec<u8>)> {
        ALL.iter().map(|compression| (format!("{compression:?}"), good(3, *compression))).collect()
    }

    #[test]
    fn good_batches_may_be_written() {
        for compression in ALL {
            assert_eq!(probe(&good(3, compression)), Ok(true), "{compression:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn what_may_be_written_can_be_read(
            codec in 0..ALL.len(),
            values in 1..20usize,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            in_records in any::<bool>(),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            let mut bytes = good(values, ALL[codec]);
            for (at, value) in damage {
                // Damage to the header is mostly refused for what it says, damage behind it for what it does.
                let at = if in_records { HEADER_SIZE_BYTES + at.index(bytes.len() - HEADER_SIZE_BYTES) } else { at.index(bytes.len()) };
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let probed = probe(&bytes);
            prop_assert!(probed.is_ok(), "{:?}", probed);
        }

        #[test]
        fn any_bytes_are_no_more_than_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(probe(&bytes).is_ok());
        }
    }
}
