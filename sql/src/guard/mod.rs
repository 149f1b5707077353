//! What a query may be: one statement, of a kind that only reads our tables. An allow-list over the parsed tree, so that a
//! statement nobody thought of is refused too; the plan is checked again after it.

mod distinct;
pub(crate) mod spelling;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    self, DescribeAlias, ObjectName, Query, Select, SetExpr, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::as_of;
use crate::error::SqlError;

/// Longest query text, bytes.
const MAX_QUERY_BYTES: usize = 256 << 10;
/// How deep a query may nest.
const MAX_DEPTH: usize = 50;
/// How many operators and keywords it may have. A chain such as `1 + 1 + ...` nests in the tree, not in the text, and trees are walked, copied and dropped
/// by recursion.
const MAX_OPERATORS: usize = 1000;
/// How many tables it may read, those of a WITH query counted each time it is named. A chain of WITH queries that each name the one before twice is a
/// short text and an endless plan, and planning can be neither stopped nor limited in memory.
const MAX_RELATIONS: usize = 200;
/// Table functions that compute and read nothing.
const TABLE_FUNCTIONS: [&str; 4] = ["generate_series", "range", "unnest", "pg_get_keywords"];
/// A schema-qualified relation that shows the server's settings and paths.
const SETTINGS: &str = "df_settings";

const HINT_READ: &str = "use SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES, SHOW COLUMNS, SHOW FUNCTIONS or DESCRIBE";
const HINT_FILES: &str = "query the tables that SHOW TABLES lists";
const HINT_ONE: &str = "send one statement at a time";

/// True for the name of a table function that queries may use.
pub(crate) fn is_table_function(name: &str) -> bool {
    TABLE_FUNCTIONS.iter().any(|f| f.eq_ignore_ascii_case(name))
}

/// Parses a query and lets it through if it only reads.
///
/// # Errors
/// [`SqlError::Syntax`], or [`SqlError::Forbidden`] naming the statement.
pub(crate) fn parse(sql: &str, dialect: &dyn Dialect) -> Result<Statement, SqlError> {
    parse_changed(sql, dialect, |_| {})
}

/// The same with a change to the statement before it is looked at.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_changed(
    sql: &str,
    dialect: &dyn Dialect,
    change: impl Fn(&mut ast::Statement),
) -> Result<Statement, SqlError> {
    let tokens = tokens(sql, dialect)?;
    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(dialect)
        .with_recursion_limit(MAX_DEPTH)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|e| SqlError::from_datafusion(e, 0))?;
    let Some(mut statement) = statements.pop_front() else {
        return Err(SqlError::Syntax { message: "the query is empty".to_string(), at: None });
    };
    match &mut statement {
        Statement::Statement(inner) => {
            change(inner);
            spelling::respell(inner);
            distinct::bind_tightly(inner);
        }
        Statement::Explain(explain) => {
            if let Statement::Statement(inner) = explain.statement.as_mut() {
                change(inner);
                spelling::respell(inner);
                distinct::bind_tightly(inner);
            }
        }
        _ => {}
    }
    // The first statement's own name is the better message, where it is refused anyway.
    check(&statement)?;
    if !statements.is_empty() {
        return Err(forbidden("more than one statement", HINT_ONE));
    }
    Ok(statement)
}

/// The text's tokens, if it is neither too long nor has too many that nest.
///
/// # Errors
/// [`SqlError::Syntax`].
pub(crate) fn tokens(sql: &str, dialect: &dyn Dialect) -> Result<Vec<TokenWithSpan>, SqlError> {
    if sql.len() > MAX_QUERY_BYTES {
        let message = format!("the query is {} bytes long, the limit is {MAX_QUERY_BYTES}", sql.len());
        return Err(SqlError::Syntax { message, at: None });
    }
    let mut tokens =
        Tokenizer::new(dialect, sql).tokenize_with_location().map_err(|e| SqlError::syntax(e.to_string()))?;
    // Parameters are `$1`, so a bare `?` can only be the operator: is there such a key?
    tokens = as_of::tokens::normalise(tokens);
    for token in &mut tokens {
        if matches!(&token.token, Token::Placeholder(name) if name == "?") {
            token.token = Token::Question;
        }
    }
    trim_blanks(&mut tokens);
    let operators = tokens.iter().filter(|t| may_nest(&t.token)).count();
    if operators > MAX_OPERATORS {
        let message = format!("the query has {operators} operators and keywords, the limit is {MAX_OPERATORS}");
        return Err(SqlError::Syntax { message, at: None });
    }
    Ok(tokens)
}

/// `trim(trailing from x)`, which the parser wants to be told what to trim: blanks, says the standard.
fn trim_blanks(tokens: &mut Vec<TokenWithSpan>) {
    let is_word = |token: &TokenWithSpan, keywords: &[Keyword]| matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && keywords.contains(&word.keyword));
    let words: Vec<usize> = (0..tokens.len()).filter(|&i| !matches!(tokens[i].token, Token::Whitespace(_))).collect();
    // From behind, so that the places in front stay what they are.
    for four in words.windows(4).rev() {
        let [trim, open, side, from] = [four[0], four[1], four[2], four[3]];
        if is_word(&tokens[trim], &[Keyword::TRIM])
            && tokens[open].token == Token::LParen
            && is_word(&tokens[side], &[Keyword::TRAILING, Keyword::LEADING, Keyword::BOTH])
            && is_word(&tokens[from], &[Keyword::FROM])
        {
            let span = tokens[from].span;
            tokens.insert(from, TokenWithSpan { token: Token::SingleQuotedString(" ".to_string()), span });
        }
    }
}

/// True for a token that can make the tree one level deeper: not for names, values and what separates them.
fn may_nest(token: &Token) -> bool {
    match token {
        // The arms of a CASE lie beside each other.
        Token::Word(word) => !matches!(word.keyword, Keyword::NoKeyword | Keyword::WHEN | Keyword::THEN),
        Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::SemiColon
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::EOF => false,
        _ => true,
    }
}

/// Lets a parsed statement through if it only reads.
///
/// # Errors
/// [`SqlError::Forbidden`] naming the statement, [`SqlError::Syntax`] where it reads too many tables.
pub(crate) fn check(statement: &Statement) -> Result<(), SqlError> {
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
    match statement.visit(&mut Guard::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Looks at every part of an allowed statement.
#[derive(Default)]
struct Guard {
    /// True once the statement itself has been looked at, and what follows is inside it.
    inside: bool,
    /// The queries around the place looked at, outermost first.
    scopes: Vec<Scope>,
}

/// A query that is being looked at.
#[derive(Default)]
struct Scope {
    /// Its WITH queries that have been looked at, and how many tables each reads.
    named: HashMap<String, usize>,
    /// The names of those that have not, last first. They come before the query's own body.
    unnamed: Vec<String>,
    /// How many tables its body has read so far.
    relations: usize,
}

impl Guard {
    /// The innermost query reads so many tables more.
    fn count(&mut self, relations: usize) -> ControlFlow<Box<SqlError>> {
        let Some(scope) = self.scopes.last_mut() else { return ControlFlow::Continue(()) };
        scope.relations = scope.relations.saturating_add(relations);
        if scope.relations <= MAX_RELATIONS {
            return ControlFlow::Continue(());
        }
        let message = format!(
            "the query reads more than {MAX_RELATIONS} tables, those of a WITH query counted each time it is named"
        );
        ControlFlow::Break(Box::new(SqlError::Syntax { message, at: None }))
    }

    fn refuse(what: impl Into<String>, hint: &'static str) -> ControlFlow<Box<SqlError>> {
        ControlFlow::Break(Box::new(forbidden(what, hint)))
    }
}

impl Visitor for Guard {
    type Break = Box<SqlError>;

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> ControlFlow<Self::Break> {
        // The root has been looked at; a statement inside it is a data-modifying CTE or the like.
        if !std::mem::replace(&mut self.inside, true) || matches!(statement, ast::Statement::Query(_)) {
            return ControlFlow::Continue(());
        }
        Self::refuse(statement_name(statement), HINT_READ)
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        let unnamed = with.map(|cte| cte.alias.name.value.to_lowercase()).rev().collect();
        self.scopes.push(Scope { unnamed, ..Scope::default() });
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

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<Self::Break> {
        // A query that reads no table is a step of the plan all the same.
        let relations = self.scopes.pop().map_or(1, |scope| scope.relations.max(1));
        if let Some(outer) = self.scopes.last_mut() {
            match outer.unnamed.pop() {
                Some(name) => {
                    outer.named.insert(name, relations);
                }
                None => return self.count(relations),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        if select.into.is_some() {
            return Self::refuse("SELECT INTO", HINT_READ);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Self::Break> {
        if let Err(error) = check_relation(relation) {
            return ControlFlow::Break(Box::new(error));
        }
        let name = relation.to_string().to_lowercase();
        let with = self.scopes.iter().rev().find_map(|scope| scope.named.get(&name));
        self.count(with.copied().unwrap_or(1))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                let function = name.to_string();
                if is_table_function(&function) {
                    ControlFlow::Continue(())
                } else {
                    Self::refuse(format!("table function {}", function.to_lowercase()), HINT_FILES)
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

/// An error of this kind.
pub(crate) fn forbidden(what: impl Into<String>, hint: &'static str) -> SqlError {
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
