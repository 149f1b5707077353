//! What a SQL rule's alert shows of itself: statements that run as they stand and give the row that decided, and the rows it was made of.

use std::fmt::Write as _;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;
use highwater_pipeline::data::time;
use highwater_pipeline::functions::HighwaterDialect;
use highwater_pipeline::tables::WINDOW_START_COLUMN;
use serde_json::{Map, Value};

use super::query::Query;
use crate::rollups::{RollupPlan, Source};

/// Rows of the input that are asked for.
const MAX_INPUT_ROWS: usize = 10;

/// The statements of one rule, but for the window and the row.
#[derive(Debug)]
pub(super) struct Statements {
    sql: String,
    rollup: String,
    label_columns: Vec<String>,
    input: Option<Input>,
}

/// The rows of a topic that a row of the rollup is made of.
#[derive(Debug)]
struct Input {
    /// `SELECT ... FROM ... WHERE`, and what comes first there.
    columns: &'static str,
    from: String,
    /// The rollup's WHERE, and the FILTER of the aggregate that is the alert's value.
    conditions: Vec<String>,
    /// Columns of the answer, and the expressions of the input that they are.
    keys: Vec<(String, String)>,
}

impl Statements {
    pub(super) fn new(sql: &str, rollup: &RollupPlan, query: &Query) -> Self {
        Self {
            sql: sql.trim().trim_end_matches(';').trim_end().to_owned(),
            rollup: rollup.name().to_owned(),
            label_columns: query.label_columns().map(str::to_owned).collect(),
            input: Input::new(rollup, query),
        }
    }

    /// Gives the row of the rule's answer over one window; nothing where there is none.
    pub(super) fn row_sql(&self, (start_us, _): (i64, i64), row: &Map<String, Value>) -> String {
        let table = quoted_name(&self.rollup);
        // Inside, the name is the table; outside, its rows of the window.
        let mut text = format!(
            "WITH {table} AS (SELECT * FROM {table} WHERE {WINDOW_START_COLUMN} = {}) SELECT * FROM (\n{}\n) AS answer",
            instant(start_us),
            self.sql
        );
        let same = self.label_columns.iter().filter_map(|name| same(&quoted_name(name), row.get(name)?));
        append_conditions(&mut text, same);
        text
    }

    /// Gives rows of the topic that the row was made of, the first ones. None where they cannot be told from the rollup's text.
    pub(super) fn input_sql(&self, (start_us, end_us): (i64, i64), row: &Map<String, Value>) -> Option<String> {
        let Input { columns, from, conditions, keys } = self.input.as_ref()?;
        let mut text = format!("SELECT {columns} FROM {from}");
        let window = [format!("timestamp >= {}", instant(start_us)), format!("timestamp < {}", instant(end_us))];
        let same = keys.iter().filter_map(|(name, expr)| same(expr, row.get(name)?));
        append_conditions(&mut text, window.into_iter().chain(conditions.iter().cloned()).chain(same));
        // Writing to a String cannot fail.
        write!(text, " ORDER BY timestamp LIMIT {MAX_INPUT_ROWS}").ok()?;
        Some(text)
    }
}

impl Input {
    fn new(rollup: &RollupPlan, query: &Query) -> Option<Self> {
        if rollup.upstream().is_some() {
            return None;
        }
        let select = select_of(rollup.sql())?;
        let [from] = select.from.as_slice() else { return None };
        let ast::GroupByExpr::Expressions(groups, _) = &select.group_by else { return None };
        let mut conditions: Vec<String> = select.selection.iter().map(|filter| format!("({filter})")).collect();
        let mut keys = Vec::new();
        let origin = |column: &str| {
            let named = query.origins().iter().filter(|(_, origin)| origin.as_deref() == Some(column));
            named.map(|(name, _)| name.clone()).next()
        };
        for (position, item) in (1..).zip(&select.projection) {
            let (name, expr) = match item {
                ast::SelectItem::ExprWithAlias { expr, alias } => (plain(alias), expr),
                ast::SelectItem::UnnamedExpr(expr) => (name_of(expr)?, expr),
                _ => return None,
            };
            let Some(column) = origin(&name) else { continue };
            let is_key = groups.iter().any(|group| {
                group == expr || group.to_string() == format!("{position}") || name_of(group).as_ref() == Some(&name)
            });
            if is_key {
                keys.push((column, format!("({expr})")));
            } else if column == query.value_column()
                && let Some(filter) = only_filter(expr)
            {
                conditions.push(format!("({filter})"));
            }
        }
        let columns = match rollup.source() {
            Source::Logs => "timestamp, level, service, host, message",
            Source::Metrics => "timestamp, name, labels, value",
            Source::Spans => "*",
        };
        Some(Self { columns, from: from.to_string(), conditions, keys })
    }
}

pub(super) fn select_of(sql: &str) -> Option<ast::Select> {
    let parser = DFParserBuilder::new(sql).with_dialect(&HighwaterDialect).build();
    let Statement::Statement(statement) = parser.ok()?.parse_statements().ok()?.pop_front()? else { return None };
    let ast::Statement::Query(query) = *statement else { return None };
    match *query.body {
        ast::SetExpr::Select(select) => Some(*select),
        _ => None,
    }
}

/// The FILTER that every aggregate of an expression has, where there is one.
fn only_filter(expr: &ast::Expr) -> Option<String> {
    let mut filters: Vec<Option<String>> = Vec::new();
    let walked: std::ops::ControlFlow<()> = ast::visit_expressions(expr, |part| {
        // A function without one may be an aggregate over all rows, or none: then nothing is said.
        if let ast::Expr::Function(function) = part {
            filters.push(function.filter.as_ref().map(ToString::to_string));
        }
        std::ops::ControlFlow::Continue(())
    });
    filters.dedup();
    match filters.as_mut_slice() {
        [filter] if walked.is_continue() => filter.take(),
        _ => None,
    }
}

/// A name as the planner has it: in lower case where it is not quoted.
fn plain(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The name of a column that is named and nothing else.
fn name_of(expr: &ast::Expr) -> Option<String> {
    match expr {
        ast::Expr::Identifier(name) => Some(plain(name)),
        ast::Expr::CompoundIdentifier(names) => names.last().map(plain),
        other => Some(other.to_string()),
    }
}

/// `expr = value`; none for a value that has no plain literal.
fn same(expr: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(format!("{expr} IS NULL")),
        Value::Bool(value) => Some(format!("{expr} = {value}")),
        Value::Number(number) if !number.is_f64() => Some(format!("{expr} = {number}")),
        Value::String(text) => Some(format!("{expr} = {}", quoted(text))),
        _ => None,
    }
}

fn append_conditions(text: &mut String, conditions: impl Iterator<Item = String>) {
    for (index, condition) in conditions.enumerate() {
        text.push_str(if index == 0 { " WHERE " } else { " AND " });
        text.push_str(&condition);
    }
}

pub(super) fn instant(instant_us: i64) -> String {
    quoted(&time::format(instant_us))
}

pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
