//! Lines and curves through a range.

use super::{Out, Window};
use crate::annotations::Annotations;
use crate::kahan::Kahan;

/// Slope and value at a time of the line through the points, by least squares.
fn linear_regression(t: &[i64], v: &[f64], at: i64) -> (f64, f64) {
    let n = v.len() as f64;
    if v.iter().all(|y| *y == v[0]) {
        return if v[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, v[0]) };
    }
    let (mut sum_x, mut sum_y, mut sum_xy, mut sum_x2) =
        (Kahan::default(), Kahan::default(), Kahan::default(), Kahan::default());
    for (t, y) in t.iter().zip(v) {
        let x = (t - at) as f64 / 1e3;
        sum_x.add(x);
        sum_y.add(*y);
        sum_xy.add(x * y);
        sum_x2.add(x * x);
    }
    let (sum_x, sum_y, sum_xy, sum_x2) = (sum_x.value(), sum_y.value(), sum_xy.value(), sum_x2.value());
    let covariance = sum_xy - sum_x * sum_y / n;
    let variance = sum_x2 - sum_x * sum_x / n;
    let slope = covariance / variance;
    (slope, sum_y / n - slope * sum_x / n)
}

/// Two floats at least; a histogram beside them is noted.
fn enough(w: &Window<'_>, notes: &mut Annotations) -> bool {
    if !w.h.is_empty() && !w.v.is_empty() {
        notes.histogram_ignored_in_mixed_range(w.name, w.span);
    }
    w.v.len() >= 2
}

pub(super) fn deriv(w: &Window<'_>, notes: &mut Annotations) -> Out {
    if !enough(w, notes) {
        return Out::Nothing;
    }
    Out::Float(linear_regression(w.t, w.v, w.t[0]).0)
}

pub(super) fn predict_linear(w: &Window<'_>, ahead_s: f64, notes: &mut Annotations) -> Out {
    if !enough(w, notes) {
        return Out::Nothing;
    }
    let (slope, now) = linear_regression(w.t, w.v, w.step_time);
    Out::Float(slope * ahead_s + now)
}

pub(super) fn double_exponential_smoothing(
    w: &Window<'_>,
    smoothing: f64,
    trend_factor: f64,
    notes: &mut Annotations,
) -> Out {
    if !enough(w, notes) {
        return Out::Nothing;
    }
    let (mut before, mut smoothed) = (0.0, w.v[0]);
    let mut trend = w.v[1] - w.v[0];
    for (i, v) in w.v.iter().enumerate().skip(1) {
        if i > 1 {
            trend = trend_factor * (smoothed - before) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing * v + (1.0 - smoothing) * (smoothed + trend);
        (before, smoothed) = (smoothed, next);
    }
    Out::Float(smoothed)
}
