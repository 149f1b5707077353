//! Bits, most significant first.

/// Memory is taken so many bytes at a time: a chunk is small, and there are many.
const GROWTH_BYTES: usize = 16;

/// Writes bits into bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct BitWriter {
    /// Behind what is written all bits are 0.
    bytes: Box<[u8]>,
    /// Bits written.
    count: u32,
}

impl BitWriter {
    /// The lowest `count` bits of a number, at most 64.
    pub(super) fn write(&mut self, number: u64, count: u8) {
        let end = self.count + u32::from(count);
        if end.div_ceil(8) as usize > self.bytes.len() {
            let mut bytes = std::mem::take(&mut self.bytes).into_vec();
            let length = (end.div_ceil(8) as usize).next_multiple_of(GROWTH_BYTES);
            bytes.reserve_exact(length - bytes.len());
            bytes.resize(length, 0);
            self.bytes = bytes.into_boxed_slice();
        }
        let mut left = count;
        while left > 0 {
            let used = (self.count % 8) as u8;
            let room = 8 - used;
            let now = room.min(left);
            let part = (number >> (left - now)) as u8 & low_bits(now);
            self.bytes[(self.count / 8) as usize] |= part << (room - now);
            self.count += u32::from(now);
            left -= now;
        }
    }

    /// What is written; bits of the last byte behind the end are 0.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count.div_ceil(8) as usize]
    }

    /// What is written, in as little memory as it takes.
    pub(super) fn into_bytes(self) -> Box<[u8]> {
        let length = self.count.div_ceil(8) as usize;
        let mut bytes = self.bytes.into_vec();
        bytes.truncate(length);
        bytes.into_boxed_slice()
    }

    /// Memory held beside the struct, bytes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
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
