//! Which aggregates a rollup can have: those whose state merges, in order, to the value that all rows at once would give, and survives a snapshot to
//! the bit.

use arrow::datatypes::DataType;
use datafusion::logical_expr::expr::AggregateFunction;

/// By the names that plans have them under.
const MERGEABLE: [&str; 25] = [
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "stddev",
    "stddev_pop",
    "var",
    "var_pop",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "first",
    "last",
    "quantile",
    "approx_distinct",
    "count_distinct",
    "top_k",
    "bottom_k",
    "increase",
    "rate",
    "histogram_quantile",
    "evidence_lines",
];

/// For those that cannot be kept up to date: why, and what comes nearest.
const NEAREST: [(&str, &str); 13] = [
    (
        "approx_percentile_cont_with_weight",
        "its digest depends on the order in which rows are merged; use quantile(value, 0.95), within 1 % of the value",
    ),
    ("median", "it needs every value at once; use quantile(value, 0.5), within 1 % of the value"),
    ("percentile_cont", "it needs every value at once; use quantile(value, 0.95), within 1 % of the value"),
    ("first_value", "which row is first depends on how they come; use first(value), the one of the least timestamp"),
    ("last_value", "which row is last depends on how they come; use last(value), the one of the greatest timestamp"),
    ("any_value", "which row it takes depends on how they come; use first(value), the one of the least timestamp"),
    ("nth_value", "which row is nth depends on how they come; use first(value) or last(value)"),
    ("array_agg", "a window's list has no bound and no order; use top_k(value, 10), or a query over the table"),
    ("string_agg", "a window's text has no bound and no order; use top_k(value, 10), or a query over the table"),
    ("grouping", "there is one grouping; leave it out"),
    (
        "corr",
        "its parts do not merge to the bit; keep sum(x), sum(y), sum(x * y), sum(x * x), sum(y * y) and count(*), and combine them in the query that reads the table",
    ),
    (
        "covar_samp",
        "its parts do not merge to the bit; keep sum(x), sum(y), sum(x * y) and count(*), and combine them in the query that reads the table",
    ),
    (
        "covar_pop",
        "its parts do not merge to the bit; keep sum(x), sum(y), sum(x * y) and count(*), and combine them in the query that reads the table",
    ),
];

/// Why this aggregate, with arguments of these types, cannot be part of a rollup.
pub(super) fn check(function: &AggregateFunction, types: &[DataType]) -> Result<(), String> {
    let name = function.func.name();
    if !MERGEABLE.contains(&name) {
        return Err(match NEAREST.iter().find(|(refused, _)| *refused == name) {
            Some((_, reason)) => format!("{name} cannot be kept up to date: {reason}"),
            None => format!("{name} cannot be kept up to date; these can: {}", MERGEABLE.join(", ")),
        });
    }
    if function.params.distinct && !["min", "max", "bool_and", "bool_or"].contains(&name) {
        return Err(format!(
            "{name}(DISTINCT ...) needs every value at once and cannot be merged across partitions; count(DISTINCT x) of one column can, and for the rest add the column to GROUP BY and aggregate in the query that reads the table"
        ));
    }
    if !function.params.order_by.is_empty() {
        return Err(format!("ORDER BY has no meaning in {name}; leave it out"));
    }
    let small = |t: &DataType| {
        matches!(t, DataType::Boolean | DataType::Int8 | DataType::UInt8 | DataType::Int16 | DataType::UInt16)
    };
    if name == "approx_distinct" && types.iter().any(small) {
        return Err(
            "of so small a type its state has no order; widen it, e.g. approx_distinct(CAST(x AS BIGINT))".to_owned()
        );
    }
    Ok(())
}
