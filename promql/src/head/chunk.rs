//! Samples of one series, compressed as in Facebook's Gorilla: times by the change of their distance, values by what differs from the one before.
//!
//! ```text
//! time:   change of the distance to the sample before, in ms, zigzag:
//!         0                 the same
//!         10   + 7 bits     up to 63 either way
//!         110  + 13 bits    up to 4 s
//!         1110 + 20 bits    up to 9 min
//!         1111 + 64 bits
//! value:  XOR with the value before:
//!         0                 the same
//!         10                its bits that matter, where those of the value before lay
//!         11 + 5 leading zeros, 6 number of bits - 1, the bits
//! ```
//!
//! Values are kept bit by bit, so a staleness marker stays one. A sample that comes every 15 s takes 2 bits where its value is the
//! same, about 10 bytes where nothing of it is.

use super::bits::{BitReader, BitWriter};

/// Samples of a full chunk.
pub(super) const FULL: u16 = 120;

/// Bits of a change of distance by how many ones stand before them.
const TIME_BITS: [u8; 4] = [7, 13, 20, 64];

/// A chunk that takes samples.
#[derive(Debug, Clone)]
pub(super) struct OpenChunk {
    bits: BitWriter,
    first_ms: i64,
    first: f64,
    last_ms: i64,
    last: u64,
    distance_ms: i64,
    /// Leading zeros and number of bits of the last value that had its own.
    window: (u8, u8),
    count: u16,
}

impl OpenChunk {
    /// With its first sample.
    pub(super) fn new(time_ms: i64, value: f64) -> Self {
        Self {
            bits: BitWriter::default(),
            first_ms: time_ms,
            first: value,
            last_ms: time_ms,
            last: value.to_bits(),
            distance_ms: 0,
            window: (0, 0),
            count: 1,
        }
    }

    pub(super) fn last_ms(&self) -> i64 {
        self.last_ms
    }

    pub(super) fn first_ms(&self) -> i64 {
        self.first_ms
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= FULL
    }

    /// Adds a sample later than all others.
    pub(super) fn push(&mut self, time_ms: i64, value: f64) {
        let distance_ms = time_ms.wrapping_sub(self.last_ms);
        let change = distance_ms.wrapping_sub(self.distance_ms);
        self.write_change(zigzag(change));
        self.write_value(value.to_bits());
        (self.last_ms, self.distance_ms) = (time_ms, distance_ms);
        self.count += 1;
    }

    fn write_change(&mut self, change: u64) {
        if change == 0 {
            return self.bits.write(0, 1);
        }
        let size = TIME_BITS.iter().position(|bits| *bits == 64 || change >> bits == 0).unwrap_or(3);
        match size {
            0 => self.bits.write(0b10, 2),
            1 => self.bits.write(0b110, 3),
            2 => self.bits.write(0b1110, 4),
            _ => self.bits.write(0b1111, 4),
        }
        self.bits.write(change, TIME_BITS[size]);
    }

    fn write_value(&mut self, value: u64) {
        let differs = value ^ self.last;
        self.last = value;
        if differs == 0 {
            return self.bits.write(0, 1);
        }
        // Five bits are enough for the rest.
        let leading = (differs.leading_zeros() as u8).min(31);
        let trailing = differs.trailing_zeros() as u8;
        let (window_leading, window_size) = self.window;
        let window_trailing = 64 - window_leading - window_size;
        if window_size > 0 && leading >= window_leading && trailing >= window_trailing {
            self.bits.write(0b10, 2);
            return self.bits.write(differs >> window_trailing, window_size);
        }
        let size = 64 - leading - trailing;
        self.bits.write(0b11, 2);
        self.bits.write(u64::from(leading), 5);
        self.bits.write(u64::from(size - 1), 6);
        self.bits.write(differs >> trailing, size);
        self.window = (leading, size);
    }

    /// All samples in order.
    pub(super) fn samples(&self) -> Samples<'_> {
        Samples::new(self.bits.bytes(), self.first_ms, self.first, self.count)
    }

    /// As it is kept once it takes no more.
    pub(super) fn close(self) -> Chunk {
        let (first_ms, first, last_ms, count) = (self.first_ms, self.first, self.last_ms, self.count);
        Chunk { first_ms, first, last_ms, count, bytes: self.bits.into_bytes() }
    }

    /// Memory held beside the struct, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bits.capacity()
    }
}

/// A chunk that is complete.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    first_ms: i64,
    first: f64,
    last_ms: i64,
    count: u16,
    bytes: Box<[u8]>,
}

impl Chunk {
    pub(super) fn first_ms(&self) -> i64 {
        self.first_ms
    }

    pub(super) fn last_ms(&self) -> i64 {
        self.last_ms
    }

    /// All samples in order.
    pub(super) fn samples(&self) -> Samples<'_> {
        Samples::new(&self.bytes, self.first_ms, self.first, self.count)
    }

    /// Memory held beside the struct, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads samples back.
#[derive(Debug, Clone)]
pub(super) struct Samples<'a> {
    bits: BitReader<'a>,
    time_ms: i64,
    value: u64,
    distance_ms: i64,
    window: (u8, u8),
    left: u16,
    begun: bool,
}

impl<'a> Samples<'a> {
    fn new(bytes: &'a [u8], first_ms: i64, first: f64, count: u16) -> Self {
        let (bits, value) = (BitReader::new(bytes), first.to_bits());
        Self { bits, time_ms: first_ms, value, distance_ms: 0, window: (0, 0), left: count, begun: false }
    }

    fn read_change(&mut self) -> i64 {
        let mut ones = 0;
        while ones < 4 && self.bits.bit() {
            ones += 1;
        }
        if ones == 0 { 0 } else { unzigzag(self.bits.read(TIME_BITS[ones - 1])) }
    }

    fn read_value(&mut self) {
        if !self.bits.bit() {
            return;
        }
        if self.bits.bit() {
            let leading = self.bits.read(5) as u8;
            self.window = (leading, self.bits.read(6) as u8 + 1);
        }
        let (leading, size) = self.window;
        self.value ^= self.bits.read(size) << (64 - leading - size);
    }
}

impl Iterator for Samples<'_> {
    type Item = (i64, f64);

    fn next(&mut self) -> Option<(i64, f64)> {
        self.left = self.left.checked_sub(1)?;
        if self.begun {
            self.distance_ms = self.distance_ms.wrapping_add(self.read_change());
            self.time_ms = self.time_ms.wrapping_add(self.distance_ms);
            self.read_value();
        }
        self.begun = true;
        Some((self.time_ms, f64::from_bits(self.value)))
    }
}

/// Small numbers of either sign as small ones.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::STALE_NAN;

    fn chunk(samples: &[(i64, f64)]) -> OpenChunk {
        let mut chunk = OpenChunk::new(samples[0].0, samples[0].1);
        for (time_ms, value) in &samples[1..] {
            chunk.push(*time_ms, *value);
        }
        chunk
    }

    fn bits(samples: impl Iterator<Item = (i64, f64)>) -> Vec<(i64, u64)> {
        samples.map(|(time_ms, value)| (time_ms, value.to_bits())).collect()
    }

    #[test]
    fn odd_times_and_values_come_back() {
        let samples = [
            (i64::MIN + 1, 0.0),
            (-1, -0.0),
            (0, f64::NAN),
            (1, STALE_NAN),
            (15_001, f64::INFINITY),
            (30_001, f64::NEG_INFINITY),
            (30_002, f64::MIN_POSITIVE),
            (i64::MAX, f64::MAX),
        ];
        let open = chunk(&samples);
        assert_eq!(bits(open.samples()), bits(samples.into_iter()));
        assert_eq!(bits(open.close().samples()), bits(samples.into_iter()));
    }

    #[test]
    fn a_constant_at_a_fixed_distance_takes_two_bits() {
        let samples: Vec<_> = (0..i64::from(FULL)).map(|i| (i * 15_000, 1.0)).collect();
        // The first distance takes 4 + 20 bits more.
        assert!(chunk(&samples).close().heap_bytes() <= 4 + 2 * usize::from(FULL) / 8);
    }

    proptest! {
        #[test]
        fn samples_come_back(
            steps in prop::collection::vec((1_i64..1_000_000, prop::num::f64::ANY), 1..200),
            start in -1_000_000_000_i64..1_000_000_000,
        ) {
            let mut time_ms = start;
            let samples: Vec<_> = steps.into_iter().map(|(step, value)| { time_ms += step; (time_ms, value) }).collect();
            prop_assert_eq!(bits(chunk(&samples).samples()), bits(samples.iter().copied()));
        }
    }
}
