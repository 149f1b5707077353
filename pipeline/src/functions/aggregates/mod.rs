//! Aggregates beyond DataFusion's own, made so that the answer does not depend on how rows are batched, merged or ordered: a rollup that is kept up to
//! date and a query over history give the same.
//!
//! | | |
//! |---|---|
//! | `first(x)`, `last(x)` | the `x` of the least and the greatest timestamp; ties by row identity; NULLs are passed over |
//! | `quantile(x, q)` | DDSketch: within 1 % of the value at rank `q`, for any merging |
//! | `count_distinct(x)` | how many different values: exactly up to 2,047, a HyperLogLog beyond |
//! | `top_k(x, k)`, `bottom_k(x, k)` | the `k` greatest (least) values, in order |
//! | `increase(value)`, `rate(value)` | of counters, per series, resets counted; summed over the series |
//! | `histogram_quantile(q, le, value)` | of classic histograms, as Prometheus has it |
//! | `percentile_disc(p)`, `mode()` | `WITHIN GROUP (ORDER BY x)`: a value that is there |
//! | `evidence_lines(...)` | the first ten log lines: what rules over logs show |
//!
//! Arguments that every row has (`timestamp`, row identity, `series_id`) are put in by [`HiddenArguments`].

mod counters;
mod distinct;
mod first_last;
mod hidden;
mod histogram;
mod lines;
mod ordered;
mod quantile;
mod state;
mod top_k;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::AggregateUDF;

use counters::Counter;
use distinct::CountDistinct;
use first_last::FirstLast;
use lines::Lines;
use ordered::Ordered;
use quantile::Quantile;
use state::{Function, Udaf};
use top_k::TopK;

pub(super) use hidden::HiddenArguments;

/// Registers them all.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let functions = [
        udaf(FirstLast::First),
        udaf(FirstLast::Last),
        udaf(Quantile),
        udaf(CountDistinct),
        udaf(Lines),
        udaf(TopK::Top),
        udaf(TopK::Bottom),
        udaf(Ordered::PercentileDisc),
        udaf(Ordered::Mode),
        udaf(Counter::Increase),
        udaf(Counter::Rate),
        udaf(Counter::HistogramQuantile),
    ];
    for function in functions {
        registry.register_udaf(Arc::new(function))?;
    }
    // As Postgres and DuckDB call it, too.
    if let Ok(of_sample) = registry.udaf("var_samp") {
        let variance = AggregateUDF::clone(&of_sample).with_aliases(["variance"]);
        registry.register_udaf(Arc::new(variance))?;
    }
    // As Trino and TimescaleDB call it.
    let quantile = udaf(Quantile).with_aliases(["approx_percentile", "approx_quantile"]);
    registry.register_udaf(Arc::new(quantile)).map(drop)
}

fn udaf<F: Function>(function: F) -> AggregateUDF {
    AggregateUDF::from(Udaf::new(function))
}

#[cfg(test)]
mod tests;
