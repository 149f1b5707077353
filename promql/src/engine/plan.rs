//! What is done once, before a query is evaluated: durations computed, `start()` and `end()` resolved, parts that are the
//! same at every step marked; and which samples all of it needs.

use super::functions::{greater, lesser};
use crate::error::{Error, execution};
use crate::labels::METRIC_NAME;
use crate::options::{Options, Steps};
use crate::parser::{
    AggregateOp, At, BinaryOp, DurationExpr, Expr, Extended, Subquery, TimeSpan, ValueType, VectorSelector,
};
use crate::source::{MatchOp, Matcher, Selection};

/// The tree as it is evaluated.
///
/// # Errors
/// `execution` where an expression for a duration has no sensible value.
pub(crate) fn plan(expr: &Expr, steps: &Steps) -> Result<Expr, Error> {
    let mut plan = expr.clone();
    let planner = Planner { steps };
    planner.prepare(&mut plan)?;
    counts_only(&mut plan, false);
    if planner.mark(&mut plan).wrap {
        wrap(&mut plan);
    }
    Ok(plan)
}

/// Functions whose value depends on the step even where their arguments do not.
const DEPEND_ON_STEP: [&str; 11] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

struct Planner<'a> {
    steps: &'a Steps,
}

#[derive(Clone, Copy)]
struct Invariance {
    /// The value is the same at every step.
    invariant: bool,
    /// It is worth being computed once: what is a matter of course, or a range, is not.
    wrap: bool,
}

fn wrap(expr: &mut Expr) {
    let inner = std::mem::replace(expr, Expr::Number { value: 0.0, is_duration: false, span: Default::default() });
    *expr = Expr::StepInvariant(Box::new(inner));
}

fn unwrap_parens(expr: &mut Expr) {
    while let Expr::Paren { inner, .. } = expr {
        let inner =
            std::mem::replace(&mut **inner, Expr::Number { value: 0.0, is_duration: false, span: Default::default() });
        *expr = inner;
    }
}

impl Planner<'_> {
    /// Resolves durations, `@ start()`, `@ end()`, and the functions of the query itself.
    fn prepare(&self, expr: &mut Expr) -> Result<(), Error> {
        match expr {
            Expr::Number { .. } | Expr::String { .. } => {}
            Expr::Vector(v) => self.selector(v)?,
            Expr::Matrix(m) => {
                self.selector(&mut m.vector)?;
                self.duration(&mut m.range, false)?;
            }
            Expr::Subquery(s) => {
                self.duration(&mut s.offset, true)?;
                self.duration(&mut s.step, false)?;
                self.duration(&mut s.range, false)?;
                self.at(&mut s.at);
                self.prepare(&mut s.expr)?;
            }
            Expr::Aggregation(a) => {
                unwrap_parens(&mut a.expr);
                self.prepare(&mut a.expr)?;
                if let Some(parameter) = &mut a.parameter {
                    unwrap_parens(parameter);
                    self.prepare(parameter)?;
                }
            }
            Expr::Binary(b) => {
                self.prepare(&mut b.left)?;
                self.prepare(&mut b.right)?;
            }
            Expr::Call(call) => {
                let (start, end) = (self.steps.start_ms as f64 / 1000.0, self.steps.end_ms as f64 / 1000.0);
                let value = match call.function.name {
                    "start" => start,
                    "end" => end,
                    "range" => self.range_s(),
                    "step" => self.step_s(),
                    _ => {
                        for arg in &mut call.args {
                            unwrap_parens(arg);
                            self.prepare(arg)?;
                        }
                        return Ok(());
                    }
                };
                *expr = Expr::Number { value, is_duration: false, span: call.span };
            }
            Expr::Paren { inner, .. } | Expr::Unary { inner, .. } | Expr::StepInvariant(inner) => {
                self.prepare(inner)?
            }
        }
        Ok(())
    }

    fn range_s(&self) -> f64 {
        (self.steps.end_ms - self.steps.start_ms) as f64 / 1000.0
    }

    fn step_s(&self) -> f64 {
        // A range query of one step has one, too.
        if self.steps.is_range { self.steps.step_ms as f64 / 1000.0 } else { 0.0 }
    }

    fn selector(&self, v: &mut VectorSelector) -> Result<(), Error> {
        self.duration(&mut v.offset, true)?;
        self.at(&mut v.at);
        Ok(())
    }

    fn at(&self, at: &mut Option<At>) {
        *at = at.map(|a| match a {
            At::Time(t) => At::Time(t),
            At::Start => At::Time(self.steps.start_ms),
            At::End => At::Time(self.steps.end_ms),
        });
    }

    fn duration(&self, span: &mut TimeSpan, negative_allowed: bool) -> Result<(), Error> {
        let Some(expr) = &span.expr else { return Ok(()) };
        let at = expr.span();
        let seconds = self.seconds(expr)?;
        let place = format!("{}:{}", at.start, at.end);
        if !seconds.is_finite() {
            return execution(format!("{place}: duration is NaN or infinite"));
        }
        if seconds <= 0.0 && !negative_allowed {
            return execution(format!("{place}: duration must be greater than 0"));
        }
        if seconds.abs() > 9_223_372_036.854_775 {
            return execution(format!("{place}: duration is out of range"));
        }
        span.ms = (seconds * 1000.0) as i64;
        Ok(())
    }

    fn seconds(&self, expr: &DurationExpr) -> Result<f64, Error> {
        Ok(match expr {
            DurationExpr::Number { value, .. } => *value,
            DurationExpr::Step(_) => self.step_s(),
            DurationExpr::Range(_) => self.range_s(),
            DurationExpr::Extreme { max, left, right, .. } => {
                let (left, right) = (self.seconds(left)?, self.seconds(right)?);
                if *max { greater(left, right) } else { lesser(left, right) }
            }
            DurationExpr::Negative(inner, _) => -self.seconds(inner)?,
            DurationExpr::Paren(inner, _) => self.seconds(inner)?,
            DurationExpr::Binary { op, left, right } => {
                let (l, r) = (self.seconds(left)?, self.seconds(right)?);
                let at = expr.span();
                match op {
                    BinaryOp::Add => l + r,
                    BinaryOp::Sub => l - r,
                    BinaryOp::Mul => l * r,
                    BinaryOp::Div if r == 0.0 => {
                        return execution(format!("{}:{}: division by zero", at.start, at.end));
                    }
                    BinaryOp::Div => l / r,
                    BinaryOp::Mod if r == 0.0 => return execution(format!("{}:{}: modulo by zero", at.start, at.end)),
                    BinaryOp::Mod => l % r,
                    _ => l.powf(r),
                }
            }
        })
    }

    /// Wraps the highest parts that are the same at every step.
    fn mark(&self, expr: &mut Expr) -> Invariance {
        match expr {
            Expr::Number { .. } | Expr::String { .. } => Invariance { invariant: true, wrap: false },
            Expr::Vector(v) => Invariance { invariant: v.at.is_some(), wrap: v.at.is_some() },
            Expr::Matrix(m) => Invariance { invariant: m.vector.at.is_some(), wrap: false },
            Expr::Subquery(s) => {
                if self.mark(&mut s.expr).invariant {
                    wrap(&mut s.expr);
                }
                Invariance { invariant: s.at.is_some(), wrap: false }
            }
            Expr::Aggregation(a) => {
                let inner = self.mark(&mut a.expr);
                // A parameter that varies makes the whole vary.
                let parameter = a.parameter.as_mut().is_none_or(|p| self.mark(p).invariant);
                if inner.invariant && parameter {
                    return inner;
                }
                if inner.wrap {
                    wrap(&mut a.expr);
                }
                Invariance { invariant: false, wrap: false }
            }
            Expr::Binary(b) => {
                let (left, right) = (self.mark(&mut b.left), self.mark(&mut b.right));
                if left.invariant && right.invariant {
                    return Invariance { invariant: true, wrap: true };
                }
                if left.wrap {
                    wrap(&mut b.left);
                }
                if right.wrap {
                    wrap(&mut b.right);
                }
                Invariance { invariant: false, wrap: false }
            }
            Expr::Call(call) => {
                if call.function.name == "info" {
                    // What it looks for is not evaluated. Where its vectors are of several times, it looks anew at each step.
                    let Some(base) = call.args.first_mut() else {
                        return Invariance { invariant: false, wrap: false };
                    };
                    let base_mark = self.mark(base);
                    if base_mark.invariant && shared_reference(base).is_some() {
                        return Invariance { invariant: true, wrap: true };
                    }
                    if base_mark.wrap {
                        wrap(base);
                    }
                    return Invariance { invariant: false, wrap: false };
                }
                let marks: Vec<Invariance> = call.args.iter_mut().map(|a| self.mark(a)).collect();
                let args = marks.iter().all(|m| m.invariant);
                let safe = !DEPEND_ON_STEP.contains(&call.function.name);
                // `timestamp(x @ 1)` looks at the sample's own time.
                let timestamp = call.function.name == "timestamp" && matches!(call.args.as_slice(), [Expr::Vector(_)]);
                if args && (safe || timestamp) {
                    return Invariance { invariant: true, wrap: true };
                }
                for (arg, mark) in call.args.iter_mut().zip(marks) {
                    if mark.wrap {
                        wrap(arg);
                    }
                }
                Invariance { invariant: false, wrap: false }
            }
            Expr::Paren { inner, .. } | Expr::Unary { inner, .. } => self.mark(inner),
            Expr::StepInvariant(_) => Invariance { invariant: true, wrap: false },
        }
    }
}

/// Marks selectors of whose histograms only counts and sums are looked at. A subquery needs buckets to find counter resets
/// between the samples it picks; trimming and quantiles need them anyway.
fn counts_only(expr: &mut Expr, only: bool) {
    match expr {
        Expr::Number { .. } | Expr::String { .. } => {}
        Expr::Vector(v) => v.counts_only = only,
        Expr::Matrix(m) => m.vector.counts_only = only,
        Expr::Subquery(s) => counts_only(&mut s.expr, false),
        Expr::Aggregation(a) => {
            // A value as `count_values` writes it has all buckets.
            counts_only(&mut a.expr, only && a.op != AggregateOp::CountValues);
            if let Some(parameter) = &mut a.parameter {
                counts_only(parameter, false);
            }
        }
        Expr::Binary(b) => {
            // Trimming cuts buckets, and whether two histograms are equal is a matter of theirs.
            let buckets = [BinaryOp::TrimLower, BinaryOp::TrimUpper, BinaryOp::Equal, BinaryOp::NotEqual];
            let only = only && !buckets.contains(&b.op);
            counts_only(&mut b.left, only);
            counts_only(&mut b.right, only);
        }
        Expr::Call(call) => {
            let only = match call.function.name {
                "histogram_count" | "histogram_sum" | "histogram_avg" | "timestamp" | "start_timestamp" | "absent" => {
                    true
                }
                name => only && name != "changes" && !name.starts_with("histogram_"),
            };
            call.args.iter_mut().for_each(|a| counts_only(a, only));
        }
        Expr::Paren { inner, .. } | Expr::Unary { inner, .. } | Expr::StepInvariant(inner) => counts_only(inner, only),
    }
}

/// The steps of a subquery under steps of the query around it; none where it ends before it begins.
pub(super) fn subquery_steps(s: &Subquery, outer: &Steps, options: &Options) -> Option<Steps> {
    let (first, last) = match s.at {
        Some(At::Time(t)) => (t, t),
        _ => (outer.start_ms, outer.time(outer.count() - 1)),
    };
    let step = if s.step.ms != 0 { s.step.ms } else { options.default_subquery_step_ms };
    let begin = first - s.offset.ms - s.range.ms;
    // The first multiple of the step after the beginning.
    let mut start = step * (begin / step);
    if start <= begin {
        start += step;
    }
    let end = last - s.offset.ms;
    (start <= end).then_some(Steps { start_ms: start, end_ms: end, step_ms: step, is_range: true })
}

/// The times, after the first and up to the second, in which a selector needs samples.
pub(super) fn window(v: &VectorSelector, range_ms: Option<i64>, steps: &Steps, options: &Options) -> (i64, i64) {
    let (first, last) = match v.at {
        Some(At::Time(t)) => (t, t),
        _ => (steps.start_ms, steps.time(steps.count() - 1)),
    };
    let mut start = first - v.offset.ms - range_ms.unwrap_or(options.lookback_ms);
    let mut end = last - v.offset.ms;
    if range_ms.is_some() && v.extended.is_some() {
        start -= options.lookback_ms;
    }
    if v.extended == Some(Extended::Smoothed) {
        end += options.lookback_ms;
    }
    (start, end)
}

/// What `info` looks for.
pub(super) struct InfoData {
    /// Conditions on the names of info metrics.
    pub(super) names: Vec<Matcher>,
    /// Conditions on their labels; where there are some, no other labels are taken.
    pub(super) labels: Vec<Matcher>,
}

impl InfoData {
    pub(super) fn matchers(&self) -> Vec<Matcher> {
        self.names.iter().chain(&self.labels).cloned().collect()
    }
}

/// What a call of `info` looks for: `target_info` where it does not say.
pub(super) fn info_data(args: &[Expr]) -> InfoData {
    let selector = match args.get(1).map(Expr::unwrapped) {
        Some(Expr::Vector(v)) => v.matchers.clone(),
        _ => Vec::new(),
    };
    let (mut names, labels): (Vec<_>, Vec<_>) = selector.into_iter().partition(|m| m.label == METRIC_NAME);
    if names.is_empty() {
        names.push(Matcher::equal(METRIC_NAME, "target_info"));
    } else if !names.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex)) {
        // Only what it is not: then it is some info metric.
        names.insert(0, Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info"));
    }
    InfoData { names, labels }
}

/// The time and the offset that all selectors in `info`'s first argument look at, whose info series are then those of that
/// time. Nothing where they look at several, or where something in it looks at none: then they are those of each step.
pub(super) fn info_reference(base: &Expr) -> (Option<i64>, i64) {
    shared_reference(base).unwrap_or((None, 0))
}

fn shared_reference(base: &Expr) -> Option<(Option<i64>, i64)> {
    let mut references = References::default();
    references.find(base, &mut Vec::new());
    references.first.filter(|_| !references.differ)
}

/// The references of the selectors in an expression.
#[derive(Default)]
struct References {
    first: Option<(Option<i64>, i64)>,
    /// There are several, or a vector comes of no selector.
    differ: bool,
}

impl References {
    /// Whether a selector is found.
    fn find<'a>(&mut self, expr: &'a Expr, around: &mut Vec<&'a Subquery>) -> bool {
        if !matches!(expr.value_type(), ValueType::Vector | ValueType::Matrix) {
            return false;
        }
        let mut found = false;
        match expr {
            Expr::Number { .. } | Expr::String { .. } => {}
            Expr::Vector(v) => {
                self.note(v, around);
                found = true;
            }
            Expr::Matrix(m) => {
                self.note(&m.vector, around);
                found = true;
            }
            Expr::Subquery(s) => {
                around.push(s);
                found = self.find(&s.expr, around);
                around.pop();
            }
            Expr::Aggregation(a) => {
                found = self.find(&a.expr, around);
                if let Some(parameter) = &a.parameter {
                    found |= self.find(parameter, around);
                }
            }
            Expr::Binary(b) => {
                found = self.find(&b.left, around);
                found |= self.find(&b.right, around);
            }
            Expr::Call(call) => {
                // What `info` looks for is no vector.
                let args = if call.function.name == "info" { &call.args[..1] } else { &call.args[..] };
                for arg in args {
                    found |= self.find(arg, around);
                }
            }
            Expr::Paren { inner, .. } | Expr::Unary { inner, .. } | Expr::StepInvariant(inner) => {
                found = self.find(inner, around);
            }
        }
        self.differ |= !found;
        found
    }

    fn note(&mut self, v: &VectorSelector, around: &[&Subquery]) {
        let (mut at, mut offset) = (pinned(v.at), v.offset.ms);
        // Subqueries around it move it, up to one that is pinned itself.
        for s in around.iter().rev() {
            if at.is_some() {
                break;
            }
            offset += s.offset.ms;
            at = pinned(s.at);
        }
        match self.first {
            None => self.first = Some((at, offset)),
            Some((first, by)) => {
                self.differ |= match (first, at) {
                    (Some(first), Some(at)) => first - by != at - offset,
                    (None, None) => by != offset,
                    _ => true,
                };
            }
        }
    }
}

fn pinned(at: Option<At>) -> Option<i64> {
    match at {
        Some(At::Time(t)) => Some(t),
        _ => None,
    }
}

/// The times in which info series are needed.
pub(super) fn info_window(base: &Expr, steps: &Steps, options: &Options) -> (i64, i64) {
    let (at, offset) = info_reference(base);
    let first = at.unwrap_or(steps.start_ms) - offset;
    let last = at.unwrap_or_else(|| steps.time(steps.count() - 1)) - offset;
    (first - options.lookback_ms, last)
}

/// The samples that a plan needs.
pub(crate) fn selections(plan: &Expr, steps: &Steps, options: &Options) -> Vec<Selection> {
    let mut out = Vec::new();
    collect(plan, steps, options, &mut out);
    out
}

fn collect(expr: &Expr, steps: &Steps, options: &Options, out: &mut Vec<Selection>) {
    let mut push = |matchers: Vec<Matcher>, (start_ms, end_ms): (i64, i64)| {
        let selection = Selection { matchers, start_ms, end_ms };
        if !out.contains(&selection) {
            out.push(selection);
        }
    };
    match expr {
        Expr::Number { .. } | Expr::String { .. } => {}
        Expr::Vector(v) => push(v.matchers.clone(), window(v, None, steps, options)),
        Expr::Matrix(m) => push(m.vector.matchers.clone(), window(&m.vector, Some(m.range.ms), steps, options)),
        Expr::Subquery(s) => {
            if let Some(inner) = subquery_steps(s, steps, options) {
                collect(&s.expr, &inner, options, out);
            }
        }
        Expr::Aggregation(a) => {
            if let Some(parameter) = &a.parameter {
                collect(parameter, steps, options, out);
            }
            collect(&a.expr, steps, options, out);
        }
        Expr::Binary(b) => {
            collect(&b.left, steps, options, out);
            collect(&b.right, steps, options, out);
        }
        Expr::Call(call) if call.function.name == "info" => {
            let Some(base) = call.args.first() else { return };
            push(info_data(&call.args).matchers(), info_window(base, steps, options));
            collect(base, steps, options, out);
        }
        Expr::Call(call) => call.args.iter().for_each(|a| collect(a, steps, options, out)),
        Expr::Paren { inner, .. } | Expr::Unary { inner, .. } => collect(inner, steps, options, out),
        Expr::StepInvariant(inner) => collect(inner, &steps.first_only(), options, out),
    }
}

impl Steps {
    /// The first of these steps alone.
    pub(crate) fn first_only(&self) -> Steps {
        Steps { end_ms: self.start_ms, ..*self }
    }
}
