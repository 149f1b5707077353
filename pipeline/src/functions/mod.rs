//! SQL functions beyond DataFusion's own, registered once for everybody who plans SQL.
//!
//! [`register`] holds the pure ones: rollups, rules and ad-hoc queries have them all. [`register_ad_hoc`] adds those that ask
//! for the time of day, which only an ad-hoc query may do: everything downstream of a topic is a function of the log alone.

mod aggregates;
mod ago;
mod bounded;
mod dialect;
mod in_lists;
mod scalars;
mod windows;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::ScalarUDF;
use datafusion::optimizer::AnalyzerRule;

pub use dialect::HighwaterDialect;
pub use scalars::strftime;
pub use windows::{HOP, InGroupBy, SESSION, TUMBLE, Tumble, hop_starts_us, tumble, tumble_start_us, tumble_width_us};

/// What becomes of `hop` and `session` in `GROUP BY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// They stay, for a planner that knows them.
    Kept,
    /// They become what a query engine can run.
    Unfolded,
}

/// The rules that a session which plans SQL needs beside [`register`].
pub fn analyzer_rules(windows: Windows) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
        vec![Arc::new(aggregates::HiddenArguments), Arc::new(in_lists::InLists)];
    if windows == Windows::Unfolded {
        rules.push(Arc::new(InGroupBy));
    }
    rules
}

/// Registers the pure functions: `tumble`, `hop` and `session`; the aggregates `first`, `last`, `quantile`, `count_distinct`, `top_k`, `bottom_k`, `increase`,
/// `rate` and `histogram_quantile`; `->`, `->>` and the `json_*` family over JSON text, and `->`, `->>`, `?` over maps; `time_bucket`, `regexp_extract`,
/// `to_char`, `epoch_ms`, `humanize_bytes` and their like; and puts a limit around those whose arguments say how large their result
/// is. The session needs the [`analyzer_rules`] as well.
///
/// # Errors
/// Where the registry refuses a function.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    scalars::register_operators(registry)?;
    datafusion_functions_json::register_all(registry)?;
    scalars::register(registry)?;
    registry.register_udf(tumble())?;
    for window in [windows::GroupedWindow::hop(), windows::GroupedWindow::session()] {
        registry.register_udf(Arc::new(ScalarUDF::from(window)))?;
    }
    aggregates::register(registry)?;
    bounded::register(registry)
}

/// Registers [`register`]'s functions and `ago('1h')`.
///
/// # Errors
/// Where the registry refuses a function.
pub fn register_ad_hoc(registry: &mut dyn FunctionRegistry) -> Result<()> {
    register(registry)?;
    registry.register_udf(Arc::new(ScalarUDF::from(ago::Ago::new())))?;
    Ok(())
}
