//! Native histograms with float counts.
//!
//! Arithmetic works on sparse buckets, (index, count), and writes spans back compacted: what Prometheus reaches by
//! `Compact(0)` after each operation is here the only form that an operation leaves behind.

mod arithmetic;
mod buckets;
mod message;
mod text;
mod trim;

pub(crate) use arithmetic::KahanSum;
pub use arithmetic::{Combined, IncompatibleSchemas};
pub use buckets::Bucket;

/// What is known about a counter reset between a histogram and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum CounterResetHint {
    /// Nothing is known.
    #[default]
    Unknown,
    /// There was a reset.
    CounterReset,
    /// There was none.
    NotCounterReset,
    /// It is a gauge histogram; resets mean nothing.
    Gauge,
}

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct BucketSpan {
    /// Gap to the previous span's end; for the first one the index of its first bucket.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// The schema of histograms whose bucket bounds are listed in `custom_values`.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A native histogram; bucket counts are absolute floats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// What is known about a counter reset before it.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution: bucket bounds are powers of 2^(2^-schema), from -4 to 8; [`CUSTOM_BUCKETS_SCHEMA`] for listed bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// Where the positive buckets are.
    pub positive_spans: Vec<BucketSpan>,
    /// Where the negative buckets are.
    pub negative_spans: Vec<BucketSpan>,
    /// Counts of the positive buckets.
    pub positive_buckets: Vec<f64>,
    /// Counts of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, ascending, without the last one, +Inf.
    pub custom_values: Vec<f64>,
}

impl Histogram {
    /// Whether its bounds are listed in `custom_values`.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Whether it is the marker that its series has ended.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        crate::value::is_stale(self.sum)
    }

    /// How many float samples it counts as against a limit.
    #[must_use]
    pub fn size_in_samples(&self) -> usize {
        let spans = (self.positive_spans.len() + self.negative_spans.len()) * 8;
        let buckets = (self.positive_buckets.len() + self.negative_buckets.len() + self.custom_values.len()) * 8;
        (176 + spans + buckets) / 16
    }

    /// Populated buckets of one side as (index, count), ascending by index.
    #[must_use]
    pub fn side(&self, side: Side) -> Vec<(i32, f64)> {
        match side {
            Side::Positive => sparse(&self.positive_spans, &self.positive_buckets),
            Side::Negative => sparse(&self.negative_spans, &self.negative_buckets),
        }
    }

    pub(crate) fn set_side(&mut self, side: Side, buckets: &[(i32, f64)]) {
        let (spans, counts) = dense(buckets);
        match side {
            Side::Positive => (self.positive_spans, self.positive_buckets) = (spans, counts),
            Side::Negative => (self.negative_spans, self.negative_buckets) = (spans, counts),
        }
    }

    /// Drops empty buckets and joins spans: equal histograms look equal afterwards.
    pub fn compact(&mut self) {
        for side in Side::BOTH {
            let buckets = self.side(side);
            self.set_side(side, &buckets);
        }
    }

    /// The same, compacted.
    #[must_use]
    pub fn compacted(mut self) -> Self {
        self.compact();
        self
    }

    /// What is wrong with its layout, if something is: counts and spans that do not fit, bounds out of order.
    ///
    /// # Errors
    /// Prometheus's message.
    pub fn validate(&self) -> Result<(), String> {
        for (name, spans, buckets) in [
            ("positive", &self.positive_spans, &self.positive_buckets),
            ("negative", &self.negative_spans, &self.negative_buckets),
        ] {
            if spans.iter().skip(1).any(|s| s.offset < 0) {
                return Err(format!("{name} side: histogram has a span whose offset is negative"));
            }
            if spans.iter().map(|s| u64::from(s.length)).sum::<u64>() != buckets.len() as u64 {
                return Err(format!("{name} side: histogram spans specify different number of buckets than provided"));
            }
            if buckets.iter().any(|c| *c < 0.0) {
                return Err(format!("{name} side: histogram has a bucket whose observation count is negative"));
            }
        }
        if self.is_custom() {
            if !self.custom_values.windows(2).all(|w| w[0] < w[1]) {
                return Err("custom buckets: histogram custom bounds must be in strictly increasing order".to_owned());
            }
            if self.custom_values.iter().any(|v| !v.is_finite()) {
                return Err("custom buckets: histogram custom bounds must be finite".to_owned());
            }
            let last = self.positive_spans.iter().fold(0i64, |at, s| at + i64::from(s.offset) + i64::from(s.length));
            if last > self.custom_values.len() as i64 + 1 {
                return Err("custom buckets: histogram custom bounds are too few".to_owned());
            }
        } else if !(-4..=8).contains(&self.schema) {
            return Err(format!(
                "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema {}",
                self.schema
            ));
        } else if !self.custom_values.is_empty() {
            return Err("histogram with exponential schema must not have custom bounds".to_owned());
        }
        if self.count < 0.0 {
            return Err("histogram's observation count is negative".to_owned());
        }
        Ok(())
    }
}

/// Positive or negative observations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Above the zero bucket.
    Positive,
    /// Below it; indexes grow away from zero.
    Negative,
}

impl Side {
    pub(crate) const BOTH: [Side; 2] = [Side::Positive, Side::Negative];
}

/// Populated buckets: (index, count), ascending by index.
pub(crate) type Sparse = Vec<(i32, f64)>;

fn sparse(spans: &[BucketSpan], counts: &[f64]) -> Sparse {
    let mut out = Vec::with_capacity(counts.len());
    let mut index: i32 = 0;
    let mut counts = counts.iter();
    for span in spans {
        index = index.wrapping_add(span.offset);
        for _ in 0..span.length {
            let Some(count) = counts.next() else { return out };
            if *count != 0.0 {
                out.push((index, *count));
            }
            index = index.wrapping_add(1);
        }
    }
    out
}

fn dense(buckets: &[(i32, f64)]) -> (Vec<BucketSpan>, Vec<f64>) {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut counts = Vec::with_capacity(buckets.len());
    let mut next: i32 = 0;
    for (index, count) in buckets {
        if *count == 0.0 {
            continue;
        }
        match spans.last_mut() {
            Some(span) if next == *index => span.length += 1,
            Some(_) => spans.push(BucketSpan { offset: index - next, length: 1 }),
            None => spans.push(BucketSpan { offset: *index, length: 1 }),
        }
        counts.push(*count);
        next = index + 1;
    }
    (spans, counts)
}
