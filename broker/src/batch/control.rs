//! Control batches: the markers that end a transaction in a partition. One record, which no consumer sees.
//!
//! ```text
//! key    version (2, 0) | type (2; 0: abort, 1: commit)
//! value  version (2, 0) | coordinator epoch (4)
//! ```

use bytes::Bytes;

use super::header::{CONTROL, TRANSACTIONAL};
use super::{BatchError, BatchHeader, Compression, Draft, EncodeOptions, decode_records, encode};
use crate::config::TimestampType;
use crate::raw::TransactionMarker;
use crate::record::Record;

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// More than any marker takes.
const MAX_SIZE_BYTES: usize = 1 << 10;

/// Writes the batch of a marker to `out`, over what was there, and returns its header.
pub(crate) fn encode_marker(
    marker: &TransactionMarker,
    base_offset: i64,
    now_ms: i64,
    timestamp_type: TimestampType,
    out: &mut Vec<u8>,
) -> Result<BatchHeader, BatchError> {
    let kind = if marker.commit { COMMIT } else { ABORT };
    let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
    let value = [VERSION.to_be_bytes().as_slice(), &marker.coordinator_epoch.to_be_bytes()].concat();
    let record = Record { key: Some(key.into()), value: Some(value.into()), ..Record::default() };
    let options = EncodeOptions {
        base_offset,
        leader_epoch: 0,
        append_time_ms: now_ms,
        timestamp_type,
        compression: Compression::None,
    };
    let mut header = encode(&[Draft { record: &record, guard: None }], &options, out)?;
    header.attributes |= CONTROL | TRANSACTIONAL;
    header.producer_id = marker.producer_id;
    header.producer_epoch = marker.producer_epoch;
    Ok(header.seal(out))
}

/// The marker in a stored control batch; `None` where it is of a kind that is not known here.
pub(crate) fn decode_marker(header: &BatchHeader, batch: &Bytes) -> Option<TransactionMarker> {
    let mut records = Vec::new();
    decode_records(header, batch, i64::MIN, MAX_SIZE_BYTES, &mut records).ok()?;
    let record = records.first()?;
    let (version, kind) = record.key.as_ref()?.split_first_chunk::<2>()?;
    let kind = i16::from_be_bytes(*kind.first_chunk()?);
    if i16::from_be_bytes(*version) < VERSION || !matches!(kind, ABORT | COMMIT) {
        return None;
    }
    let (_, coordinator_epoch) = record.value.as_ref()?.split_first_chunk::<2>()?;
    Some(TransactionMarker {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        commit: kind == COMMIT,
        coordinator_epoch: i32::from_be_bytes(*coordinator_epoch.first_chunk()?),
    })
}
