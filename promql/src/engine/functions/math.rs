//! Functions of one number.

use crate::engine::eval::Evaluator;
use crate::engine::rows::{Row, is_absent};
use crate::error::{Error, execution};
use crate::options::Steps;
use crate::parser::Call;

pub(super) fn eval(ev: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let args = &call.args;
    let name = call.function.name;
    let rows = ev.vector(&args[0], steps)?;
    let f: fn(f64) -> f64 = match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => |v| v * (std::f64::consts::PI / 180.0),
        "deg" => |v| v * (180.0 / std::f64::consts::PI),
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        "round" => {
            let nearest = if args.len() > 1 { ev.scalar(&args[1], steps)? } else { vec![1.0; steps.count()] };
            // By the inverse: that rounds less along the way.
            return each(ev, rows, steps, |v, step| {
                let inverse = 1.0 / nearest[step];
                Some((v * inverse + 0.5).floor() / inverse)
            });
        }
        "clamp" => {
            let (min, max) = (ev.scalar(&args[1], steps)?, ev.scalar(&args[2], steps)?);
            return each(ev, rows, steps, |v, step| clamp(v, min[step], max[step]));
        }
        "clamp_min" => {
            let min = ev.scalar(&args[1], steps)?;
            return each(ev, rows, steps, |v, step| clamp(v, min[step], f64::INFINITY));
        }
        "clamp_max" => {
            let max = ev.scalar(&args[1], steps)?;
            return each(ev, rows, steps, |v, step| clamp(v, f64::NEG_INFINITY, max[step]));
        }
        _ => return execution(format!("function {name} is not implemented")),
    };
    each(ev, rows, steps, |v, _| Some(f(v)))
}

/// Nothing between bounds that are the wrong way round.
fn clamp(v: f64, min: f64, max: f64) -> Option<f64> {
    if max < min {
        return None;
    }
    Some(greater(min, lesser(max, v)))
}

/// The greater of two numbers as Go has it: nothing is greater than infinity, not even NaN.
pub(in crate::engine) fn greater(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// The lesser of two numbers, likewise.
pub(in crate::engine) fn lesser(a: f64, b: f64) -> f64 {
    -greater(-a, -b)
}

/// Maps the floats of each row; histograms go, and so does the metric's name.
pub(super) fn each(
    ev: &Evaluator<'_>,
    rows: Vec<Row>,
    steps: &Steps,
    f: impl Fn(f64, usize) -> Option<f64>,
) -> Result<Vec<Row>, Error> {
    let mut out = Vec::with_capacity(rows.len());
    for mut row in rows {
        row.histograms = None;
        for (step, v) in row.values.iter_mut().enumerate() {
            if !is_absent(*v) {
                *v = f(*v, step).unwrap_or(crate::engine::rows::ABSENT);
            }
        }
        if row.has_any() {
            ev.drop_metric_name(&mut row);
            out.push(row);
        }
    }
    ev.unique(out, steps)
}
