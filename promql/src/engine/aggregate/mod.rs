//! Aggregations: series are put into groups once, then each group's columns are folded.

mod choose;
mod fold;

use ahash::AHashMap;

use super::eval::Evaluator;
use super::rows::{Cell, Row};
use crate::error::{Error, execution};
use crate::labels::{Labels, Quoted, is_label_name, is_metric_identity};
use crate::options::Steps;
use crate::parser::{AggregateOp, Aggregation, Expr};
use crate::value::format_float;

pub(super) fn eval(ev: &mut Evaluator<'_>, a: &Aggregation, steps: &Steps) -> Result<Vec<Row>, Error> {
    if a.op == AggregateOp::CountValues {
        return count_values(ev, a, steps);
    }
    let parameter = match &a.parameter {
        Some(p) => ev.scalar(p, steps)?,
        None => Vec::new(),
    };
    let rows = ev.vector(&a.expr, steps)?;
    match a.op {
        AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
            choose::eval(ev, a, rows, &parameter, steps)
        }
        _ => fold::eval(ev, a, &rows, &parameter, steps),
    }
}

/// Labels by which series are grouped.
pub(super) struct Grouping<'a> {
    names: &'a [String],
    without: bool,
}

impl<'a> Grouping<'a> {
    fn of(a: &'a Aggregation) -> Self {
        Grouping { names: &a.grouping, without: a.without }
    }

    fn labels(&self, labels: &Labels) -> Labels {
        if self.without {
            labels.filter(|n| !is_metric_identity(n) && !self.names.iter().any(|g| g == n))
        } else if self.names.is_empty() {
            Labels::empty()
        } else {
            labels.filter(|n| self.names.iter().any(|g| g == n))
        }
    }

    /// The group of each row, and the labels of each group, in the order in which they first appear.
    pub(super) fn groups(&self, rows: &[Row]) -> (Vec<usize>, Vec<Labels>) {
        if !self.without && self.names.is_empty() {
            return (vec![0; rows.len()], if rows.is_empty() { Vec::new() } else { vec![Labels::empty()] });
        }
        let mut index: AHashMap<Labels, usize> = AHashMap::new();
        let mut labels = Vec::new();
        let of_row = rows
            .iter()
            .map(|row| {
                let key = self.labels(&row.labels);
                *index.entry(key).or_insert_with_key(|key| {
                    labels.push(key.clone());
                    labels.len() - 1
                })
            })
            .collect();
        (of_row, labels)
    }
}

fn count_values(ev: &mut Evaluator<'_>, a: &Aggregation, steps: &Steps) -> Result<Vec<Row>, Error> {
    let label = match a.parameter.as_ref().map(Expr::unwrapped) {
        Some(Expr::String { value, .. }) => value.clone(),
        Some(Expr::StepInvariant(inner)) => match inner.unwrapped() {
            Expr::String { value, .. } => value.clone(),
            other => return execution(format!("{other} is no string")),
        },
        _ => return execution("count_values needs a string"),
    };
    if !is_label_name(&label) {
        return execution(format!("invalid label name {}", Quoted(&label)));
    }
    let rows = ev.vector(&a.expr, steps)?;
    let mut names = a.grouping.clone();
    if !a.without {
        names.push(label.clone());
    }
    let grouping = Grouping { names: &names, without: a.without };
    let n = steps.count();
    let mut index: AHashMap<Labels, usize> = AHashMap::new();
    let mut out: Vec<Row> = Vec::new();
    for row in &rows {
        ev.cancel.check()?;
        let mut last: Option<(u64, usize)> = None;
        for step in 0..n {
            let (text, bits) = match row.cell(step) {
                Cell::Absent => continue,
                Cell::Float(v) => {
                    // A value that repeats needs no new text.
                    if let Some((bits, at)) = last
                        && bits == v.to_bits()
                    {
                        add_one(&mut out[at], step);
                        continue;
                    }
                    (format_float(v), Some(v.to_bits()))
                }
                Cell::Histogram(h) => (h.to_string(), None),
            };
            let key = grouping.labels(&row.labels.with(&label, &text));
            let at = match index.get(&key) {
                Some(at) => *at,
                None => {
                    ev.hold(n)?;
                    out.push(Row::empty(key.clone(), n));
                    index.insert(key, out.len() - 1);
                    out.len() - 1
                }
            };
            add_one(&mut out[at], step);
            last = bits.map(|bits| (bits, at));
        }
    }
    ev.unique(out, steps)
}

fn add_one(row: &mut Row, step: usize) {
    let value = &mut row.values[step];
    *value = if super::rows::is_absent(*value) { 1.0 } else { *value + 1.0 };
}
