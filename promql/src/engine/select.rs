//! Selectors: samples of the source, at steps and in ranges.

use std::sync::Arc;

use super::eval::Evaluator;
use super::plan::window;
use super::range::extended::{extend_floats, interpolate, interpolate_histograms};
use super::rows::Row;
use crate::error::{Error, Span, execution};
use crate::histogram::{CounterResetHint, Histogram};
use crate::options::Steps;
use crate::parser::{At, Extended, MatrixSelector, VectorSelector};
use crate::source::{Matcher, Selection, Series};
use crate::value::is_stale;

/// Reads the series of a selector, sorted by labels so that whatever depends on their order is the same each time.
pub(super) fn load(
    ev: &mut Evaluator<'_>,
    matchers: &[Matcher],
    (start_ms, end_ms): (i64, i64),
    shown: &dyn Fn() -> String,
) -> Result<Vec<Series>, Error> {
    let selection = Selection { matchers: matchers.to_vec(), start_ms, end_ms };
    let mut series = ev.source.select(&selection)?;
    ev.cancel.check()?;
    if series.len() > ev.options.max_series {
        return Err(Error::TooManySeries { limit: ev.options.max_series, selector: shown() });
    }
    ev.stats.series += series.len() as u64;
    ev.hold(series.iter().map(Series::len).sum())?;
    if !series.is_sorted_by(|a, b| a.labels <= b.labels) {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    Ok(series)
}

/// Reads the series of a selector.
pub(super) fn load_selector(
    ev: &mut Evaluator<'_>,
    v: &VectorSelector,
    range_ms: Option<i64>,
    steps: &Steps,
) -> Result<Vec<Series>, Error> {
    let mut series = load(ev, &v.matchers, window(v, range_ms, steps, ev.options), &|| v.to_string())?;
    if v.counts_only {
        series.iter_mut().for_each(|s| drop_buckets(&mut s.histograms));
    }
    Ok(series)
}

/// Leaves counts and sums, and what the buckets say about counter resets.
fn drop_buckets(histograms: &mut [(i64, Arc<Histogram>)]) {
    let mut previous: Option<Arc<Histogram>> = None;
    for (_, h) in histograms {
        if h.is_stale() {
            continue;
        }
        let hint = match (&previous, h.counter_reset_hint) {
            (Some(p), CounterResetHint::Unknown) if h.detect_reset(p) => CounterResetHint::CounterReset,
            (Some(_), CounterResetHint::Unknown) => CounterResetHint::NotCounterReset,
            (_, known) => known,
        };
        let counts = Histogram {
            counter_reset_hint: hint,
            schema: h.schema,
            count: h.count,
            sum: h.sum,
            ..Histogram::default()
        };
        previous = Some(std::mem::replace(h, Arc::new(counts)));
    }
}

/// The time that a selector looks at, at a step.
pub(super) fn reference(at: Option<At>, offset_ms: i64, step_time: i64) -> i64 {
    match at {
        Some(At::Time(t)) => t - offset_ms,
        _ => step_time - offset_ms,
    }
}

/// The newest sample at each step, if it is no older than the lookback and no staleness marker.
pub(super) fn instant(ev: &mut Evaluator<'_>, v: &VectorSelector, steps: &Steps) -> Result<Vec<Row>, Error> {
    let series = load_selector(ev, v, None, steps)?;
    let mut rows = Vec::with_capacity(series.len());
    for s in series {
        ev.cancel.check()?;
        let row = match v.extended {
            Some(Extended::Smoothed) => smoothed(ev, &s, v, steps)?,
            _ => newest(&s, steps, ev.options.lookback_ms, |t| reference(v.at, v.offset.ms, t), |_, value| value),
        };
        if row.has_any() {
            ev.stats.total_samples += row.samples() as u64;
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Which samples of a series are the newest, from step to step.
#[derive(Default)]
struct Walk {
    floats: usize,
    histograms: usize,
}

/// A newest sample.
enum Newest {
    /// Index among the floats.
    Float(usize),
    /// Index among the histograms.
    Histogram(usize),
}

impl Walk {
    /// The newest sample at or before `at` and its time, where it is younger than the lookback and no staleness marker. `at` never goes back.
    fn newest(&mut self, s: &Series, at: i64, lookback_ms: i64) -> Option<(i64, Newest)> {
        while self.floats < s.timestamps_ms.len() && s.timestamps_ms[self.floats] <= at {
            self.floats += 1;
        }
        while self.histograms < s.histograms.len() && s.histograms[self.histograms].0 <= at {
            self.histograms += 1;
        }
        let float_time = if self.floats > 0 { s.timestamps_ms[self.floats - 1] } else { i64::MIN };
        let histogram_time = if self.histograms > 0 { s.histograms[self.histograms - 1].0 } else { i64::MIN };
        let time = float_time.max(histogram_time);
        if time <= at.saturating_sub(lookback_ms) {
            return None;
        }
        let (stale, found) = if float_time >= histogram_time {
            (is_stale(s.values[self.floats - 1]), Newest::Float(self.floats - 1))
        } else {
            (s.histograms[self.histograms - 1].1.is_stale(), Newest::Histogram(self.histograms - 1))
        };
        (!stale).then_some((time, found))
    }
}

/// The newest sample at each step; `value` makes of a float's time and value what the row has.
pub(super) fn newest(
    s: &Series,
    steps: &Steps,
    lookback_ms: i64,
    reference: impl Fn(i64) -> i64,
    value: impl Fn(i64, f64) -> f64,
) -> Row {
    let n = steps.count();
    let mut row = Row::empty(s.labels.clone(), n);
    let mut walk = Walk::default();
    for step in 0..n {
        match walk.newest(s, reference(steps.time(step)), lookback_ms) {
            Some((time, Newest::Float(i))) => row.values[step] = value(time, s.values[i]),
            Some((_, Newest::Histogram(i))) => row.set_histogram(step, Arc::clone(&s.histograms[i].1)),
            None => {}
        }
    }
    row
}

/// Times of the newest samples at each step, in seconds, and when their counters started.
pub(super) fn newest_times(
    s: &Series,
    steps: &Steps,
    lookback_ms: i64,
    reference: impl Fn(i64) -> i64,
    start: bool,
) -> Row {
    let n = steps.count();
    let mut row = Row::empty(s.labels.clone(), n);
    let mut walk = Walk::default();
    for step in 0..n {
        let Some((time, found)) = walk.newest(s, reference(steps.time(step)), lookback_ms) else { continue };
        let shown = if start {
            let index = match found {
                Newest::Float(i) => i,
                Newest::Histogram(i) => s.timestamps_ms.len() + i,
            };
            s.start_timestamps_ms.get(index).copied().unwrap_or(0)
        } else {
            time
        };
        row.values[step] = shown as f64 / 1000.0;
    }
    row
}

/// The value at each step, interpolated between the samples around it.
fn smoothed(ev: &mut Evaluator<'_>, s: &Series, v: &VectorSelector, steps: &Steps) -> Result<Row, Error> {
    let s = without_stale(s);
    let n = steps.count();
    let lookback = ev.options.lookback_ms;
    let mut row = Row::empty(s.labels.clone(), n);
    for step in 0..n {
        let at = reference(v.at, v.offset.ms, steps.time(step));
        let (from, to) = (at - lookback, at + lookback);
        let floats = range_of(&s.timestamps_ms, from, to);
        let (t, f) = (&s.timestamps_ms[floats.clone()], &s.values[floats]);
        let begin = s.histograms.partition_point(|(t, _)| *t <= from);
        let end = s.histograms.partition_point(|(t, _)| *t <= to);
        let h = &s.histograms[begin..end];
        if !h.is_empty() && !t.is_empty() {
            ev.annotations.mixed_floats_histograms(s.labels.name(), v.span);
        } else if !h.is_empty() {
            if let Some(h) = smoothed_histogram(ev, h, at, s.labels.name(), v.span) {
                row.set_histogram(step, Arc::new(h));
            }
        } else if !t.is_empty() {
            let i = t.partition_point(|t| *t < at);
            if i < t.len() && t[i] == at {
                row.values[step] = f[i];
            } else if i > 0 && i < t.len() {
                row.values[step] = interpolate((t[i - 1], f[i - 1]), (t[i], f[i]), at, false);
            } else if i > 0 {
                row.values[step] = f[i - 1];
            }
        }
    }
    Ok(row)
}

fn smoothed_histogram(
    ev: &mut Evaluator<'_>,
    h: &[(i64, Arc<Histogram>)],
    at: i64,
    name: &str,
    span: Span,
) -> Option<Histogram> {
    let i = h.partition_point(|(t, _)| *t < at);
    if i < h.len() && h[i].0 == at {
        return Some((*h[i].1).clone());
    }
    if i == 0 {
        return None;
    }
    let previous = &h[i - 1];
    let Some(next) = h.get(i) else {
        return Some(Histogram { counter_reset_hint: CounterResetHint::Unknown, ..(*previous.1).clone() });
    };
    let gauge = |h: &Histogram| h.counter_reset_hint == CounterResetHint::Gauge;
    let counter = !gauge(&previous.1) || !gauge(&next.1);
    let between = interpolate_histograms(previous, next, at, counter, &mut ev.annotations, span);
    if between.is_err() {
        ev.annotations.mixed_exponential_custom(name, span);
    }
    between.ok()
}

/// Indexes of the times after `from`, up to and at `to`.
fn range_of(times: &[i64], from: i64, to: i64) -> std::ops::Range<usize> {
    times.partition_point(|t| *t <= from)..times.partition_point(|t| *t <= to)
}

/// A series without staleness markers, as ranges see it.
pub(super) fn without_stale(s: &Series) -> std::borrow::Cow<'_, Series> {
    if !s.values.iter().any(|v| is_stale(*v)) && !s.histograms.iter().any(|(_, h)| h.is_stale()) {
        return std::borrow::Cow::Borrowed(s);
    }
    let mut out = Series { labels: s.labels.clone(), ..Series::default() };
    let mut float_starts = Vec::new();
    let mut histogram_starts = Vec::new();
    for (i, (t, v)) in s.timestamps_ms.iter().zip(&s.values).enumerate() {
        if !is_stale(*v) {
            out.timestamps_ms.push(*t);
            out.values.push(*v);
            float_starts.extend(s.start_timestamps_ms.get(i));
        }
    }
    for (i, (t, h)) in s.histograms.iter().enumerate() {
        if !h.is_stale() {
            out.histograms.push((*t, Arc::clone(h)));
            histogram_starts.extend(s.start_timestamps_ms.get(s.timestamps_ms.len() + i));
        }
    }
    float_starts.append(&mut histogram_starts);
    out.start_timestamps_ms = float_starts;
    std::borrow::Cow::Owned(out)
}

/// The value of a range selector: samples as they are.
pub(super) fn range_value(ev: &mut Evaluator<'_>, m: &MatrixSelector, steps: &Steps) -> Result<Vec<Series>, Error> {
    let v = &m.vector;
    let loaded =
        load(ev, &v.matchers, window(v, Some(m.range.ms), &steps.first_only(), ev.options), &|| m.to_string())?;
    let end = reference(v.at, v.offset.ms, steps.start_ms);
    let start = end - m.range.ms;
    let lookback = ev.options.lookback_ms;
    let mut out = Vec::new();
    for s in loaded {
        let s = without_stale(&s);
        let (from, to) = match v.extended {
            None => (start, end),
            Some(Extended::Anchored) => (start - lookback, end),
            Some(Extended::Smoothed) => (start - lookback, end + lookback),
        };
        let floats = range_of(&s.timestamps_ms, from, to);
        let histograms: Vec<_> = s.histograms.iter().filter(|(t, _)| *t > from && *t <= to).cloned().collect();
        let (mut t, mut f) = (s.timestamps_ms[floats.clone()].to_vec(), s.values[floats].to_vec());
        if let Some(extended) = v.extended {
            if !histograms.is_empty() {
                let name = if extended == Extended::Anchored { "anchored" } else { "smoothed" };
                return execution(format!("{name} modifier is not supported with histograms"));
            }
            if !t.is_empty() {
                (t, f) = extend_floats(&t, &f, start, end, extended == Extended::Smoothed);
            }
        }
        let series = Series {
            labels: s.labels.clone(),
            timestamps_ms: t,
            values: f,
            histograms,
            start_timestamps_ms: Vec::new(),
        };
        if !series.is_empty() {
            ev.stats.total_samples += series.len() as u64;
            out.push(series);
        }
    }
    Ok(out)
}
