//! When the value of an expression can change: by a sample that comes, by one that comes into sight or goes out of it, or by time alone.
//!
//! What is not known to be a function of samples alone is taken to change by time: such a rule is evaluated at each tick. That is functions of time,
//! `@` (the head forgets what is pinned), `smoothed` and `anchored`, durations that are computed, and whatever is not named here.

use highwater_promql::parser::{At, Call, Expr, Subquery, TimeSpan, VectorSelector};
use highwater_promql::{Matcher, Options};

/// When a value can change.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Timing {
    /// At each tick. Then the rest need not be all there is.
    pub(super) by_time: bool,
    /// By the samples of these.
    pub(super) looks: Vec<Look>,
    /// At the steps of these.
    pub(super) grids: Vec<Grid>,
    /// How much further back than at others the steps of subqueries lie at some instants, at most.
    pub(super) steps_ms: i64,
}

/// A selector, and how the expression looks at its samples.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    pub(super) matchers: Vec<Matcher>,
    /// A sample is seen from its own time and this on, at the earliest.
    pub(super) shift_ms: i64,
    /// And until this long afterwards, at the latest.
    pub(super) range_ms: i64,
    pub(super) what: What,
}

/// What of the samples in sight the value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The newest.
    Newest,
    /// All of them, wherever they lie.
    Samples,
    /// All of them and where in the range they lie: `rate` and its like. Where all values are the same it does not matter where.
    Slope,
    /// Those at the steps of a subquery: see [`Timing::grids`].
    Steps,
}

/// The steps of a subquery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    shift_ms: i64,
    range_ms: i64,
    step_ms: i64,
}

impl Grid {
    /// The next instant at which the steps are others than now.
    pub(super) fn next_ms(self, now_ms: i64) -> i64 {
        let end_ms = now_ms.saturating_sub(self.shift_ms);
        let begin_ms = end_ms.saturating_sub(self.range_ms);
        let after = |at_ms: i64| at_ms.div_euclid(self.step_ms).saturating_add(1).saturating_mul(self.step_ms);
        let comes_ms = after(end_ms).saturating_add(self.shift_ms);
        let goes_ms = after(begin_ms).saturating_add(self.range_ms).saturating_add(self.shift_ms);
        comes_ms.min(goes_ms)
    }
}

/// Functions of instants whose value follows from those of their arguments.
const PURE: &[&str] = &[
    "abs",
    "absent",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "cos",
    "cosh",
    "deg",
    "exp",
    "floor",
    "histogram_avg",
    "histogram_count",
    "histogram_fraction",
    "histogram_quantile",
    "histogram_quantiles",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "label_join",
    "label_replace",
    "ln",
    "log10",
    "log2",
    "max_of",
    "min_of",
    "pi",
    "rad",
    "round",
    "scalar",
    "sgn",
    "sin",
    "sinh",
    "sort",
    "sort_by_label",
    "sort_by_label_desc",
    "sort_desc",
    "sqrt",
    "tan",
    "tanh",
    "vector",
];
/// The same where they have an argument. Without one their date is the step's.
const DATES: &[&str] =
    &["day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year"];
/// Functions of the samples in a range.
const SAMPLES: &[&str] = &[
    "absent_over_time",
    "avg_over_time",
    "changes",
    "count_over_time",
    "deriv",
    "double_exponential_smoothing",
    "first_over_time",
    "idelta",
    "irate",
    "last_over_time",
    "mad_over_time",
    "max_over_time",
    "min_over_time",
    "present_over_time",
    "quantile_over_time",
    "resets",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];
/// Functions that extend to the ends of the range what the samples say.
const SLOPES: &[&str] = &["delta", "increase", "rate"];
/// Functions of the query, or that look for more than is written.
const OF_THE_QUERY: &[&str] = &["end", "info", "range", "start", "step"];

impl Timing {
    /// That of an expression that is evaluated at one instant at a time, as the options' lookback and step have it.
    pub(crate) fn of(expr: &Expr, options: &Options) -> Self {
        let mut timing = Self::default();
        Walk { timing: &mut timing, options }.expr(expr, None);
        timing
    }
}

struct Walk<'a> {
    timing: &'a mut Timing,
    options: &'a Options,
}

impl Walk<'_> {
    /// `inside`: how far the subqueries around it move it, where there are some.
    fn expr(&mut self, expr: &Expr, inside: Option<i64>) {
        match expr {
            Expr::Number { .. } | Expr::String { .. } => {}
            Expr::Vector(v) => self.look(v, None, What::Newest, inside),
            Expr::Aggregation(a) => {
                if let Some(parameter) = &a.parameter {
                    self.expr(parameter, inside);
                }
                self.expr(&a.expr, inside);
            }
            Expr::Binary(b) => {
                self.expr(&b.left, inside);
                self.expr(&b.right, inside);
            }
            Expr::Call(call) => self.call(call, inside),
            Expr::Paren { inner, .. } | Expr::Unary { inner, .. } | Expr::StepInvariant(inner) => {
                self.expr(inner, inside);
            }
            // A range is the argument of a function.
            Expr::Matrix(_) | Expr::Subquery(_) => self.timing.by_time = true,
        }
    }

    fn call(&mut self, call: &Call, inside: Option<i64>) {
        let name = call.function.name;
        let is_pure = PURE.contains(&name) || (DATES.contains(&name) && !call.args.is_empty());
        let of_selector = matches!(name, "timestamp" | "start_timestamp")
            && matches!(call.args.first().map(Expr::unwrapped), Some(Expr::Vector(_)));
        let what = match name {
            _ if SAMPLES.contains(&name) => Some(What::Samples),
            _ if SLOPES.contains(&name) => Some(What::Slope),
            _ => None,
        };
        // The steps of a subquery are what time is inside of it.
        let is_known = is_pure || of_selector || what.is_some() || inside.is_some();
        self.timing.by_time |= !is_known || OF_THE_QUERY.contains(&name);
        for arg in &call.args {
            match arg.unwrapped() {
                Expr::Matrix(m) => self.look(&m.vector, Some(&m.range), what.unwrap_or(What::Slope), inside),
                Expr::Subquery(s) => self.subquery(s, inside),
                arg => self.expr(arg, inside),
            }
        }
    }

    fn subquery(&mut self, s: &Subquery, inside: Option<i64>) {
        let step_ms = if s.step.ms != 0 { s.step.ms } else { self.options.default_subquery_step_ms }.max(1);
        self.timing.steps_ms = self.timing.steps_ms.saturating_add(step_ms);
        if s.at.is_some() || [&s.range, &s.step, &s.offset].into_iter().any(is_computed) {
            self.timing.by_time = true;
            return;
        }
        if inside.is_none() {
            self.timing.grids.push(Grid { shift_ms: s.offset.ms, range_ms: s.range.ms, step_ms });
        }
        self.expr(&s.expr, Some(inside.unwrap_or(0).saturating_add(s.offset.ms)));
    }

    fn look(&mut self, v: &VectorSelector, range: Option<&TimeSpan>, what: What, inside: Option<i64>) {
        let pinned: Option<At> = v.at;
        if pinned.is_some() || v.extended.is_some() || is_computed(&v.offset) || range.is_some_and(is_computed) {
            self.timing.by_time = true;
            return;
        }
        let look = Look {
            matchers: v.matchers.clone(),
            shift_ms: v.offset.ms.saturating_add(inside.unwrap_or(0)),
            range_ms: range.map_or(self.options.lookback_ms, |range| range.ms),
            what: if inside.is_some() { What::Steps } else { what },
        };
        if !self.timing.looks.contains(&look) {
            self.timing.looks.push(look);
        }
    }
}

fn is_computed(span: &TimeSpan) -> bool {
    span.expr.is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use highwater_promql::{ParserOptions, Query};

    use super::*;

    fn of(query: &str) -> Timing {
        Timing::of(Query::parse(query, &ParserOptions::all()).unwrap().expr(), &Options::default())
    }

    fn looks(query: &str) -> Vec<(i64, i64, What)> {
        let timing = of(query);
        assert!(!timing.by_time, "{query}");
        timing.looks.iter().map(|look| (look.shift_ms, look.range_ms, look.what)).collect()
    }

    #[test]
    fn what_a_value_is_made_of() {
        assert_eq!(looks("a > 1"), [(0, 300_000, What::Newest)]);
        assert_eq!(looks("a offset 1m and timestamp((b offset -5s)) > 3").len(), 2);
        assert_eq!(looks("sum by (x) (max_over_time(a{b='c'}[1m] offset 10s))"), [(10_000, 60_000, What::Samples)]);
        assert_eq!(looks("-(rate(a[5m]) / (increase(a[5m])))"), [(0, 300_000, What::Slope)]);
        assert_eq!(looks("hour(a) + quantile(scalar(b), c)").len(), 3);
        assert_eq!(looks("vector(1)"), []);
        let inside =
            "max_over_time(rate(a[1m] offset 5s)[10m:30s] offset 1m) > max_over_time((time() - a)[5m:] offset 1m)";
        assert_eq!(looks(inside), [(65_000, 60_000, What::Steps), (60_000, 300_000, What::Steps)]);
        let grid = |range_ms, step_ms| Grid { shift_ms: 60_000, range_ms, step_ms };
        assert_eq!(of(inside).grids, [grid(600_000, 30_000), grid(300_000, 60_000)]);
    }

    #[test]
    fn what_goes_by_time() {
        for query in [
            "vector(time()) > 1",
            "hour() > 1",
            "timestamp(a + 1)",
            "predict_linear(a[1m], 60) > 1",
            "a @ 100",
            "rate(a[1m] @ end())",
            "max_over_time(a[5m:1m] @ 100)",
            "max_over_time((a @ end())[5m:1m])",
            "max_over_time(vector(start())[5m:1m])",
            "increase(a[1m] smoothed)",
            "a offset (1m + 1m)",
            "info(a)",
        ] {
            assert!(of(query).by_time, "{query}");
        }
    }

    #[test]
    fn steps_change_when_one_comes_or_goes() {
        let grid = |shift_ms, range_ms, step_ms| Grid { shift_ms, range_ms, step_ms };
        assert_eq!(grid(0, 100, 10).next_ms(5), 10);
        assert_eq!(grid(0, 100, 10).next_ms(10), 20);
        // The oldest step goes before the next comes.
        assert_eq!(grid(0, 25, 10).next_ms(31), 35);
        assert_eq!(grid(0, 25, 10).next_ms(35), 40);
        assert_eq!(grid(3, 20, 10).next_ms(12), 13);
    }
}
