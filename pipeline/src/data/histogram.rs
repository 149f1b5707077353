//! Native histograms: kept as they come, so they are checked first. What is stored can be decoded without looking twice: spans and buckets
//! fit each other, counts are none below zero and add up, bounds rise.

use super::protobuf::{Field, Fields, WireError, zigzag};

/// The bits of the NaN that says "no more of this series".
pub(crate) const STALE_NAN: u64 = 0x7ff0_0000_0000_0002;

/// The schema of histograms with bounds of their own.
const CUSTOM: i64 = -53;
/// Schemas of exponential buckets.
const EXPONENTIAL: std::ops::RangeInclusive<i64> = -4..=8;

/// What is known of a histogram that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) at: When,
    /// Its sum is the staleness marker.
    pub(crate) stale: bool,
}

/// Positive or negative buckets.
#[derive(Debug, Default)]
struct Side {
    /// Buckets that spans speak of, and the index behind the last of them.
    spanned: u64,
    end: i64,
    spans: u64,
    /// Buckets that have a count, as whole numbers and as floats.
    deltas: u64,
    counts: u64,
    count: i128,
    total: i128,
    bad: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Histogram {
    at: When,
    count_int: Option<u64>,
    count_float: Option<f64>,
    zero_int: Option<u64>,
    zero_float: Option<f64>,
    zero_threshold: f64,
    sum: f64,
    schema: i64,
    negative: Side,
    positive: Side,
    bounds: u64,
    last_bound: Option<f64>,
    bad_bounds: bool,
}

/// When a sample was taken, and since when its series counts (0: not said), Unix milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) timestamp_ms: i64,
    pub(crate) start_timestamp_ms: i64,
}

/// Looks through a `Histogram` message of remote write, 1.0 or 2.0, which number its fields the same. The inner error is what is wrong with it.
pub(crate) fn check(message: &[u8]) -> Result<Result<Checked, &'static str>, WireError> {
    let histogram = Histogram::read(message)?;
    let checked = Checked { at: histogram.at, stale: histogram.sum.to_bits() == STALE_NAN };
    Ok(match histogram.fault() {
        Some(fault) if !checked.stale => Err(fault),
        _ => Ok(checked),
    })
}

impl Histogram {
    fn read(message: &[u8]) -> Result<Self, WireError> {
        let mut read = Self::default();
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => (read.count_int, read.count_float) = (Some(field.varint()?), None),
                2 => (read.count_int, read.count_float) = (None, Some(field.double()?)),
                3 => read.sum = field.double()?,
                4 => read.schema = zigzag(field.varint()?),
                5 => read.zero_threshold = field.double()?,
                6 => (read.zero_int, read.zero_float) = (Some(field.varint()?), None),
                7 => (read.zero_int, read.zero_float) = (None, Some(field.double()?)),
                8 => read.negative.span(field)?,
                9 => field.each_varint(|delta| read.negative.delta(delta))?,
                10 => field.each_double(|count| read.negative.float(count))?,
                11 => read.positive.span(field)?,
                12 => field.each_varint(|delta| read.positive.delta(delta))?,
                13 => field.each_double(|count| read.positive.float(count))?,
                15 => read.at.timestamp_ms = field.int64()?,
                16 => field.each_double(|bound| read.bound(bound))?,
                17 => read.at.start_timestamp_ms = field.int64()?,
                _ => {}
            }
        }
        Ok(read)
    }

    fn bound(&mut self, bound: f64) {
        self.bad_bounds |= !bound.is_finite() || self.last_bound.is_some_and(|last| bound <= last);
        self.last_bound = Some(bound);
        self.bounds += 1;
    }

    /// What is wrong with it.
    fn fault(&self) -> Option<&'static str> {
        let sides = [&self.negative, &self.positive];
        if let Some(fault) = sides.into_iter().find_map(|side| side.fault(self.is_float())) {
            return Some(fault);
        }
        if self.schema == CUSTOM {
            let fault = if self.negative.spanned > 0 {
                "negative buckets beside custom bounds"
            } else if self.zero_threshold != 0.0
                || self.zero_int.unwrap_or(0) != 0
                || self.zero_float.unwrap_or(0.0) != 0.0
            {
                "a zero bucket beside custom bounds"
            } else if self.bad_bounds {
                "custom bounds that do not rise"
            } else if self.positive.end > i64::try_from(self.bounds).unwrap_or(i64::MAX).saturating_add(1) {
                "buckets beyond its custom bounds"
            } else {
                return self.count_fault();
            };
            return Some(fault);
        }
        if !EXPONENTIAL.contains(&self.schema) {
            return Some("a schema that is neither -4 to 8 nor -53");
        }
        if self.bounds > 0 {
            return Some("custom bounds beside exponential buckets");
        }
        self.count_fault()
    }

    fn is_float(&self) -> bool {
        self.count_float.is_some()
    }

    /// Whether buckets and count agree: observations of NaN are in no bucket, and then the sum is NaN.
    fn count_fault(&self) -> Option<&'static str> {
        if self.is_float() {
            let (count, zero) = (self.count_float.unwrap_or(0.0), self.zero_float.unwrap_or(0.0));
            let negative = [count, zero].into_iter().any(|number| number < 0.0 || number.is_nan());
            return negative.then_some("a count below zero");
        }
        if self.zero_float.is_some() {
            return Some("a zero bucket of another kind than its count");
        }
        let count = i128::from(self.count_int.unwrap_or(0));
        let buckets = self.negative.total + self.positive.total + i128::from(self.zero_int.unwrap_or(0));
        let agrees = if self.sum.is_nan() { buckets <= count } else { buckets == count };
        (!agrees).then_some("buckets whose counts do not add up to its count")
    }
}

impl Side {
    fn span(&mut self, field: Field<'_>) -> Result<(), WireError> {
        let (mut offset, mut length) = (0, 0);
        for field in Fields::of(field.bytes()?) {
            let field = field?;
            match field.number {
                1 => offset = zigzag(field.varint()?),
                2 => length = field.varint()?,
                _ => {}
            }
        }
        if self.spans > 0 && offset < 0 {
            self.bad = Some("a span that begins before the one before it ends");
        }
        self.spans += 1;
        self.spanned = self.spanned.saturating_add(length);
        self.end = self.end.saturating_add(offset).saturating_add(i64::try_from(length).unwrap_or(i64::MAX));
        if i32::try_from(self.end).is_err() || i32::try_from(offset).is_err() {
            self.bad = Some("a bucket whose index does not fit 32 bits");
        }
        Ok(())
    }

    fn delta(&mut self, delta: u64) {
        self.deltas += 1;
        self.count += i128::from(zigzag(delta));
        self.total += self.count;
        if self.count < 0 {
            self.bad = Some("a bucket with a count below zero");
        }
    }

    fn float(&mut self, count: f64) {
        self.counts += 1;
        if count < 0.0 || count.is_nan() {
            self.bad = Some("a bucket with a count below zero");
        }
    }

    fn fault(&self, float: bool) -> Option<&'static str> {
        let (own, other) = if float { (self.counts, self.deltas) } else { (self.deltas, self.counts) };
        if other > 0 {
            return Some("buckets of another kind than its count");
        }
        self.bad.or((own != self.spanned).then_some("spans and buckets of different number"))
    }
}
