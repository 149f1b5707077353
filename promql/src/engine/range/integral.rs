//! `integral`: the area under a series.

use super::over_time::note_ignored_histograms;
use super::{Out, Window};
use crate::annotations::Annotations;
use crate::kahan::Kahan;

/// What stands for the value between two samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Rule {
    /// The left one.
    Left,
    /// The right one.
    Right,
    /// The mean of both.
    #[default]
    Trapezoidal,
}

impl Rule {
    /// The rule of a number in a query, if there is one.
    pub(super) fn of(strategy: f64) -> Option<Self> {
        match strategy {
            0.0 => Some(Rule::Left),
            1.0 => Some(Rule::Right),
            2.0 => Some(Rule::Trapezoidal),
            _ => None,
        }
    }

    fn between(self, left: f64, right: f64) -> Kahan {
        match self {
            Rule::Left => Kahan::new(left),
            Rule::Right => Kahan::new(right),
            Rule::Trapezoidal => {
                let mut sum = Kahan::new(left);
                sum.add(right);
                if sum.sum.is_infinite() && left.is_finite() && right.is_finite() {
                    sum = Kahan::new(left / 2.0);
                    sum.add(right / 2.0);
                } else {
                    sum.divide(2.0);
                }
                sum
            }
        }
    }
}

/// The integral over the samples of a range, in units of the value times seconds. NaN counts as zero.
pub(super) fn integral(w: &Window<'_>, rule: Rule, notes: &mut Annotations) -> Out {
    if w.v.is_empty() {
        return Out::Nothing;
    }
    note_ignored_histograms(w, notes);
    let value = |i: usize| if w.v[i].is_nan() { 0.0 } else { w.v[i] };
    let mut area = Kahan::default();
    for i in 1..w.v.len() {
        let height = rule.between(value(i - 1), value(i));
        if height.sum != 0.0 || height.lost != 0.0 {
            let seconds = (w.t[i] - w.t[i - 1]) as f64 / 1000.0;
            area.lost += height.lost * seconds;
            area.add(height.sum * seconds);
        }
    }
    Out::Float(if area.sum.is_infinite() { area.sum } else { area.value() })
}
