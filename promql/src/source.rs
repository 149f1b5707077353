//! What the engine asks of whoever holds samples.

use std::sync::Arc;

use crate::error::Error;
use crate::histogram::Histogram;
use crate::labels::{Labels, METRIC_NAME, Quoted, is_classic_label_name};
use crate::regexp::Pattern;

/// How a label's value is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl MatchOp {
    /// As it is written in a query.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// One condition of a selector; the metric's name is the label `__name__`. A label that is absent has the value `""`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Matcher {
    /// Label name.
    pub label: String,
    /// How to compare.
    pub op: MatchOp,
    /// What to compare with.
    pub value: String,
}

impl Matcher {
    /// A matcher.
    pub fn new(label: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Self {
        Matcher { label: label.into(), op, value: value.into() }
    }

    /// `label="value"`.
    pub fn equal(label: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(label, MatchOp::Equal, value)
    }

    /// Ready to be tried on many values.
    ///
    /// # Errors
    /// `bad_data` where a regular expression does not compile or is too large.
    pub fn compile(&self) -> Result<CompiledMatcher, Error> {
        let test = match self.op {
            MatchOp::Equal => Test::Equal(self.value.clone()),
            MatchOp::NotEqual => Test::NotEqual(self.value.clone()),
            MatchOp::Regex => Test::Regex(Pattern::new(&self.value)?),
            MatchOp::NotRegex => Test::NotRegex(Pattern::new(&self.value)?),
        };
        Ok(CompiledMatcher { label: self.label.clone(), test })
    }
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if is_classic_label_name(&self.label) {
            f.write_str(&self.label)?
        } else {
            write!(f, "{}", Quoted(&self.label))?
        }
        write!(f, "{}{}", self.op.as_str(), Quoted(&self.value))
    }
}

/// A matcher whose regular expression, if it has one, is compiled.
#[derive(Debug, Clone)]
pub struct CompiledMatcher {
    label: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Equal(String),
    NotEqual(String),
    Regex(Pattern),
    NotRegex(Pattern),
}

impl CompiledMatcher {
    /// The label it looks at.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether a value satisfies it; `""` stands for an absent label.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal(wanted) => value == wanted,
            Test::NotEqual(unwanted) => value != unwanted,
            Test::Regex(pattern) => pattern.matches(value),
            Test::NotRegex(pattern) => !pattern.matches(value),
        }
    }

    /// Whether a series satisfies it.
    #[must_use]
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.value(&self.label))
    }

    /// The values it can match, where those are a short list; for an index to look up instead of trying every value.
    #[must_use]
    pub fn literals(&self) -> Option<Vec<&str>> {
        match &self.test {
            Test::Equal(value) => Some(vec![value]),
            Test::Regex(pattern) => pattern.literals(),
            Test::NotEqual(_) | Test::NotRegex(_) => None,
        }
    }
}

/// The samples one selector of a query needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selection {
    /// All must be satisfied. None at all selects every series (only `info` asks so).
    pub matchers: Vec<Matcher>,
    /// Samples after this time, Unix milliseconds.
    pub start_ms: i64,
    /// Samples up to and at this time, Unix milliseconds.
    pub end_ms: i64,
}

impl Selection {
    /// The metric it names, if it names exactly one.
    #[must_use]
    pub fn metric_name(&self) -> Option<&str> {
        self.matchers.iter().find(|m| m.label == METRIC_NAME && m.op == MatchOp::Equal).map(|m| m.value.as_str())
    }
}

/// A series and samples of it in time order. Floats and native histograms lie in separate columns; no time occurs twice
/// in a series.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Labels with `__name__`.
    pub labels: Labels,
    /// Times of the floats, Unix milliseconds, strictly ascending.
    pub timestamps_ms: Vec<i64>,
    /// The floats, as many as there are times; a staleness marker is Prometheus's own NaN ([`STALE_NAN`](crate::STALE_NAN)).
    pub values: Vec<f64>,
    /// Native histograms and their times, Unix milliseconds, strictly ascending.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
    /// When the counter behind each float, then each histogram, started; Unix milliseconds, 0 where that is not known.
    /// Empty where nothing is known.
    pub start_timestamps_ms: Vec<i64>,
}

impl Series {
    /// A series of floats.
    #[must_use]
    pub fn floats(labels: Labels, timestamps_ms: Vec<i64>, values: Vec<f64>) -> Self {
        Series { labels, timestamps_ms, values, ..Series::default() }
    }

    /// How many samples it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps_ms.len() + self.histograms.len()
    }

    /// Whether it has no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps_ms.is_empty() && self.histograms.is_empty()
    }
}

/// Why samples could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// The query asks for more than the source is willing to read; it is the query that must change.
    #[error("{0}")]
    TooMuch(String),
    /// The storage failed.
    #[error("{0}")]
    Storage(String),
}

/// Whoever holds samples. Called by the engine once per selector, from the thread that evaluates. Whoever can only read
/// asynchronously asks [`Query::selections`](crate::Query::selections) first, reads, and answers from memory.
pub trait SeriesSource {
    /// Every series that satisfies all matchers and has a sample in `start_ms < t <= end_ms` (open on the left, as
    /// Prometheus 3 has it), with all its samples there, in any order of series; no label set occurs twice. Samples
    /// outside of the range do no harm.
    ///
    /// # Errors
    /// Where the samples cannot be read; then the query fails, for a part of the series would be a wrong answer.
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError>;
}

impl<S: SeriesSource + ?Sized> SeriesSource for &S {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        (**self).select(selection)
    }
}

impl<S: SeriesSource + ?Sized> SeriesSource for Arc<S> {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        (**self).select(selection)
    }
}
