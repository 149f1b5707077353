//! Quantiles of numbers, of classic buckets and of native histograms.

use std::cmp::Ordering;

use crate::annotations::Annotations;
use crate::error::Span;
use crate::histogram::{Bucket, Histogram};

/// Numbers in order, NaN first.
pub(super) fn nan_first(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// The quantile of some numbers, which are left in another order.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let n = values.len();
    let rank = q * (n as f64 - 1.0);
    let lower = rank.floor().max(0.0) as usize;
    let weight = rank - rank.floor();
    let (_, low, above) = values.select_nth_unstable_by(lower, nan_first);
    let low = *low;
    if weight == 0.0 {
        // An infinite neighbour has no part in it.
        return low;
    }
    let high = above.iter().copied().min_by(nan_first).unwrap_or(low);
    low * (1.0 - weight) + high * weight
}

/// A bucket of a classic histogram: observations at or below a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ClassicBucket {
    pub(super) upper: f64,
    pub(super) count: f64,
}

/// What had to be done to make counts grow with their bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Forced {
    /// The least and the greatest bound that was touched.
    pub(super) bounds: (f64, f64),
    /// The most by which a count was too small.
    pub(super) max_difference: f64,
}

/// Relative differences of counts below this come from rounding.
const SMALL_DIFFERENCE: f64 = 1e-12;

/// Buckets of one bound become one. They must be sorted.
fn coalesce(buckets: &mut Vec<ClassicBucket>) {
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
}

/// Whether two numbers are the same but for a relative error.
pub(crate) fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if crate::is_stale(a) || crate::is_stale(b) {
        return crate::is_stale(a) && crate::is_stale(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < epsilon * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < epsilon
}

fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<Forced> {
    let mut forced: Option<Forced> = None;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == before {
            continue;
        }
        if almost_equal(before, count, SMALL_DIFFERENCE) {
            bucket.count = before;
            continue;
        }
        if count < before {
            bucket.count = before;
            let f = forced.get_or_insert(Forced { bounds: (bucket.upper, bucket.upper), max_difference: 0.0 });
            f.bounds = (f.bounds.0.min(bucket.upper), f.bounds.1.max(bucket.upper));
            f.max_difference = f.max_difference.max(before - count);
            continue;
        }
        before = count;
    }
    forced
}

/// The quantile of a classic histogram whose buckets are sorted by bound; and what was wrong with them.
pub(super) fn classic_quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, Option<Forced>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let forced = make_monotonic(buckets);
    let n = buckets.len();
    let observations = buckets[n - 1].count;
    if n < 2 || observations == 0.0 || observations.is_nan() {
        return (f64::NAN, forced);
    }
    let mut rank = q * observations;
    let b = buckets[..n - 1].partition_point(|b| b.count < rank);
    let quantile = if b == n - 1 {
        buckets[n - 2].upper
    } else if b == 0 && buckets[0].upper <= 0.0 {
        buckets[0].upper
    } else {
        let mut start = 0.0;
        let mut count = buckets[b].count;
        if b > 0 {
            start = buckets[b - 1].upper;
            count -= buckets[b - 1].count;
            rank -= buckets[b - 1].count;
        }
        start + (buckets[b].upper - start) * (rank / count)
    };
    (quantile, forced)
}

/// Which share of a classic histogram's observations lies between two values. Its buckets are sorted by bound.
pub(super) fn classic_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut bound = if buckets[0].upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut ranks = Ranks::new(lower, upper);
    let mut rank = 0.0;
    for bucket in buckets.iter() {
        let between = |v: f64| {
            if bound == f64::NEG_INFINITY {
                return bucket.count;
            }
            rank + (bucket.count - rank) * (v - bound) / (bucket.upper - bound)
        };
        if ranks.pass(bound, bucket.upper, rank, between) {
            break;
        }
        rank = bucket.count;
        bound = bucket.upper;
    }
    ranks.share(count) / count
}

/// Observations below each of two values, found while walking up the buckets.
struct Ranks {
    lower: f64,
    upper: f64,
    below_lower: Option<f64>,
    below_upper: Option<f64>,
}

impl Ranks {
    fn new(lower: f64, upper: f64) -> Self {
        Ranks { lower, upper, below_lower: None, below_upper: None }
    }

    /// Takes a bucket; true once both are known.
    fn pass(&mut self, from: f64, to: f64, rank: f64, between: impl Fn(f64) -> f64) -> bool {
        for (value, below) in [(self.lower, &mut self.below_lower), (self.upper, &mut self.below_upper)] {
            if below.is_none() && from >= value {
                *below = Some(rank);
            }
        }
        if self.below_lower.is_none() || self.below_upper.is_none() {
            for (value, below) in [(self.lower, &mut self.below_lower), (self.upper, &mut self.below_upper)] {
                if below.is_none() && from < value && to > value {
                    *below = Some(between(value));
                }
            }
        }
        self.below_lower.is_some() && self.below_upper.is_some()
    }

    fn share(&self, count: f64) -> f64 {
        let at = |rank: Option<f64>| rank.filter(|r| *r <= count).unwrap_or(count);
        at(self.below_upper) - at(self.below_lower)
    }
}

/// In a zero bucket, one end is 0 where the histogram has observations on one side only.
fn narrowed(mut b: Bucket, h: &Histogram) -> Bucket {
    if h.negative_buckets.is_empty() && !h.positive_buckets.is_empty() {
        b.lower = 0.0;
    } else if h.positive_buckets.is_empty() && !h.negative_buckets.is_empty() {
        b.upper = 0.0;
    }
    b
}

/// The quantile of a native histogram.
pub(super) fn histogram_quantile(q: f64, h: &Histogram, name: &str, notes: &mut Annotations, span: Span) -> f64 {
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if h.count == 0.0 || q.is_nan() {
        return f64::NAN;
    }
    let buckets = h.all_buckets();
    let has_nan = h.sum.is_nan();
    // From the nearer end, unless NaNs, which are in no bucket, sit above all.
    let forward = has_nan || q < 0.5;
    let mut rank = if forward { q * h.count } else { (1.0 - q) * h.count };
    let mut count = 0.0;
    let mut found: Option<(usize, Bucket)> = None;
    for i in 0..buckets.len() {
        let i = if forward { i } else { buckets.len() - 1 - i };
        count += buckets[i].count;
        found = Some((i, buckets[i]));
        if count >= rank {
            break;
        }
    }
    let Some((at, mut bucket)) = found else {
        if has_nan {
            notes.quantile_nan_result(name, span);
        }
        return if has_nan { f64::NAN } else { 0.0 };
    };
    if h.is_custom() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return bucket.upper;
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return bucket.lower;
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        bucket = narrowed(bucket, h);
    }
    count = count.min(h.count);
    if count < rank {
        if has_nan {
            notes.quantile_nan_result(name, span);
            return f64::NAN;
        }
        return bucket.upper;
    }
    if forward {
        rank -= count - bucket.count;
    } else {
        rank = count - rank;
    }
    if has_nan && count + buckets[at + 1..].iter().map(|b| b.count).sum::<f64>() < h.count {
        notes.quantile_nan_skew(name, span);
    }
    let fraction = rank / bucket.count;
    if h.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    }
}

/// Which share of a native histogram's observations lies between two values.
pub(super) fn histogram_fraction(
    lower: f64,
    upper: f64,
    h: &Histogram,
    name: &str,
    notes: &mut Annotations,
    span: Span,
) -> f64 {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let buckets = h.all_buckets();
    let mut ranks = Ranks::new(lower, upper);
    let mut rank = 0.0;
    for b in &buckets {
        // Custom buckets have no zero bucket; the first of them begins at 0 where it ends above.
        let zero = !h.is_custom() && b.lower <= 0.0 && b.upper >= 0.0;
        let mut b = if zero { narrowed(*b, h) } else { *b };
        if h.is_custom() && b.lower == f64::NEG_INFINITY && b.upper > 0.0 {
            b.lower = 0.0;
        }
        let linear = h.is_custom() || zero;
        let between = |v: f64| {
            if linear && b.lower == f64::NEG_INFINITY {
                return b.count;
            }
            rank + b.count * b.fraction_below(v, linear)
        };
        if ranks.pass(b.lower, b.upper, rank, between) {
            break;
        }
        rank += b.count;
    }
    let mut count = h.count;
    if h.sum.is_nan() {
        count = buckets.iter().map(|b| b.count).sum();
        if count < h.count {
            notes.fraction_nan(name, span);
        }
    }
    ranks.share(count) / h.count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!(quantile(0.5, &mut [4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(quantile(0.0, &mut [4.0, f64::NAN]).to_string(), "NaN");
        assert_eq!(quantile(1.0, &mut [4.0, f64::NAN]), 4.0);
        assert_eq!(quantile(2.0, &mut [4.0]), f64::INFINITY);
        assert_eq!(quantile(1.0, &mut [4.0, f64::INFINITY]), f64::INFINITY);
        assert_eq!(quantile(0.5, &mut [1.0, 4.0, f64::INFINITY]), 4.0);
    }
}
