//! What a query may be: one statement, of a kind that only reads our tables. An allow-list over the parsed tree, so that a
//! statement nobody thought of is refused too; the plan is checked again after it.

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    self, DescribeAlias, ObjectName, Query, Select, SetExpr, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::Dialect;

use crate::error::SqlError;

/// Longest query text, bytes.
const MAX_QUERY_BYTES: usize = 256 << 10;
/// How deep a query may nest.
const MAX_DEPTH: usize = 50;
/// Table functions that compute and read nothing.
const TABLE_FUNCTIONS: [&str; 3] = ["generate_series", "range", "unnest"];
/// A schema-qualified relation that shows the server's settings and paths.
const SETTINGS: &str = "df_settings";

const HINT_READ: &str = "use SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES, SHOW COLUMNS, SHOW FUNCTIONS or DESCRIBE";
const HINT_FILES: &str = "query the tables that SHOW TABLES lists";
const HINT_ONE: &str = "send one statement at a time";

/// Parses a query and lets it through if it only reads.
///
/// # Errors
/// [`SqlError::Syntax`], or [`SqlError::Forbidden`] naming the statement.
pub(crate) fn parse(sql: &str, dialect: &dyn Dialect) -> Result<Statement, SqlError> {
    if sql.len() > MAX_QUERY_BYTES {
        return Err(SqlError::Syntax {
            message: format!("the query is {} bytes long, the limit is {MAX_QUERY_BYTES}", sql.len()),
        });
    }
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(dialect)
        .with_recursion_limit(MAX_DEPTH)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|e| SqlError::from_datafusion(e, 0))?;
    let Some(statement) = statements.pop_front() else {
        return Err(SqlError::Syntax { message: "the query is empty".to_string() });
    };
    // The first statement's own name is the better message, where it is refused anyway.
    check(&statement)?;
    if !statements.is_empty() {
        return Err(forbidden("more than one statement", HINT_ONE));
    }
    Ok(statement)
}

fn check(statement: &Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Statement(inner) => check_statement(inner),
        Statement::Explain(explain) => match explain.statement.as_ref() {
            Statement::Statement(inner) if matches!(**inner, ast::Statement::Query(_)) => check_statement(inner),
            other => Err(forbidden(format!("EXPLAIN of {}", name_of(other)), "EXPLAIN a SELECT")),
        },
        other => Err(forbidden(name_of(other), HINT_READ)),
    }
}

fn check_statement(statement: &ast::Statement) -> Result<(), SqlError> {
    match statement {
        ast::Statement::Query(_) => walk(statement),
        // DESCRIBE table, and EXPLAIN table.
        ast::Statement::ExplainTable { table_name, .. } => check_relation(table_name),
        // DESCRIBE of a query.
        ast::Statement::Explain {
            statement, describe_alias: DescribeAlias::Describe | DescribeAlias::Desc, ..
        } if matches!(**statement, ast::Statement::Query(_)) => walk(statement),
        ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. }
        | ast::Statement::ShowFunctions { .. } => walk(statement),
        ast::Statement::ShowVariable { .. } => Err(forbidden("SHOW of a setting", HINT_READ)),
        other => Err(forbidden(statement_name(other), HINT_READ)),
    }
}

fn walk(statement: &ast::Statement) -> Result<(), SqlError> {
    match statement.visit(&mut Guard { root: true }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Looks at every part of an allowed statement.
struct Guard {
    root: bool,
}

impl Guard {
    fn refuse(what: impl Into<String>, hint: &'static str) -> ControlFlow<Box<SqlError>> {
        ControlFlow::Break(Box::new(forbidden(what, hint)))
    }
}

impl Visitor for Guard {
    type Break = Box<SqlError>;

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> ControlFlow<Self::Break> {
        // The root has been looked at; a statement inside it is a data-modifying CTE or the like.
        if std::mem::take(&mut self.root) || matches!(statement, ast::Statement::Query(_)) {
            return ControlFlow::Continue(());
        }
        Self::refuse(statement_name(statement), HINT_READ)
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        if !query.locks.is_empty() {
            return Self::refuse("FOR UPDATE", "leave it out");
        }
        if query.settings.is_some() {
            return Self::refuse("SETTINGS", "leave it out");
        }
        if query.format_clause.is_some() {
            return Self::refuse("FORMAT", "name the format in the request instead");
        }
        match query.body.as_ref() {
            SetExpr::Insert(s) | SetExpr::Update(s) | SetExpr::Delete(s) | SetExpr::Merge(s) => {
                Self::refuse(statement_name(s), HINT_READ)
            }
            SetExpr::Select(_)
            | SetExpr::Query(_)
            | SetExpr::SetOperation { .. }
            | SetExpr::Values(_)
            | SetExpr::Table(_) => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        if select.into.is_some() {
            return Self::refuse("SELECT INTO", HINT_READ);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Self::Break> {
        match check_relation(relation) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                let function = name.to_string().to_lowercase();
                if TABLE_FUNCTIONS.contains(&function.as_str()) {
                    ControlFlow::Continue(())
                } else {
                    Self::refuse(format!("table function {function}"), HINT_FILES)
                }
            }
            other => {
                let text: String = other.to_string().chars().take(60).collect();
                Self::refuse(format!("`{text}` in FROM"), HINT_FILES)
            }
        }
    }
}

/// A relation is a table's name, never a file's: `'x.parquet'`, `"/etc/passwd"` and `"s3://..."` are refused as what they are, rather
/// than as tables that do not exist.
fn check_relation(name: &ObjectName) -> Result<(), SqlError> {
    for part in &name.0 {
        let Some(ident) = part.as_ident() else { continue };
        let text = ident.value.as_str();
        if ident.quote_style == Some('\'') || text.contains('/') || text.contains('\\') || text.contains("://") {
            return Err(forbidden(format!("reading {text:?}"), HINT_FILES));
        }
        if text.eq_ignore_ascii_case(SETTINGS) {
            return Err(forbidden("reading the server's settings", HINT_FILES));
        }
    }
    Ok(())
}

fn forbidden(what: impl Into<String>, hint: &'static str) -> SqlError {
    SqlError::Forbidden { what: what.into(), hint }
}

fn name_of(statement: &Statement) -> String {
    match statement {
        Statement::Statement(inner) => statement_name(inner),
        Statement::CreateExternalTable(_) => "CREATE EXTERNAL TABLE".to_string(),
        Statement::CopyTo(_) => "COPY".to_string(),
        Statement::Explain(_) => "EXPLAIN".to_string(),
        Statement::Reset(_) => "RESET".to_string(),
    }
}

/// The statement's first words, as many as are its name: `CREATE VIEW`, `INSERT`, `SET`.
fn statement_name(statement: &ast::Statement) -> String {
    const TWO_WORDS: [&str; 6] = ["CREATE", "DROP", "ALTER", "SHOW", "START", "LOCK"];
    let text = statement.to_string();
    let mut words = text.split_whitespace().map(str::to_uppercase);
    let first = words.next().unwrap_or_default();
    match words.next() {
        Some(second) if TWO_WORDS.contains(&first.as_str()) => format!("{first} {second}"),
        _ => first,
    }
}
