//! `anchored` and `smoothed`: ranges that know their values at their ends.

use std::sync::Arc;

use super::counters::starts_anew;
use super::{Out, Window};
use crate::annotations::Annotations;
use crate::error::Span;
use crate::histogram::{CounterResetHint, Histogram, IncompatibleSchemas};
use crate::parser::Extended;

/// The value at a time between two points. A counter that fell in between began at zero.
pub(in crate::engine) fn interpolate(a: (i64, f64), b: (i64, f64), at: i64, counter: bool) -> f64 {
    let from = if counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * (at - a.0) as f64 / (b.0 - a.0) as f64
}

/// The histogram at a time between two.
pub(in crate::engine) fn interpolate_histograms(
    a: &(i64, Arc<Histogram>),
    b: &(i64, Arc<Histogram>),
    at: i64,
    counter: bool,
    notes: &mut Annotations,
    span: Span,
) -> Result<Histogram, IncompatibleSchemas> {
    if at == a.0 {
        return Ok((*a.1).clone());
    }
    if at == b.0 {
        return Ok((*b.1).clone());
    }
    if a.1.is_custom() != b.1.is_custom() {
        return Err(IncompatibleSchemas);
    }
    let fraction = (at - a.0) as f64 / (b.0 - a.0) as f64;
    if counter && b.1.detect_reset(&a.1) {
        return Ok(b.1.mul(fraction));
    }
    let mut result = (*b.1).clone();
    if result.sub(&a.1)?.bounds_reconciled {
        notes.mismatched_custom_buckets("subtraction", span);
    }
    let mut result = result.mul(fraction);
    if result.add(&a.1)?.bounds_reconciled {
        notes.mismatched_custom_buckets("addition", span);
    }
    Ok(result)
}

/// The first sample that counts: the last one at or before `start`, or the first of all.
fn first_index(times: impl Fn(usize) -> i64, last: usize, start: i64) -> usize {
    partition(last, |i| times(i) <= start).saturating_sub(1)
}

fn partition(n: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut lo, mut hi) = (0, n);
    while lo < hi {
        let middle = lo + (hi - lo) / 2;
        if before(middle) { lo = middle + 1 } else { hi = middle }
    }
    lo
}

/// The floats of a range selector with values at its very ends; before all samples, that of the first of them.
pub(in crate::engine) fn extend_floats(
    t: &[i64],
    v: &[f64],
    start: i64,
    end: i64,
    smoothed: bool,
) -> (Vec<i64>, Vec<f64>) {
    let samples = Samples { t, v, starts: &[], range: (start, end), seen_from: start, smoothed, counter: false };
    let Some(Ends { mut first, last, left, right }) = samples.ends() else {
        return (Vec::new(), Vec::new());
    };
    if t[first] <= start {
        first += 1;
    }
    let stop = if t[last] >= end { last } else { last + 1 };
    let (mut times, mut values) = (vec![start], vec![left.0]);
    if first < stop {
        times.extend_from_slice(&t[first..stop]);
        values.extend_from_slice(&v[first..stop]);
    }
    times.push(end);
    values.push(right.0);
    (times, values)
}

/// The floats that an extended range looks at.
struct Samples<'a> {
    t: &'a [i64],
    v: &'a [f64],
    /// When the counter behind each of them started; empty where that does not matter.
    starts: &'a [i64],
    /// After this time, up to and at that one.
    range: (i64, i64),
    /// The time after which samples are seen at all.
    seen_from: i64,
    smoothed: bool,
    counter: bool,
}

/// The samples that count, and values with their start times at both ends of the range.
struct Ends {
    first: usize,
    last: usize,
    left: (f64, i64),
    right: (f64, i64),
}

impl Samples<'_> {
    fn start(&self, i: usize) -> i64 {
        self.starts.get(i).copied().unwrap_or(0)
    }

    fn point(&self, i: usize) -> (i64, f64) {
        (self.t[i], self.v[i])
    }

    /// Whether the counter of a sample began after a time, and before the sample.
    fn begins_after(&self, time: i64, i: usize) -> bool {
        let (start, at) = (self.start(i), self.t[i]);
        start > time && at > time && starts_anew(time, time, start, at)
    }

    fn ends(&self) -> Option<Ends> {
        let (t, (start, end)) = (self.t, self.range);
        let mut last = t.len() - 1;
        let first = first_index(|i| t[i], last, start);
        if self.smoothed {
            last = partition(last, |i| t[i] < end);
        }
        if t[last] <= start {
            return None;
        }
        Some(Ends { first, last, left: self.left(first), right: self.right(last) })
    }

    /// Whether a smoothed range lies before all samples: only a counter that is known to have begun before its end changes in it.
    fn is_before_all(&self, first: usize) -> bool {
        let (_, end) = self.range;
        let begun = || self.counter && self.begins_after(self.seen_from, first) && !self.begins_after(end, first);
        self.smoothed && self.t[first] > end && !begun()
    }

    /// The value at the beginning of the range. `first` is the last sample at or before it, or the first of all.
    fn left(&self, first: usize) -> (f64, i64) {
        let (start, _) = self.range;
        let (time, value) = self.point(first);
        let began = self.start(first);
        if time == start {
            return (value, began);
        }
        let shown = if began > start { 0 } else { began };
        if time > start {
            if !self.counter || !self.begins_after(self.seen_from, first) {
                return (value, shown);
            }
            let before = self.smoothed && !self.begins_after(start, first);
            let value = if before { interpolate((began, 0.0), (time, value), start, true) } else { 0.0 };
            return (value, shown);
        }
        let next = first + 1;
        let (mut from, mut to, mut shown) = (self.point(first), self.point(next), shown);
        if self.counter {
            if self.begins_after(start, next) {
                to = (self.start(next), 0.0);
            } else if starts_anew(began, time, self.start(next), self.t[next]) {
                from = (self.start(next), 0.0);
                shown = self.start(next);
            }
        }
        (if self.smoothed { interpolate(from, to, start, self.counter) } else { from.1 }, shown)
    }

    /// The value at the end of the range. `last` is the first sample at or after it, or the last of all.
    fn right(&self, last: usize) -> (f64, i64) {
        let (_, end) = self.range;
        let (time, value) = self.point(last);
        let began = self.start(last);
        let shown = if began > end { 0 } else { began };
        if time <= end {
            return (value, shown);
        }
        if last == 0 {
            if !self.counter || !self.begins_after(self.seen_from, last) {
                return (value, shown);
            }
            let before = self.smoothed && !self.begins_after(end, last);
            let value = if before { interpolate((began, 0.0), (time, value), end, true) } else { 0.0 };
            return (value, shown);
        }
        let previous = last - 1;
        let (mut from, mut to, mut shown) = (self.point(previous), (time, value), shown);
        if self.counter {
            if self.begins_after(end, last) {
                to = (began, 0.0);
                shown = self.start(previous);
            } else if starts_anew(self.start(previous), self.t[previous], began, time) {
                from = (began, 0.0);
            }
        }
        (if self.smoothed { interpolate(from, to, end, self.counter) } else { from.1 }, shown)
    }
}

pub(super) fn rate(w: &Window<'_>, counter: bool, rate: bool, notes: &mut Annotations) -> Out {
    if !w.h.is_empty() {
        return histogram_rate(w, counter, rate, notes);
    }
    let samples = Samples {
        t: w.t,
        v: w.v,
        starts: w.float_starts,
        range: (w.start, w.end),
        seen_from: w.start - w.lookback_ms,
        smoothed: w.extended == Some(Extended::Smoothed),
        counter,
    };
    let Some(Ends { mut first, last, left, right }) = samples.ends() else {
        return Out::Nothing;
    };
    if samples.is_before_all(first) {
        return Out::Nothing;
    }
    let mut result = right.0 - left.0;
    if counter {
        if w.t[first] <= w.start {
            first += 1;
        }
        let stop = if w.t[last] >= w.end { last } else { last + 1 };
        let mut previous = (w.start, left.0, left.1);
        let inside = (first..stop.max(first)).map(|i| (w.t[i], w.v[i], samples.start(i)));
        for (time, value, began) in inside.chain([(w.end, right.0, right.1)]) {
            if value < previous.1 || starts_anew(previous.2, previous.0, began, time) {
                result += previous.1;
            }
            previous = (time, value, began);
        }
    }
    Out::Float(if rate { result / (w.range_ms as f64 / 1000.0) } else { result })
}

fn histogram_rate(w: &Window<'_>, counter: bool, rate: bool, notes: &mut Annotations) -> Out {
    let smoothed = w.extended == Some(Extended::Smoothed);
    let h = w.h;
    let mut last = h.len() - 1;
    let first = first_index(|i| h[i].0, last, w.start);
    if smoothed {
        last = partition(last, |i| h[i].0 < w.end);
    }
    if h[last].0 <= w.start || smoothed && h[first].0 > w.end {
        return Out::Nothing;
    }
    let incompatible = |notes: &mut Annotations| {
        notes.mixed_exponential_custom(w.name, w.span);
        Out::Nothing
    };
    for (_, one) in &h[first..=last] {
        if one.is_custom() != h[first].1.is_custom() {
            return incompatible(notes);
        }
        if counter && one.counter_reset_hint == CounterResetHint::Gauge {
            notes.histogram_not_counter(w.name, w.span);
        }
    }
    let left = if smoothed && h[first].0 < w.start {
        interpolate_histograms(&h[first], &h[first + 1], w.start, counter, notes, w.span)
    } else {
        Ok((*h[first].1).clone())
    };
    let right = if smoothed && last > 0 && h[last].0 > w.end {
        interpolate_histograms(&h[last - 1], &h[last], w.end, counter, notes, w.span)
    } else {
        Ok((*h[last].1).clone())
    };
    let (Ok(left), Ok(right)) = (left, right) else { return incompatible(notes) };
    let gauge = |h: &Histogram| h.counter_reset_hint == CounterResetHint::Gauge;
    if !counter && (!gauge(&left) || !gauge(&right)) {
        notes.histogram_not_gauge(w.name, w.span);
    }
    let mut result = right.clone();
    match result.sub(&left) {
        Ok(combined) => {
            if combined.bounds_reconciled {
                notes.mismatched_custom_buckets("subtraction", w.span);
            }
        }
        Err(_) => return incompatible(notes),
    }
    if counter {
        let mut lost: Vec<Histogram> = Vec::new();
        let mut next = first + 1;
        let mut previous = left;
        if smoothed && h[first].0 < w.start && h[first + 1].1.detect_reset(&h[first].1) {
            // The value at the left end lies in a reset already.
            previous = (*h[first + 1].1).clone();
            next += 1;
        }
        // What is measured at the right end is the last sample, or comes of it.
        if next <= last {
            for (_, one) in &h[next..last] {
                if one.detect_reset(&previous) {
                    lost.push(previous);
                }
                previous = (**one).clone();
            }
            if right.detect_reset(&previous) {
                lost.push(previous);
            }
        }
        for one in lost {
            match result.add(&one) {
                Ok(combined) => {
                    if combined.bounds_reconciled {
                        notes.mismatched_custom_buckets("addition", w.span);
                    }
                }
                Err(_) => return incompatible(notes),
            }
        }
    }
    if rate {
        result = result.div(w.range_ms as f64 / 1000.0);
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    Out::Histogram(result.compacted())
}

/// Where `changes` and `resets` begin: at an anchored range's last sample at or before its start, whichever kind it is.
/// Nothing where no sample lies in the range itself.
pub(super) fn first_indexes(w: &Window<'_>) -> Option<(usize, usize)> {
    if w.extended != Some(Extended::Anchored) {
        return Some((0, 0));
    }
    let floats = w.t.partition_point(|t| *t <= w.start);
    let histograms = w.h.partition_point(|(t, _)| *t <= w.start);
    if floats >= w.t.len() && histograms >= w.h.len() {
        return None;
    }
    if floats == 0 && histograms == 0 {
        return Some((0, 0));
    }
    if histograms == 0 || floats > 0 && w.t[floats - 1] >= w.h[histograms - 1].0 {
        return Some((floats - 1, histograms));
    }
    Some((floats, histograms - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_values_at_its_ends() {
        let (t, v) = ([10, 20, 30], [1.0, 3.0, 4.0]);
        assert_eq!(extend_floats(&t, &v, 15, 25, true), (vec![15, 20, 25], vec![2.0, 3.0, 3.5]));
        assert_eq!(extend_floats(&t, &v, 15, 25, false), (vec![15, 20, 25], vec![1.0, 3.0, 3.0]));
        // Before the first sample there is that one.
        assert_eq!(extend_floats(&t, &v, 0, 5, true), (vec![0, 5], vec![1.0, 1.0]));
        assert_eq!(extend_floats(&t, &v, 5, 10, true), (vec![5, 10], vec![1.0, 1.0]));
        assert_eq!(extend_floats(&t, &v, 30, 40, true), (vec![], vec![]));
    }
}
