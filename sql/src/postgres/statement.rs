//! A statement that a client has sent: what it is, and what it needs to run.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use highwater_pipeline::functions::HighwaterDialect;
use parking_lot::Mutex;
use pgwire::api::Type;
use pgwire::messages::data::{FieldDescription, RowDescription};

use super::command::{self, Command, Piece};
use super::error::{PgError, code};
use super::{casts, explain, names, records, rewrite, types};
use crate::error::SqlError;
use crate::guard;

/// What Postgres's own queries about its catalog need to be changed into, for the engine to plan them.
static COMPATIBILITY: LazyLock<PostgresCompatibilityParser> = LazyLock::new(PostgresCompatibilityParser::new);

/// A statement, prepared or about to run.
pub(super) struct Prepared {
    /// What the client sent, and where in it, in bytes, this begins: for places in errors.
    pub(super) text: Arc<str>,
    pub(super) begin: usize,
    pub(super) what: What,
    /// The types of its parameters.
    pub(super) types: Vec<Type>,
    /// The columns of its rows, once somebody asked.
    pub(super) columns: Mutex<Option<Arc<Columns>>>,
}

/// What a statement is.
#[derive(Clone)]
pub(super) enum What {
    /// Nothing but blanks and comments.
    Nothing,
    /// For the session.
    Command(Command),
    /// For the engine.
    Query(Box<Query>),
}

/// A statement for the engine.
#[derive(Clone)]
pub(super) struct Query {
    pub(super) statement: Statement,
    /// Its columns by the names that Postgres gives them, where they are known from the text.
    names: Option<Vec<String>>,
    /// What its columns are told as, where the text says more than the engine knows.
    told: Vec<Option<Type>>,
    /// The types of its parameters that the text says.
    pub(super) parameters: Vec<Option<Type>>,
    /// True where it is told by the engine's own description of its tables: SHOW TABLES, DESCRIBE.
    pub(super) is_ours: bool,
    tag: &'static str,
}

impl Query {
    /// What `CommandComplete` says after so many rows.
    pub(super) fn tag(&self, rows: u64) -> String {
        match self.tag {
            "SELECT" => format!("SELECT {rows}"),
            other => other.to_string(),
        }
    }

    /// The columns of rows with this schema.
    pub(super) fn columns(&self, schema: &Schema) -> Columns {
        let names = self.names.as_ref().filter(|names| names.len() == schema.fields().len());
        let name = |i: usize, field: &str| names.map_or_else(|| field.to_string(), |names| names[i].clone());
        let told = |i: usize| match self.told.len() == schema.fields().len() {
            true => self.told[i].clone(),
            false => None,
        };
        let column = |(i, field): (usize, &FieldRef)| {
            let pg_type = told(i).filter(|t| types::may_be_told(field, t)).unwrap_or_else(|| types::type_of(field));
            Column { name: name(i, field.name()), pg_type }
        };
        Columns(schema.fields().iter().enumerate().map(column).collect())
    }
}

/// A column of rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) pg_type: Type,
}

/// All of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Columns(pub(super) Vec<Column>);

impl Columns {
    /// Columns of text.
    pub(super) fn of_text(names: &[&str]) -> Self {
        Self(names.iter().map(|name| Column { name: (*name).to_string(), pg_type: Type::TEXT }).collect())
    }

    /// As the client is told, with these formats: none for text, one for all, or one each.
    pub(super) fn description(&self, formats: &[i16]) -> RowDescription {
        let fields = self.0.iter().enumerate().map(|(i, column)| {
            FieldDescription::new(
                column.name.clone(),
                0,
                0,
                column.pg_type.oid(),
                types::size_bytes(&column.pg_type),
                -1,
                format_of(formats, i),
            )
        });
        RowDescription::new(fields.collect())
    }
}

/// The format of a parameter or column: 0 text, 1 binary.
pub(super) fn format_of(formats: &[i16], index: usize) -> i16 {
    match formats {
        [] => 0,
        [all] => *all,
        each => each.get(index).copied().unwrap_or(0),
    }
}

impl Prepared {
    /// A statement of a client's text.
    ///
    /// # Errors
    /// What is wrong with it, or with what it asks.
    pub(super) fn parse(text: &Arc<str>, piece: &Piece) -> Result<Self, PgError> {
        let what = match command::command(&piece.text)? {
            Command::Query => {
                What::Query(Box::new(query(&piece.text).map_err(|error| PgError::of(&error, text, piece.begin))?))
            }
            command => What::Command(command),
        };
        Ok(Self { text: Arc::clone(text), begin: piece.begin, what, types: Vec::new(), columns: Mutex::new(None) })
    }

    /// The one statement of a client's text.
    ///
    /// # Errors
    /// As [`Prepared::parse`], and where there are several.
    pub(super) fn parse_one(text: &str) -> Result<Self, PgError> {
        let text: Arc<str> = text.into();
        let mut pieces = command::split(&text)?.into_iter();
        match (pieces.next(), pieces.next()) {
            (Some(piece), None) => Self::parse(&text, &piece),
            (None, _) => Ok(Self { text, begin: 0, what: What::Nothing, types: Vec::new(), columns: Mutex::new(None) }),
            (Some(_), Some(_)) => {
                Err(PgError::new(code::SYNTAX, "cannot insert multiple commands into a prepared statement"))
            }
        }
    }

    /// The same error with its place in the client's text.
    pub(super) fn error(&self, error: &SqlError) -> PgError {
        PgError::of(error, &self.text, self.begin)
    }

    /// The columns of its rows, where they are remembered.
    pub(super) fn known_columns(&self) -> Option<Arc<Columns>> {
        self.columns.lock().clone()
    }

    /// Remembers the columns of its rows.
    pub(super) fn know_columns(&self, query: &Query, schema: &SchemaRef) -> Arc<Columns> {
        let columns = Arc::new(query.columns(schema));
        *self.columns.lock() = Some(Arc::clone(&columns));
        columns
    }
}

/// Parses a statement for the engine and sends it past the guard.
fn query(text: &str) -> Result<Query, SqlError> {
    let explained = explain::options(text)?;
    let (text, is_json) = explained.as_ref().map_or((text, false), |(text, is_json)| (text.as_str(), *is_json));
    let tokens = guard::tokens(text, &HighwaterDialect)?;
    let (mut statement, names, told, parameters) = if command::is_about_catalog(&tokens) {
        let statement = compatible(text)?;
        let written = as_written(text);
        let names = written.as_ref().and_then(names::of).or_else(|| names::of(&statement));
        let written = written.as_ref().unwrap_or(&statement);
        let (told, parameters) = (casts::of_columns(written), casts::of_parameters(written));
        (statement, names, told, parameters)
    } else {
        let statement = guard::parse_changed(text, &HighwaterDialect, records::calls)?;
        let (told, parameters) = (casts::of_columns(&statement), casts::of_parameters(&statement));
        let names = names::of(&statement);
        (statement, names, told, parameters)
    };
    let told = if is_json { vec![Some(Type::JSON)] } else { told };
    names::make_distinct(&mut statement);
    if let Statement::Statement(inner) = &mut statement {
        rewrite::any(inner);
    }
    let (tag, is_ours) = match &statement {
        Statement::Explain(_) => ("EXPLAIN", false),
        Statement::Statement(inner) => match inner.as_ref() {
            ast::Statement::Query(_) => ("SELECT", false),
            ast::Statement::Explain { .. } => ("EXPLAIN", false),
            _ => ("SHOW", true),
        },
        _ => ("SELECT", false),
    };
    Ok(Query { statement, names, told, parameters, is_ours, tag })
}

/// The statement as the engine can plan it.
fn compatible(text: &str) -> Result<Statement, SqlError> {
    let syntax = |e: ParserError| SqlError::syntax(e.to_string());
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, text).map_err(syntax)?;
    for statement in &mut statements {
        rewrite::catalog(statement);
    }
    // The library's changes are made to tokens first, and those to the tree after it.
    let text = statements.iter().map(ToString::to_string).collect::<Vec<_>>().join(";");
    let mut statements = COMPATIBILITY.parse(&text).map_err(syntax)?;
    if statements.len() != 1 {
        return Err(SqlError::Syntax { message: "not one statement".to_string(), at: None });
    }
    let mut statement = statements.swap_remove(0);
    arrays_of_rows(&mut statement);
    guard::spelling::respell(&mut statement);
    let statement = Statement::Statement(Box::new(statement));
    guard::check(&statement)?;
    Ok(statement)
}

/// `ARRAY(SELECT x ...)` becomes `(SELECT array_agg(x) ...)`, which the engine knows.
fn arrays_of_rows(statement: &mut ast::Statement) {
    let _all: ControlFlow<()> = ast::visit_expressions_mut(statement, |expr| {
        let ast::Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let ast::FunctionArguments::Subquery(query) = &function.args else { return ControlFlow::Continue(()) };
        if !function.name.to_string().eq_ignore_ascii_case("array") {
            return ControlFlow::Continue(());
        }
        let mut query = query.clone();
        query.order_by = None;
        if let ast::SetExpr::Select(select) = query.body.as_mut()
            && let [ast::SelectItem::UnnamedExpr(item) | ast::SelectItem::ExprWithAlias { expr: item, .. }] =
                select.projection.as_mut_slice()
            && let Ok(all) = Parser::new(&PostgreSqlDialect {})
                .try_with_sql(&format!("array_agg({item})"))
                .and_then(|mut parser| parser.parse_expr())
        {
            select.projection = vec![ast::SelectItem::UnnamedExpr(all)];
            *expr = ast::Expr::Subquery(query);
        }
        ControlFlow::Continue(())
    });
}

/// The statement before anything was changed in it.
fn as_written(text: &str) -> Option<Statement> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, text).ok()?;
    (statements.len() == 1).then(|| Statement::Statement(Box::new(statements.swap_remove(0))))
}
