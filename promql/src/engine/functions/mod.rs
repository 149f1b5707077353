//! Functions of instant vectors and scalars.

mod dates;
mod histograms;
mod info;
mod labels;
mod math;
mod order;

use super::eval::{Evaluated, Evaluator};
pub(in crate::engine) use math::{greater, lesser};

use super::rows::{ABSENT, Cell, Row, is_absent};
use super::select::{load_selector, newest_times, reference};
use crate::error::{Error, execution};
use crate::labels::{Labels, is_metric_identity};
use crate::options::Steps;
use crate::parser::{Call, Expr, VectorSelector};
use crate::source::{MatchOp, Matcher};

pub(super) fn eval(ev: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Evaluated, Error> {
    let n = steps.count();
    let args = &call.args;
    let name = call.function.name;
    Ok(match name {
        "time" => Evaluated::Scalar((0..n).map(|i| steps.time(i) as f64 / 1000.0).collect()),
        "pi" => Evaluated::Scalar(vec![std::f64::consts::PI; n]),
        "max_of" | "min_of" => {
            let (a, b) = (ev.scalar(&args[0], steps)?, ev.scalar(&args[1], steps)?);
            let choose = if name == "max_of" { greater } else { lesser };
            Evaluated::Scalar(a.iter().zip(&b).map(|(a, b)| choose(*a, *b)).collect())
        }
        "scalar" => {
            let rows = ev.vector(&args[0], steps)?;
            Evaluated::Scalar((0..n).map(|step| only_float(&rows, step)).collect())
        }
        "vector" => Evaluated::Vector(vec![Row::floats(Labels::empty(), ev.scalar(&args[0], steps)?)]),
        "absent" => {
            let rows = ev.vector(&args[0], steps)?;
            let values: Vec<f64> =
                (0..n).map(|step| if rows.iter().any(|r| r.is_present(step)) { ABSENT } else { 1.0 }).collect();
            if values.iter().all(|v| is_absent(*v)) {
                return Ok(Evaluated::Vector(Vec::new()));
            }
            Evaluated::Vector(vec![Row::floats(absent_labels(&args[0]), values)])
        }
        "timestamp" | "start_timestamp" => Evaluated::Vector(timestamps(ev, call, steps)?),
        "label_replace" => Evaluated::Vector(labels::replace(ev, args, steps)?),
        "label_join" => Evaluated::Vector(labels::join(ev, args, steps)?),
        "info" => Evaluated::Vector(info::eval(ev, args, steps)?),
        "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
            Evaluated::Vector(order::eval(ev, call, steps)?)
        }
        "day_of_month" | "day_of_week" | "day_of_year" | "days_in_month" | "hour" | "minute" | "month" | "year" => {
            Evaluated::Vector(dates::eval(ev, call, steps)?)
        }
        name if name.starts_with("histogram_") => Evaluated::Vector(histograms::eval(ev, call, steps)?),
        _ => Evaluated::Vector(math::eval(ev, call, steps)?),
    })
}

/// The one float there is at a step; NaN where there is none, or more than one.
fn only_float(rows: &[Row], step: usize) -> f64 {
    let mut found = None;
    for row in rows {
        if let Cell::Float(v) = row.cell(step) {
            if found.is_some() {
                return f64::NAN;
            }
            found = Some(v);
        }
    }
    found.unwrap_or(f64::NAN)
}

/// The labels that a selector names exactly: what `absent` says is not there.
pub(super) fn absent_labels(expr: &Expr) -> Labels {
    let selector = match expr {
        Expr::StepInvariant(inner) => return absent_labels(inner),
        Expr::Vector(v) => v,
        Expr::Matrix(m) => &m.vector,
        _ => return Labels::empty(),
    };
    let mut labels: Vec<(&str, &str)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    // Prometheus's index looks last at what only takes series away, and leaves the matchers in that order.
    let takes_away = |m: &&Matcher| {
        let matches_nothing = |m: &Matcher| m.compile().is_ok_and(|m| m.matches(""));
        let must_be_set = selector.matchers.iter().any(|other| other.label == m.label && !matches_nothing(other));
        !must_be_set || (matches!(m.op, MatchOp::NotEqual | MatchOp::NotRegex) && matches_nothing(m))
    };
    let (last, first): (Vec<&Matcher>, Vec<&Matcher>) = selector.matchers.iter().partition(takes_away);
    for m in first.into_iter().chain(last) {
        if is_metric_identity(&m.label) {
            continue;
        }
        if m.op == MatchOp::Equal && !seen.contains(&m.label.as_str()) {
            labels.push((&m.label, &m.value));
            seen.push(&m.label);
        } else {
            // Named twice, or not exactly: it says nothing.
            labels.retain(|(n, _)| *n != m.label);
        }
    }
    Labels::from_pairs(labels)
}

fn timestamps(ev: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let start = call.function.name == "start_timestamp";
    let (selector, at_steps) = match &call.args[0] {
        Expr::Vector(v) => (Some(v), *steps),
        // Pinned by `@`: the samples are the same at each step.
        Expr::StepInvariant(inner) => match &**inner {
            Expr::Vector(v) if v.at.is_some() => (Some(v), *steps),
            _ => (None, *steps),
        },
        _ => (None, *steps),
    };
    let mut rows = match selector {
        Some(v) if start && !ev.options.use_start_timestamps => {
            selected_times(ev, v, &at_steps, start)?;
            Vec::new()
        }
        Some(v) => selected_times(ev, v, &at_steps, start)?,
        None => {
            let mut rows = ev.vector(&call.args[0], steps)?;
            if start {
                rows.clear();
            }
            for row in &mut rows {
                for step in 0..row.values.len() {
                    if row.is_present(step) {
                        row.values[step] = steps.time(step) as f64 / 1000.0;
                    }
                }
                row.histograms = None;
            }
            rows
        }
    };
    for row in &mut rows {
        ev.drop_metric_name(row);
    }
    ev.unique(rows, steps)
}

fn selected_times(ev: &mut Evaluator<'_>, v: &VectorSelector, steps: &Steps, start: bool) -> Result<Vec<Row>, Error> {
    let series = load_selector(ev, v, None, steps)?;
    let lookback = ev.options.lookback_ms;
    let rows = series.iter().map(|s| newest_times(s, steps, lookback, |t| reference(v.at, v.offset.ms, t), start));
    let rows: Vec<Row> = rows.filter(Row::has_any).collect();
    ev.stats.total_samples += rows.iter().map(|r| r.samples() as u64).sum::<u64>();
    Ok(rows)
}

/// The string that an argument is.
fn string(expr: &Expr) -> Result<&str, Error> {
    match expr.unwrapped() {
        Expr::String { value, .. } => Ok(value),
        Expr::StepInvariant(inner) => string(inner),
        _ => execution(format!("{expr} is no string literal")),
    }
}
