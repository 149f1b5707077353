//! `FROM logs AS OF VERSION 12`, `FROM logs AS OF TIMESTAMP '2026-01-02T03:00:00Z'`: a table as it was.
//!
//! - **A version** is that of the Delta table: exactly the rows that its files held, as every other reader of the table sees them. What was only in the log
//!   is no part of it.
//! - **A time** is a time of appends: the rows that a query of that moment would have seen, of those that are still kept, wherever they lay then and lie now.
//!   For a table whose rows never change these are the rows appended up to then, whatever became of the files meanwhile. A rollup's rows do change:
//!   there it is the version of that moment, and the log from it up to then.
//!
//! In the statement such a table gets a name of its own ([`AsOf::name_of`]), under which the catalog of the query finds it.

pub(crate) mod tokens;

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor, TableVersion};

use crate::error::SqlError;

/// Between a table's name and its moment.
const SEPARATOR: char = '@';

/// The moment at which a table is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// A Delta version.
    Version(u64),
    /// A time, Unix microseconds.
    Time(i64),
}

impl AsOf {
    /// The name of a table at this moment.
    fn name_of(self, table: &str) -> String {
        match self {
            Self::Version(version) => format!("{table}{SEPARATOR}v{version}"),
            Self::Time(us) => format!("{table}{SEPARATOR}t{us}"),
        }
    }

    /// The table and the moment that such a name means.
    pub(crate) fn of_name(name: &str) -> Option<(&str, Self)> {
        let (table, moment) = name.rsplit_once(SEPARATOR)?;
        let moment = match moment.split_at_checked(1)? {
            ("v", version) => Self::Version(version.parse().ok()?),
            ("t", us) => Self::Time(us.parse().ok()?),
            _ => return None,
        };
        Some((table, moment))
    }
}

/// Gives the tables of a statement that are to be seen as of a moment their names.
///
/// # Errors
/// [`SqlError::Invalid`] where a moment is none: not constant, NULL, below 0.
pub(crate) fn resolve(statement: &mut Statement, state: &SessionState) -> Result<(), SqlError> {
    let Some(inner) = inner_mut(statement) else { return Ok(()) };
    match ast::VisitMut::visit(inner, &mut Resolve { state }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

fn inner_mut(statement: &mut Statement) -> Option<&mut ast::Statement> {
    match statement {
        Statement::Statement(inner) => Some(inner),
        Statement::Explain(explain) => inner_mut(&mut explain.statement),
        _ => None,
    }
}

struct Resolve<'a> {
    state: &'a SessionState,
}

impl ast::VisitorMut for Resolve<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        let TableFactor::Table { name, alias, version, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(version) = version.take() else { return ControlFlow::Continue(()) };
        let table = name.0.last().and_then(ObjectNamePart::as_ident).map(folded);
        let (Some(table), Ok(as_of)) = (table, moment(&version, self.state)) else {
            let error = moment(&version, self.state).err().unwrap_or_else(|| invalid("AS OF stands behind a table"));
            return ControlFlow::Break(Box::new(error));
        };
        let mut parts = name.0.clone();
        parts.pop();
        parts.push(ObjectNamePart::Identifier(Ident::with_quote('"', as_of.name_of(&table))));
        *name = ObjectName(parts);
        alias.get_or_insert_with(|| TableAlias {
            explicit: true,
            name: Ident::with_quote('"', table),
            columns: Vec::new(),
            at: None,
        });
        ControlFlow::Continue(())
    }
}

fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::Invalid { message: message.into(), at: None }
}

fn moment(version: &TableVersion, state: &SessionState) -> Result<AsOf, SqlError> {
    match version {
        TableVersion::VersionAsOf(expr) => match constant(expr, DataType::Int64, state)? {
            ScalarValue::Int64(Some(version)) if version >= 0 => Ok(AsOf::Version(version.cast_unsigned())),
            _ => Err(invalid(format!("AS OF VERSION {expr}: a version is a number from 0 on"))),
        },
        TableVersion::TimestampAsOf(expr) | TableVersion::ForSystemTimeAsOf(expr) => {
            let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            match constant(expr, instant, state)? {
                ScalarValue::TimestampMicrosecond(Some(us), _) => Ok(AsOf::Time(us)),
                _ => Err(invalid(format!("AS OF TIMESTAMP {expr}: NULL is no time"))),
            }
        }
        other => Err(invalid(format!("{other} is not known: write AS OF VERSION 12, or AS OF TIMESTAMP '...'"))),
    }
}

/// The value of an expression over nothing.
fn constant(expr: &ast::Expr, data_type: DataType, state: &SessionState) -> Result<ScalarValue, SqlError> {
    let evaluate = || {
        let value = state.create_logical_expr(&expr.to_string(), &DFSchema::empty())?;
        let plan = LogicalPlanBuilder::empty(true).project([cast(value, data_type)])?.build()?;
        state.optimize(&plan)
    };
    let plan = evaluate().map_err(|e| match SqlError::from_datafusion(e, 0) {
        SqlError::Execution { message } | SqlError::Invalid { message, .. } => {
            invalid(format!("AS OF {expr}: {message}"))
        }
        other => other,
    })?;
    match plan.expressions().into_iter().next().map(Expr::unalias_nested).map(|e| e.data) {
        Some(Expr::Literal(value, _)) => Ok(value),
        _ => Err(invalid(format!("AS OF {expr}: this has to be a constant"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_moment() {
        for (as_of, name) in [(AsOf::Version(12), "logs@v12"), (AsOf::Time(-3), "logs@t-3")] {
            assert_eq!(as_of.name_of("logs"), name);
            assert_eq!(AsOf::of_name(name), Some(("logs", as_of)));
        }
        for other in ["logs", "logs@", "logs@x1", "logs@v-1", "logs@v1x", "logs@é"] {
            assert_eq!(AsOf::of_name(other), None, "{other}");
        }
    }
}
