//! Bounds of buckets.

use super::{CUSTOM_BUCKETS_SCHEMA, Histogram, Side};

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to it.
    pub lower_inclusive: bool,
    /// Whether the upper bound belongs to it.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: f64,
}

impl Bucket {
    /// Which share of the bucket's width lies at or below `v`, a value strictly inside of finite bounds: linearly, or on a
    /// logarithmic scale.
    pub(crate) fn fraction_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, v_log) = (self.lower.abs().log2(), self.upper.abs().log2(), v.abs().log2());
        if v > 0.0 { (v_log - lower) / (upper - lower) } else { 1.0 - (v_log - upper) / (lower - upper) }
    }
}

/// The upper bound, away from zero, of the bucket of an index.
pub(crate) fn bound(index: i32, schema: i32, custom: &[f64]) -> f64 {
    if schema == CUSTOM_BUCKETS_SCHEMA {
        return match usize::try_from(index) {
            Err(_) => f64::NEG_INFINITY,
            Ok(i) => custom.get(i).copied().unwrap_or(f64::INFINITY),
        };
    }
    if schema <= 0 {
        let exponent = i64::from(index) << -schema;
        // The last bucket before overflow ends at the largest number, so that what is counted there has a finite bound.
        if exponent == 1024 {
            return f64::MAX;
        }
        return (exponent.clamp(-2000, 2000) as f64).exp2();
    }
    let per_power = 1_i32 << schema;
    let fraction = index.rem_euclid(per_power);
    let exponent = index.div_euclid(per_power);
    if fraction == 0 && exponent == 1024 {
        return f64::MAX;
    }
    let base = (f64::from(fraction) / f64::from(per_power)).exp2();
    // In two steps, for the lowest powers are denormal.
    base * (f64::from(exponent) / 2.0).floor().exp2() * (f64::from(exponent) / 2.0).ceil().exp2()
}

impl Histogram {
    fn bucket(&self, side: Side, index: i32, count: f64) -> Bucket {
        let (outer, inner) =
            (bound(index, self.schema, &self.custom_values), bound(index - 1, self.schema, &self.custom_values));
        let (lower, upper) = if side == Side::Positive { (inner, outer) } else { (-outer, -inner) };
        if self.is_custom() {
            return Bucket { lower, upper, lower_inclusive: index == 0, upper_inclusive: true, count };
        }
        Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count }
    }

    /// Populated buckets of one side, away from zero.
    pub fn side_buckets(&self, side: Side) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        self.side(side).into_iter().map(move |(index, count)| self.bucket(side, index, count))
    }

    pub(crate) fn zero_bucket(&self) -> Bucket {
        let z = self.zero_threshold;
        Bucket { lower: -z, upper: z, lower_inclusive: true, upper_inclusive: true, count: self.zero_count }
    }

    /// All populated buckets in ascending order; those that overlap the zero bucket begin or end where it does.
    #[must_use]
    pub fn all_buckets(&self) -> Vec<Bucket> {
        let z = self.zero_threshold;
        let cut = |mut b: Bucket| {
            if b.upper < 0.0 && b.upper > -z {
                b.upper = -z;
            } else if b.lower > 0.0 && b.lower < z {
                b.lower = z;
            }
            b
        };
        let mut all: Vec<Bucket> = Vec::new();
        if !self.is_custom() {
            all.extend(self.side_buckets(Side::Negative).rev().map(cut));
            if self.zero_count > 0.0 {
                all.push(self.zero_bucket());
            }
        }
        all.extend(self.side_buckets(Side::Positive).map(cut));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_powers_of_the_schema() {
        assert_eq!(bound(0, 0, &[]), 1.0);
        assert_eq!(bound(3, 0, &[]), 8.0);
        assert_eq!(bound(-1, 0, &[]), 0.5);
        assert_eq!(bound(1, -2, &[]), 16.0);
        assert_eq!(bound(2, 1, &[]), 2.0);
        assert_eq!(bound(1, 1, &[]), std::f64::consts::SQRT_2);
        assert_eq!(bound(-1, 1, &[]), std::f64::consts::FRAC_1_SQRT_2);
        assert_eq!(bound(1024, 0, &[]), f64::MAX);
        assert_eq!(bound(1025, 0, &[]), f64::INFINITY);
        assert_eq!(bound(1, CUSTOM_BUCKETS_SCHEMA, &[5.0, 10.0]), 10.0);
        assert_eq!(bound(2, CUSTOM_BUCKETS_SCHEMA, &[5.0, 10.0]), f64::INFINITY);
        assert_eq!(bound(-1, CUSTOM_BUCKETS_SCHEMA, &[5.0, 10.0]), f64::NEG_INFINITY);
    }
}
