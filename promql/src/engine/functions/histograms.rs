//! Functions of histograms, native and classic.

use ahash::AHashMap;

use super::string;
use crate::engine::eval::Evaluator;
use crate::engine::quantile::{
    ClassicBucket, Forced, classic_fraction, classic_quantile, histogram_fraction, histogram_quantile,
};
use crate::engine::rows::{Cell, Row};
use crate::error::{Error, Span};
use crate::histogram::Histogram;
use crate::kahan::Kahan;
use crate::labels::{BUCKET_LABEL, Labels};
use crate::options::Steps;
use crate::parser::Call;
use crate::value::format_float_g;

pub(super) fn eval(ev: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let args = &call.args;
    match call.function.name {
        "histogram_quantile" => {
            let q = ev.scalar(&args[0], steps)?;
            let rows = ev.vector(&args[1], steps)?;
            warn_of_quantiles(ev, &q, args[0].span());
            quantiles(ev, &rows, &q, None, args[1].span(), steps)
        }
        "histogram_quantiles" => {
            let rows = ev.vector(&args[0], steps)?;
            let label = string(&args[1])?.to_owned();
            let mut all = Vec::new();
            for arg in &args[2..] {
                let q = ev.scalar(arg, steps)?;
                warn_of_quantiles(ev, &q, arg.span());
                all.extend(quantiles(ev, &rows, &q, Some(&label), args[0].span(), steps)?);
            }
            ev.unique(all, steps)
        }
        "histogram_fraction" => {
            let (lower, upper) = (ev.scalar(&args[0], steps)?, ev.scalar(&args[1], steps)?);
            let rows = ev.vector(&args[2], steps)?;
            fractions(ev, &rows, &lower, &upper, args[2].span(), steps)
        }
        name => {
            let f: fn(&Histogram) -> f64 = match name {
                "histogram_count" => |h| h.count,
                "histogram_sum" => |h| h.sum,
                "histogram_avg" => |h| h.sum / h.count,
                "histogram_stdvar" => variance,
                _ => |h| variance(h).sqrt(),
            };
            let rows = ev.vector(&args[0], steps)?;
            let mut out = Vec::new();
            for row in rows {
                let Some(histograms) = &row.histograms else { continue };
                let mut result = Row::empty(row.labels.clone(), steps.count());
                for (value, h) in result.values.iter_mut().zip(histograms.iter()) {
                    if let Some(h) = h {
                        *value = f(h);
                    }
                }
                if result.has_any() {
                    if !ev.options.delayed_name_removal {
                        result.labels = result.labels.without_metric_identity();
                    }
                    result.drop_name = true;
                    out.push(result);
                }
            }
            ev.unique(out, steps)
        }
    }
}

fn warn_of_quantiles(ev: &mut Evaluator<'_>, q: &[f64], span: Span) {
    let mut told: Option<u64> = None;
    for q in q {
        if (q.is_nan() || !(0.0..=1.0).contains(q)) && told != Some(q.to_bits()) {
            ev.annotations.invalid_quantile(*q, span);
            told = Some(q.to_bits());
        }
    }
}

fn variance(h: &Histogram) -> f64 {
    let mean = h.sum / h.count;
    let mut variance = Kahan::default();
    for b in h.all_buckets() {
        let value = if h.is_custom() {
            (b.upper + b.lower) / 2.0
        } else if b.lower <= 0.0 && b.upper >= 0.0 {
            0.0
        } else {
            let mean = (b.upper * b.lower).sqrt();
            if b.upper < 0.0 { -mean } else { mean }
        };
        let delta = value - mean;
        variance.add(b.count * delta * delta);
    }
    variance.value() / h.count
}

/// The buckets of one classic histogram: rows that differ in `le` alone, sorted by it.
struct Classic<'a> {
    /// Labels without `le`.
    labels: Labels,
    drop_name: bool,
    buckets: Vec<(f64, &'a Row)>,
}

struct Sorted<'a> {
    classic: Vec<Classic<'a>>,
    /// Rows with native histograms, and the classic histogram of the same labels.
    native: Vec<(&'a Row, Option<usize>)>,
}

/// Parses a bound as Go does.
fn parse_bound(text: &str) -> Option<f64> {
    let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
    if plain.eq_ignore_ascii_case("inf") || plain.eq_ignore_ascii_case("infinity") {
        return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    text.parse().ok().filter(|bound: &f64| !bound.is_nan())
}

fn sort<'a>(ev: &mut Evaluator<'_>, rows: &'a [Row], span: Span) -> Sorted<'a> {
    let mut index: AHashMap<Labels, usize> = AHashMap::new();
    let mut sorted = Sorted { classic: Vec::new(), native: Vec::new() };
    for row in rows {
        if !row.values.iter().all(|v| crate::engine::rows::is_absent(*v)) {
            match parse_bound(row.labels.value(BUCKET_LABEL)) {
                None => {
                    let name = if ev.options.delayed_name_removal { row.labels.name() } else { "" };
                    ev.annotations.bad_bucket_label(name, row.labels.value(BUCKET_LABEL), span);
                }
                Some(bound) => {
                    let labels = row.labels.filter(|n| n != BUCKET_LABEL);
                    let at = *index.entry(labels).or_insert_with_key(|labels| {
                        sorted.classic.push(Classic {
                            labels: labels.clone(),
                            drop_name: row.drop_name,
                            buckets: Vec::new(),
                        });
                        sorted.classic.len() - 1
                    });
                    sorted.classic[at].buckets.push((bound, row));
                }
            }
        }
        if row.histograms.is_some() {
            sorted.native.push((row, None));
        }
    }
    for c in &mut sorted.classic {
        c.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    for (row, classic) in &mut sorted.native {
        *classic = index.get(&row.labels).copied();
    }
    sorted
}

/// At which steps a classic histogram and a native one have the same labels: nothing can be said there.
fn conflicts(ev: &mut Evaluator<'_>, sorted: &Sorted<'_>, n: usize, span: Span) -> Vec<Option<Vec<bool>>> {
    let mut out: Vec<Option<Vec<bool>>> = vec![None; sorted.classic.len()];
    for (row, classic) in &sorted.native {
        let Some(classic) = classic else { continue };
        for step in 0..n {
            let there = sorted.classic[*classic].buckets.iter().any(|(_, b)| matches!(b.cell(step), Cell::Float(_)));
            if there && matches!(row.cell(step), Cell::Histogram(_)) {
                let name = if ev.options.delayed_name_removal { row.labels.name() } else { "" };
                ev.annotations.mixed_classic_native(name, span);
                out[*classic].get_or_insert_with(|| vec![false; n])[step] = true;
            }
        }
    }
    out
}

/// Applies one function to native histograms and another to classic ones.
fn each(
    ev: &mut Evaluator<'_>,
    rows: &[Row],
    span: Span,
    steps: &Steps,
    mut native: impl FnMut(&mut Evaluator<'_>, &Histogram, usize, &str) -> f64,
    mut classic: impl FnMut(&mut Evaluator<'_>, &mut Vec<ClassicBucket>, usize, &str) -> f64,
) -> Result<Vec<Row>, Error> {
    let n = steps.count();
    let sorted = sort(ev, rows, span);
    let conflicts = conflicts(ev, &sorted, n, span);
    let mut out = Vec::new();
    let delayed = ev.options.delayed_name_removal;
    for (row, of) in &sorted.native {
        let Some(histograms) = &row.histograms else { continue };
        let mut result = Row::empty(row.labels.clone(), n);
        let name = if delayed { row.labels.name() } else { "" };
        for (step, h) in histograms.iter().enumerate() {
            let conflict = of.and_then(|c| conflicts[c].as_ref()).is_some_and(|c| c[step]);
            if let (Some(h), false) = (h, conflict) {
                result.values[step] = native(ev, h, step, name);
            }
        }
        ev.drop_metric_name(&mut result);
        out.push(result);
    }
    let mut buckets = Vec::new();
    for (c, conflict) in sorted.classic.iter().zip(&conflicts) {
        ev.cancel.check()?;
        let mut result = Row::empty(c.labels.clone(), n);
        let name = if delayed { c.labels.name().to_owned() } else { String::new() };
        for step in 0..n {
            if conflict.as_ref().is_some_and(|c| c[step]) {
                continue;
            }
            buckets.clear();
            for (upper, row) in &c.buckets {
                if let Cell::Float(count) = row.cell(step) {
                    buckets.push(ClassicBucket { upper: *upper, count });
                }
            }
            if !buckets.is_empty() {
                result.values[step] = classic(ev, &mut buckets, step, &name);
            }
        }
        result.drop_name = c.drop_name;
        ev.drop_metric_name(&mut result);
        out.push(result);
    }
    out.retain(Row::has_any);
    Ok(out)
}

fn quantiles(
    ev: &mut Evaluator<'_>,
    rows: &[Row],
    q: &[f64],
    label: Option<&str>,
    span: Span,
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    let out = each(
        ev,
        rows,
        span,
        steps,
        |ev, h, step, name| histogram_quantile(q[step], h, name, &mut ev.annotations, span),
        |ev, buckets, step, name| {
            let (quantile, forced) = classic_quantile(q[step], buckets);
            if let Some(Forced { bounds, max_difference }) = forced {
                ev.annotations.forced_monotonicity(name, steps.time(step), bounds, max_difference, span);
            }
            quantile
        },
    )?;
    let Some(label) = label else { return ev.unique(out, steps) };
    // The quantile is a label: where it varies over steps, there is a row for each.
    let mut by_quantile = Vec::new();
    let mut distinct: Vec<u64> = q.iter().map(|q| q.to_bits()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    for bits in distinct {
        let text = open_metrics_float(f64::from_bits(bits));
        for row in &out {
            let mut row = row.masked(|step| q[step].to_bits() == bits);
            row.labels = row.labels.with(label, &text);
            if row.has_any() {
                by_quantile.push(row);
            }
        }
    }
    Ok(by_quantile)
}

/// A float as OpenMetrics writes it in labels: with a point, or an exponent.
fn open_metrics_float(v: f64) -> String {
    let text = format_float_g(v);
    if v.is_finite() && !text.contains(['.', 'e']) { format!("{text}.0") } else { text }
}

fn fractions(
    ev: &mut Evaluator<'_>,
    rows: &[Row],
    lower: &[f64],
    upper: &[f64],
    span: Span,
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    let out = each(
        ev,
        rows,
        span,
        steps,
        |ev, h, step, name| histogram_fraction(lower[step], upper[step], h, name, &mut ev.annotations, span),
        |_, buckets, step, _| classic_fraction(lower[step], upper[step], buckets),
    )?;
    ev.unique(out, steps)
}
