//! Warnings and infos that go with an answer, in Prometheus's words.

use std::collections::BTreeMap;

use crate::error::Span;
use crate::labels::Quoted;
use crate::value::format_float_g;

/// How loud an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Probably a mistake.
    Warning,
    /// Good to know.
    Info,
}

/// What one annotation of [`Annotations`] is about, merged over all steps and series that gave the same text.
#[derive(Debug, Clone, PartialEq)]
struct Note {
    span: Span,
    monotonicity: Option<Monotonicity>,
    /// How often, for those that count.
    count: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Monotonicity {
    first_ms: i64,
    last_ms: i64,
    min_bucket: f64,
    max_bucket: f64,
    max_diff: f64,
    count: u64,
}

/// Warnings and infos of a query, each text once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    notes: BTreeMap<(Severity, String), Note>,
}

impl Annotations {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Warnings as the HTTP API shows them, with their place in the query; at most `limit` (0: all), and then how many more.
    #[must_use]
    pub fn warnings(&self, query: &str, limit: usize) -> Vec<String> {
        self.texts(Severity::Warning, query, limit, "warning")
    }

    /// Infos as the HTTP API shows them, with their place in the query; at most `limit` (0: all), and then how many more.
    #[must_use]
    pub fn infos(&self, query: &str, limit: usize) -> Vec<String> {
        self.texts(Severity::Info, query, limit, "info")
    }

    /// Texts of one severity without their place.
    pub fn plain(&self, severity: Severity) -> impl Iterator<Item = &str> + '_ {
        self.notes.keys().filter(move |(s, _)| *s == severity).map(|(_, text)| text.as_str())
    }

    fn texts(&self, severity: Severity, query: &str, limit: usize, what: &str) -> Vec<String> {
        let mut texts = Vec::new();
        let mut left_out = 0;
        for ((s, text), note) in &self.notes {
            if *s != severity {
                continue;
            }
            if limit != 0 && texts.len() >= limit {
                left_out += 1;
                continue;
            }
            let (line, column) = note.span.line_and_column(query);
            let mut shown = text.clone();
            if let Some(m) = note.monotonicity {
                shown.push_str(&format!(
                    ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                    format_float_g(m.min_bucket),
                    format_float_g(m.max_bucket),
                    two_digits(m.max_diff),
                    m.count,
                    rfc3339(m.first_ms),
                    rfc3339(m.last_ms)
                ));
            }
            if let Some(count) = note.count
                && count > 1
            {
                shown.push_str(&format!(" ({count} occurrences)"));
            }
            shown.push_str(&format!(" ({line}:{column})"));
            texts.push(shown);
        }
        if left_out > 0 {
            texts.push(format!("{left_out} more {what} annotations omitted"));
        }
        texts
    }

    /// Adds what there is to say of other steps of the same query.
    pub(crate) fn merge(&mut self, other: Self) {
        for (key, note) in other.notes {
            let Some(known) = self.notes.get_mut(&key) else {
                self.notes.insert(key, note);
                continue;
            };
            known.count = match (known.count, note.count) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
            known.monotonicity = match (known.monotonicity, note.monotonicity) {
                (Some(a), Some(b)) => Some(Monotonicity {
                    first_ms: a.first_ms.min(b.first_ms),
                    last_ms: a.last_ms.max(b.last_ms),
                    min_bucket: a.min_bucket.min(b.min_bucket),
                    max_bucket: a.max_bucket.max(b.max_bucket),
                    max_diff: a.max_diff.max(b.max_diff),
                    count: a.count + b.count,
                }),
                (a, b) => a.or(b),
            };
        }
    }

    fn add(&mut self, severity: Severity, span: Span, text: String) {
        self.notes.entry((severity, text)).or_insert(Note { span, monotonicity: None, count: None });
    }

    pub(crate) fn warn(&mut self, span: Span, text: impl Into<String>) {
        self.add(Severity::Warning, span, format!("PromQL warning: {}", text.into()));
    }

    pub(crate) fn info(&mut self, span: Span, text: impl Into<String>) {
        self.add(Severity::Info, span, format!("PromQL info: {}", text.into()));
    }

    pub(crate) fn invalid_quantile(&mut self, q: f64, span: Span) {
        self.warn(span, format!("quantile value should be between 0 and 1, got {}", format_float_g(q)));
    }

    pub(crate) fn invalid_integral_strategy(&mut self, strategy: f64, span: Span) {
        let got = format_float_g(strategy);
        self.warn(span, format!("strategy should be 0, 1, or 2 (default), using 2, got {got}"));
    }

    pub(crate) fn invalid_ratio(&mut self, ratio: f64, capped: f64, span: Span) {
        let (ratio, capped) = (format_float_g(ratio), format_float_g(capped));
        self.warn(span, format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}"));
    }

    pub(crate) fn bad_bucket_label(&mut self, metric: &str, value: &str, span: Span) {
        self.warn(
            span,
            for_metric(
                &format!("bucket label \"le\" is missing or has a malformed value of {}", Quoted(value)),
                metric,
            ),
        );
    }

    pub(crate) fn mixed_floats_histograms(&mut self, metric: &str, span: Span) {
        self.warn(span, format!("encountered a mix of histograms and floats for metric name {}", Quoted(metric)));
    }

    pub(crate) fn mixed_floats_histograms_aggregation(&mut self, span: Span) {
        self.warn(span, "encountered a mix of histograms and floats for aggregation");
    }

    pub(crate) fn mixed_classic_native(&mut self, metric: &str, span: Span) {
        self.warn(span, for_metric("vector contains a mix of classic and native histograms", metric));
    }

    pub(crate) fn histogram_not_counter(&mut self, metric: &str, span: Span) {
        self.warn(span, format!("this native histogram metric is not a counter: {}", Quoted(metric)));
    }

    pub(crate) fn histogram_not_gauge(&mut self, metric: &str, span: Span) {
        self.warn(span, format!("this native histogram metric is not a gauge: {}", Quoted(metric)));
    }

    pub(crate) fn mixed_exponential_custom(&mut self, metric: &str, span: Span) {
        let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        self.warn(span, format!("{text} {}", Quoted(metric)));
    }

    pub(crate) fn incompatible_bucket_layout(&mut self, operator: &str, span: Span) {
        self.warn(span, format!("incompatible bucket layout encountered for binary operator {operator}"));
    }

    pub(crate) fn sort_in_range_query(&mut self, span: Span) {
        self.warn(span, "sort is ineffective for range queries since results are always ordered by labels");
    }

    pub(crate) fn counter_reset_collision(&mut self, operation: &str, span: Span) {
        self.warn(span, format!("conflicting counter resets during histogram {operation}"));
    }

    pub(crate) fn start_time_overlap(&mut self, metric: &str, span: Span) {
        let text = format!(
            "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric {}",
            Quoted(metric)
        );
        let note =
            self.notes.entry((Severity::Warning, text)).or_insert(Note { span, monotonicity: None, count: Some(0) });
        if let Some(count) = &mut note.count {
            *count += 1;
        }
    }

    pub(crate) fn possible_non_counter(&mut self, metric: &str, span: Span) {
        let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        self.info(span, format!("{text} {}", Quoted(metric)));
    }

    pub(crate) fn possible_non_counter_label(&mut self, metric: &str, type_label: &str, span: Span) {
        let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\"";
        self.info(span, format!("{text}, got {}: {}", Quoted(type_label), Quoted(metric)));
    }

    pub(crate) fn incompatible_types(&mut self, left: &str, operator: &str, right: &str, span: Span) {
        let text = "incompatible sample types encountered for binary operator";
        self.info(span, format!("{text} {}: {left} {operator} {right}", Quoted(operator)));
    }

    pub(crate) fn histogram_ignored_in_aggregation(&mut self, aggregation: &str, span: Span) {
        self.info(span, format!("ignored histogram in {aggregation} aggregation"));
    }

    pub(crate) fn histogram_ignored_in_mixed_range(&mut self, metric: &str, span: Span) {
        let text = "ignored histograms in a range containing both floats and histograms for metric name";
        self.info(span, format!("{text} {}", Quoted(metric)));
    }

    pub(crate) fn quantile_nan_result(&mut self, metric: &str, span: Span) {
        self.info(span, for_metric("input to histogram_quantile has NaN observations, result is NaN", metric));
    }

    pub(crate) fn quantile_nan_skew(&mut self, metric: &str, span: Span) {
        self.info(
            span,
            for_metric("input to histogram_quantile has NaN observations, result is skewed higher", metric),
        );
    }

    pub(crate) fn fraction_nan(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        self.info(span, for_metric(text, metric));
    }

    pub(crate) fn mismatched_custom_buckets(&mut self, operation: &str, span: Span) {
        self.info(span, format!("mismatched custom buckets were reconciled during {operation}"));
    }

    pub(crate) fn forced_monotonicity(
        &mut self,
        metric: &str,
        time_ms: i64,
        buckets: (f64, f64),
        max_diff: f64,
        span: Span,
    ) {
        let text = "PromQL info: input to histogram_quantile needed to be fixed for monotonicity \
                    (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        let new = Monotonicity {
            first_ms: time_ms,
            last_ms: time_ms,
            min_bucket: buckets.0,
            max_bucket: buckets.1,
            max_diff,
            count: 0,
        };
        let note = self.notes.entry((Severity::Info, for_metric(text, metric))).or_insert(Note {
            span,
            monotonicity: Some(new),
            count: None,
        });
        let m = note.monotonicity.get_or_insert(new);
        m.first_ms = m.first_ms.min(time_ms);
        m.last_ms = m.last_ms.max(time_ms);
        m.min_bucket = m.min_bucket.min(buckets.0);
        m.max_bucket = m.max_bucket.max(buckets.1);
        m.max_diff = m.max_diff.max(max_diff);
        m.count += 1;
    }
}

fn for_metric(text: &str, metric: &str) -> String {
    if metric.is_empty() { text.to_owned() } else { format!("{text} for metric name {}", Quoted(metric)) }
}

/// Go's `%.2g`.
fn two_digits(value: f64) -> String {
    let scientific = format!("{value:.1e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let Ok(exponent) = exponent.parse::<i32>() else { return scientific.clone() };
    if (-4..2).contains(&exponent) {
        return scientific.parse::<f64>().map_or(scientific.clone(), |v| format!("{v}"));
    }
    let mantissa = mantissa.strip_suffix(".0").unwrap_or(mantissa);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn rfc3339(time_ms: i64) -> String {
    chrono::DateTime::from_timestamp(time_ms.div_euclid(1000), 0)
        .map_or_else(|| time_ms.to_string(), |t| t.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_occurs_once_with_its_place() {
        let mut annotations = Annotations::default();
        let span = Span { start: 4, end: 8 };
        annotations.invalid_quantile(1.5, span);
        annotations.invalid_quantile(1.5, span);
        annotations.forced_monotonicity("x", 0, (0.1, 1.0), 0.25, span);
        annotations.forced_monotonicity("x", 60_000, (0.1, 2.0), 1.0, span);
        assert_eq!(
            annotations.warnings("abc\nquantile", 0),
            ["PromQL warning: quantile value should be between 0 and 1, got 1.5 (2:1)"]
        );
        assert_eq!(
            annotations.infos("abc\nquantile", 0),
            ["PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see \
              https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name \"x\", from buckets 0.1 \
              to 2, with a max diff of 1, over 2 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z (2:1)"]
        );
    }
}
