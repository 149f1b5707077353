//! What `SET TIME ZONE` changes in what a query computes: `date_trunc('day', t)`, `extract(hour FROM t)`, `t::date` and `to_char(t, ...)` go by the clocks of
//! that zone, and a time without a zone that becomes one with, `timestamp >= '2026-01-02 03:04'` as well, is one of theirs.
//!
//! The engine computes in UTC. A rule puts `timezone()` where the two differ, in sessions with another zone only. `now()` and the width of `time_bucket`
//! and `date_bin` know no zone.

use std::sync::Arc;

use arrow::datatypes::DataType;
use chrono::DateTime;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, ScalarUDF, cast, lit};
use datafusion::optimizer::AnalyzerRule;

use crate::expressions::each_expression;
use crate::times::text_of;

/// The rule, for a session with this zone.
#[derive(Debug)]
pub(super) struct InZone {
    zone: String,
    /// `timezone(zone, t)`.
    convert: Arc<ScalarUDF>,
}

impl InZone {
    pub(super) fn new(zone: &str, convert: Arc<ScalarUDF>) -> Self {
        Self { zone: zone.to_owned(), convert }
    }

    fn converted(&self, time: Expr) -> Expr {
        self.convert.call(vec![lit(self.zone.as_str()), time])
    }

    fn changed(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        match &expr {
            Expr::Cast(Cast { expr: of, field }) | Expr::TryCast(TryCast { expr: of, field }) => {
                let from = of.get_type(schema)?;
                match (&from, field.data_type()) {
                    // Text says its zone, or it is that of the session.
                    (
                        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View,
                        to @ DataType::Timestamp(unit, Some(_)),
                    ) if text_of(of).is_some_and(|text| !has_zone(text)) => {
                        let local = cast(Expr::clone(of), DataType::Timestamp(*unit, None));
                        Ok(Transformed::yes(cast(self.converted(local), to.clone())))
                    }
                    (DataType::Timestamp(_, None) | DataType::Date32, to @ DataType::Timestamp(_, Some(_))) => {
                        Ok(Transformed::yes(cast(self.converted(Expr::clone(of)), to.clone())))
                    }
                    (
                        DataType::Timestamp(_, Some(_)),
                        to @ (DataType::Timestamp(_, None) | DataType::Date32 | DataType::Time64(_)),
                    ) => Ok(Transformed::yes(cast(self.converted(Expr::clone(of)), to.clone()))),
                    _ => Ok(Transformed::no(expr)),
                }
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                // `to_char(t, format)` has the time first, the others have it second.
                let (time_at, name) = match func.name() {
                    name @ ("date_trunc" | "date_part") => (1, name),
                    name @ "to_char" => (0, name),
                    _ => return Ok(Transformed::no(expr)),
                };
                let is_epoch = name == "date_part"
                    && args.first().and_then(text_of).is_some_and(|part| part.eq_ignore_ascii_case("epoch"));
                let Some(time) = args.get(time_at).filter(|_| !is_epoch) else { return Ok(Transformed::no(expr)) };
                let DataType::Timestamp(unit, Some(zone)) = time.get_type(schema)? else {
                    return Ok(Transformed::no(expr));
                };
                if *zone != *"UTC" {
                    return Ok(Transformed::no(expr));
                }
                let mut args = args.clone();
                let there = DataType::Timestamp(unit, Some(self.zone.as_str().into()));
                args[time_at] = cast(time.clone(), there);
                let called = func.call(args);
                Ok(Transformed::yes(match name {
                    "date_trunc" => cast(called, DataType::Timestamp(unit, Some(zone))),
                    _ => called,
                }))
            }
            _ => Ok(Transformed::no(expr)),
        }
    }
}

impl AnalyzerRule for InZone {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let schema = |plan: &LogicalPlan| merge_schema(&plan.inputs());
        each_expression(plan, schema, |expr, schema| self.changed(expr, schema))
    }

    fn name(&self) -> &str {
        "in_zone"
    }
}

/// Whether a time as text names a zone or an offset behind its digits.
fn has_zone(time: &str) -> bool {
    let time = time.trim();
    DateTime::parse_from_rfc3339(time).is_ok()
        || time.get(10..).is_some_and(|rest| {
            // The clock's own T is no zone.
            let rest = rest.strip_prefix(['T', 't']).unwrap_or(rest);
            rest.contains(['+', '-']) || rest.contains(|c: char| c.is_ascii_alphabetic())
        })
}

#[cfg(test)]
mod tests {
    use super::has_zone;

    #[test]
    fn zones_in_texts() {
        for (time, has) in [
            ("2026-01-02", false),
            ("2026-01-02 03:04:05.6", false),
            ("2026-01-02T03:04:05", false),
            ("2026-01-02T03:04:05Z", true),
            ("2026-01-02 03:04:05+02", true),
            ("2026-01-02 03:04:05 -0500", true),
            ("2026-01-02 03:04:05 Europe/Zurich", true),
        ] {
            assert_eq!(has_zone(time), has, "{time}");
        }
    }
}
