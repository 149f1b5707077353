//! `topk`, `bottomk`, `limitk`, `limit_ratio`: some of the series, with their labels.

use std::cmp::Ordering;

use super::Grouping;
use crate::engine::eval::Evaluator;
use crate::engine::rows::{Cell, Row, merge_duplicates};
use crate::error::{Error, execution};
use crate::labels::Labels;
use crate::options::Steps;
use crate::parser::{AggregateOp, Aggregation};
use crate::value::format_float_g;

pub(super) fn eval(
    ev: &mut Evaluator<'_>,
    a: &Aggregation,
    rows: Vec<Row>,
    parameter: &[f64],
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    let max = parameter.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let min = parameter.iter().copied().fold(f64::INFINITY, f64::min);
    let any_nan = parameter.iter().any(|p| p.is_nan());
    let ratio = a.op == AggregateOp::LimitRatio;
    if ratio {
        if max == 0.0 && min == 0.0 && !any_nan {
            return Ok(Vec::new());
        }
        if any_nan {
            return execution("Ratio value is NaN");
        }
        let span = a.parameter.as_ref().map_or(a.span, |p| p.span());
        if max > 1.0 {
            ev.annotations.invalid_ratio(max, 1.0, span);
        }
        if min < -1.0 {
            ev.annotations.invalid_ratio(min, -1.0, span);
        }
    } else {
        if max < 1.0 && !any_nan {
            return Ok(Vec::new());
        }
        if any_nan {
            return execution("Parameter value is NaN");
        }
        if min <= i64::MIN as f64 {
            return execution(format!("Scalar value {} underflows int64", format_float_g(min)));
        }
        if max >= i64::MAX as f64 {
            return execution(format!("Scalar value {} overflows int64", format_float_g(max)));
        }
    }
    let n = steps.count();
    let (of_row, groups) = Grouping::of(a).groups(&rows);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
    for (i, group) in of_row.iter().enumerate() {
        members[*group].push(i);
    }
    let offsets: Vec<f64> = if ratio { rows.iter().map(|r| sample_offset(&r.labels)).collect() } else { Vec::new() };
    let mut out: Vec<Row> =
        rows.iter().map(|r| Row { drop_name: r.drop_name, ..Row::empty(r.labels.clone(), n) }).collect();
    let mut order: Vec<usize> = Vec::new();
    let mut ignored = false;
    let mut candidates: Vec<(f64, usize)> = Vec::new();
    for (step, p) in parameter.iter().copied().enumerate() {
        if step % 64 == 0 {
            ev.cancel.check()?;
        }
        for group in &members {
            let mut take = |i: usize, out: &mut Vec<Row>| {
                out[i].set(step, rows[i].cell(step));
                if n == 1 {
                    order.push(i);
                }
            };
            match a.op {
                AggregateOp::LimitRatio => {
                    let p = p.clamp(-1.0, 1.0);
                    for &i in group {
                        let chosen = if p >= 0.0 { offsets[i] < p } else { offsets[i] >= 1.0 + p };
                        if chosen && rows[i].is_present(step) {
                            take(i, &mut out);
                        }
                    }
                }
                AggregateOp::Limitk => {
                    let present = group.iter().copied().filter(|i| rows[*i].is_present(step));
                    for i in present.take(p.max(0.0) as usize) {
                        take(i, &mut out);
                    }
                }
                op => {
                    let k = p.max(0.0) as usize;
                    candidates.clear();
                    for &i in group {
                        match rows[i].cell(step) {
                            Cell::Float(v) => candidates.push((v, i)),
                            Cell::Histogram(_) => ignored |= k > 0,
                            Cell::Absent => {}
                        }
                    }
                    let largest = op == AggregateOp::Topk;
                    let compare = |a: &(f64, usize), b: &(f64, usize)| -> Ordering {
                        // The best first, NaN last, and of equals whichever came first.
                        let by_value = match (a.0.is_nan(), b.0.is_nan()) {
                            (false, false) if largest => b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal),
                            (false, false) => a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal),
                            (a, b) => a.cmp(&b),
                        };
                        by_value.then(a.1.cmp(&b.1))
                    };
                    if k > 0 && k < candidates.len() {
                        candidates.select_nth_unstable_by(k - 1, compare);
                    }
                    candidates.truncate(k);
                    candidates.sort_unstable_by(compare);
                    for (_, i) in &candidates {
                        take(*i, &mut out);
                    }
                }
            }
        }
    }
    if ignored {
        ev.annotations.histogram_ignored_in_aggregation(a.op.as_str(), a.span);
    }
    if n == 1 {
        let mut slots: Vec<Option<Row>> = out.into_iter().map(Some).collect();
        return Ok(order.into_iter().filter_map(|i| slots[i].take()).collect());
    }
    out.retain(Row::has_any);
    merge_duplicates(out)
}

/// Where in [0, 1) a series lies, by the hash that Prometheus makes of its labels.
fn sample_offset(labels: &Labels) -> f64 {
    let mut bytes = Vec::with_capacity(128);
    for (name, value) in labels.iter() {
        for text in [name, value] {
            // Lengths as Prometheus keeps them: one byte, or 255 and three more.
            if text.len() < 255 {
                bytes.push(text.len() as u8);
            } else {
                let length = text.len();
                bytes.extend_from_slice(&[255, length as u8, (length >> 8) as u8, (length >> 16) as u8]);
            }
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    twox_hash::XxHash64::oneshot(0, &bytes) as f64 / u64::MAX as f64
}
