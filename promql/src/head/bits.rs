//! Bits, most significant first.

/// Memory is taken so many bytes at a time.
const GROWTH_BYTES: usize = 16;

/// Writes bits into bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are written; 0 where it is full or there is none.
    used: u8,
}

impl BitWriter {
    /// The lowest `count` bits of a number, at most 64.
    pub(super) fn write(&mut self, number: u64, count: u8) {
        let mut left = count;
        while left > 0 {
            if self.used == 0 {
                if self.bytes.len() == self.bytes.capacity() {
                    // Little at a time: a chunk is small, and there are many.
                    self.bytes.reserve_exact(GROWTH_BYTES);
                }
                self.bytes.push(0);
            }
            let room = 8 - self.used;
            let now = room.min(left);
            let part = (number >> (left - now)) as u8 & low_bits(now);
            if let Some(last) = self.bytes.last_mut() {
                *last |= part << (room - now);
            }
            self.used = (self.used + now) % 8;
            left -= now;
        }
    }

    /// What is written; bits of the last byte behind the end are 0.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is written, in as little memory as it takes.
    pub(super) fn into_bytes(self) -> Box<[u8]> {
        self.bytes.into_boxed_slice()
    }

    /// Memory held beside the struct, bytes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

fn low_bits(count: u8) -> u8 {
    if count >= 8 { u8::MAX } else { (1 << count) - 1 }
}

/// Reads bits back.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// So many bits, at most 64; bits behind the end are 0.
    pub(super) fn read(&mut self, count: u8) -> u64 {
        let mut number = 0;
        let mut left = count;
        while left > 0 {
            let byte = self.bytes.get(self.at / 8).copied().unwrap_or(0);
            let room = 8 - (self.at % 8) as u8;
            let now = room.min(left);
            number = number << now | u64::from(byte >> (room - now) & low_bits(now));
            self.at += usize::from(now);
            left -= now;
        }
        number
    }

    /// One bit.
    pub(super) fn bit(&mut self) -> bool {
        self.read(1) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_as_they_were_written() {
        let parts = [(0b101, 3), (u64::MAX, 64), (0, 1), (0x1234_5678, 32), (1, 7), (0xABCD_EF01_2345_6789, 64)];
        let mut writer = BitWriter::default();
        for (number, count) in parts {
            writer.write(number, count);
        }
        let mut reader = BitReader::new(writer.bytes());
        for (number, count) in parts {
            assert_eq!(reader.read(count), number, "{count} bits");
        }
        assert_eq!(reader.read(8), 0);
    }
}
