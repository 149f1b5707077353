//! The values of `$1`, `$2`, ... in a query.
//!
//! They are put into the parsed statement as literals, so that a query with parameters is planned exactly as the one with the values
//! written out: types are coerced alike, files are pruned alike, and a parameter may stand wherever a literal may.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Expr, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use highwater_pipeline::functions::HighwaterDialect;

use crate::error::SqlError;
use crate::guard;

/// Most parameters of one query, as in PostgreSQL.
const MAX_PARAMETERS: usize = 65_535;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// NULL, of no type in particular.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float, infinities and NaN too.
    Float(f64),
    /// Text; becomes a time or a number where it is compared with one.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// What this text is as a value of this type; NULL where there is no text.
    Typed(Option<String>, DataType),
    /// A list.
    List(Vec<Parameter>),
}

impl Parameter {
    /// From JSON; an object stays JSON text.
    ///
    /// # Errors
    /// [`SqlError::Parameter`] for a number that is neither an `i64` nor an `f64`.
    pub fn from_json(value: serde_json::Value) -> Result<Self, SqlError> {
        use serde_json::Value as Json;
        Ok(match value {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(b),
            Json::Number(n) => match (n.as_i64(), n.as_f64()) {
                (Some(i), _) => Self::Int(i),
                (None, Some(f)) => Self::Float(f),
                (None, None) => return Err(SqlError::Parameter { message: format!("{n} is out of range") }),
            },
            Json::String(s) => Self::Text(s),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from_json).collect::<Result<_, _>>()?),
            object @ Json::Object(_) => Self::Text(object.to_string()),
        })
    }

    /// As SQL that means this value.
    fn sql(&self) -> String {
        match self {
            Self::Null => "NULL".to_string(),
            Self::Bool(b) => b.to_string(),
            // The smallest one has no literal: its digits alone are one too many.
            Self::Int(i64::MIN) => "CAST('-9223372036854775808' AS BIGINT)".to_string(),
            Self::Int(i) if *i < 0 => format!("({i})"),
            Self::Int(i) => i.to_string(),
            Self::Float(f) if f.is_finite() && *f >= 0.0 => format!("{f:e}"),
            Self::Float(f) => format!("CAST('{f}' AS DOUBLE)"),
            Self::Text(text) => quoted(text),
            Self::Bytes(bytes) => {
                let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                format!("X'{digits}'")
            }
            Self::Typed(None, data_type) => format!("arrow_cast(NULL, {})", quoted(&data_type.to_string())),
            Self::Typed(Some(text), data_type) => {
                format!("arrow_cast({}, {})", quoted(text), quoted(&data_type.to_string()))
            }
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::sql).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }

    pub(crate) fn expr(&self) -> Result<Expr, SqlError> {
        Parser::new(&HighwaterDialect)
            .try_with_sql(&self.sql())
            .and_then(|mut parser| parser.parse_expr())
            .map_err(|e| SqlError::Internal { message: format!("a parameter is not SQL: {e}") })
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Puts the values in place of `$1`, `$2`, ...
///
/// # Errors
/// [`SqlError::Parameter`] where the statement names one that is not there, or not all of them are named.
pub(crate) fn put_into(statement: &mut Statement, values: &[Parameter]) -> Result<(), SqlError> {
    let exprs = values.iter().map(Parameter::expr).collect::<Result<Vec<_>, _>>()?;
    put_exprs(statement, &exprs)
}

/// The same for values that may be more than the statement names.
pub(crate) fn put_known(statement: &mut Statement, values: &[Parameter]) -> Result<(), SqlError> {
    let exprs = values.iter().map(Parameter::expr).collect::<Result<Vec<_>, _>>()?;
    replace(statement, &exprs).map(drop)
}

/// An expression in SQL, as a value of this type where one is named.
pub(crate) fn expression(sql: &str, data_type: Option<&DataType>) -> Result<Expr, SqlError> {
    let parse = |sql: &str| -> Result<Expr, SqlError> {
        guard::tokens(sql, &HighwaterDialect)?;
        let mut parser =
            Parser::new(&HighwaterDialect).try_with_sql(sql).map_err(|e| SqlError::syntax(e.to_string()))?;
        let expr = parser.parse_expr().map_err(|e| SqlError::syntax(e.to_string()))?;
        match parser.next_token().token {
            Token::EOF => Ok(expr),
            other => Err(SqlError::syntax(format!("unexpected {other} after an expression"))),
        }
    };
    let expr = parse(sql)?;
    match data_type {
        Some(data_type) => parse(&format!("arrow_cast({expr}, {})", quoted(&data_type.to_string()))),
        None => Ok(expr),
    }
}

/// Puts expressions in place of `$1`, `$2`, ...
pub(crate) fn put_exprs(statement: &mut Statement, exprs: &[Expr]) -> Result<(), SqlError> {
    let used = replace(statement, exprs)?;
    if used < exprs.len() {
        let message = format!("{} parameters are given, and the query names {used}", exprs.len());
        return Err(SqlError::Parameter { message });
    }
    Ok(())
}

/// Puts expressions in their places, and gives the highest number of one that was named.
fn replace(statement: &mut Statement, exprs: &[Expr]) -> Result<usize, SqlError> {
    struct Put<'a> {
        exprs: &'a [Expr],
        used: usize,
    }
    impl VisitorMut for Put<'_> {
        type Break = Box<SqlError>;

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
            let Expr::Value(value) = expr else { return ControlFlow::Continue(()) };
            let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
            let number = match number(name) {
                Ok(number) => number,
                Err(error) => return ControlFlow::Break(Box::new(error)),
            };
            match self.exprs.get(number - 1) {
                Some(value) => {
                    self.used = self.used.max(number);
                    *expr = value.clone();
                    ControlFlow::Continue(())
                }
                None => {
                    let message = format!("there is no parameter ${number}: {} are given", self.exprs.len());
                    ControlFlow::Break(Box::new(SqlError::Parameter { message }))
                }
            }
        }
    }
    let mut put = Put { exprs, used: 0 };
    if let Some(inner) = inner_mut(statement)
        && let ControlFlow::Break(error) = inner.visit(&mut put)
    {
        return Err(*error);
    }
    Ok(put.used)
}

/// The names of parameters that say how many rows: of LIMIT, OFFSET and FETCH.
pub(crate) fn counts(statement: &Statement) -> Vec<String> {
    struct Counts(Vec<String>);
    impl ast::Visitor for Counts {
        type Break = ();

        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
            let (limit, offset) = match &query.limit_clause {
                Some(ast::LimitClause::LimitOffset { limit, offset, .. }) => {
                    (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
                }
                Some(ast::LimitClause::OffsetCommaLimit { offset, limit }) => (Some(limit), Some(offset)),
                None => (None, None),
            };
            let fetch = query.fetch.as_ref().and_then(|fetch| fetch.quantity.as_ref());
            for expr in [limit, offset, fetch].into_iter().flatten() {
                if let Expr::Value(value) = expr
                    && let Value::Placeholder(name) = &value.value
                {
                    self.0.push(name.clone());
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut counts = Counts(Vec::new());
    if let Statement::Statement(inner) = statement {
        let _all = ast::Visit::visit(inner.as_ref(), &mut counts);
    }
    counts.0
}

/// Makes `x = ANY($1)` into `x = $1`, and gives the names of such parameters: what they are lists of follows from what they are compared with.
pub(crate) fn take_lists(statement: &mut Statement) -> Vec<String> {
    let mut lists = Vec::new();
    let Some(inner) = inner_mut(statement) else { return lists };
    let _all: ControlFlow<()> = ast::visit_expressions_mut(inner, |expr| {
        if let Expr::AnyOp { left, compare_op, right, .. } | Expr::AllOp { left, compare_op, right } = expr {
            let bare = match right.as_ref() {
                Expr::Nested(inner) => inner.as_ref(),
                other => other,
            };
            if let Expr::Value(value) = bare
                && let Value::Placeholder(name) = &value.value
            {
                lists.push(name.clone());
                let (left, op, right) = (left.clone(), compare_op.clone(), Box::new(bare.clone()));
                *expr = Expr::BinaryOp { left, op, right };
            }
        }
        ControlFlow::Continue(())
    });
    lists
}

/// The number of the highest parameter that a statement names; 0 where it names none.
///
/// # Errors
/// [`SqlError::Parameter`] for a placeholder that is not `$` and a number.
pub(crate) fn highest(statement: &Statement) -> Result<usize, SqlError> {
    let mut highest = 0;
    let mut statement = statement.clone();
    let Some(inner) = inner_mut(&mut statement) else { return Ok(0) };
    let found = ast::visit_expressions(&*inner, |expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
        {
            match number(name) {
                Ok(number) => highest = highest.max(number),
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    });
    match found {
        ControlFlow::Continue(()) => Ok(highest),
        ControlFlow::Break(error) => Err(error),
    }
}

fn number(placeholder: &str) -> Result<usize, SqlError> {
    let number = placeholder.strip_prefix('$').and_then(|n| n.parse().ok());
    number.filter(|n| (1..=MAX_PARAMETERS).contains(n)).ok_or_else(|| SqlError::Parameter {
        message: format!("{placeholder} is no parameter: they are $1 to ${MAX_PARAMETERS}"),
    })
}

fn inner_mut(statement: &mut Statement) -> Option<&mut ast::Statement> {
    match statement {
        Statement::Statement(inner) => Some(inner),
        Statement::Explain(explain) => inner_mut(&mut explain.statement),
        _ => None,
    }
}

/// Types of parameters, by name (`$1`); `None` where one could be anything.
pub(crate) type ParameterTypes = BTreeMap<String, Option<DataType>>;

/// What the plan says of its parameters' types: from what they are compared with, or cast to.
pub(crate) fn types(plan: &LogicalPlan) -> datafusion::error::Result<ParameterTypes> {
    let mut types: ParameterTypes = plan.get_parameter_types()?.into_iter().collect();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let PlanExpr::Cast(cast) = expr
                    && let PlanExpr::Placeholder(placeholder) = cast.expr.as_ref()
                {
                    let known = types.entry(placeholder.id.clone()).or_default();
                    known.get_or_insert_with(|| cast.field.data_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(types)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn put(sql: &str, values: &[Parameter]) -> Result<String, SqlError> {
        let mut statement = guard::parse(sql, &HighwaterDialect)?;
        put_into(&mut statement, values)?;
        Ok(statement.to_string())
    }

    #[test]
    fn values_become_literals() {
        let values = [Parameter::Int(-5), Parameter::Text("it's $1".into()), Parameter::Float(0.5)];
        assert_eq!(
            put("SELECT $1 + 1, $2 WHERE x > $3 AND y = $1 LIMIT 3", &values).unwrap(),
            "SELECT (-5) + 1, 'it''s $1' WHERE x > 5e-1 AND y = (-5) LIMIT 3"
        );
        assert_eq!(put("SELECT 1 LIMIT $1", &[Parameter::Int(7)]).unwrap(), "SELECT 1 LIMIT 7");
        assert_eq!(put("EXPLAIN SELECT $1", &[Parameter::Bytes(vec![0, 255])]).unwrap(), "EXPLAIN SELECT X'00ff'");
        assert_eq!(
            put("SELECT $1", &[Parameter::List(vec![Parameter::Int(1), Parameter::Null])]).unwrap(),
            "SELECT [1, NULL]"
        );
        assert_eq!(
            put("SELECT $1", &[Parameter::Typed(None, DataType::Int64)]).unwrap(),
            "SELECT arrow_cast(NULL, 'Int64')"
        );
        assert_eq!(
            put("SELECT $1", &[Parameter::Int(i64::MIN)]).unwrap(),
            "SELECT CAST('-9223372036854775808' AS BIGINT)"
        );
    }

    #[test]
    fn values_and_places_go_together() {
        for (sql, values, said) in [
            ("SELECT $2", vec![Parameter::Null], "there is no parameter $2: 1 are given"),
            ("SELECT $1", vec![Parameter::Null, Parameter::Null], "2 parameters are given, and the query names 1"),
            ("SELECT $0", vec![Parameter::Null], "$0 is no parameter"),
            ("SELECT $1", vec![], "there is no parameter $1: 0 are given"),
        ] {
            let error = put(sql, &values).unwrap_err();
            assert!(matches!(error, SqlError::Parameter { .. }) && error.to_string().contains(said), "{sql}: {error}");
        }
    }

    #[test]
    fn json_has_its_types() {
        let parameter = |json: &str| Parameter::from_json(serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!(parameter("1"), Parameter::Int(1));
        assert_eq!(parameter("1.5"), Parameter::Float(1.5));
        assert_eq!(parameter("\"x\""), Parameter::Text("x".into()));
        assert_eq!(parameter("[true, null]"), Parameter::List(vec![Parameter::Bool(true), Parameter::Null]));
        assert_eq!(parameter("{\"a\":1}"), Parameter::Text("{\"a\":1}".into()));
    }
}
