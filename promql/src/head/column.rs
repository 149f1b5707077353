//! Whole numbers in bytes: a straight line, and how far above it each of them lies.
//!
//! ```text
//! u8         low half: bytes of a distance, 0 to 8; high half: bytes of the base
//! u8         bytes of the step
//! base       zigzag, least significant byte first: what is added to all
//! step       zigzag: the number at place n has n times the step in it
//! distances  one per number, least significant byte first
//! ```
//!
//! So any of them is read without those before it, and many of them at about the speed of a copy. Arithmetic wraps: numbers that lie further apart
//! than half of all there are take eight bytes each, and come back all the same.

/// Appends numbers.
pub(super) fn write(numbers: &[i64], into: &mut Vec<u8>) {
    let slope = match numbers {
        [first, .., last] => last.wrapping_sub(*first) / count(numbers.len() - 1),
        _ => 0,
    };
    let (sloped, level) = (Line::through(numbers, slope), Line::through(numbers, 0));
    let line = if sloped.width() < level.width() { sloped } else { level };
    let (base, step) = (zigzag(line.base), zigzag(line.step));
    let (base_bytes, step_bytes) = (bytes_of(base), bytes_of(step));
    into.extend([(base_bytes << 4 | line.width()) as u8, step_bytes as u8]);
    into.extend_from_slice(&base.to_le_bytes()[..base_bytes]);
    into.extend_from_slice(&step.to_le_bytes()[..step_bytes]);
    let width = line.width();
    if width > 0 {
        // Eight bytes each: of those that a distance does not need the next takes the place.
        let from = into.len();
        let to = from + width * numbers.len();
        into.resize(to + 8, 0);
        let mut on_line = line.base;
        for (at, number) in numbers.iter().enumerate() {
            let place = from + at * width;
            let distance = number.wrapping_sub(on_line).cast_unsigned();
            into[place..place + 8].copy_from_slice(&distance.to_le_bytes());
            on_line = on_line.wrapping_add(line.step);
        }
        into.truncate(to);
    }
}

#[derive(Debug, Clone, Copy)]
struct Line {
    base: i64,
    step: i64,
    /// The largest distance above it.
    most: u64,
}

impl Line {
    /// The highest line of this step that no number is below.
    fn through(numbers: &[i64], step: i64) -> Self {
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        let mut line = 0_i64;
        for number in numbers {
            let above = number.wrapping_sub(line);
            (least, most) = (least.min(above), most.max(above));
            line = line.wrapping_add(step);
        }
        if least > most {
            (least, most) = (0, 0);
        }
        Self { base: least, step, most: most.wrapping_sub(least).cast_unsigned() }
    }

    fn at(self, place: usize) -> i64 {
        self.base.wrapping_add(self.step.wrapping_mul(count(place)))
    }

    /// Bytes of a distance.
    fn width(self) -> usize {
        bytes_of(self.most)
    }
}

/// Numbers as they were written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a> {
    line: Line,
    width: usize,
    mask: u64,
    /// The distances, and what lies behind them.
    bytes: &'a [u8],
}

impl<'a> Column<'a> {
    /// So many numbers, and the bytes behind them.
    pub(super) fn open(bytes: &'a [u8], numbers: usize) -> (Self, &'a [u8]) {
        let byte = |at: usize| usize::from(bytes.get(at).copied().unwrap_or(0));
        let (width, base_bytes, step_bytes) = (byte(0) & 15, byte(0) >> 4, byte(1));
        let base = unzigzag(load(bytes, 2, mask(base_bytes)));
        let step = unzigzag(load(bytes, 2 + base_bytes, mask(step_bytes)));
        let distances = bytes.get(2 + base_bytes + step_bytes..).unwrap_or_default();
        let column = Self { line: Line { base, step, most: 0 }, width, mask: mask(width), bytes: distances };
        (column, distances.get(width * numbers..).unwrap_or_default())
    }

    /// The number at a place.
    #[inline]
    pub(super) fn get(&self, place: usize) -> i64 {
        let on_line = self.line.at(place);
        if self.width == 0 {
            return on_line;
        }
        on_line.wrapping_add(load(self.bytes, place * self.width, self.mask).cast_signed())
    }

    /// The numbers at some places, in order.
    #[inline]
    pub(super) fn each(&self, places: std::ops::Range<usize>, mut take: impl FnMut(i64)) {
        let mut on_line = self.line.at(places.start);
        if self.width == 0 {
            for _ in places {
                take(on_line);
                on_line = on_line.wrapping_add(self.line.step);
            }
            return;
        }
        for place in places {
            take(on_line.wrapping_add(load(self.bytes, place * self.width, self.mask).cast_signed()));
            on_line = on_line.wrapping_add(self.line.step);
        }
    }

    /// If all numbers are the same, this one.
    pub(super) fn constant(&self) -> Option<i64> {
        (self.width == 0 && self.line.step == 0).then_some(self.line.base)
    }

    /// Of numbers that rise: how many of the first `numbers` are at most this.
    pub(super) fn at_most(&self, numbers: usize, most: i64) -> usize {
        let (mut from, mut to) = (0, numbers);
        while from < to {
            let middle = from.midpoint(to);
            if self.get(middle) <= most { from = middle + 1 } else { to = middle }
        }
        from
    }
}

/// Up to eight bytes from there on, as far as the mask goes.
#[inline]
fn load(bytes: &[u8], at: usize, mask: u64) -> u64 {
    if let Some(Ok(eight)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        return u64::from_le_bytes(eight) & mask;
    }
    let mut eight = [0; 8];
    let rest = bytes.get(at..).unwrap_or_default();
    eight[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(eight) & mask
}

/// So many low bytes.
fn mask(bytes: usize) -> u64 {
    if bytes >= 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 }
}

/// Bytes that a number takes.
fn bytes_of(number: u64) -> usize {
    (64 - number.leading_zeros()).div_ceil(8) as usize
}

fn count(numbers: usize) -> i64 {
    i64::try_from(numbers).unwrap_or(i64::MAX)
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

    fn written(numbers: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(numbers, &mut bytes);
        bytes
    }

    fn check(numbers: &[i64]) {
        let mut bytes = written(numbers);
        bytes.extend([1, 2, 3]);
        let (column, rest) = Column::open(&bytes, numbers.len());
        assert_eq!(rest, [1, 2, 3]);
        assert_eq!((0..numbers.len()).map(|at| column.get(at)).collect::<Vec<_>>(), numbers);
        for from in [0, numbers.len() / 2] {
            let mut all = Vec::new();
            column.each(from..numbers.len(), |number| all.push(number));
            assert_eq!(all, numbers[from..]);
        }
        if let Some(one) = column.constant() {
            assert!(numbers.iter().all(|number| *number == one));
        }
    }

    #[test]
    fn numbers_on_a_line_take_no_bytes() {
        check(&[]);
        check(&[7]);
        check(&[i64::MIN, i64::MAX]);
        check(&[i64::MAX, i64::MIN, 0, -1, i64::MAX]);
        let on_time: Vec<i64> = (0..120).map(|at| 1_767_322_800_000 + at * 15_000).collect();
        check(&on_time);
        assert_eq!(written(&on_time).len(), 2 + 6 + 2);
        // Up to half a second late: two bytes each.
        let late: Vec<i64> = (0..120).map(|at| 1_767_322_800_000 + at * 15_000 + at * 7_919 % 500).collect();
        check(&late);
        assert_eq!(written(&late).len(), 2 + 6 + 2 + 2 * 120);
        assert_eq!(written(&[-3; 100]).len(), 2 + 1);
    }

    #[test]
    fn numbers_that_rise_are_searched() {
        let numbers: Vec<i64> = (0..100).map(|at| at * at).collect();
        let bytes = written(&numbers);
        let (column, _) = Column::open(&bytes, numbers.len());
        for most in -2..10_100 {
            assert_eq!(
                column.at_most(numbers.len(), most),
                numbers.partition_point(|number| *number <= most),
                "{most}"
            );
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back(numbers in prop_oneof![
            prop::collection::vec(any::<i64>(), 0..130),
            prop::collection::vec(-1_000..1_000_i64, 0..130),
            prop::collection::vec(0..1_i64 << 40, 0..130),
        ]) {
            check(&numbers);
        }
    }
}
