//! The language: text to tree and back.
//!
//! The parser is our own: `promql-parser` knows neither duration expressions nor `fill`, `anchored`, `smoothed`, trimming
//! operators and series descriptions, and its messages are not Prometheus's. Here the grammar is a precedence climber over
//! tokens that carry their place, and every message is the one that Prometheus gives for its first error.

pub(crate) mod ast;
mod check;
pub(crate) mod functions;
mod grammar;
mod lexer;
mod numbers;
mod print;
mod series;
#[cfg(test)]
mod tests;

pub use ast::{
    AggregateOp, Aggregation, At, Binary, BinaryOp, Call, Cardinality, DurationExpr, Expr, Extended, Matching,
    MatrixSelector, Subquery, TimeSpan, ValueType, VectorSelector,
};
pub use functions::{FUNCTIONS, Function};
pub(crate) use numbers::parse_number;
pub use numbers::{format_duration_ms, parse_duration_ms};
pub(crate) use series::parse_series_with;
pub use series::{SequenceValue, SeriesDescription, parse_series};

use crate::error::Error;
use crate::labels::Labels;
use crate::options::ParserOptions;
use crate::source::Matcher;

/// Parses and checks an expression.
///
/// # Errors
/// `bad_data` with Prometheus's message and place.
pub fn parse(text: &str, options: &ParserOptions) -> Result<Expr, Error> {
    let expr = grammar::Parser::new(text, *options).expression()?;
    check::check(text, &expr)?;
    Ok(expr)
}

/// Parses a selector as in `match[]`: `up{job="x"}`, without range, offset or `@`. It may be `{}`.
///
/// # Errors
/// `bad_data` where it is none.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, Error> {
    let selector = grammar::Parser::new(text, ParserOptions::default()).selector()?;
    check::check_selector(text, &selector)?;
    Ok(selector.matchers)
}

/// Parses a metric: `up{job="x"}`.
///
/// # Errors
/// `bad_data` where it is none.
pub fn parse_metric(text: &str) -> Result<Labels, Error> {
    Ok(grammar::Parser::new(text, ParserOptions::default()).metric()?)
}
