//! What is expected beside what came, as promtool shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use highwater_promql::Labels;

/// An alert as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShownAlert {
    pub(super) labels: Labels,
    pub(super) annotations: BTreeMap<String, String>,
}

/// A sample as it is compared. A native histogram is its description.
#[derive(Debug, Clone)]
pub(super) struct ShownSample {
    pub(super) labels: Labels,
    pub(super) value: f64,
    pub(super) histogram: Option<highwater_promql::Histogram>,
}

pub(super) fn alerts(alerts: &[ShownAlert], indent: &str) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let mut out = String::from("[");
    for (index, alert) in alerts.iter().enumerate() {
        let annotations = Labels::from_pairs(alert.annotations.iter());
        let comma = if index > 0 { "," } else { "" };
        let _infallible = write!(
            out,
            "{comma}\n{indent}{index}:\n{indent}  Labels:{}\n{indent}  Annotations:{annotations}",
            alert.labels
        );
    }
    let _infallible = write!(out, "\n{indent}]");
    out
}

/// What is there of either side only, and what is another: in colours, green for what came, red for what did not, yellow for what changed.
pub(super) fn diff(expected: &[ShownAlert], got: &[ShownAlert], indent: &str) -> String {
    const GREEN: &str = "\u{1b}[0;32m";
    const RED: &str = "\u{1b}[0;31m";
    const YELLOW: &str = "\u{1b}[0;33m";
    const PLAIN: &str = "\u{1b}[0m";
    type Texts = BTreeMap<String, String>;
    let labels =
        |alert: &ShownAlert| -> Texts { alert.labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect() };
    let part = |out: &mut String, title: &str, expected: &Texts, got: &Texts| {
        let _infallible = write!(out, "\n{indent}        {title:?}: {{");
        let names: std::collections::BTreeSet<&String> = expected.keys().chain(got.keys()).collect();
        for name in names {
            let line = match (expected.get(name), got.get(name)) {
                (Some(expected), Some(got)) if expected == got => format!("{name:?}: {got:?}"),
                (Some(expected), Some(got)) => format!("{YELLOW}{name:?}: {expected:?} => {got:?}{PLAIN}"),
                (Some(expected), None) => format!("{RED}{name:?}: {expected:?}{PLAIN}"),
                (None, Some(got)) => format!("{GREEN}{name:?}: {got:?}{PLAIN}"),
                (None, None) => continue,
            };
            let _infallible = write!(out, "\n{indent}            {line},");
        }
        let _infallible = write!(out, "\n{indent}        }},");
    };
    let mut out = String::from("[");
    let none = Texts::new();
    for index in 0..expected.len().max(got.len()) {
        let (expected, got) = (expected.get(index), got.get(index));
        let _infallible = write!(out, "\n{indent}    {{");
        let annotations = |alert: Option<&ShownAlert>| alert.map_or_else(|| none.clone(), |a| a.annotations.clone());
        part(&mut out, "Annotations", &annotations(expected), &annotations(got));
        let labels = |alert: Option<&ShownAlert>| alert.map_or_else(|| none.clone(), labels);
        part(&mut out, "Labels", &labels(expected), &labels(got));
        let _infallible = write!(out, "\n{indent}    }},");
    }
    let _infallible = write!(out, "\n{indent}]");
    out
}

pub(super) fn samples(samples: &[ShownSample]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let one = |sample: &ShownSample| match &sample.histogram {
        Some(histogram) => format!("{} {}", sample.labels.braced(), histogram),
        None => format!("{} {}", sample.labels.braced(), scientific(sample.value)),
    };
    samples.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A float with an exponent of two digits, as Go's `%E` writes it.
fn scientific(value: f64) -> String {
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}E{sign}{exponent:0>2}")
        }
        None => highwater_promql::format_float(value),
    }
}

/// True where a value is what is expected: exactly, or, with `fuzzy`, but for the last digit.
#[expect(clippy::float_cmp, reason = "as promtool compares")]
pub(super) fn same_value(expected: f64, got: f64, fuzzy: bool) -> bool {
    expected == got
        || (expected.is_nan() && got.is_nan())
        || (fuzzy && (got.next_up() == expected || got.next_down() == expected))
}

pub(super) fn same_samples(expected: &[ShownSample], got: &[ShownSample], fuzzy: bool) -> bool {
    let same = |(a, b): (&ShownSample, &ShownSample)| {
        a.labels == b.labels
            && match (&a.histogram, &b.histogram) {
                (None, None) => same_value(a.value, b.value, fuzzy),
                (Some(a), Some(b)) => a.to_string() == b.to_string(),
                _ => false,
            }
    };
    expected.len() == got.len() && expected.iter().zip(got).all(same)
}
