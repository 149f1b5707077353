//! `sort` and its kin. They order instant vectors; a range query's answer is ordered by labels whatever they say.

use std::cmp::Ordering;

use super::string;
use crate::engine::eval::Evaluator;
use crate::engine::rows::Row;
use crate::error::Error;
use crate::options::Steps;
use crate::parser::Call;

pub(super) fn eval(ev: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let name = call.function.name;
    // Prometheus takes a query for one over a range by its ends, however many steps lie between.
    if steps.start_ms != steps.end_ms {
        ev.annotations.sort_in_range_query(call.span);
    }
    let mut rows = ev.vector(&call.args[0], steps)?;
    let descending = name.ends_with("_desc");
    if name.starts_with("sort_by_label") {
        let by = call.args[1..].iter().map(string).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by(|a, b| {
            let order = by
                .iter()
                .map(|label| natural(a.labels.value(label), b.labels.value(label)))
                .find(|order| order.is_ne())
                .unwrap_or_else(|| a.labels.cmp(&b.labels));
            if descending { order.reverse() } else { order }
        });
        return Ok(rows);
    }
    for row in &mut rows {
        row.histograms = None;
    }
    rows.retain(Row::has_any);
    if steps.count() == 1 {
        rows.sort_by(|a, b| {
            let (a, b) = (a.values[0], b.values[0]);
            // NaN last, either way.
            match (a.is_nan(), b.is_nan()) {
                (false, false) if descending => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
                (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
                (a, b) => a.cmp(&b),
            }
        });
    }
    Ok(rows)
}

/// Numbers inside of texts by their value: `a2` before `a10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (chunks(a), chunks(b));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => {
                if x == y {
                    continue;
                }
                let digits = |s: &str| s.starts_with(|c: char| c.is_ascii_digit());
                if digits(x) && digits(y) {
                    let (m, n) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
                    let order = m.len().cmp(&n.len()).then_with(|| m.cmp(n)).then_with(|| x.len().cmp(&y.len()));
                    if order.is_ne() {
                        return order;
                    }
                    continue;
                }
                return x.cmp(y);
            }
        }
    }
}

/// Runs of digits, and of what is none.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let digit = rest.chars().next()?.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(rest.len());
        let (chunk, after) = rest.split_at(end);
        rest = after;
        Some(chunk)
    })
}
