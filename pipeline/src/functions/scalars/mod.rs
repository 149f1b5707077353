//! Functions of single values that people of other databases write.
//!
//! | | |
//! |---|---|
//! | `time_bucket(width, t [, origin])` | the beginning of the bucket that `t` is in, as TimescaleDB has it: weeks begin on Monday |
//! | `epoch(t)`, `epoch_ms(t)`, `epoch_us(t)`, `epoch_ns(t)` | Unix time |
//! | `to_char(x, format)` | with the patterns of Postgres (`YYYY-MM-DD HH24:MI`), or those of `strftime` where there is a `%` |
//! | `strftime(t, format)` | with the patterns of `strftime` |
//! | `regexp_extract(text, pattern [, group])`, `regexp_substr(text, pattern)` | what matches; where nothing does, the first gives `''`, the second NULL |
//! | `humanize_bytes(n)`, `humanize_duration(seconds)`, `pg_size_pretty(n)` | for people |
//! | `timezone(zone, t)` | `t AT TIME ZONE zone`: what the clocks there show, and back |
//! | `age(a, b)`, `make_interval(...)`, `make_timestamp(...)`, `interval * 2` | times and intervals from their parts |
//! | `map -> 'key'`, `map ->> 'key'`, `map ? 'key'` | as for JSON |

mod calendar;
mod epoch;
mod humanize;
mod map_arrows;
mod regexp;
mod time_bucket;
mod to_char;
mod zones;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::ScalarUDF;

pub use to_char::strftime;

/// Registers the operators on maps and intervals. Goes before those on JSON, which take any operand for JSON.
pub(super) fn register_operators(registry: &mut dyn FunctionRegistry) -> Result<()> {
    registry.register_expr_planner(Arc::new(calendar::IntervalArithmetic))?;
    registry.register_expr_planner(Arc::new(map_arrows::MapArrows))
}

/// Registers the functions.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let mut functions = vec![ScalarUDF::from(time_bucket::TimeBucket::new())];
    functions.push(ScalarUDF::from(zones::Timezone::new()));
    functions.extend(calendar::Made::ALL.map(|made| ScalarUDF::from(calendar::Calendar::new(made))));
    functions.extend(epoch::Unit::ALL.map(|unit| ScalarUDF::from(epoch::Epoch::new(unit))));
    functions
        .extend([regexp::Function::Extract, regexp::Function::Substr].map(|f| ScalarUDF::from(regexp::Regexp::new(f))));
    functions.extend(humanize::Style::ALL.map(|style| ScalarUDF::from(humanize::Humanize::new(style))));
    for function in functions {
        registry.register_udf(Arc::new(function))?;
    }
    to_char::register(registry)
}
