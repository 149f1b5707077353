//! Evaluation.
//!
//! Every node is evaluated for all steps at once. A vector is a list of series, each with one column of `f64`, as long as
//! there are steps; where a series has no sample the column has the staleness marker, which no sample of a vector can be.
//! Series are grouped once per node, by label sets that are never built per step.

mod plan;

pub(crate) use plan::{plan, selections};

use crate::error::Error;
use crate::options::{Cancel, Options, Steps};
use crate::parser::Expr;
use crate::source::SeriesSource;
use crate::value::Answer;

pub(crate) fn evaluate(
    expr: &Expr,
    _source: &dyn SeriesSource,
    steps: &Steps,
    options: &Options,
    cancel: &Cancel,
) -> Result<Answer, Error> {
    steps.check(options.max_steps)?;
    cancel.check()?;
    let _plan = plan(expr, steps)?;
    Err(Error::Execution("the evaluator is not built in yet".to_owned()))
}
