//! The statement in an alert's evidence: the samples that decided, out of the table.

use highwater_pipeline::data::time;
use highwater_promql::parser::Expr;

/// Most rows that it gives.
const MAX_ROWS: usize = 1_000;

/// True where an expression looks at ranges; otherwise the newest sample of each series decides.
pub(super) fn looks_at_ranges(expr: &Expr) -> bool {
    match expr {
        Expr::Matrix(_) | Expr::Subquery(_) => true,
        Expr::Number { .. } | Expr::String { .. } | Expr::Vector(_) => false,
        Expr::Aggregation(aggregation) => {
            looks_at_ranges(&aggregation.expr) || aggregation.parameter.as_ref().is_some_and(looks_at_ranges)
        }
        Expr::Binary(binary) => looks_at_ranges(&binary.left) || looks_at_ranges(&binary.right),
        Expr::Call(call) => call.args.iter().any(looks_at_ranges),
        Expr::Paren { inner, .. } | Expr::Unary { inner, .. } => looks_at_ranges(inner),
        Expr::StepInvariant(inner) => looks_at_ranges(inner),
    }
}

/// Gives the samples of these series after one instant and up to another, all or the newest of each. None without names.
pub(super) fn of_series(names: &[String], ids: &[i64], from_us: i64, until_us: i64, all: bool) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let series = if ids.is_empty() { String::new() } else { format!(" AND series_id IN ({})", ids.join(", ")) };
    let (newest, order) =
        if all { ("", "timestamp DESC") } else { ("DISTINCT ON (series_id) ", "series_id, timestamp DESC") };
    Some(format!(
        "SELECT {newest}timestamp, name, labels, value, _topic, _partition, _offset FROM metrics WHERE name IN ({}){series} AND timestamp > {} AND timestamp <= {} ORDER BY {order} LIMIT {MAX_ROWS}",
        names.join(", "),
        quoted(&time::format(from_us)),
        quoted(&time::format(until_us))
    ))
}
