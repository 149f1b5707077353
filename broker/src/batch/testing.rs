//! Batches as Kafka clients make them, for tests.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;

use super::header::{CONTROL, TRANSACTIONAL};
use super::{BatchHeader, Compression, Draft, EncodeOptions, encode};
use crate::config::TimestampType;
use crate::record::Record;

/// What a client's batch is made of.
#[derive(Debug, Clone)]
pub(crate) struct ClientBatch {
    pub(crate) records: Vec<Record>,
    pub(crate) compression: Compression,
    /// Producer id, epoch and first sequence.
    pub(crate) producer: Option<(i64, i16, i32)>,
    pub(crate) transactional: bool,
    pub(crate) control: bool,
}

impl ClientBatch {
    /// A plain batch of records with these values, all of the time `1_700_000_000_000`.
    pub(crate) fn of<V: Into<Vec<u8>>>(values: impl IntoIterator<Item = V>) -> Self {
        let record = |value: V| Record {
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from(value.into())),
            timestamp_ms: Some(1_700_000_000_000),
            ..Record::default()
        };
        let records = values.into_iter().map(record).collect();
        Self { records, compression: Compression::None, producer: None, transactional: false, control: false }
    }

    /// From this producer, in this epoch, from this sequence on.
    pub(crate) fn by(self, id: i64, epoch: i16, sequence: i32) -> Self {
        Self { producer: Some((id, epoch, sequence)), ..self }
    }

    /// Part of a transaction.
    pub(crate) fn transactional(self) -> Self {
        Self { transactional: true, ..self }
    }

    /// Compressed so.
    pub(crate) fn packed(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> Bytes {
        let drafts: Vec<Draft<'_>> = self.records.iter().map(|record| Draft { record, guard: None }).collect();
        let options = EncodeOptions {
            base_offset: 0,
            leader_epoch: -1,
            append_time_ms: 0,
            timestamp_type: TimestampType::CreateTime,
            compression: self.compression,
        };
        let mut out = Vec::new();
        let mut header = encode(&drafts, &options, &mut out).unwrap();
        if let Some((id, epoch, sequence)) = self.producer {
            (header.producer_id, header.producer_epoch, header.base_sequence) = (id, epoch, sequence);
        }
        if self.transactional {
            header.attributes |= TRANSACTIONAL;
        }
        if self.control {
            header.attributes |= CONTROL;
        }
        header.seal(&mut out);
        Bytes::from(out)
    }
}

/// The bytes with some of them changed, and sealed again, so that the change is all that is wrong.
pub(crate) fn resealed(batch: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

/// The headers of batches back to back, all of which must be whole and sound.
pub(crate) fn headers_of(mut batches: &[u8]) -> Vec<BatchHeader> {
    let mut headers = Vec::new();
    while !batches.is_empty() {
        let header = BatchHeader::parse(batches).unwrap();
        header.check_crc(batches).unwrap();
        batches = &batches[header.size_bytes..];
        headers.push(header);
    }
    headers
}
