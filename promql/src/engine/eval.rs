//! The evaluator: what each kind of node does.

use std::sync::Arc;

use super::plan::{plan, subquery_steps};
use super::rows::{Row, is_absent, merge_duplicates};
use super::{aggregate, binary, functions, range, select};
use crate::annotations::Annotations;
use crate::error::{Error, execution};
use crate::histogram::CounterResetHint;
use crate::labels::Labels;
use crate::options::{Cancel, Options, Steps};
use crate::parser::{Expr, Subquery, ValueType};
use crate::source::{Series, SeriesSource};
use crate::value::{Answer, Sample, Stats, Value, VectorSample};

/// What a node evaluates to, at all steps.
#[derive(Debug)]
pub(super) enum Evaluated {
    /// One number per step.
    Scalar(Vec<f64>),
    /// Series.
    Vector(Vec<Row>),
    /// A string.
    String(String),
}

/// One evaluation of one query.
pub(super) struct Evaluator<'a> {
    pub(super) source: &'a dyn SeriesSource,
    pub(super) options: &'a Options,
    pub(super) cancel: &'a Cancel,
    pub(super) annotations: Annotations,
    pub(super) stats: Stats,
    /// Samples held now.
    live: usize,
}

/// Evaluates at `part` of a query's steps.
pub(crate) fn evaluate(
    expr: &Expr,
    source: &dyn SeriesSource,
    steps: &Steps,
    part: &Steps,
    options: &Options,
    cancel: &Cancel,
) -> Result<Answer, Error> {
    steps.check(options.max_steps)?;
    if steps.is_range && !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector) {
        return Err(Error::BadParameter(format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            expr.value_type().describe()
        )));
    }
    let plan = plan(expr, steps)?;
    let mut evaluator =
        Evaluator { source, options, cancel, annotations: Annotations::default(), stats: Stats::default(), live: 0 };
    let value = evaluator.answer(&plan, part)?;
    Ok(Answer { value, annotations: evaluator.annotations, stats: evaluator.stats })
}

impl Evaluator<'_> {
    fn answer(&mut self, plan: &Expr, steps: &Steps) -> Result<Value, Error> {
        let time = steps.start_ms;
        if plan.value_type() == ValueType::Matrix {
            let mut series = self.matrix(plan, steps)?;
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            return Ok(Value::Matrix(series));
        }
        match self.eval(plan, steps)? {
            Evaluated::String(value) => Ok(Value::String { timestamp_ms: time, value }),
            Evaluated::Scalar(values) if steps.is_range => {
                let timestamps_ms = (0..values.len()).map(|i| steps.time(i)).collect();
                Ok(Value::Matrix(vec![Series::floats(Labels::empty(), timestamps_ms, values)]))
            }
            Evaluated::Scalar(values) => Ok(Value::Scalar { timestamp_ms: time, value: values[0] }),
            Evaluated::Vector(rows) => {
                let rows = self.without_dropped_names(rows)?;
                if steps.is_range {
                    let mut series: Vec<Series> =
                        rows.into_iter().map(|r| to_series(r, steps)).filter(|s| !s.is_empty()).collect();
                    series.sort_by(|a, b| a.labels.cmp(&b.labels));
                    return Ok(Value::Matrix(series));
                }
                let sample = |row: Row| {
                    let sample = match row.histograms.and_then(|mut h| h[0].take()) {
                        Some(h) => Sample::Histogram(h),
                        None if is_absent(row.values[0]) => return None,
                        None => Sample::Float(row.values[0]),
                    };
                    Some(VectorSample { labels: row.labels, timestamp_ms: time, sample })
                };
                Ok(Value::Vector(rows.into_iter().filter_map(sample).collect()))
            }
        }
    }

    fn without_dropped_names(&self, mut rows: Vec<Row>) -> Result<Vec<Row>, Error> {
        if !self.options.delayed_name_removal {
            return Ok(rows);
        }
        for row in &mut rows {
            if row.drop_name {
                row.labels = row.labels.without_metric_identity();
            }
        }
        merge_duplicates(rows)
    }

    /// Evaluates a node that is no range.
    pub(super) fn eval(&mut self, expr: &Expr, steps: &Steps) -> Result<Evaluated, Error> {
        self.cancel.check()?;
        let before = self.live;
        let evaluated = crate::deep(|| self.node(expr, steps))?;
        // Whatever the node held on the way is gone; its result stays.
        self.live = before;
        self.hold(match &evaluated {
            Evaluated::Scalar(values) => values.len(),
            Evaluated::Vector(rows) => rows.iter().map(Row::samples).sum(),
            Evaluated::String(_) => 0,
        })?;
        Ok(evaluated)
    }

    /// Counts samples that are held from now on.
    pub(super) fn hold(&mut self, samples: usize) -> Result<(), Error> {
        self.live += samples;
        self.stats.peak_samples = self.stats.peak_samples.max(self.live as u64);
        if self.live > self.options.max_samples { Err(Error::TooManySamples) } else { Ok(()) }
    }

    fn node(&mut self, expr: &Expr, steps: &Steps) -> Result<Evaluated, Error> {
        let n = steps.count();
        Ok(match expr {
            Expr::Number { value, .. } => Evaluated::Scalar(vec![*value; n]),
            Expr::String { value, .. } => Evaluated::String(value.clone()),
            Expr::Vector(v) => Evaluated::Vector(select::instant(self, v, steps)?),
            Expr::Paren { inner, .. } => return self.eval(inner, steps),
            Expr::StepInvariant(inner) => match self.eval(inner, &steps.first_only())? {
                Evaluated::Scalar(values) => Evaluated::Scalar(vec![values[0]; n]),
                Evaluated::Vector(rows) => {
                    self.hold(rows.len() * n)?;
                    Evaluated::Vector(rows.iter().map(|r| r.broadcast(n)).collect())
                }
                string => string,
            },
            Expr::Unary { negative, inner, .. } => self.unary(*negative, inner, steps)?,
            Expr::Binary(b) => binary::eval(self, expr, b, steps)?,
            Expr::Aggregation(a) => Evaluated::Vector(aggregate::eval(self, a, steps)?),
            Expr::Call(call) => {
                if range::is_range_call(call) {
                    Evaluated::Vector(range::eval(self, call, steps)?)
                } else {
                    functions::eval(self, call, steps)?
                }
            }
            Expr::Matrix(_) | Expr::Subquery(_) => {
                return execution("a range vector cannot be evaluated at several steps");
            }
        })
    }

    fn unary(&mut self, negative: bool, inner: &Expr, steps: &Steps) -> Result<Evaluated, Error> {
        let evaluated = self.eval(inner, steps)?;
        if !negative {
            return Ok(evaluated);
        }
        Ok(match evaluated {
            Evaluated::Scalar(mut values) => {
                values.iter_mut().for_each(|v| *v = -*v);
                Evaluated::Scalar(values)
            }
            Evaluated::Vector(mut rows) => {
                for row in &mut rows {
                    self.drop_metric_name(row);
                    for v in &mut row.values {
                        if !is_absent(*v) {
                            *v = -*v;
                        }
                    }
                    for h in row.histograms.iter_mut().flat_map(|h| h.iter_mut()).flatten() {
                        *h = Arc::new(h.mul(-1.0));
                    }
                }
                Evaluated::Vector(if self.options.delayed_name_removal { rows } else { merge_duplicates(rows)? })
            }
            string => string,
        })
    }

    /// The row is no longer the metric that it was: its name goes, now or at the end.
    pub(super) fn drop_metric_name(&self, row: &mut Row) {
        if !self.options.delayed_name_removal {
            row.labels = row.labels.without_metric_identity();
        }
        row.drop_name = true;
    }

    /// Checks the rows that a node made for label sets that occur twice.
    pub(super) fn unique(&self, rows: Vec<Row>, steps: &Steps) -> Result<Vec<Row>, Error> {
        // With delayed name removal an instant vector may hold duplicates until the end.
        if self.options.delayed_name_removal && steps.count() == 1 {
            return Ok(rows);
        }
        merge_duplicates(rows)
    }

    pub(super) fn vector(&mut self, expr: &Expr, steps: &Steps) -> Result<Vec<Row>, Error> {
        match self.eval(expr, steps)? {
            Evaluated::Vector(rows) => Ok(rows),
            _ => execution(format!("{} is no instant vector", expr)),
        }
    }

    pub(super) fn scalar(&mut self, expr: &Expr, steps: &Steps) -> Result<Vec<f64>, Error> {
        match self.eval(expr, steps)? {
            Evaluated::Scalar(values) => Ok(values),
            _ => execution(format!("{} is no scalar", expr)),
        }
    }

    /// Evaluates a range at the first step.
    pub(super) fn matrix(&mut self, expr: &Expr, steps: &Steps) -> Result<Vec<Series>, Error> {
        match expr {
            Expr::Matrix(m) => select::range_value(self, m, steps),
            Expr::Subquery(s) => {
                let rows = self.subquery(s, steps)?;
                let inner = subquery_steps(s, steps, self.options);
                let rows = self.without_dropped_names(rows)?;
                Ok(inner.map_or_else(Vec::new, |inner| {
                    rows.into_iter().map(|r| to_series(r, &inner)).filter(|s| !s.is_empty()).collect()
                }))
            }
            Expr::Paren { inner, .. } | Expr::StepInvariant(inner) => self.matrix(inner, steps),
            _ => execution(format!("{expr} is no range vector")),
        }
    }

    /// Evaluates what is inside a subquery at its own steps.
    pub(super) fn subquery(&mut self, s: &Subquery, steps: &Steps) -> Result<Vec<Row>, Error> {
        let Some(inner) = subquery_steps(s, steps, self.options) else { return Ok(Vec::new()) };
        if inner.count() > self.options.max_samples {
            return Err(Error::TooManySamples);
        }
        self.vector(&s.expr, &inner)
    }

    /// The rows of a subquery as series to take ranges of.
    pub(super) fn subquery_series(&mut self, s: &Subquery, steps: &Steps) -> Result<Vec<(Series, bool)>, Error> {
        let rows = self.subquery(s, steps)?;
        let Some(inner) = subquery_steps(s, steps, self.options) else { return Ok(Vec::new()) };
        let series = rows.into_iter().map(|row| {
            let drop_name = row.drop_name;
            let mut series = to_series(row, &inner);
            // What a sample knew about the one before it need not be true of the samples that a subquery picks.
            for (_, h) in &mut series.histograms {
                if matches!(h.counter_reset_hint, CounterResetHint::CounterReset | CounterResetHint::NotCounterReset) {
                    Arc::make_mut(h).counter_reset_hint = CounterResetHint::Unknown;
                }
            }
            (series, drop_name)
        });
        Ok(series.collect())
    }
}

/// A row as a series: the steps at which it has a value.
pub(super) fn to_series(row: Row, steps: &Steps) -> Series {
    let present = row.values.iter().filter(|v| !is_absent(**v)).count();
    let mut timestamps_ms = Vec::with_capacity(present);
    let mut values = Vec::with_capacity(present);
    for (i, v) in row.values.iter().enumerate() {
        if !is_absent(*v) {
            timestamps_ms.push(steps.time(i));
            values.push(*v);
        }
    }
    let histograms = row.histograms.map_or_else(Vec::new, |h| {
        h.into_iter().enumerate().filter_map(|(i, h)| h.map(|h| (steps.time(i), h))).collect()
    });
    Series { labels: row.labels, timestamps_ms, values, histograms, start_timestamps_ms: Vec::new() }
}
