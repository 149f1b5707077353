//! `*_over_time`.

use super::{Out, Window};
use crate::annotations::Annotations;
use crate::engine::quantile::quantile;
use crate::histogram::{CounterResetHint, KahanSum};
use crate::kahan::{Kahan, Mean};

/// Notes that floats alone count where there are histograms as well.
pub(super) fn note_ignored_histograms(w: &Window<'_>, notes: &mut Annotations) {
    if !w.h.is_empty() {
        notes.histogram_ignored_in_mixed_range(w.name, w.span);
    }
}

fn mixed(w: &Window<'_>, notes: &mut Annotations) -> bool {
    let mixed = !w.v.is_empty() && !w.h.is_empty();
    if mixed {
        notes.mixed_floats_histograms(w.name, w.span);
    }
    mixed
}

pub(super) fn sum(w: &Window<'_>, notes: &mut Annotations) -> Out {
    if w.h.is_empty() {
        let mut sum = Kahan::default();
        w.v.iter().for_each(|v| sum.add(*v));
        return Out::Float(if sum.sum.is_infinite() { sum.sum } else { sum.value() });
    }
    if mixed(w, notes) {
        return Out::Nothing;
    }
    let mut sum = KahanSum::new(&w.h[0].1);
    let mut seen = HintsSeen::default();
    seen.note(w.h[0].1.counter_reset_hint);
    for (_, h) in &w.h[1..] {
        seen.note(h.counter_reset_hint);
        match sum.add(h) {
            Ok(combined) => seen.reconciled |= combined.bounds_reconciled,
            Err(_) => {
                notes.mixed_exponential_custom(w.name, w.span);
                return Out::Nothing;
            }
        }
    }
    seen.tell(w, notes);
    Out::Histogram(sum.value())
}

pub(super) fn avg(w: &Window<'_>, notes: &mut Annotations) -> Out {
    if w.h.is_empty() {
        let mut mean = Mean::new(w.v[0]);
        w.v[1..].iter().for_each(|v| mean.add(*v));
        return Out::Float(mean.value());
    }
    if mixed(w, notes) {
        return Out::Nothing;
    }
    let mut mean = HistogramMean::new(&w.h[0].1);
    let mut seen = HintsSeen::default();
    seen.note(w.h[0].1.counter_reset_hint);
    for (_, h) in &w.h[1..] {
        seen.note(h.counter_reset_hint);
        match mean.add(h) {
            Ok(combined) => seen.reconciled |= combined.bounds_reconciled,
            Err(_) => {
                notes.mixed_exponential_custom(w.name, w.span);
                return Out::Nothing;
            }
        }
    }
    seen.tell(w, notes);
    Out::Histogram(mean.value())
}

/// A mean of histograms: the sum divided, or, once that would overflow, moved by each one's share.
#[derive(Clone)]
pub(in crate::engine) struct HistogramMean {
    count: f64,
    total: KahanSum,
    incremental: bool,
}

impl HistogramMean {
    pub(in crate::engine) fn new(h: &crate::Histogram) -> Self {
        HistogramMean { count: 1.0, total: KahanSum::new(h), incremental: false }
    }

    pub(in crate::engine) fn add(
        &mut self,
        h: &crate::Histogram,
    ) -> Result<crate::Combined, crate::IncompatibleSchemas> {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.total.clone();
            let combined = next.add(h)?;
            if !next.has_overflow() {
                self.total = next;
                return Ok(combined);
            }
            self.incremental = true;
            self.total.divide(self.count - 1.0);
        }
        self.total.scale((self.count - 1.0) / self.count);
        self.total.add(&h.div(self.count))
    }

    pub(in crate::engine) fn value(&self) -> crate::Histogram {
        if self.incremental {
            return self.total.value();
        }
        let mut total = self.total.clone();
        total.divide(self.count);
        total.value()
    }
}

#[derive(Default, Clone, Copy)]
pub(in crate::engine) struct HintsSeen {
    reset: bool,
    no_reset: bool,
    pub(in crate::engine) reconciled: bool,
}

impl HintsSeen {
    pub(in crate::engine) fn note(&mut self, hint: CounterResetHint) {
        self.reset |= hint == CounterResetHint::CounterReset;
        self.no_reset |= hint == CounterResetHint::NotCounterReset;
    }

    pub(in crate::engine) fn collide(self) -> bool {
        self.reset && self.no_reset
    }

    fn tell(self, w: &Window<'_>, notes: &mut Annotations) {
        if self.collide() {
            notes.counter_reset_collision("aggregation", w.span);
        }
        if self.reconciled {
            notes.mismatched_custom_buckets("aggregation", w.span);
        }
    }
}

pub(super) fn extreme(w: &Window<'_>, notes: &mut Annotations, better: impl Fn(f64, f64) -> bool, time: bool) -> Out {
    let Some(first) = w.v.first() else { return Out::Nothing };
    note_ignored_histograms(w, notes);
    let (mut best, mut at) = (*first, w.t[0]);
    for (v, t) in w.v.iter().zip(w.t) {
        if better(*v, best) || best.is_nan() {
            best = *v;
            at = *t;
        }
    }
    Out::Float(if time { at as f64 / 1000.0 } else { best })
}

pub(super) fn first(w: &Window<'_>) -> Out {
    match (w.t.first(), w.h.first()) {
        (Some(t), Some((h_t, h))) if t >= h_t => Out::Histogram((**h).clone()),
        (Some(_), _) => Out::Float(w.v[0]),
        (None, Some((_, h))) => Out::Histogram((**h).clone()),
        (None, None) => Out::Nothing,
    }
}

pub(super) fn last(w: &Window<'_>) -> Out {
    match (w.t.last(), w.h.last()) {
        (Some(t), Some((h_t, h))) if h_t >= t => Out::Histogram((**h).clone()),
        (Some(_), _) => Out::Float(w.v[w.v.len() - 1]),
        (None, Some((_, h))) => Out::Histogram((**h).clone()),
        (None, None) => Out::Nothing,
    }
}

pub(super) fn time_of_first(w: &Window<'_>) -> Out {
    let t = w.t.first().into_iter().chain(w.h.first().map(|(t, _)| t)).min();
    t.map_or(Out::Nothing, |t| Out::Float(*t as f64 / 1000.0))
}

pub(super) fn time_of_last(w: &Window<'_>) -> Out {
    let t = w.t.last().into_iter().chain(w.h.last().map(|(t, _)| t)).max();
    t.map_or(Out::Nothing, |t| Out::Float(*t as f64 / 1000.0))
}

pub(super) fn variance(w: &Window<'_>, notes: &mut Annotations, result: impl Fn(f64) -> f64) -> Out {
    if w.v.is_empty() {
        return Out::Nothing;
    }
    note_ignored_histograms(w, notes);
    let (mut mean, mut aux) = (Kahan::default(), Kahan::default());
    for (i, v) in w.v.iter().enumerate() {
        let delta = v - mean.value();
        mean.add(delta / (i + 1) as f64);
        aux.add(delta * (v - mean.value()));
    }
    Out::Float(result(aux.value() / w.v.len() as f64))
}

pub(super) fn mad(w: &Window<'_>, notes: &mut Annotations, buffer: &mut Vec<f64>) -> Out {
    if w.v.is_empty() {
        return Out::Nothing;
    }
    note_ignored_histograms(w, notes);
    if w.v.iter().any(|v| v.is_nan()) {
        return Out::Float(f64::NAN);
    }
    buffer.clear();
    buffer.extend_from_slice(w.v);
    let median = quantile(0.5, buffer);
    buffer.iter_mut().for_each(|v| *v = (*v - median).abs());
    Out::Float(quantile(0.5, buffer))
}
