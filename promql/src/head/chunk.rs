//! Up to 128 samples of a series that take no more, in three [columns](super::column).
//!
//! ```text
//! times     a column, ms
//! u8        how the values are written: 0 to 6: as whole numbers of so many decimal places; 255: by their bits
//! u8        how many of them are exceptions
//!           per exception: u8 place, 8 bytes value
//! values    a column
//! marks     a column
//! ```
//!
//! Values come back bit by bit, so a staleness marker stays one. Samples that come on time with the same value and mark take nothing but what stands
//! in front; a counter usually a byte, a number without pattern seven.

use super::column::{self, Column};

/// Samples of a full chunk.
pub(super) const FULL: usize = 128;

/// Values are whole numbers of these.
const PLACES: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Values are their bits.
const BITS: u8 = u8::MAX;
/// Whole numbers below this are themselves as floats.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// One in so many values may be an exception.
const EXCEPTIONS: usize = 8;
const EXCEPTION_BYTES: usize = 9;

/// A sample, and what its owner has noted beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Unix milliseconds.
    pub time_ms: i64,
    /// A staleness marker is Prometheus's own NaN.
    pub value: f64,
    /// Any number, [`NO_MARK`] for none. Those that rise evenly, or are all the same, take the least memory.
    pub mark: i64,
}

/// Nothing is noted.
pub const NO_MARK: i64 = -1;

/// Samples in time order, at least one.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    bytes: Box<[u8]>,
    last_ms: i64,
    count: u8,
    /// Those before this are forgotten.
    from: u8,
}

impl Chunk {
    pub(super) fn last_ms(&self) -> i64 {
        self.last_ms
    }

    /// How many samples there are.
    pub(super) fn len(&self) -> usize {
        usize::from(self.count - self.from)
    }

    /// Memory held beside the struct, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn open(&self) -> Opened<'_> {
        let count = usize::from(self.count);
        let (times, rest) = Column::open(&self.bytes, count);
        let (how, rest) = rest.split_at_checked(2).unwrap_or_default();
        let (how, exceptions) = (how.first().copied().unwrap_or(BITS), how.get(1).copied().unwrap_or(0));
        let (exceptions, rest) = rest.split_at_checked(usize::from(exceptions) * EXCEPTION_BYTES).unwrap_or_default();
        let (numbers, marks) = Column::open(rest, count);
        Opened { times, how, exceptions, numbers, marks, count, from: usize::from(self.from) }
    }

    #[cfg(test)]
    fn points(&self) -> impl Iterator<Item = Point> + '_ {
        let opened = self.open();
        opened.points(opened.from..opened.count)
    }

    /// Forgets samples before this time, of which at least one is not; how many they were, and when the last of them was.
    pub(super) fn forget(&mut self, before_ms: i64) -> Option<(usize, i64)> {
        let opened = self.open();
        let from = opened.at_most(before_ms.saturating_sub(1)).min(opened.count - 1);
        let gone = from.checked_sub(opened.from).filter(|gone| *gone > 0)?;
        let last_ms = opened.times.get(from - 1);
        self.from = from as u8;
        Some((gone, last_ms))
    }
}

/// Samples in time order that are to become chunks; kept for the memory that it has.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    times_ms: Vec<i64>,
    values: Vec<f64>,
    marks: Vec<i64>,
    numbers: Vec<i64>,
    bytes: Vec<u8>,
}

impl Gathered {
    pub(super) fn clear(&mut self) {
        self.times_ms.clear();
        self.values.clear();
        self.marks.clear();
    }

    /// Adds all of a chunk.
    pub(super) fn take(&mut self, chunk: &Chunk) {
        let opened = chunk.open();
        let places = opened.from..opened.count;
        opened.read(places.clone(), &mut self.times_ms, &mut self.values);
        let (marks, _) = Column::open(opened.marks, opened.count);
        marks.each(places, |mark| self.marks.push(mark));
    }

    pub(super) fn push(&mut self, point: Point) {
        self.times_ms.push(point.time_ms);
        self.values.push(point.value);
        self.marks.push(point.mark);
    }

    /// Puts a sample into its place; false where another had its time.
    pub(super) fn insert(&mut self, point: Point) -> bool {
        match self.times_ms.binary_search(&point.time_ms) {
            Ok(at) => {
                (self.values[at], self.marks[at]) = (point.value, point.mark);
                false
            }
            Err(at) => {
                self.times_ms.insert(at, point.time_ms);
                self.values.insert(at, point.value);
                self.marks.insert(at, point.mark);
                true
            }
        }
    }

    /// Takes the sample of a time away, if there is one.
    pub(super) fn remove(&mut self, time_ms: i64) -> bool {
        let found = self.times_ms.binary_search(&time_ms);
        if let Ok(at) = found {
            self.times_ms.remove(at);
            self.values.remove(at);
            self.marks.remove(at);
        }
        found.is_ok()
    }

    pub(super) fn len(&self) -> usize {
        self.times_ms.len()
    }

    /// A chunk of the samples at these places, of which there is at least one.
    pub(super) fn chunk(&mut self, places: std::ops::Range<usize>) -> Chunk {
        let (times_ms, values) = (&self.times_ms[places.clone()], &self.values[places.clone()]);
        let bytes = &mut self.bytes;
        bytes.clear();
        column::write(times_ms, bytes);
        write_values(values, &mut self.numbers, bytes);
        column::write(&self.marks[places], bytes);
        Chunk {
            last_ms: times_ms.last().copied().unwrap_or(i64::MIN),
            count: times_ms.len() as u8,
            from: 0,
            bytes: bytes.as_slice().into(),
        }
    }
}

/// A chunk to read from. Places are those of its samples, counted from the first that it ever had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened<'a> {
    times: Column<'a>,
    how: u8,
    exceptions: &'a [u8],
    numbers: Column<'a>,
    marks: &'a [u8],
    pub(super) count: usize,
    pub(super) from: usize,
}

impl<'a> Opened<'a> {
    /// The place behind the samples that are at most as late as this.
    pub(super) fn at_most(&self, most_ms: i64) -> usize {
        self.times.at_most(self.count, most_ms).max(self.from)
    }

    pub(super) fn time_ms(&self, place: usize) -> i64 {
        self.times.get(place)
    }

    pub(super) fn value(&self, place: usize) -> f64 {
        match self.exceptions().find(|(at, _)| *at == place) {
            Some((_, value)) => value,
            None => self.plain(self.numbers.get(place)),
        }
    }

    fn plain(&self, number: i64) -> f64 {
        match self.how {
            0 => number as f64,
            BITS => f64::from_bits(number.cast_unsigned()),
            places => number as f64 / PLACES.get(usize::from(places)).copied().unwrap_or(1.0),
        }
    }

    fn exceptions(&self) -> impl Iterator<Item = (usize, f64)> + 'a {
        self.exceptions.chunks_exact(EXCEPTION_BYTES).filter_map(|exception| {
            let (at, value) = exception.split_first()?;
            Some((usize::from(*at), f64::from_le_bytes(value.try_into().ok()?)))
        })
    }

    /// Appends the samples at these places.
    pub(super) fn read(&self, places: std::ops::Range<usize>, times_ms: &mut Vec<i64>, values: &mut Vec<f64>) {
        self.times.each(places.clone(), |time_ms| times_ms.push(time_ms));
        let before = values.len();
        if let Some(constant) = self.numbers.constant() {
            values.resize(before + places.len(), self.plain(constant));
        } else {
            match self.how {
                0 => self.numbers.each(places.clone(), |number| values.push(number as f64)),
                BITS => self.numbers.each(places.clone(), |number| values.push(f64::from_bits(number.cast_unsigned()))),
                _ => self.numbers.each(places.clone(), |number| values.push(self.plain(number))),
            }
        }
        for (at, value) in self.exceptions() {
            if places.contains(&at) {
                values[before + at - places.start] = value;
            }
        }
    }

    /// The samples at these places.
    pub(super) fn points(self, places: std::ops::Range<usize>) -> impl DoubleEndedIterator<Item = Point> + 'a {
        let (marks, _) = Column::open(self.marks, self.count);
        places.map(move |at| Point { time_ms: self.times.get(at), value: self.value(at), mark: marks.get(at) })
    }
}

fn write_values(values: &[f64], numbers: &mut Vec<i64>, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for (places, one) in (0_u8..).zip(PLACES) {
        bytes.truncate(start);
        bytes.extend([places, 0]);
        if let Some(exceptions) = write_whole(values, one, numbers, bytes) {
            bytes[start + 1] = exceptions;
            return column::write(numbers, bytes);
        }
    }
    numbers.clear();
    numbers.extend(values.iter().map(|value| value.to_bits().cast_signed()));
    bytes.truncate(start);
    bytes.extend([BITS, 0]);
    column::write(numbers, bytes);
}

/// Values as whole numbers, appended those that are none, and how many these are; `None` where they are too many.
fn write_whole(values: &[f64], one: f64, numbers: &mut Vec<i64>, bytes: &mut Vec<u8>) -> Option<u8> {
    numbers.clear();
    let (mut before, mut exceptions) = (0, 0_u8);
    for (at, value) in values.iter().enumerate() {
        let scaled = value * one;
        let nearest = (scaled + 0.5_f64.copysign(scaled)) as i64;
        if scaled.abs() < EXACT && (nearest as f64 / one).to_bits() == value.to_bits() {
            before = nearest;
        } else {
            exceptions += 1;
            if usize::from(exceptions) * EXCEPTIONS > values.len() {
                return None;
            }
            bytes.push(at as u8);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        // The number before keeps the line straight.
        numbers.push(before);
    }
    Some(exceptions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::STALE_NAN;

    fn bits(points: impl IntoIterator<Item = Point>) -> Vec<(i64, u64, i64)> {
        points.into_iter().map(|point| (point.time_ms, point.value.to_bits(), point.mark)).collect()
    }

    fn chunk(points: &[Point]) -> Chunk {
        let mut gathered = Gathered::default();
        points.iter().for_each(|point| gathered.push(*point));
        let chunk = gathered.chunk(0..points.len());
        assert_eq!(bits(chunk.points()), bits(points.iter().copied()));
        let opened = chunk.open();
        for from in [0, points.len() / 3] {
            let (mut times_ms, mut values) = (Vec::new(), Vec::new());
            opened.read(from..points.len(), &mut times_ms, &mut values);
            let wanted = bits(points[from..].iter().copied());
            let read = times_ms.iter().zip(&values).map(|(time_ms, value)| (*time_ms, value.to_bits()));
            assert_eq!(read.collect::<Vec<_>>(), wanted.iter().map(|(t, v, _)| (*t, *v)).collect::<Vec<_>>());
        }
        chunk
    }

    fn points(values: &[f64]) -> Vec<Point> {
        let point = |(at, value): (i64, &f64)| Point { time_ms: at * 15_000, value: *value, mark: 7 + at * 3 };
        (0..).zip(values).map(point).collect()
    }

    #[test]
    fn odd_times_and_values_come_back() {
        let times = [i64::MIN + 1, -1, 0, 1, 15_001, 30_001, 30_002, i64::MAX];
        let values = [0.0, -0.0, f64::NAN, STALE_NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX];
        let marks = [NO_MARK, i64::MAX, i64::MIN, 0, 1, 2, 3, NO_MARK];
        let all = times.iter().zip(values).zip(marks);
        let all: Vec<Point> = all.map(|((time_ms, value), mark)| Point { time_ms: *time_ms, value, mark }).collect();
        chunk(&all);
        chunk(&all[3..4]);
    }

    #[test]
    fn values_take_the_bytes_that_they_need() {
        let of = |value: &dyn Fn(i64) -> f64| chunk(&points(&(0..120).map(value).collect::<Vec<_>>())).heap_bytes();
        let level = of(&|_| 3.5);
        assert!(level < 20, "{level}");
        assert_eq!(of(&|at| at as f64 * 40.0), level);
        // A counter, in hundredths, and one that ends now and then.
        assert!(of(&|at| (at * 40 + at * 7_919 % 50) as f64 / 100.0) <= level + 120 + 2);
        assert!(of(&|at| if at % 30 == 0 { STALE_NAN } else { (at * 7_919 % 200) as f64 }) <= level + 120 + 4 * 9 + 2);
        // No pattern, but of one size.
        assert!(of(&|at| 1.0 + (at as f64 * 0.7).sin().abs()) <= level + 120 * 7 + 8);
    }

    #[test]
    fn what_is_forgotten_is_not_read() {
        let mut chunk = chunk(&points(&[1.0, 2.0, 3.0, 4.0]));
        assert_eq!(chunk.forget(0), None);
        assert_eq!(chunk.forget(15_001), Some((2, 15_000)));
        assert_eq!(chunk.forget(15_001), None);
        assert_eq!(chunk.len(), 2);
        assert_eq!(chunk.points().map(|point| point.value).collect::<Vec<_>>(), [3.0, 4.0]);
        assert_eq!(chunk.open().at_most(0), 2);
        assert_eq!(chunk.open().at_most(30_000), 3);
    }

    proptest! {
        #[test]
        fn samples_come_back(
            steps in prop::collection::vec(
                (1_i64..1_000_000, prop_oneof![
                    prop::num::f64::ANY,
                    (0..1_000_i32).prop_map(f64::from),
                    (0..1_000_i32).prop_map(|value| f64::from(value) / 100.0),
                    Just(STALE_NAN),
                ], any::<i16>()),
                1..FULL + 1,
            ),
            start in -1_000_000_000_i64..1_000_000_000,
        ) {
            let mut time_ms = start;
            let point = |(step, value, mark): (i64, f64, i16)| {
                time_ms += step;
                Point { time_ms, value, mark: i64::from(mark) }
            };
            chunk(&steps.into_iter().map(point).collect::<Vec<_>>());
        }
    }
}
