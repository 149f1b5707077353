//! SQL functions beyond DataFusion's own, registered once for everybody who plans SQL.
//!
//! [`register`] holds the pure ones: rollups, rules and ad-hoc queries have them all. [`register_ad_hoc`] adds those that ask
//! for the time of day, which only an ad-hoc query may do: everything downstream of a topic is a function of the log alone.

mod ago;
mod bounded;
mod dialect;
mod window;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::ScalarUDF;

pub use dialect::HighwaterDialect;
pub use window::{TUMBLE, Tumble, tumble, tumble_start_us, tumble_width_us};

/// Registers the pure functions: `tumble`; `->`, `->>` and the `json_*` family over JSON text; and puts a limit around those whose arguments say how
/// large their result is.
///
/// # Errors
/// Where the registry refuses a function.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    datafusion_functions_json::register_all(registry)?;
    registry.register_udf(tumble())?;
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
