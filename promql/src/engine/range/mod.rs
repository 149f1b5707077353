//! Functions of ranges: a window slides over the samples of each series.

mod counters;
pub(super) mod extended;
mod integral;
mod over_time;
mod trend;

pub(super) use over_time::{HintsSeen, HistogramMean};

use std::sync::Arc;

use super::eval::Evaluator;
use super::functions::absent_labels;
use super::quantile::quantile;
use super::rows::{ABSENT, Row, is_absent, merge_duplicates};
use super::select::{load_selector, reference, without_stale};
use crate::annotations::Annotations;
use crate::error::{Error, Span, execution};
use crate::histogram::Histogram;
use crate::options::Steps;
use crate::parser::{At, Call, Expr, Extended, ValueType};
use crate::source::Series;

/// The samples of one series in the range of one step.
pub(super) struct Window<'a> {
    pub(super) t: &'a [i64],
    pub(super) v: &'a [f64],
    pub(super) h: &'a [(i64, Arc<Histogram>)],
    /// When counters started, for each float and each histogram; empty where that is unknown or of no interest.
    pub(super) float_starts: &'a [i64],
    pub(super) histogram_starts: &'a [i64],
    /// The range: after this time,
    pub(super) start: i64,
    /// up to and at this one.
    pub(super) end: i64,
    /// The step's own time.
    pub(super) step_time: i64,
    /// How far beyond its range an extended selector looks.
    pub(super) lookback_ms: i64,
    /// How long the range is.
    pub(super) range_ms: i64,
    pub(super) extended: Option<Extended>,
    /// The metric's name, for annotations.
    pub(super) name: &'a str,
    /// The range's place, for annotations.
    pub(super) span: Span,
    /// Somewhere in the series a value is smaller than the one before it.
    pub(super) falls: bool,
}

/// What a function makes of a window.
pub(super) enum Out {
    Nothing,
    Float(f64),
    Histogram(Histogram),
}

/// Whether an argument of a call is a range.
pub(super) fn is_range_call(call: &Call) -> bool {
    call.function.args.contains(&ValueType::Matrix)
}

/// Functions that understand `anchored`, and those that understand `smoothed`.
const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];

struct Ranges {
    /// Series, and whether their names are to go.
    series: Vec<(Series, bool)>,
    at: Option<At>,
    offset_ms: i64,
    range_ms: i64,
    extended: Option<Extended>,
}

pub(super) fn eval(ev: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let name = call.function.name;
    let mut scalars: Vec<Vec<f64>> = Vec::new();
    let mut ranges = None;
    for arg in &call.args {
        let inner = match arg {
            Expr::StepInvariant(inner) => inner,
            arg => arg,
        };
        match inner.unwrapped() {
            Expr::Matrix(m) => {
                let v = &m.vector;
                match v.extended {
                    Some(Extended::Anchored) if !ANCHORED.contains(&name) => {
                        return execution(format!(
                            "anchored modifier can only be used with: {} - not with {name}",
                            ANCHORED.join(", ")
                        ));
                    }
                    Some(Extended::Smoothed) if !SMOOTHED.contains(&name) => {
                        return execution(format!(
                            "smoothed modifier can only be used with: {} - not with {name}",
                            SMOOTHED.join(", ")
                        ));
                    }
                    _ => {}
                }
                let loaded = load_selector(ev, v, Some(m.range.ms), steps)?;
                ranges = Some(Ranges {
                    series: loaded.into_iter().map(|s| (s, false)).collect(),
                    at: v.at,
                    offset_ms: v.offset.ms,
                    range_ms: m.range.ms,
                    extended: v.extended,
                });
            }
            Expr::Subquery(s) => {
                ranges = Some(Ranges {
                    series: ev.subquery_series(s, steps)?,
                    at: s.at,
                    offset_ms: s.offset.ms,
                    range_ms: s.range.ms,
                    extended: None,
                });
            }
            _ => scalars.push(ev.scalar(arg, steps)?),
        }
    }
    let Some(ranges) = ranges else { return execution(format!("{name} needs a range vector")) };
    let is_absent_call = name == "absent_over_time";
    let keeps_name = matches!(name, "first_over_time" | "last_over_time");
    let span = call.args[0].span();
    let last_span = call.args[call.args.len() - 1].span();
    let mut rows = Vec::with_capacity(ranges.series.len());
    let use_starts = ev.options.use_start_timestamps && matches!(name, "rate" | "irate" | "increase" | "resets");
    for (s, drop_name) in &ranges.series {
        ev.cancel.check()?;
        let s = without_stale(s);
        let mut row = Row::empty(s.labels.clone(), steps.count());
        let slide = Slide {
            series: &s,
            ranges: &ranges,
            steps,
            span,
            last_span,
            use_starts,
            lookback_ms: ev.options.lookback_ms,
        };
        apply(name, &slide, &scalars, &mut row, &mut ev.annotations, &mut ev.stats.total_samples)?;
        if !row.has_any() {
            continue;
        }
        if matches!(name, "rate" | "increase") {
            possible_non_counter(ev, &row, span);
        }
        if !keeps_name || *drop_name {
            ev.drop_metric_name(&mut row);
        }
        rows.push(row);
    }
    if is_absent_call {
        return Ok(absent_over_time(call, &rows, steps));
    }
    if ev.options.delayed_name_removal { Ok(rows) } else { merge_duplicates(rows) }
}

fn absent_over_time(call: &Call, rows: &[Row], steps: &Steps) -> Vec<Row> {
    let mut values = vec![1.0; steps.count()];
    for row in rows {
        for (step, value) in values.iter_mut().enumerate() {
            if row.is_present(step) {
                *value = ABSENT;
            }
        }
    }
    if values.iter().all(|v| is_absent(*v)) {
        return Vec::new();
    }
    let mut row = Row::floats(absent_labels(&call.args[0]), values);
    row.drop_name = true;
    vec![row]
}

fn possible_non_counter(ev: &mut Evaluator<'_>, row: &Row, span: Span) {
    let name = row.labels.name();
    if name.is_empty() || row.values.iter().all(|v| is_absent(*v)) {
        return;
    }
    if ev.options.type_and_unit_labels {
        let metric_type = row.labels.value(crate::labels::METRIC_TYPE);
        if metric_type != "counter" && metric_type != "histogram" {
            ev.annotations.possible_non_counter_label(name, metric_type, span);
        }
    } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix)) {
        ev.annotations.possible_non_counter(name, span);
    }
}

struct Slide<'a> {
    series: &'a Series,
    ranges: &'a Ranges,
    steps: &'a Steps,
    span: Span,
    /// The place of the last argument.
    last_span: Span,
    use_starts: bool,
    /// How far beyond a range `anchored` and `smoothed` look.
    lookback_ms: i64,
}

impl Slide<'_> {
    /// The end of the range at a step.
    #[inline]
    fn end(&self, step: usize) -> i64 {
        reference(self.ranges.at, self.ranges.offset_ms, self.steps.time(step))
    }

    /// Floats alone, at plain ranges, whose start times do not matter.
    fn is_plain(&self) -> bool {
        let starts = self.use_starts && !self.series.start_timestamps_ms.is_empty();
        self.series.histograms.is_empty() && self.ranges.extended.is_none() && !starts
    }

    /// Calls `f` on the window of each step that has samples in it.
    #[inline(always)]
    fn each(&self, row: &mut Row, touched: &mut u64, mut f: impl FnMut(&Window<'_>, usize) -> Out) {
        let s = self.series;
        let r = self.ranges;
        let (before, after) = match r.extended {
            None => (0, 0),
            Some(Extended::Anchored) => (self.lookback_ms, 0),
            Some(Extended::Smoothed) => (self.lookback_ms, self.lookback_ms),
        };
        let falls = s.values.windows(2).any(|w| w[1] < w[0]);
        let starts = if self.use_starts { s.start_timestamps_ms.as_slice() } else { &[] };
        let (float_starts, histogram_starts) =
            if starts.len() == s.len() { starts.split_at(s.timestamps_ms.len()) } else { (&[][..], &[][..]) };
        let (mut lo, mut hi, mut h_lo, mut h_hi) = (0, 0, 0, 0);
        let cut = |all: &[i64], from: usize, to: usize| -> std::ops::Range<usize> {
            if all.is_empty() { 0..0 } else { from..to }
        };
        for step in 0..self.steps.count() {
            let step_time = self.steps.time(step);
            let end = reference(r.at, r.offset_ms, step_time);
            let start = end - r.range_ms;
            let (from, to) = (start - before, end + after);
            while hi < s.timestamps_ms.len() && s.timestamps_ms[hi] <= to {
                hi += 1;
            }
            while lo < hi && s.timestamps_ms[lo] <= from {
                lo += 1;
            }
            if !s.histograms.is_empty() {
                while h_hi < s.histograms.len() && s.histograms[h_hi].0 <= to {
                    h_hi += 1;
                }
                while h_lo < h_hi && s.histograms[h_lo].0 <= from {
                    h_lo += 1;
                }
            }
            if lo == hi && h_lo == h_hi {
                continue;
            }
            *touched += (hi - lo + h_hi - h_lo) as u64;
            let window = Window {
                t: &s.timestamps_ms[lo..hi],
                v: &s.values[lo..hi],
                h: &s.histograms[h_lo..h_hi],
                float_starts: &float_starts[cut(float_starts, lo, hi)],
                histogram_starts: &histogram_starts[cut(histogram_starts, h_lo, h_hi)],
                start,
                end,
                step_time,
                lookback_ms: self.lookback_ms,
                range_ms: r.range_ms,
                extended: r.extended,
                name: s.labels.name(),
                span: self.span,
                falls,
            };
            match f(&window, step) {
                Out::Nothing => {}
                Out::Float(v) => row.values[step] = v,
                Out::Histogram(h) => row.set_histogram(step, Arc::new(h)),
            }
        }
    }
}

fn apply(
    name: &str,
    slide: &Slide<'_>,
    scalars: &[Vec<f64>],
    row: &mut Row,
    notes: &mut Annotations,
    touched: &mut u64,
) -> Result<(), Error> {
    match name {
        "rate" if slide.is_plain() => *touched += counters::plain_column(slide, true, true, &mut row.values),
        "increase" if slide.is_plain() => *touched += counters::plain_column(slide, true, false, &mut row.values),
        "delta" if slide.is_plain() => *touched += counters::plain_column(slide, false, false, &mut row.values),
        "rate" => slide.each(row, touched, |w, _| counters::extrapolated(w, true, true, notes)),
        "increase" => slide.each(row, touched, |w, _| counters::extrapolated(w, true, false, notes)),
        "delta" => slide.each(row, touched, |w, _| counters::extrapolated(w, false, false, notes)),
        "irate" => slide.each(row, touched, |w, _| counters::instant(w, true, notes)),
        "idelta" => slide.each(row, touched, |w, _| counters::instant(w, false, notes)),
        "resets" => slide.each(row, touched, |w, _| counters::resets(w)),
        "changes" => slide.each(row, touched, |w, _| counters::changes(w)),
        "sum_over_time" => slide.each(row, touched, |w, _| over_time::sum(w, notes)),
        "avg_over_time" => slide.each(row, touched, |w, _| over_time::avg(w, notes)),
        "count_over_time" => slide.each(row, touched, |w, _| Out::Float((w.v.len() + w.h.len()) as f64)),
        "present_over_time" | "absent_over_time" => slide.each(row, touched, |_, _| Out::Float(1.0)),
        "min_over_time" => slide.each(row, touched, |w, _| over_time::extreme(w, notes, |new, best| new < best, false)),
        "max_over_time" => slide.each(row, touched, |w, _| over_time::extreme(w, notes, |new, best| new > best, false)),
        "ts_of_min_over_time" => {
            slide.each(row, touched, |w, _| over_time::extreme(w, notes, |new, best| new <= best, true))
        }
        "ts_of_max_over_time" => {
            slide.each(row, touched, |w, _| over_time::extreme(w, notes, |new, best| new >= best, true))
        }
        "first_over_time" => slide.each(row, touched, |w, _| over_time::first(w)),
        "last_over_time" => slide.each(row, touched, |w, _| over_time::last(w)),
        "ts_of_first_over_time" => slide.each(row, touched, |w, _| over_time::time_of_first(w)),
        "ts_of_last_over_time" => slide.each(row, touched, |w, _| over_time::time_of_last(w)),
        "stddev_over_time" => slide.each(row, touched, |w, _| over_time::variance(w, notes, f64::sqrt)),
        "stdvar_over_time" => slide.each(row, touched, |w, _| over_time::variance(w, notes, |v| v)),
        "mad_over_time" => {
            let mut buffer = Vec::new();
            slide.each(row, touched, |w, _| over_time::mad(w, notes, &mut buffer));
        }
        "quantile_over_time" => {
            let q = &scalars[0];
            let mut buffer = Vec::new();
            slide.each(row, touched, |w, step| {
                if w.v.is_empty() {
                    return Out::Nothing;
                }
                let q = q[step];
                if q.is_nan() || !(0.0..=1.0).contains(&q) {
                    notes.invalid_quantile(q, w.span);
                }
                over_time::note_ignored_histograms(w, notes);
                buffer.clear();
                buffer.extend_from_slice(w.v);
                Out::Float(quantile(q, &mut buffer))
            });
        }
        "integral" => slide.each(row, touched, |w, step| {
            let rule = scalars.first().map(|s| s[step]).and_then(|strategy| {
                let rule = integral::Rule::of(strategy);
                if rule.is_none() {
                    notes.invalid_integral_strategy(strategy, slide.last_span);
                }
                rule
            });
            integral::integral(w, rule.unwrap_or_default(), notes)
        }),
        "deriv" => slide.each(row, touched, |w, _| trend::deriv(w, notes)),
        "predict_linear" => {
            let ahead = &scalars[0];
            slide.each(row, touched, |w, step| trend::predict_linear(w, ahead[step], notes));
        }
        "double_exponential_smoothing" => {
            let (smoothing, trend) = (&scalars[0], &scalars[1]);
            for (factor, what) in [(smoothing, "smoothing"), (trend, "trend")] {
                if let Some(wrong) = factor.iter().find(|f| **f <= 0.0 || **f >= 1.0) {
                    let short = if what == "trend" { "tf" } else { "sf" };
                    return execution(format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {wrong:.6}"));
                }
            }
            slide.each(row, touched, |w, step| {
                trend::double_exponential_smoothing(w, smoothing[step], trend[step], notes)
            });
        }
        _ => return execution(format!("function {name} is not implemented over ranges")),
    }
    Ok(())
}
