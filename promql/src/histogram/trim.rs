//! `</` and `>/`: a histogram without the observations above or below a value.

use super::{Bucket, Histogram, Side};

impl Histogram {
    /// Keeps what lies below `at` (`upper`) or above it. A bucket that holds `at` is split by interpolation; where a bucket
    /// has no end, none or all of it is kept. The sum is estimated anew if anything was cut.
    #[must_use]
    pub fn trimmed(&self, at: f64, upper: bool) -> Histogram {
        let linear = self.is_custom();
        let (mut count, mut sum, mut cut) = (0.0, 0.0, false);
        let mut h = self.clone();
        let mut populated = [false; 2];
        for (n, side) in Side::BOTH.into_iter().enumerate() {
            let positive = side == Side::Positive;
            let mut buckets = self.side(side);
            for ((_, kept), bucket) in buckets.iter_mut().zip(self.side_buckets(side)) {
                populated[n] = true;
                let (whole, partly) = if upper {
                    (bucket.upper <= at, bucket.lower < at)
                } else {
                    (bucket.lower >= at, bucket.upper > at)
                };
                let (keep, middle) = if whole {
                    (bucket.count, midpoint(bucket.lower, bucket.upper, positive, linear))
                } else if partly {
                    split(&bucket, at, upper, positive, linear)
                } else {
                    (0.0, 0.0)
                };
                count += keep;
                sum += middle * keep;
                cut |= *kept != keep;
                *kept = keep;
            }
            h.set_side(side, &buckets);
        }
        if self.zero_count > 0.0 {
            let (keep, middle) = split_zero(&self.zero_bucket(), at, populated[1], populated[0], upper);
            cut |= h.zero_count != keep;
            h.zero_count = keep;
            sum += middle * keep;
            count += keep;
        }
        if cut {
            h.count = count;
            h.sum = sum;
        }
        h
    }
}

fn split(b: &Bucket, at: f64, upper: bool, positive: bool, linear: bool) -> (f64, f64) {
    if b.lower == f64::NEG_INFINITY || b.upper == f64::INFINITY {
        return split_endless(b, at, upper);
    }
    let under = if at <= b.lower {
        0.0
    } else if at >= b.upper {
        b.count
    } else {
        b.count * b.fraction_below(at, linear)
    };
    if upper {
        (under, midpoint(b.lower, at, positive, linear))
    } else {
        (b.count - under, midpoint(at, b.upper, positive, linear))
    }
}

fn finite_or_zero(x: f64) -> f64 {
    if x.is_infinite() { 0.0 } else { x }
}

fn split_endless(b: &Bucket, at: f64, upper: bool) -> (f64, f64) {
    if b.lower == f64::NEG_INFINITY {
        let to_finite = b.upper > 0.0 && b.upper != f64::INFINITY;
        if upper {
            if at >= b.upper {
                return (b.count, 0.0);
            }
            if at > 0.0 && to_finite {
                // Its lower end counts as 0.
                return (b.count * at / b.upper, at / 2.0);
            }
            if b.upper <= 0.0 {
                return (b.count, at);
            }
            return (0.0, finite_or_zero(b.upper));
        }
        if at <= b.lower {
            return (b.count, 0.0);
        }
        if at >= 0.0 && b.upper > at && to_finite {
            return (b.count * (1.0 - at / b.upper), (at + b.upper) / 2.0);
        }
        return (0.0, finite_or_zero(b.upper));
    }
    if upper {
        return (0.0, finite_or_zero(b.lower));
    }
    if at >= b.lower { (b.count, at) } else { (0.0, finite_or_zero(b.lower)) }
}

fn split_zero(zero: &Bucket, at: f64, has_negative: bool, has_positive: bool, upper: bool) -> (f64, f64) {
    let high = if has_negative && !has_positive { 0.0 } else { zero.upper };
    let low = if has_positive && !has_negative { 0.0 } else { zero.lower };
    let (none, all) = if upper { (at <= low, at >= high) } else { (at >= high, at <= low) };
    if none && (upper || !all) {
        return (0.0, 0.0);
    }
    if all {
        return (zero.count, (low + high) / 2.0);
    }
    if upper {
        (zero.count * ((at - low) / (high - low)), (low + at) / 2.0)
    } else {
        (zero.count * ((high - at) / (high - low)), (at + high) / 2.0)
    }
}

fn midpoint(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) => {
            if upper > 0.0 {
                upper / 2.0
            } else {
                upper
            }
        }
        (false, true) => lower,
        (false, false) if linear => (lower + upper) / 2.0,
        (false, false) => {
            let mean = (lower * upper).abs().sqrt();
            if positive { mean } else { -mean }
        }
    }
}
