//! `rate`, `increase`, `delta` and what else looks at how a counter went.

use std::sync::Arc;

use super::extended::{self, first_indexes};
use super::{Out, Slide, Window};
use crate::annotations::Annotations;
use crate::histogram::{CounterResetHint, Histogram};

/// Whether a counter's start time says that it began anew between two samples.
pub(super) fn starts_anew(previous_start: i64, previous: i64, start: i64, time: i64) -> bool {
    if previous_start == start || start == 0 || start >= time || start < previous {
        return false;
    }
    if start > previous {
        return true;
    }
    // It points at the sample before: a delta, unless that one did not know its own start.
    previous_start <= previous && previous_start != 0 && previous_start != previous
}

fn overlaps(previous_start: i64, previous: i64, start: i64) -> bool {
    start != 0 && start < previous && start != previous_start
}

/// The increase over a range, extended to its ends where samples lie close to them.
#[inline(always)]
pub(super) fn extrapolated(w: &Window<'_>, counter: bool, rate: bool, notes: &mut Annotations) -> Out {
    if !w.h.is_empty() && !w.v.is_empty() {
        notes.mixed_floats_histograms(w.name, w.span);
        return Out::Nothing;
    }
    if w.extended.is_some() {
        return extended::rate(w, counter, rate, notes);
    }
    if w.h.is_empty() { floats(w, counter, rate, notes) } else { histograms(w, counter, rate, notes) }
}

/// The factor that extends an increase to the ends of the range. `first` is the first value, where the result cannot go
/// below zero; `increase` what was measured.
#[inline(always)]
fn extension(
    (range_start, range_end): (i64, i64),
    first_t: i64,
    last_t: i64,
    gaps: usize,
    start: Option<i64>,
    zero: Option<(f64, f64)>,
) -> f64 {
    let mut to_start = (first_t - range_start) as f64 / 1000.0;
    let mut to_end = (range_end - last_t) as f64 / 1000.0;
    let mut sampled = (last_t - first_t) as f64 / 1000.0;
    let average = if gaps > 0 { sampled / gaps as f64 } else { 0.0 };
    let threshold = average * 1.1;
    if let Some(start) = start {
        to_start = 0.0;
        sampled = (last_t - start) as f64 / 1000.0;
    } else {
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if let Some((first, increase)) = zero
            && increase > 0.0
            && first >= 0.0
        {
            let to_zero = sampled * (first / increase);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled }
}

/// The start time of the first sample where that lies in the range: the counter was zero then.
fn start_in_range(w: &Window<'_>, starts: &[i64], first_t: i64) -> Option<i64> {
    starts.first().copied().filter(|s| *s != 0 && *s > w.start && *s < first_t)
}

#[inline(always)]
fn floats(w: &Window<'_>, counter: bool, rate: bool, notes: &mut Annotations) -> Out {
    let n = w.v.len();
    let (first, last) = (w.v[0], w.v[n - 1]);
    let (first_t, last_t) = (w.t[0], w.t[n - 1]);
    let mut result = last - first;
    let mut start = None;
    if counter {
        if !w.float_starts.is_empty() {
            let s = w.float_starts;
            let mut told = false;
            for i in 1..n {
                if !told && overlaps(s[i - 1], w.t[i - 1], s[i]) {
                    notes.start_time_overlap(w.name, w.span);
                    told = true;
                }
                if w.v[i] < w.v[i - 1] || starts_anew(s[i - 1], w.t[i - 1], s[i], w.t[i]) {
                    result += w.v[i - 1];
                }
            }
            start = start_in_range(w, s, first_t);
        } else if w.falls {
            for pair in w.v.windows(2) {
                if pair[1] < pair[0] {
                    result += pair[0];
                }
            }
        }
    }
    if start.is_some() {
        result += first;
    } else if n == 1 {
        return Out::Nothing;
    }
    let factor = extension((w.start, w.end), first_t, last_t, n - 1, start, counter.then_some((first, result)));
    let factor = if rate { factor / (w.range_ms as f64 / 1000.0) } else { factor };
    Out::Float(result * factor)
}

/// What `rate`, `increase` and `delta` make of floats alone, without start times and at plain ranges: the common case, in a
/// loop that does nothing else. Gives the same as [`extrapolated`] at each step.
pub(super) fn plain_column(slide: &Slide<'_>, counter: bool, rate: bool, out: &mut [f64]) -> u64 {
    let (t, v) = (slide.series.timestamps_ms.as_slice(), slide.series.values.as_slice());
    let range_ms = slide.ranges.range_ms;
    let falls = counter && v.windows(2).any(|w| w[1] < w[0]);
    let per = if rate { range_ms as f64 / 1000.0 } else { 1.0 };
    let (mut lo, mut hi, mut touched) = (0, 0, 0);
    for (step, out) in out.iter_mut().enumerate() {
        let end = slide.end(step);
        let start = end - range_ms;
        while hi < t.len() && t[hi] <= end {
            hi += 1;
        }
        while lo < hi && t[lo] <= start {
            lo += 1;
        }
        touched += (hi - lo) as u64;
        if hi - lo < 2 {
            continue;
        }
        let (first, last) = (v[lo], v[hi - 1]);
        let mut result = last - first;
        if falls {
            for pair in v[lo..hi].windows(2) {
                if pair[1] < pair[0] {
                    result += pair[0];
                }
            }
        }
        let zero = counter.then_some((first, result));
        let factor = extension((start, end), t[lo], t[hi - 1], hi - lo - 1, None, zero);
        *out = result * if rate { factor / per } else { factor };
    }
    touched
}

fn histograms(w: &Window<'_>, counter: bool, rate: bool, notes: &mut Annotations) -> Out {
    let n = w.h.len();
    let (first_t, last_t) = (w.h[0].0, w.h[n - 1].0);
    let mut result = None;
    if n > 1 {
        result = histogram_increase(w, counter, notes);
        if result.is_none() {
            return Out::Nothing;
        }
    }
    let start = if counter { start_in_range(w, w.histogram_starts, first_t) } else { None };
    if start.is_some() {
        match &mut result {
            None => result = Some((*w.h[0].1).clone()),
            Some(result) => match result.add(&w.h[0].1) {
                Ok(combined) => {
                    if combined.bounds_reconciled {
                        notes.mismatched_custom_buckets("addition", w.span);
                    }
                }
                Err(_) => {
                    notes.mixed_exponential_custom(w.name, w.span);
                    return Out::Nothing;
                }
            },
        }
    }
    let Some(result) = result else { return Out::Nothing };
    let zero = (counter && result.count > 0.0).then(|| (w.h[0].1.count, result.count));
    let factor = extension((w.start, w.end), first_t, last_t, n - 1, start, zero);
    let factor = if rate { factor / (w.range_ms as f64 / 1000.0) } else { factor };
    Out::Histogram(result.mul(factor))
}

fn histogram_increase(w: &Window<'_>, counter: bool, notes: &mut Annotations) -> Option<Histogram> {
    let gauge = |h: &Histogram| h.counter_reset_hint == CounterResetHint::Gauge;
    let (first, last) = (&w.h[0].1, &w.h[w.h.len() - 1].1);
    let new_start = |i: usize| {
        let s = w.histogram_starts;
        !s.is_empty() && starts_anew(s[i - 1], w.h[i - 1].0, s[i], w.h[i].0)
    };
    if counter && (gauge(first) || gauge(last)) {
        notes.histogram_not_counter(w.name, w.span);
    }
    let mut previous = Arc::clone(first);
    let mut custom = first.is_custom();
    if counter {
        let second = &w.h[1].1;
        // A first histogram in front of a reset does not count, nor does its layout.
        if new_start(1) || second.detect_reset(first) {
            previous = Arc::new(Histogram {
                schema: second.schema,
                custom_values: second.custom_values.clone(),
                ..Histogram::default()
            });
            custom = second.is_custom();
        }
    }
    let incompatible = |notes: &mut Annotations| {
        notes.mixed_exponential_custom(w.name, w.span);
        None
    };
    if last.is_custom() != custom {
        return incompatible(notes);
    }
    let mut schema = last.schema.min(previous.schema);
    if counter {
        for (_, h) in &w.h[1..w.h.len() - 1] {
            if gauge(h) {
                notes.histogram_not_counter(w.name, w.span);
            }
            schema = schema.min(h.schema);
            if h.is_custom() != custom {
                return incompatible(notes);
            }
        }
    }
    let mut result = last.at_schema(schema);
    match result.sub(&previous) {
        Ok(combined) => {
            if combined.bounds_reconciled {
                notes.mismatched_custom_buckets("subtraction", w.span);
            }
        }
        Err(_) => return incompatible(notes),
    }
    if counter {
        let mut told = false;
        for i in 1..w.h.len() {
            let h = &w.h[i].1;
            let s = w.histogram_starts;
            if !told && !s.is_empty() && overlaps(s[i - 1], w.h[i - 1].0, s[i]) {
                notes.start_time_overlap(w.name, w.span);
                told = true;
            }
            if new_start(i) || h.detect_reset(&previous) {
                match result.add(&previous) {
                    Ok(combined) => {
                        if combined.bounds_reconciled {
                            notes.mismatched_custom_buckets("addition", w.span);
                        }
                    }
                    Err(_) => return incompatible(notes),
                }
            }
            previous = Arc::clone(h);
        }
    } else if !gauge(first) || !gauge(last) {
        notes.histogram_not_gauge(w.name, w.span);
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    Some(result.compacted())
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

/// The samples of a window in time order, from given indexes on, with their start times.
fn merged<'a>(
    w: &Window<'a>,
    first_float: usize,
    first_histogram: usize,
) -> impl Iterator<Item = (i64, i64, Value<'a>)> + use<'a> {
    let (t, v, h, float_starts, histogram_starts) = (w.t, w.v, w.h, w.float_starts, w.histogram_starts);
    let (mut f, mut g) = (first_float, first_histogram);
    std::iter::from_fn(move || {
        let float = f < t.len() && (g >= h.len() || t[f] < h[g].0);
        if float {
            f += 1;
            return Some((t[f - 1], float_starts.get(f - 1).copied().unwrap_or(0), Value::Float(v[f - 1])));
        }
        let (time, histogram) = h.get(g)?;
        g += 1;
        Some((*time, histogram_starts.get(g - 1).copied().unwrap_or(0), Value::Histogram(histogram)))
    })
}

/// The difference of the last two samples.
pub(super) fn instant(w: &Window<'_>, rate: bool, notes: &mut Annotations) -> Out {
    if w.v.len() + w.h.len() < 2 {
        return Out::Nothing;
    }
    let (f, h) = (w.v.len().saturating_sub(2), w.h.len().saturating_sub(2));
    let mut last_two: Vec<_> = merged(w, f, h).collect();
    let Some(last) = last_two.pop() else { return Out::Nothing };
    let Some(previous) = last_two.pop() else { return Out::Nothing };
    let seconds = (last.0 - previous.0) as f64 / 1000.0;
    if seconds == 0.0 {
        return Out::Nothing;
    }
    let new_start = starts_anew(previous.1, previous.0, last.1, last.0);
    match (previous.2, last.2) {
        (Value::Float(a), Value::Float(b)) => {
            let reset = rate && (b < a || new_start);
            let difference = if reset { b } else { b - a };
            Out::Float(if rate { difference / seconds } else { difference })
        }
        (Value::Histogram(a), Value::Histogram(b)) => {
            let gauge = |h: &Histogram| h.counter_reset_hint == CounterResetHint::Gauge;
            if rate && (gauge(a) || gauge(b)) {
                notes.histogram_not_counter(w.name, w.span);
            }
            if !rate && (!gauge(a) || !gauge(b)) {
                notes.histogram_not_gauge(w.name, w.span);
            }
            let mut result = (**b).clone();
            if !rate || (!new_start && !b.detect_reset(a)) {
                match result.sub(a) {
                    Ok(combined) => {
                        if combined.bounds_reconciled {
                            notes.mismatched_custom_buckets("subtraction", w.span);
                        }
                    }
                    Err(_) => {
                        notes.mixed_exponential_custom(w.name, w.span);
                        return Out::Nothing;
                    }
                }
            }
            result.counter_reset_hint = CounterResetHint::Gauge;
            result.compact();
            Out::Histogram(if rate { result.div(seconds) } else { result })
        }
        _ => {
            notes.mixed_floats_histograms(w.name, w.span);
            Out::Nothing
        }
    }
}

pub(super) fn resets(w: &Window<'_>) -> Out {
    if w.h.is_empty() && !w.falls && w.float_starts.is_empty() && w.extended.is_none() {
        return Out::Float(0.0);
    }
    let Some((f, h)) = first_indexes(w) else { return Out::Nothing };
    let mut count = 0;
    let mut previous: Option<(i64, i64, Value<'_>)> = None;
    for current in merged(w, f, h) {
        if let Some(previous) = previous {
            let new_start = starts_anew(previous.1, previous.0, current.1, current.0);
            let reset = match (previous.2, current.2) {
                (Value::Float(a), Value::Float(b)) => b < a || new_start,
                (Value::Histogram(a), Value::Histogram(b)) => new_start || b.detect_reset(a),
                _ => true,
            };
            count += usize::from(reset);
        }
        previous = Some(current);
    }
    Out::Float(count as f64)
}

pub(super) fn changes(w: &Window<'_>) -> Out {
    let Some((f, h)) = first_indexes(w) else { return Out::Nothing };
    let mut count = 0;
    let mut previous = None;
    for (_, _, current) in merged(w, f, h) {
        if let Some(previous) = previous {
            let changed = match (previous, current) {
                (Value::Float(a), Value::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
                (Value::Histogram(a), Value::Histogram(b)) => !b.same_data(a),
                _ => true,
            };
            count += usize::from(changed);
        }
        previous = Some(current);
    }
    Out::Float(count as f64)
}
