//! Sums, differences, products and counter resets of histograms.

use super::buckets::bound;
use super::{CounterResetHint, Histogram, Side, Sparse};
use crate::kahan::Kahan;

/// A sum of an exponential histogram and one with custom buckets means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct IncompatibleSchemas;

/// What there is to say about a sum or difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Combined {
    /// One side knew of a counter reset, the other that there was none.
    pub counter_resets_collide: bool,
    /// Custom bounds differed; only those that both have remain.
    pub bounds_reconciled: bool,
}

/// A running sum of histograms with compensation for rounding.
#[derive(Debug, Clone)]
pub(crate) struct KahanSum {
    /// Everything but counts and sum.
    shape: Histogram,
    zero: Kahan,
    count: Kahan,
    sum: Kahan,
    positive: Vec<(i32, Kahan)>,
    negative: Vec<(i32, Kahan)>,
}

impl KahanSum {
    /// Begins with one histogram.
    #[must_use]
    pub(crate) fn new(h: &Histogram) -> Self {
        let side = |s| h.side(s).into_iter().map(|(i, c)| (i, Kahan::new(c))).collect();
        KahanSum {
            zero: Kahan::new(h.zero_count),
            count: Kahan::new(h.count),
            sum: Kahan::new(h.sum),
            positive: side(Side::Positive),
            negative: side(Side::Negative),
            shape: Histogram {
                counter_reset_hint: h.counter_reset_hint,
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                custom_values: h.custom_values.clone(),
                ..Histogram::default()
            },
        }
    }

    /// Adds a histogram.
    ///
    /// # Errors
    /// Where one has custom buckets and the other has not.
    pub(crate) fn add(&mut self, other: &Histogram) -> Result<Combined, IncompatibleSchemas> {
        self.combine(other, 1.0)
    }

    fn combine(&mut self, other: &Histogram, sign: f64) -> Result<Combined, IncompatibleSchemas> {
        if self.shape.is_custom() != other.is_custom() {
            return Err(IncompatibleSchemas);
        }
        let mut combined = Combined {
            counter_resets_collide: adjust_hint(&mut self.shape, other.counter_reset_hint),
            bounds_reconciled: false,
        };
        let mut positive = other.side(Side::Positive);
        let mut negative = other.side(Side::Negative);
        if self.shape.is_custom() {
            if self.shape.custom_values != other.custom_values {
                combined.bounds_reconciled = true;
                let common = intersect(&self.shape.custom_values, &other.custom_values);
                self.positive = merged(&self.positive, |i| to_bounds(i, &self.shape.custom_values, &common));
                for (i, _) in &mut positive {
                    *i = to_bounds(*i, &other.custom_values, &common);
                }
                self.shape.custom_values = common;
            }
            negative.clear();
        } else {
            let mut zero = other.zero_count;
            let mut threshold = other.zero_threshold;
            // Either threshold may grow until both are the same and cut through no populated bucket.
            while threshold != self.shape.zero_threshold {
                if self.shape.zero_threshold > threshold {
                    (zero, threshold) = other.zero_count_at(self.shape.zero_threshold);
                } else {
                    self.widen_zero_bucket(threshold);
                }
            }
            self.zero.add(sign * zero);
            // What lies inside the zero bucket is counted there.
            let schema = other.schema;
            positive.retain(|(i, _)| bound(*i, schema, &[]) > threshold);
            negative.retain(|(i, _)| bound(*i, schema, &[]) > threshold);
            if other.schema < self.shape.schema {
                let (from, to) = (self.shape.schema, other.schema);
                self.positive = merged(&self.positive, |i| at_schema(i, from, to));
                self.negative = merged(&self.negative, |i| at_schema(i, from, to));
                self.shape.schema = to;
            } else {
                for (i, _) in positive.iter_mut().chain(&mut negative) {
                    *i = at_schema(*i, other.schema, self.shape.schema);
                }
            }
        }
        self.count.add(sign * other.count);
        self.sum.add(sign * other.sum);
        add_buckets(&mut self.positive, &positive, sign);
        add_buckets(&mut self.negative, &negative, sign);
        Ok(combined)
    }

    fn widen_zero_bucket(&mut self, threshold: f64) {
        let plain = self.value();
        let (_, threshold) = plain.zero_count_at(threshold);
        for side in [&mut self.positive, &mut self.negative] {
            side.retain(|(i, count)| {
                let inside = bound(i - 1, self.shape.schema, &[]) < threshold;
                if inside {
                    self.zero.add_compensated(*count);
                }
                !inside
            });
        }
        self.shape.zero_threshold = threshold;
    }

    /// Scales everything.
    pub(crate) fn scale(&mut self, factor: f64) {
        for k in [&mut self.zero, &mut self.count, &mut self.sum] {
            k.scale(factor);
        }
        for (_, k) in self.positive.iter_mut().chain(&mut self.negative) {
            k.scale(factor);
        }
    }

    /// Divides everything.
    pub(crate) fn divide(&mut self, divisor: f64) {
        for k in [&mut self.zero, &mut self.count, &mut self.sum] {
            k.divide(divisor);
        }
        for (_, k) in self.positive.iter_mut().chain(&mut self.negative) {
            k.divide(divisor);
        }
    }

    /// The sum so far, compacted.
    #[must_use]
    pub(crate) fn value(&self) -> Histogram {
        let mut h = Histogram {
            zero_count: self.zero.value(),
            count: self.count.value(),
            sum: self.sum.value(),
            ..self.shape.clone()
        };
        for (side, buckets) in [(Side::Positive, &self.positive), (Side::Negative, &self.negative)] {
            let buckets: Sparse = buckets.iter().map(|(i, k)| (*i, k.value())).collect();
            h.set_side(side, &buckets);
        }
        h
    }

    /// Whether something grew to infinity.
    #[must_use]
    pub(crate) fn has_overflow(&self) -> bool {
        [&self.zero, &self.count, &self.sum]
            .into_iter()
            .chain(self.positive.iter().chain(&self.negative).map(|(_, k)| k))
            .any(|k| k.sum.is_infinite())
    }
}

fn add_buckets(into: &mut Vec<(i32, Kahan)>, buckets: &[(i32, f64)], sign: f64) {
    let mut at = 0;
    for (index, count) in buckets {
        while at < into.len() && into[at].0 < *index {
            at += 1;
        }
        // `buckets` may name an index several times, where a coarser schema joined them.
        if at < into.len() && into[at].0 == *index {
            into[at].1.add(sign * count);
        } else {
            into.insert(at, (*index, Kahan::new(sign * count)));
        }
    }
}

fn merged(buckets: &[(i32, Kahan)], index: impl Fn(i32) -> i32) -> Vec<(i32, Kahan)> {
    let mut out: Vec<(i32, Kahan)> = Vec::with_capacity(buckets.len());
    for (i, count) in buckets {
        let i = index(*i);
        match out.last_mut() {
            Some((last, sum)) if *last == i => sum.add_compensated(*count),
            _ => out.push((i, *count)),
        }
    }
    out
}

/// The index of a bucket in a coarser schema.
pub(super) fn at_schema(index: i32, from: i32, to: i32) -> i32 {
    if from == to { index } else { ((index - 1) >> (from - to)) + 1 }
}

fn intersect(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|x| b.contains(x)).collect()
}

/// The bucket of the common bounds that holds all of a bucket.
fn to_bounds(index: i32, bounds: &[f64], common: &[f64]) -> i32 {
    match usize::try_from(index).ok().and_then(|i| bounds.get(i)) {
        Some(upper) => common.partition_point(|c| c < upper) as i32,
        None => common.len() as i32,
    }
}

/// What is known about resets after `other` is added; whether the two contradict each other.
fn adjust_hint(h: &mut Histogram, other: CounterResetHint) -> bool {
    use CounterResetHint::{Gauge, Unknown};
    match (h.counter_reset_hint, other) {
        (a, b) if a == b => false,
        (Gauge, _) => false,
        (_, Gauge) => {
            h.counter_reset_hint = Gauge;
            false
        }
        (Unknown, _) => false,
        (_, Unknown) => {
            h.counter_reset_hint = Unknown;
            false
        }
        _ => {
            h.counter_reset_hint = Unknown;
            true
        }
    }
}

impl Histogram {
    /// Adds another.
    ///
    /// # Errors
    /// Where one has custom buckets and the other has not.
    pub fn add(&mut self, other: &Histogram) -> Result<Combined, IncompatibleSchemas> {
        let mut sum = KahanSum::new(self);
        let combined = sum.combine(other, 1.0)?;
        *self = sum.value();
        Ok(combined)
    }

    /// Subtracts another; the reset hint is treated as in a sum.
    ///
    /// # Errors
    /// Where one has custom buckets and the other has not.
    pub fn sub(&mut self, other: &Histogram) -> Result<Combined, IncompatibleSchemas> {
        let mut sum = KahanSum::new(self);
        let combined = sum.combine(other, -1.0)?;
        *self = sum.value();
        Ok(combined)
    }

    fn each_count(&mut self, f: impl Fn(f64) -> f64) {
        self.zero_count = f(self.zero_count);
        self.count = f(self.count);
        self.sum = f(self.sum);
        self.positive_buckets.iter_mut().chain(&mut self.negative_buckets).for_each(|c| *c = f(*c));
    }

    /// Multiplies all counts and the sum; by a negative factor it becomes a gauge.
    #[must_use]
    pub fn mul(&self, factor: f64) -> Histogram {
        let mut h = self.clone();
        h.each_count(|c| c * factor);
        if factor < 0.0 {
            h.counter_reset_hint = CounterResetHint::Gauge;
        }
        h
    }

    /// Divides all counts and the sum; by zero it loses its buckets, by a negative number it becomes a gauge.
    #[must_use]
    pub fn div(&self, divisor: f64) -> Histogram {
        let mut h = self.clone();
        h.each_count(|c| c / divisor);
        if divisor == 0.0 {
            for side in Side::BOTH {
                h.set_side(side, &[]);
            }
        } else if divisor < 0.0 {
            h.counter_reset_hint = CounterResetHint::Gauge;
        }
        h
    }

    /// The same at a coarser schema.
    #[must_use]
    pub fn at_schema(&self, schema: i32) -> Histogram {
        if schema >= self.schema || self.is_custom() {
            return self.clone();
        }
        let mut h = Histogram { counter_reset_hint: CounterResetHint::Unknown, ..self.clone() };
        for side in Side::BOTH {
            let mut out: Sparse = Vec::new();
            for (i, count) in self.side(side) {
                let i = at_schema(i, self.schema, schema);
                match out.last_mut() {
                    Some((last, sum)) if *last == i => *sum += count,
                    _ => out.push((i, count)),
                }
            }
            h.set_side(side, &out);
        }
        h.schema = schema;
        h
    }

    /// What the zero count would be at a wider threshold, and the threshold itself, widened further where it would cut
    /// through a populated bucket.
    fn zero_count_at(&self, threshold: f64) -> (f64, f64) {
        let mut threshold = threshold;
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold);
        }
        let sides = Side::BOTH.map(|s| self.side(s));
        // Widening for one side can reach into a bucket of the other.
        loop {
            let before = threshold;
            for side in &sides {
                for (i, _) in side {
                    let (lower, upper) = (bound(i - 1, self.schema, &[]), bound(*i, self.schema, &[]));
                    if lower < threshold && upper > threshold {
                        threshold = upper;
                    }
                }
            }
            if threshold == before {
                break;
            }
        }
        let mut zero = Kahan::new(self.zero_count);
        for side in &sides {
            for (i, count) in side {
                if bound(i - 1, self.schema, &[]) < threshold {
                    zero.add(*count);
                }
            }
        }
        (zero.value(), threshold)
    }

    /// Whether a counter was reset between `previous` and this: a count went down, or a bucket is gone.
    #[must_use]
    pub fn detect_reset(&self, previous: &Histogram) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::CounterReset => return true,
            CounterResetHint::NotCounterReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.is_custom() {
            if !previous.is_custom() {
                return true;
            }
            let common = intersect(&self.custom_values, &previous.custom_values);
            let folded = |h: &Histogram| -> Sparse {
                let mut out: Sparse = Vec::new();
                for (i, count) in h.side(Side::Positive) {
                    let i = to_bounds(i, &h.custom_values, &common);
                    match out.last_mut() {
                        Some((last, sum)) if *last == i => *sum += count,
                        _ => out.push((i, count)),
                    }
                }
                out
            };
            return went_down(&folded(self), &folded(previous));
        }
        if previous.is_custom() || self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (previous_zero, threshold) = previous.zero_count_at(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < previous_zero {
            return true;
        }
        Side::BOTH.into_iter().any(|side| {
            let outside = |h: &Histogram| -> Sparse {
                h.side(side).into_iter().filter(|(i, _)| bound(*i, self.schema, &[]) > self.zero_threshold).collect()
            };
            went_down(&outside(self), &outside(&previous.at_schema(self.schema)))
        })
    }

    /// Whether two have the same buckets, bounds, counts and sum, to the bit; what is known of resets does not count.
    #[must_use]
    pub fn same_data(&self, other: &Histogram) -> bool {
        let bits = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let sides = |side| {
            let (a, b) = (self.side(side), other.side(side));
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && bits(a.1, b.1))
        };
        self.schema == other.schema
            && bits(self.count, other.count)
            && bits(self.sum, other.sum)
            && (!self.is_custom() || self.custom_values == other.custom_values)
            && self.zero_threshold == other.zero_threshold
            && bits(self.zero_count, other.zero_count)
            && sides(Side::Positive)
            && sides(Side::Negative)
    }
}

/// Whether some bucket of `previous` has fewer observations in `current`.
fn went_down(current: &[(i32, f64)], previous: &[(i32, f64)]) -> bool {
    previous.iter().any(|(i, before)| {
        let now = current.binary_search_by_key(i, |(i, _)| *i).map_or(0.0, |at| current[at].1);
        now < *before
    })
}
