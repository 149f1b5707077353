//! What came out beside what must come out.

use super::parse::{Expected, Pattern};
use crate::engine::almost_equal;
use crate::histogram::{Histogram, Side};
use crate::labels::Labels;
use crate::options::Steps;
use crate::parser::SequenceValue;
use crate::source::Series;
use crate::value::{Answer, Sample, Value, VectorSample, format_float_g};

/// The relative error that values may have.
const EPSILON: f64 = 1e-6;

pub(super) fn annotations(expected: &Expected, answer: &Answer, query: &str) -> Result<(), String> {
    let warnings = answer.annotations.warnings(query, 0);
    let infos = answer.annotations.infos(query, 0);
    if expected.some_warning && warnings.is_empty() {
        return Err("expected warnings but got none".to_owned());
    }
    if expected.some_info && infos.is_empty() {
        return Err("expected infos but got none".to_owned());
    }
    of_kind("warn", &expected.warnings, &warnings)?;
    of_kind("info", &expected.infos, &infos)?;
    if expected.no_warning && !warnings.is_empty() {
        return Err(format!("expected no warning, got {warnings:?}"));
    }
    if expected.no_info && !infos.is_empty() {
        return Err(format!("expected no info, got {infos:?}"));
    }
    Ok(())
}

fn of_kind(kind: &str, expected: &[Pattern], got: &[String]) -> Result<(), String> {
    if expected.is_empty() {
        return Ok(());
    }
    // Until 3.9 scripts gave texts without their place, until 3.14 without what is only known once all steps are.
    let matches = |e: &Pattern, g: &String| {
        e.matches(g)
            || g.rsplit_once(" (").is_some_and(|(plain, _)| e.matches(plain))
            || g.split_once(", from buckets ").is_some_and(|(plain, _)| e.matches(plain))
    };
    if let Some(missing) = expected.iter().find(|e| !got.iter().any(|g| matches(e, g))) {
        return Err(format!("expected {kind} annotation {}, got {got:?}", missing.describe()));
    }
    if let Some(surplus) = got.iter().find(|g| !expected.iter().any(|e| matches(e, g))) {
        return Err(format!("unexpected {kind} annotation {surplus:?}"));
    }
    Ok(())
}

pub(super) fn value(expected: &Expected, got: &Value, steps: &Steps) -> Result<(), String> {
    match got {
        Value::Scalar { value, .. } => match expected.scalar {
            Some(wanted) if almost_equal(wanted, *value, EPSILON) => Ok(()),
            Some(wanted) => Err(format!("expected scalar {}, got {}", format_float_g(wanted), format_float_g(*value))),
            None => Err(format!("expected series, got scalar {}", format_float_g(*value))),
        },
        Value::String { value, .. } => {
            let wanted = expected.string.as_deref().unwrap_or("");
            if wanted == value { Ok(()) } else { Err(format!("expected string {wanted:?}, got {value:?}")) }
        }
        Value::Vector(samples) => vector(expected, samples),
        Value::Matrix(series) => matrix(expected, series, expected.range_vector.as_ref().unwrap_or(steps)),
    }
}

fn shown(value: &SequenceValue) -> String {
    match value {
        SequenceValue::Omitted => "_".to_owned(),
        SequenceValue::Float(v) if crate::is_stale(*v) => "stale".to_owned(),
        SequenceValue::Float(v) => format_float_g(*v),
        SequenceValue::Histogram(h, _) => h.test_expression(),
    }
}

fn shown_sample(sample: &Sample) -> String {
    match sample {
        Sample::Float(v) => format_float_g(*v),
        Sample::Histogram(h) => h.test_expression(),
    }
}

fn shown_vector(samples: &[VectorSample]) -> String {
    let all: Vec<String> = samples.iter().map(|s| format!("{} {}", s.labels, shown_sample(&s.sample))).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join("; ") }
}

fn same(wanted: &SequenceValue, got: &Sample) -> bool {
    match (wanted, got) {
        (SequenceValue::Float(wanted), Sample::Float(got)) => almost_equal(*wanted, *got, EPSILON),
        (SequenceValue::Histogram(wanted, hinted), Sample::Histogram(got)) => same_histogram(wanted, got, *hinted),
        _ => false,
    }
}

fn same_histogram(wanted: &Histogram, got: &Histogram, hinted: bool) -> bool {
    let close = |a, b| almost_equal(a, b, EPSILON);
    let side = |side| {
        let (a, b) = (wanted.side(side), got.side(side));
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && close(a.1, b.1))
    };
    wanted.schema == got.schema
        && close(wanted.count, got.count)
        && close(wanted.sum, got.sum)
        && (!wanted.is_custom() || wanted.custom_values == got.custom_values)
        && wanted.zero_threshold == got.zero_threshold
        && close(wanted.zero_count, got.zero_count)
        && side(Side::Positive)
        && side(Side::Negative)
        && (!hinted || wanted.counter_reset_hint == got.counter_reset_hint)
}

/// The last of the lines that name a series: it counts.
fn find<'a>(expected: &'a Expected, labels: &Labels) -> Option<(usize, &'a [SequenceValue])> {
    expected
        .series
        .iter()
        .enumerate()
        .rev()
        .find(|(_, (l, _))| l == labels)
        .map(|(i, (_, values))| (i, values.as_slice()))
}

fn vector(expected: &Expected, got: &[VectorSample]) -> Result<(), String> {
    if let Some(scalar) = expected.scalar {
        return Err(format!("expected scalar {}, got vector {}", format_float_g(scalar), shown_vector(got)));
    }
    for (position, sample) in got.iter().enumerate() {
        let Some((wanted_position, values)) = find(expected, &sample.labels) else {
            return Err(format!("unexpected {} in {}", sample.labels, shown_vector(got)));
        };
        if expected.ordered && position != wanted_position {
            return Err(format!(
                "expected {} at position {wanted_position}, got it at {position}: {}",
                sample.labels,
                shown_vector(got)
            ));
        }
        let Some(wanted) = values.first() else { return Err(format!("no value is expected for {}", sample.labels)) };
        if !same(wanted, &sample.sample) {
            return Err(format!("expected {} {}, got {}", sample.labels, shown(wanted), shown_sample(&sample.sample)));
        }
    }
    match expected.series.iter().find(|(labels, _)| !got.iter().any(|s| s.labels == *labels)) {
        Some((labels, values)) => Err(format!(
            "expected {labels} {}, got {}",
            values.first().map_or_else(String::new, shown),
            shown_vector(got)
        )),
        None => Ok(()),
    }
}

fn shown_series(series: &Series) -> String {
    let floats = series.timestamps_ms.iter().zip(&series.values).map(|(t, v)| (*t, format_float_g(*v)));
    let histograms = series.histograms.iter().map(|(t, h)| (*t, h.test_expression()));
    let mut all: Vec<(i64, String)> = floats.chain(histograms).collect();
    all.sort_by_key(|(t, _)| *t);
    all.iter().map(|(t, v)| format!("{v} @[{t}]")).collect::<Vec<_>>().join(" ")
}

fn matrix(expected: &Expected, got: &[Series], steps: &Steps) -> Result<(), String> {
    if expected.ordered {
        return Err("expected ordered result, but query returned a matrix".to_owned());
    }
    if let Some(scalar) = expected.scalar {
        return Err(format!("expected scalar {}, got a matrix", format_float_g(scalar)));
    }
    if !got.is_sorted_by(|a, b| a.labels <= b.labels) {
        return Err("a matrix must be sorted by labels".to_owned());
    }
    for series in got {
        let Some((_, values)) = find(expected, &series.labels) else {
            return Err(format!("unexpected {} {}", series.labels, shown_series(series)));
        };
        let wrong = || {
            let wanted = values.iter().map(shown).collect::<Vec<_>>().join(" ");
            format!("expected {} {wanted}, got {}", series.labels, shown_series(series))
        };
        if values.len() > steps.count() {
            return Err(format!("more values are expected for {} than there are steps", series.labels));
        }
        let floats: Vec<(i64, Sample)> =
            series.timestamps_ms.iter().zip(&series.values).map(|(t, v)| (*t, Sample::Float(*v))).collect();
        let histograms = series.histograms.iter().map(|(t, h)| (*t, Sample::Histogram(std::sync::Arc::clone(h))));
        let mut all: Vec<(i64, Sample)> = floats.into_iter().chain(histograms).collect();
        all.sort_by_key(|(t, _)| *t);
        let wanted: Vec<(i64, &SequenceValue)> = values
            .iter()
            .enumerate()
            .filter(|(_, v)| **v != SequenceValue::Omitted)
            .map(|(i, v)| (steps.time(i), v))
            .collect();
        if wanted.len() != all.len() || wanted.iter().zip(&all).any(|(w, g)| w.0 != g.0 || !same(w.1, &g.1)) {
            return Err(wrong());
        }
    }
    match expected.series.iter().find(|(labels, _)| !got.iter().any(|s| s.labels == *labels)) {
        Some((labels, _)) => Err(format!("expected {labels}, got {} other series", got.len())),
        None => Ok(()),
    }
}
