//! How a query is parsed and evaluated: switches, limits, and the way to stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::Error;

/// Which experimental parts of the language are understood. By default none, as in Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ParserOptions {
    /// Prometheus's `promql-experimental-functions`: `limitk`, `limit_ratio`, `info`, `mad_over_time` and their like.
    pub experimental_functions: bool,
    /// Prometheus's `promql-binop-fill-modifiers`: `fill`, `fill_left`, `fill_right`.
    pub fill_modifiers: bool,
    /// Prometheus's `promql-unquoted-utf8-names`: letters of every language, and dots behind the first character, in names
    /// without quotes.
    pub unquoted_names: bool,
}

impl ParserOptions {
    /// Everything on.
    #[must_use]
    pub fn all() -> Self {
        ParserOptions { experimental_functions: true, fill_modifiers: true, unquoted_names: true }
    }
}

/// How a query is evaluated.
#[derive(Debug, Clone)]
pub struct Options {
    /// How far back an instant selector looks for the newest sample.
    pub lookback_ms: i64,
    /// The step of a subquery that names none.
    pub default_subquery_step_ms: i64,
    /// Samples that a query may hold at once.
    pub max_samples: usize,
    /// Series that one selector may find.
    pub max_series: usize,
    /// Steps of a range query, and of a subquery inside (the latter counts towards samples as well).
    pub max_steps: usize,
    /// Prometheus's `promql-delayed-name-removal`: metric names go at the end of the evaluation only.
    pub delayed_name_removal: bool,
    /// Prometheus's `type-and-unit-labels`: whether something is a counter is read from the label `__type__` first.
    pub type_and_unit_labels: bool,
    /// Prometheus's `use-start-timestamps`: counters' start times take part in `rate` and its like.
    pub use_start_timestamps: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            lookback_ms: 5 * 60 * 1000,
            default_subquery_step_ms: 60 * 1000,
            max_samples: 50_000_000,
            max_series: 500_000,
            max_steps: 11_000,
            delayed_name_removal: false,
            type_and_unit_labels: false,
            use_start_timestamps: false,
        }
    }
}

/// The times at which a query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Steps {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) is_range: bool,
}

impl Steps {
    /// One time: an instant query.
    #[must_use]
    pub fn instant(time_ms: i64) -> Self {
        Steps { start_ms: time_ms, end_ms: time_ms, step_ms: 1, is_range: false }
    }

    /// From `start_ms`, every `step_ms`, up to and at `end_ms`: a range query.
    ///
    /// # Errors
    /// `bad_data`, in Prometheus's words, where the step is not positive or the end lies before the start.
    pub fn range(start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Self, Error> {
        if end_ms < start_ms {
            return Err(Error::BadParameter(
                "invalid parameter \"end\": end timestamp must not be before start time".to_owned(),
            ));
        }
        if step_ms <= 0 {
            return Err(Error::BadParameter(
                "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"
                    .to_owned(),
            ));
        }
        Ok(Steps { start_ms, end_ms, step_ms, is_range: true })
    }

    /// First time, Unix milliseconds.
    #[must_use]
    pub fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// The time no step lies behind, Unix milliseconds.
    #[must_use]
    pub fn end_ms(&self) -> i64 {
        self.end_ms
    }

    /// Time between steps.
    #[must_use]
    pub fn step_ms(&self) -> i64 {
        self.step_ms
    }

    /// Whether it is a range query; its answer is a matrix even where it has one step.
    #[must_use]
    pub fn is_range(&self) -> bool {
        self.is_range
    }

    /// How many steps there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.end_ms.saturating_sub(self.start_ms) / self.step_ms).unwrap_or(usize::MAX - 1) + 1
    }

    /// Some of these steps: `count` of them from the one at `first` on, as far as there are that many.
    #[must_use]
    pub fn part(&self, first: usize, count: usize) -> Self {
        let last = self.count() - 1;
        if first == 0 && count > last {
            return *self;
        }
        let first = first.min(last);
        let end = first.saturating_add(count.saturating_sub(1)).min(last);
        Steps { start_ms: self.time(first), end_ms: self.time(end), ..*self }
    }

    pub(crate) fn time(&self, index: usize) -> i64 {
        self.start_ms + index as i64 * self.step_ms
    }

    /// Refuses more steps than a query may have, as Prometheus does.
    pub(crate) fn check(&self, max_steps: usize) -> Result<(), Error> {
        if self.is_range && self.count().saturating_sub(1) > max_steps {
            return Err(Error::BadParameter(format!(
                "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
                thousands(max_steps)
            )));
        }
        Ok(())
    }
}

fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

const RUNNING: u8 = 0;
const CANCELED: u8 = 1;
const TIMED_OUT: u8 = 2;

/// A handle to stop a query from outside. The engine has no clock: whoever has one calls [`Cancel::time_out`]. Clones
/// stop the same query.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicU8>);

impl Cancel {
    /// A handle that has stopped nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the query because nobody waits for it: it ends with [`Error::Canceled`].
    pub fn cancel(&self) {
        self.stop(CANCELED);
    }

    /// Stops the query because it took too long: it ends with [`Error::Timeout`].
    pub fn time_out(&self) {
        self.stop(TIMED_OUT);
    }

    fn stop(&self, why: u8) {
        // The first reason stays.
        let _first = self.0.compare_exchange(RUNNING, why, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// An error once the query is to stop.
    ///
    /// # Errors
    /// [`Error::Canceled`] or [`Error::Timeout`].
    pub fn check(&self) -> Result<(), Error> {
        match self.0.load(Ordering::Relaxed) {
            RUNNING => Ok(()),
            CANCELED => Err(Error::Canceled),
            _ => Err(Error::Timeout),
        }
    }
}
