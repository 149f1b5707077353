//! Runs scripts.

use super::compare;
use super::parse::{Eval, Kind, parse};
use super::storage::Storage;
use crate::error::Error;
use crate::options::{Cancel, Options, ParserOptions, Steps};
use crate::parser::{At, Expr};
use crate::query::Query;
use crate::source::Series;
use crate::value::{Answer, Sample, Value, VectorSample};

/// An evaluation that did not do what the script says, or a command that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Line of the command, from 1.
    pub line: usize,
    /// The query, as far as there is one.
    pub query: String,
    /// What was expected, and what happened.
    pub message: String,
}

/// What became of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Evaluations that did what the script says.
    pub passed: usize,
    /// What did not.
    pub failures: Vec<Failure>,
}

/// Runs a script. Each evaluation counts once, although an instant query is also evaluated at other times with `@`, and as
/// the middle step of a range query: all of them must give the same.
#[must_use]
pub fn run(text: &str, options: &Options) -> Report {
    let mut report = Report::default();
    let mut storage = Storage::default();
    for command in parse(text) {
        match command {
            Err((line, message)) => report.failures.push(Failure { line, query: String::new(), message }),
            Ok(command) => match command.kind {
                Kind::Clear => storage.clear(),
                Kind::Load(load) => {
                    if let Err(message) = storage.load(&load) {
                        report.failures.push(Failure { line: command.line, query: String::new(), message });
                    }
                }
                Kind::Eval(eval) => match (Runner { storage: &storage, options }).eval(&eval) {
                    Ok(()) => report.passed += 1,
                    Err(message) => {
                        report.failures.push(Failure { line: command.line, query: eval.text.clone(), message });
                    }
                },
            },
        }
    }
    report
}

/// A query that failed: is that what was expected?
fn refused(eval: &Eval, error: &Error) -> Result<(), String> {
    match &eval.expected.fail {
        Some(pattern) if pattern.matches(&error.to_string()) => Ok(()),
        Some(pattern) => Err(format!("expected an error {}, got: {error}", pattern.describe())),
        None => Err(format!("error: {error}")),
    }
}

struct Runner<'a> {
    storage: &'a Storage,
    options: &'a Options,
}

impl Runner<'_> {
    fn eval(&self, eval: &Eval) -> Result<(), String> {
        let query = match &eval.query {
            Ok(query) => query,
            Err(error) => return refused(eval, error),
        };
        if eval.steps.is_range() {
            return self.once(eval, query, &eval.steps).map(|_| ());
        }
        self.instant(eval, query, eval.steps.start_ms())?;
        let at = eval.steps.start_ms();
        let Some(pinned) = pinned(query, at) else { return Ok(()) };
        let others = if at == 0 { vec![-1000, 0, 1000] } else { vec![-10 * at, 0, at / 5, at, 10 * at] };
        for time in others {
            self.instant(eval, &pinned, time).map_err(|e| format!("as {} at {time} ms: {e}", pinned.text()))?;
        }
        Ok(())
    }

    fn answer(&self, query: &Query, steps: &Steps) -> Result<Answer, Error> {
        query.evaluate(self.storage, steps, self.options, &Cancel::new())
    }

    /// Evaluates and compares; the value, unless the failure that was expected came.
    fn once(&self, eval: &Eval, query: &Query, steps: &Steps) -> Result<Option<Value>, String> {
        match (self.answer(query, steps), &eval.expected.fail) {
            (Err(error), _) => refused(eval, &error).map(|()| None),
            (Ok(_), Some(pattern)) => Err(format!("expected an error {}, got none", pattern.describe())),
            (Ok(answer), None) => {
                compare::annotations(&eval.expected, &answer, query.text())?;
                compare::value(&eval.expected, &answer.value, steps)?;
                Ok(Some(answer.value))
            }
        }
    }

    fn instant(&self, eval: &Eval, query: &Query, time: i64) -> Result<(), String> {
        let Some(value) = self.once(eval, query, &Steps::instant(time))? else { return Ok(()) };
        let expected = &eval.expected;
        let only_instant = expected.range_vector.is_some() || expected.string.is_some() || expected.ordered;
        let about_query = ["start()", "end()", "range()", "step()"].iter().any(|f| query.text().contains(f));
        if only_instant || about_query || matches!(value, Value::Matrix(_) | Value::String { .. }) {
            return Ok(());
        }
        let steps = Steps::range(time - 60_000, time + 60_000, 60_000).map_err(|e| e.to_string())?;
        let answer = self.answer(query, &steps).map_err(|e| format!("as a range query: {e}"))?;
        let Value::Matrix(series) = answer.value else { return Err("a range query must give a matrix".to_owned()) };
        let middle = match value {
            Value::Scalar { .. } => {
                let value = series.first().and_then(|s| s.values.get(1).copied()).unwrap_or(f64::NAN);
                Value::Scalar { timestamp_ms: time, value }
            }
            _ => Value::Vector(series.iter().filter_map(|s| sample_at(s, time)).collect()),
        };
        compare::value(expected, &middle, &steps).map_err(|e| format!("as a step of a range query: {e}"))
    }
}

fn sample_at(series: &Series, time: i64) -> Option<VectorSample> {
    let float = series.timestamps_ms.binary_search(&time).ok().map(|i| Sample::Float(series.values[i]));
    let histogram = series
        .histograms
        .binary_search_by_key(&time, |(t, _)| *t)
        .ok()
        .map(|i| Sample::Histogram(std::sync::Arc::clone(&series.histograms[i].1)));
    Some(VectorSample { labels: series.labels.clone(), timestamp_ms: time, sample: float.or(histogram)? })
}

/// Functions whose value depends on the time of evaluation.
const DEPEND_ON_TIME: [&str; 14] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

/// The query with every selector pinned to a time, if that leaves its value what it is.
fn pinned(query: &Query, time: i64) -> Option<Query> {
    let mut depends = false;
    query.expr().walk(&mut |e| {
        if let Expr::Call(call) = e {
            depends |= DEPEND_ON_TIME.contains(&call.function.name) || call.function.name == "year";
        }
    });
    if depends {
        return None;
    }
    let mut expr = query.expr().clone();
    pin(&mut expr, time);
    Query::parse(&expr.to_string(), &ParserOptions::all()).ok()
}

fn pin(expr: &mut Expr, time: i64) {
    match expr {
        Expr::Number { .. } | Expr::String { .. } => {}
        Expr::Vector(v) => {
            v.at.get_or_insert(At::Time(time));
        }
        Expr::Matrix(m) => {
            m.vector.at.get_or_insert(At::Time(time));
        }
        // What is inside a subquery follows the subquery.
        Expr::Subquery(s) => {
            s.at.get_or_insert(At::Time(time));
        }
        Expr::Aggregation(a) => {
            if let Some(p) = &mut a.parameter {
                pin(p, time);
            }
            pin(&mut a.expr, time);
        }
        Expr::Binary(b) => {
            pin(&mut b.left, time);
            pin(&mut b.right, time);
        }
        Expr::Call(call) => call.args.iter_mut().for_each(|a| pin(a, time)),
        Expr::Paren { inner, .. } | Expr::Unary { inner, .. } | Expr::StepInvariant(inner) => pin(inner, time),
    }
}
