//! Record batches to send, whole or damaged, and what there is to compare of those that come back.

use bytes::{BufMut, Bytes, BytesMut};

/// A batch to be.
#[derive(Clone)]
pub struct Batch {
    pub values: Vec<&'static str>,
    pub key: Option<&'static str>,
    pub timestamp_ms: i64,
    pub producer: (i64, i16, i32),
    pub attributes: i16,
    pub magic: i8,
}

impl Batch {
    pub fn of(values: &[&'static str]) -> Self {
        Self {
            values: values.to_vec(),
            key: None,
            timestamp_ms: now_ms(),
            producer: (-1, -1, -1),
            attributes: 0,
            magic: 2,
        }
    }

    pub fn at(self, timestamp_ms: i64) -> Self {
        Self { timestamp_ms, ..self }
    }

    pub fn key(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// By an idempotent producer: its id, epoch, and sequence of the first record.
    pub fn by(self, id: i64, epoch: i16, sequence: i32) -> Self {
        Self { producer: (id, epoch, sequence), ..self }
    }

    pub fn transactional(self) -> Self {
        Self { attributes: self.attributes | 1 << 4, ..self }
    }

    pub fn bytes(&self) -> Bytes {
        let mut body = BytesMut::new();
        body.put_i16(self.attributes);
        body.put_i32(self.values.len() as i32 - 1);
        body.put_i64(self.timestamp_ms);
        body.put_i64(self.timestamp_ms);
        let (id, epoch, sequence) = self.producer;
        body.put_i64(id);
        body.put_i16(epoch);
        body.put_i32(sequence);
        body.put_i32(self.values.len() as i32);
        for (index, value) in self.values.iter().enumerate() {
            let mut record = BytesMut::new();
            record.put_u8(0);
            varint(&mut record, 0);
            varint(&mut record, index as i64);
            match self.key {
                Some(key) => {
                    varint(&mut record, key.len() as i64);
                    record.put_slice(key.as_bytes());
                }
                None => varint(&mut record, -1),
            }
            varint(&mut record, value.len() as i64);
            record.put_slice(value.as_bytes());
            varint(&mut record, 0);
            varint(&mut body, record.len() as i64);
            body.put_slice(&record);
        }
        let mut batch = BytesMut::new();
        batch.put_i64(0);
        batch.put_i32(body.len() as i32 + 9);
        batch.put_i32(-1);
        batch.put_i8(self.magic);
        batch.put_u32(crc32c::crc32c(&body));
        batch.put_slice(&body);
        batch.freeze()
    }
}

pub fn now_ms() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

fn varint(buffer: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        buffer.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    buffer.put_u8(rest as u8);
}

/// What is in a batch that came back. Times are each broker's own where it made the batch, a marker.
#[derive(Debug)]
#[expect(dead_code, reason = "it is printed")]
pub struct Seen {
    base_offset: i64,
    partition_leader_epoch: i32,
    attributes: i16,
    last_offset_delta: i32,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
    records: Vec<u8>,
}

/// The whole batches of an answer.
pub fn seen(mut bytes: &[u8]) -> Vec<Seen> {
    let mut batches = Vec::new();
    while bytes.len() >= 61 {
        let size = 12 + u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
        let Some(batch) = bytes.get(..size) else { break };
        assert_eq!(crc32c::crc32c(&batch[21..]), u32::from_be_bytes(batch[17..21].try_into().unwrap()), "CRC");
        let i16_at = |at: usize| i16::from_be_bytes(batch[at..at + 2].try_into().unwrap());
        let i32_at = |at: usize| i32::from_be_bytes(batch[at..at + 4].try_into().unwrap());
        batches.push(Seen {
            base_offset: i64::from_be_bytes(batch[..8].try_into().unwrap()),
            partition_leader_epoch: i32_at(12),
            attributes: i16_at(21),
            last_offset_delta: i32_at(23),
            producer_epoch: i16_at(51),
            base_sequence: i32_at(53),
            count: i32_at(57),
            records: batch[61..].to_vec(),
        });
        bytes = &bytes[size..];
    }
    batches
}
