//! `sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`, `stdvar`, `quantile`.

use std::sync::Arc;

use super::Grouping;
use crate::annotations::Annotations;
use crate::engine::eval::Evaluator;
use crate::engine::quantile::quantile;
use crate::engine::range::{HintsSeen, HistogramMean};
use crate::engine::rows::{ABSENT, Cell, Row, is_absent};
use crate::error::{Error, Span};
use crate::histogram::{Histogram, KahanSum};
use crate::kahan::{Kahan, Mean};
use crate::labels::Labels;
use crate::options::Steps;
use crate::parser::{AggregateOp, Aggregation};

pub(super) fn eval(
    ev: &mut Evaluator<'_>,
    a: &Aggregation,
    rows: &[Row],
    parameter: &[f64],
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    let (of_row, labels) = Grouping::of(a).groups(rows);
    let n = steps.count();
    let span = a.expr.span();
    if a.op == AggregateOp::Quantile
        && let Some(p) = &a.parameter
    {
        note_quantiles(&mut ev.annotations, parameter, p.span());
    }
    let mut members: Vec<Vec<&Row>> = vec![Vec::new(); labels.len()];
    for (row, group) in rows.iter().zip(&of_row) {
        members[*group].push(row);
    }
    let mut out = Vec::with_capacity(labels.len());
    for (labels, members) in labels.into_iter().zip(&members) {
        ev.cancel.check()?;
        let mut row = match a.op {
            AggregateOp::Sum if no_histograms(members) => sum(labels, members, n),
            AggregateOp::Avg if no_histograms(members) => avg(labels, members, n),
            AggregateOp::Sum | AggregateOp::Avg => with_histograms(a.op, labels, members, n, &mut ev.annotations, span),
            AggregateOp::Min => {
                note_ignored(&mut ev.annotations, members, "min", span);
                extreme(labels, members, n, |new, best| new < best)
            }
            AggregateOp::Max => {
                note_ignored(&mut ev.annotations, members, "max", span);
                extreme(labels, members, n, |new, best| new > best)
            }
            AggregateOp::Count => {
                let mut row = Row::empty(labels, n);
                for m in members {
                    for step in 0..n {
                        if m.is_present(step) {
                            super::add_one(&mut row, step);
                        }
                    }
                }
                row
            }
            AggregateOp::Group => {
                let mut row = Row::empty(labels, n);
                for (step, value) in row.values.iter_mut().enumerate() {
                    if members.iter().any(|m| m.is_present(step)) {
                        *value = 1.0;
                    }
                }
                row
            }
            AggregateOp::Stdvar => {
                note_ignored(&mut ev.annotations, members, "stdvar", span);
                variance(labels, members, n, |v| v)
            }
            AggregateOp::Stddev => {
                note_ignored(&mut ev.annotations, members, "stddev", span);
                variance(labels, members, n, f64::sqrt)
            }
            _ => {
                note_ignored(&mut ev.annotations, members, "quantile", span);
                quantiles(labels, members, parameter, n)
            }
        };
        if row.has_any() {
            row.drop_name = members.iter().any(|m| m.drop_name);
            out.push(row);
        }
    }
    Ok(out)
}

fn no_histograms(members: &[&Row]) -> bool {
    members.iter().all(|m| m.histograms.is_none())
}

/// Warns of parameters that are no quantiles.
pub(super) fn note_quantiles(notes: &mut Annotations, parameter: &[f64], span: Span) {
    if parameter.iter().any(|q| q.is_nan()) {
        notes.invalid_quantile(f64::NAN, span);
        return;
    }
    let max = parameter.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let min = parameter.iter().copied().fold(f64::INFINITY, f64::min);
    if max > 1.0 {
        notes.invalid_quantile(max, span);
    }
    if min < 0.0 {
        notes.invalid_quantile(min, span);
    }
}

fn note_ignored(notes: &mut Annotations, members: &[&Row], what: &str, span: Span) {
    if members.iter().any(|m| m.histograms.as_ref().is_some_and(|h| h.iter().any(Option::is_some))) {
        notes.histogram_ignored_in_aggregation(what, span);
    }
}

/// Folds the floats of all members at each step: `start` from the first, `next` from the others.
#[inline(always)]
fn fold<S: Copy>(
    labels: Labels,
    members: &[&Row],
    n: usize,
    start: impl Fn(f64) -> S,
    next: impl Fn(&mut S, f64),
    result: impl Fn(S) -> f64,
) -> Row {
    let mut states: Vec<Option<S>> = vec![None; n];
    for m in members {
        for (state, v) in states.iter_mut().zip(&m.values) {
            if is_absent(*v) {
                continue;
            }
            match state {
                Some(s) => next(s, *v),
                None => *state = Some(start(*v)),
            }
        }
    }
    Row::floats(labels, states.into_iter().map(|s| s.map_or(ABSENT, &result)).collect())
}

fn sum(labels: Labels, members: &[&Row], n: usize) -> Row {
    fold(labels, members, n, Kahan::new, |s, v| s.add(v), Kahan::value)
}

fn avg(labels: Labels, members: &[&Row], n: usize) -> Row {
    fold(labels, members, n, Mean::new, |s, v| s.add(v), |s| s.value())
}

fn extreme(labels: Labels, members: &[&Row], n: usize, better: impl Fn(f64, f64) -> bool) -> Row {
    fold(
        labels,
        members,
        n,
        |v| v,
        |best, v| {
            if better(v, *best) || best.is_nan() {
                *best = v;
            }
        },
        |best| best,
    )
}

fn variance(labels: Labels, members: &[&Row], n: usize, result: impl Fn(f64) -> f64) -> Row {
    fold(
        labels,
        members,
        n,
        |v| (1.0, v, if v.is_finite() { 0.0 } else { f64::NAN }),
        |(count, mean, sum): &mut (f64, f64, f64), v| {
            *count += 1.0;
            let delta = v - *mean;
            *mean += delta / *count;
            *sum += delta * (v - *mean);
        },
        |(count, _, sum)| result(sum / count),
    )
}

fn quantiles(labels: Labels, members: &[&Row], parameter: &[f64], n: usize) -> Row {
    // A few steps at a time: their columns are read once, and what is sorted stays in the cache.
    const STEPS: usize = 8;
    let mut row = Row::empty(labels, n);
    let mut buffers: [Vec<f64>; STEPS] = Default::default();
    for from in (0..n).step_by(STEPS) {
        let to = (from + STEPS).min(n);
        buffers.iter_mut().for_each(Vec::clear);
        for m in members {
            for (buffer, v) in buffers.iter_mut().zip(&m.values[from..to]) {
                if !is_absent(*v) {
                    buffer.push(*v);
                }
            }
        }
        for step in from..to {
            let buffer = &mut buffers[step - from];
            if !buffer.is_empty() {
                row.values[step] = quantile(parameter[step], buffer);
            }
        }
    }
    row
}

enum Total {
    Sum(KahanSum),
    Mean(HistogramMean),
}

impl Total {
    fn new(op: AggregateOp, h: &Histogram) -> Self {
        if op == AggregateOp::Sum { Total::Sum(KahanSum::new(h)) } else { Total::Mean(HistogramMean::new(h)) }
    }
}

fn with_histograms(
    op: AggregateOp,
    labels: Labels,
    members: &[&Row],
    n: usize,
    notes: &mut Annotations,
    span: Span,
) -> Row {
    let mut row = Row::empty(labels, n);
    for step in 0..n {
        let mut floats: Option<(Kahan, Mean)> = None;
        let mut total: Option<Total> = None;
        let mut seen = HintsSeen::default();
        let mut incompatible = false;
        for m in members {
            match m.cell(step) {
                Cell::Absent => {}
                Cell::Float(v) => match &mut floats {
                    None => floats = Some((Kahan::new(v), Mean::new(v))),
                    Some((sum, mean)) => {
                        sum.add(v);
                        mean.add(v);
                    }
                },
                Cell::Histogram(h) => {
                    if incompatible {
                        continue;
                    }
                    seen.note(h.counter_reset_hint);
                    let combined = match &mut total {
                        None => {
                            total = Some(Total::new(op, h));
                            continue;
                        }
                        Some(Total::Sum(sum)) => sum.add(h),
                        Some(Total::Mean(mean)) => mean.add(h),
                    };
                    match combined {
                        Ok(combined) => seen.reconciled |= combined.bounds_reconciled,
                        Err(_) => {
                            notes.mixed_exponential_custom(m.labels.name(), span);
                            incompatible = true;
                        }
                    }
                }
            }
        }
        if floats.is_some() && total.is_some() {
            notes.mixed_floats_histograms_aggregation(span);
            continue;
        }
        if seen.reconciled {
            notes.mismatched_custom_buckets("aggregation", span);
        }
        if incompatible {
            continue;
        }
        if seen.collide() {
            notes.counter_reset_collision("aggregation", span);
        }
        match (floats, total) {
            (Some((sum, mean)), _) => {
                row.values[step] = if op == AggregateOp::Sum { sum.value() } else { mean.value() }
            }
            (None, Some(Total::Sum(sum))) => row.set_histogram(step, Arc::new(sum.value())),
            (None, Some(Total::Mean(mean))) => row.set_histogram(step, Arc::new(mean.value())),
            (None, None) => {}
        }
    }
    row
}
