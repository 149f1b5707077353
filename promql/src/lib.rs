//! PromQL: (query, time, series source) -> value. This crate knows no broker and no clock.
//!
//! So far it is the seam alone: what an engine asks of whoever holds samples. There is no engine yet.

/// How a label's value is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

/// One condition of a selector; the metric's name is the label `__name__`. A label that is absent has the value `""`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    /// Label name.
    pub label: String,
    /// How to compare.
    pub op: MatchOp,
    /// What to compare with.
    pub value: String,
}

/// A series and its samples in a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Labels with `__name__`, sorted by name.
    pub labels: Vec<(String, String)>,
    /// Times of the samples, Unix milliseconds, strictly ascending.
    pub timestamps_ms: Vec<i64>,
    /// Their values, as many as there are times; a staleness marker is Prometheus's own NaN.
    pub values: Vec<f64>,
}

/// Whoever holds samples. Called by an engine, once per selector of a query.
pub trait SeriesSource {
    /// Why samples could not be read.
    type Error: std::error::Error;

    /// Every series that satisfies all matchers and has a sample in `start_ms < t <= end_ms` (open on the left, as
    /// Prometheus 3 has it), with its samples there; sorted by labels.
    ///
    /// # Errors
    /// Where the samples cannot be read; then the query fails, for a part of the series would be a wrong answer.
    fn select(&self, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Result<Vec<Series>, Self::Error>;
}
