//! Evaluation.
//!
//! Every node is evaluated for all steps at once. A vector is a list of series, each with one column of `f64`, as long as
//! there are steps; where a series has no sample the column has the staleness marker, which no sample of a vector can be.
//! Series are grouped once per node, by label sets that are never built per step.

mod aggregate;
mod binary;
mod eval;
mod functions;
mod plan;
mod quantile;
mod range;
mod rows;
mod select;

pub(crate) use eval::evaluate;
pub(crate) use plan::{plan, selections};
pub(crate) use quantile::almost_equal;
