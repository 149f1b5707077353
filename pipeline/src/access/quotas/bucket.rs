//! A bucket of tokens: so many a second, so many at once.
//!
//! What is taken may be more than is there, as long as something is: the bucket then owes, and the next have to wait. So the rate holds on average, and no
//! request is too large for its tenant's rate to ever pass. (That is what `governor`, a bucket that never owes, cannot do.)

use parking_lot::Mutex;

/// What sums of fractions may be off by.
const ROUNDING: f64 = 1e-6;

/// A rate and what is left of it.
#[derive(Debug)]
pub(super) struct Bucket {
    rate_per_s: f64,
    most: f64,
    left: Mutex<Left>,
}

#[derive(Debug)]
struct Left {
    tokens: f64,
    at_ms: i64,
}

impl Bucket {
    /// Full, with `burst_s` seconds' worth of tokens.
    pub(super) fn new(rate_per_s: f64, burst_s: f64, now_ms: i64) -> Self {
        let most = (rate_per_s * burst_s).max(1.0);
        Self { rate_per_s, most, left: Mutex::new(Left { tokens: most, at_ms: now_ms }) }
    }

    /// Takes tokens, or says after how many milliseconds there will be any.
    pub(super) fn take(&self, tokens: u64, now_ms: i64) -> Result<(), u64> {
        let mut left = self.left.lock();
        // A clock that went back gives nothing, and goes on from there.
        let elapsed_ms = (now_ms - left.at_ms).max(0);
        left.at_ms = now_ms;
        left.tokens = (left.tokens + self.rate_per_s * elapsed_ms as f64 / 1000.0).min(self.most);
        // Of requests, one token is one request: half of one is none.
        if left.tokens < 1.0 - ROUNDING {
            let wait_ms = (1.0 - left.tokens) / self.rate_per_s * 1000.0;
            return Err((wait_ms - ROUNDING).ceil() as u64);
        }
        left.tokens -= tokens as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_and_a_burst_passes() {
        let bucket = Bucket::new(10.0, 2.0, 0);
        for _ in 0..20 {
            assert_eq!(bucket.take(1, 0), Ok(()));
        }
        assert_eq!(bucket.take(1, 0), Err(100));
        assert_eq!(bucket.take(1, 99), Err(1));
        assert_eq!(bucket.take(1, 100), Ok(()));
        assert_eq!(bucket.take(1, 100), Err(100));
    }

    #[test]
    fn what_is_larger_than_the_burst_passes_and_is_owed() {
        let bucket = Bucket::new(10.0, 1.0, 0);
        assert_eq!(bucket.take(60, 0), Ok(()));
        assert_eq!(bucket.take(1, 1_000), Err(4_100));
        assert_eq!(bucket.take(1, 5_100), Ok(()));
        assert_eq!(bucket.take(1, 3_600_000), Ok(()));
        assert_eq!(bucket.take(1, 0), Ok(()), "a clock set back");
    }
}
