//! Catalog queries, made into what the engine can plan.
//!
//! Much of what clients ask about are things that do not exist here: constraints, indexes, triggers, policies. A query that joins with one of those has
//! no rows, whatever else it says, and what it says is often what the engine cannot plan. So such queries, and parts of queries, become empty
//! ones with the same columns. The rest are forms that only Postgres has.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, CastKind, Expr, FunctionArguments, JoinOperator, Query, SelectItem, SetExpr, Statement, TableFactor,
    TableWithJoins, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use pgwire::api::Type;

use super::catalog::{PG_CATALOG, relations};
use super::{casts, decode, interval, names, records, types};
use crate::parameters::Parameter;

/// Tables of the system catalog that have no rows here.
pub(super) const EMPTY: &[&str] = &[
    "pg_amop",
    "pg_amproc",
    "pg_attrdef",
    "pg_constraint",
    "pg_conversion",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_depend",
    "pg_description",
    "pg_enum",
    "pg_event_trigger",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_largeobject",
    "pg_matviews",
    "pg_opclass",
    "pg_opfamily",
    "pg_partitioned_table",
    "pg_policies",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_publication_tables",
    "pg_rewrite",
    "pg_rules",
    "pg_seclabel",
    "pg_seclabels",
    "pg_sequence",
    "pg_sequences",
    "pg_shdepend",
    "pg_statistic_ext",
    "pg_statistic_ext_data",
    "pg_stats_ext",
    "pg_subscription",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_config_map",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_user_mapping",
    "pg_user_mappings",
];
/// How deep queries are looked into.
const MAX_DEPTH: usize = 40;

/// Rewrites a statement about the catalog, before anything else is done to it.
pub(super) fn catalog(statement: &mut Statement) {
    let _all: ControlFlow<()> = statement.visit(&mut Catalog);
    if let Statement::Query(query) = statement {
        without_rows(query);
    }
}

/// Rewrites any statement of a Postgres client.
pub(super) fn any(statement: &mut Statement) {
    let _counts: ControlFlow<()> = statement.visit(&mut Counts);
    records::rows(statement);
    let _all: ControlFlow<()> = ast::visit_expressions_mut(statement, |expr| {
        escapes(expr);
        literals(expr);
        array_literals(expr);
        ControlFlow::Continue(())
    });
}

/// Rights, or the policies of tables.
fn is_of_rights(text: &str) -> bool {
    text.contains("acl") || text.contains("pg_policy")
}

/// The elements of `reloptions`, which no table here has.
fn is_of_storage_options(query: &Query) -> bool {
    let text = query.to_string();
    text.contains("unnest(") && text.contains("reloptions")
}

struct Catalog;

impl VisitorMut for Catalog {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &mut ast::ObjectName) -> ControlFlow<()> {
        // The system catalog is on the search path before everything else.
        if let [part] = name.0.as_slice()
            && let Some(ident) = part.as_ident()
            && relations::system_names().any(|system| system.eq_ignore_ascii_case(&ident.value))
        {
            *name =
                ast::ObjectName::from(vec![ast::Ident::new(PG_CATALOG), ast::Ident::new(ident.value.to_lowercase())]);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        // In a WITH and in FROM; the statement's own comes last, when its parts are known.
        empty_parts(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let null = || Expr::Value(Value::Null.with_empty_span());
        let replacement = match expr {
            Expr::Subquery(query) if has_no_rows(query, &BTreeSet::new(), 0) => Some(null()),
            Expr::Exists { subquery, negated } if has_no_rows(subquery, &BTreeSet::new(), 0) => {
                Some(Expr::Value(Value::Boolean(*negated).with_empty_span()))
            }
            Expr::Function(function) => match &function.args {
                FunctionArguments::Subquery(query)
                    if function.name.to_string().eq_ignore_ascii_case("array")
                        && (has_no_rows(query, &BTreeSet::new(), 0) || is_of_storage_options(query)) =>
                {
                    Some(null())
                }
                // Nothing has rights or policies of its own.
                FunctionArguments::List(list)
                    if function.name.to_string().to_lowercase().ends_with("array_to_string")
                        && list.args.first().map(ToString::to_string).is_some_and(|text| is_of_rights(&text)) =>
                {
                    Some(null())
                }
                // What to take where there is no array: an array as text, which the engine does not take for one.
                FunctionArguments::List(list)
                    if function.name.to_string().eq_ignore_ascii_case("coalesce")
                        && matches!(list.args.as_slice(), [_, last] if last.to_string() == "'{}'") =>
                {
                    list.args.first().and_then(|first| expression(&first.to_string()))
                }
                // Of sequences and collations that a column may have: none has one.
                _ if function.name.to_string().eq_ignore_ascii_case("json_build_object") => Some(null()),
                _ => None,
            },
            // The number of a table by a name that is put together.
            Expr::Cast { expr: inner, data_type, .. }
                if data_type.to_string().to_lowercase().ends_with("regclass")
                    && matches!(inner.as_ref(), Expr::Function(_)) =>
            {
                expression(&format!("to_regclass({inner})"))
            }
            // Columns of types that hold the names of functions.
            Expr::BinaryOp { left, op: ast::BinaryOperator::Eq, right } if is_function_of_type(left, right) => {
                for side in [left, right] {
                    if let Expr::CompoundIdentifier(parts) = side.as_mut()
                        && let Some(part) = parts.last_mut().filter(|part| part.value.eq_ignore_ascii_case("oid"))
                    {
                        "proname".clone_into(&mut part.value);
                    }
                }
                None
            }
            // A column that has had another name since.
            Expr::CompoundIdentifier(parts)
                if parts.last().is_some_and(|part| part.value.eq_ignore_ascii_case("colliculocale")) =>
            {
                if let Some(part) = parts.last_mut() {
                    "colllocale".clone_into(&mut part.value);
                }
                None
            }
            // Which of the system's tables a row is of.
            Expr::CompoundIdentifier(parts)
                if parts.last().is_some_and(|part| part.value.eq_ignore_ascii_case("tableoid")) =>
            {
                expression("0")
            }
            Expr::Case { operand: None, conditions, .. } => is_about_made_types(conditions).and_then(expression),
            // What is on the search path.
            Expr::InSubquery { expr, subquery, negated }
                if subquery.to_string().contains("current_setting('search_path')") =>
            {
                let public = Value::SingleQuotedString(crate::catalog::SCHEMA.to_string()).with_empty_span();
                Some(Expr::InList { expr: expr.clone(), list: vec![Expr::Value(public)], negated: *negated })
            }
            // Columns of this type hold the names of functions.
            Expr::Cast { kind: CastKind::DoubleColon | CastKind::Cast, expr: inner, data_type, .. }
                if data_type.to_string().to_lowercase().ends_with("regproc") =>
            {
                match inner.as_ref() {
                    Expr::Value(value) => match &value.value {
                        Value::SingleQuotedString(name) => {
                            let bare = name.rsplit('.').next().unwrap_or(name).to_string();
                            Some(Expr::Value(Value::SingleQuotedString(bare).with_empty_span()))
                        }
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        };
        if let Some(replacement) = replacement {
            *expr = replacement;
        }
        if let Expr::Subquery(query) = expr {
            one_row(query);
        }
        ControlFlow::Continue(())
    }
}

/// `proc.oid = typ.typreceive`, either way round.
fn is_function_of_type(left: &Expr, right: &Expr) -> bool {
    let names = |expr: &Expr, wanted: &[&str]| match expr {
        Expr::CompoundIdentifier(parts) => {
            parts.last().is_some_and(|part| wanted.iter().any(|name| part.value.eq_ignore_ascii_case(name)))
        }
        _ => false,
    };
    const OF_TYPES: [&str; 4] = ["typinput", "typoutput", "typreceive", "typsend"];
    names(left, &["oid"]) && names(right, &OF_TYPES) || names(left, &OF_TYPES) && names(right, &["oid"])
}

/// A subquery in place of a value becomes an aggregate: the engine wants to see that it has one row.
fn one_row(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let is_plain = query.limit_clause.is_none()
        && query.fetch.is_none()
        && matches!(&select.group_by, ast::GroupByExpr::Expressions(by, _) if by.is_empty());
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_slice()
    else {
        return;
    };
    if !is_plain || select.from.is_empty() || is_aggregate(item) {
        return;
    }
    if let Some(max) = expression(&format!("max({item})")) {
        select.projection = vec![SelectItem::UnnamedExpr(max)];
        query.order_by = None;
    }
}

fn expression(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_expr()).ok()
}

/// True where there is an aggregate in it; those of a subquery in it are that one's.
fn is_aggregate(expr: &Expr) -> bool {
    const AGGREGATES: [&str; 9] =
        ["array_agg", "bool_and", "bool_or", "count", "every", "max", "min", "string_agg", "sum"];
    #[derive(Default)]
    struct Aggregates {
        depth: usize,
    }
    impl Visitor for Aggregates {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function)
                    if self.depth == 0 && AGGREGATES.contains(&last(&function.name).to_lowercase().as_str()) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Aggregates::default()).is_break()
}

/// `CASE WHEN t.typtype = 'd' THEN ... END`: columns here have no domains and no composite types.
fn is_about_made_types(conditions: &[ast::CaseWhen]) -> Option<&'static str> {
    let [when] = conditions else { return None };
    let Expr::BinaryOp { left, op: ast::BinaryOperator::Eq, right } = &when.condition else { return None };
    if !left.to_string().to_lowercase().ends_with("typtype") || !matches!(when.result, Expr::Subquery(_)) {
        return None;
    }
    match right.to_string().as_str() {
        "'d'" => Some("CAST(NULL AS INT)"),
        // The names or the types of its parts.
        "'c'" if when.result.to_string().contains("attname") => Some("CAST(NULL AS TEXT[])"),
        "'c'" => Some("arrow_cast(NULL, 'List(UInt32)')"),
        _ => None,
    }
}

fn last(name: &ast::ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone()).unwrap_or_default()
}

/// Makes the parts of a query that have no rows plainly so.
fn empty_parts(query: &mut Query) {
    if let Some(with) = &mut query.with {
        for cte in &mut with.cte_tables {
            without_rows(&mut cte.query);
        }
    }
    if let SetExpr::Select(select) = query.body.as_mut() {
        for from in &mut select.from {
            let factors =
                std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation));
            for factor in factors {
                if let TableFactor::Derived { subquery, .. } = factor {
                    without_rows(subquery);
                }
            }
        }
    }
}

/// Where a query has no rows, only its columns stay of it.
fn without_rows(query: &mut Query) {
    if !has_no_rows(query, &BTreeSet::new(), 0) {
        return;
    }
    let Some(names) = names::of_body(&query.body) else { return };
    let columns: Vec<String> =
        names.iter().map(|name| format!("CAST(NULL AS TEXT) AS \"{}\"", name.replace('"', "\"\""))).collect();
    let sql = format!("SELECT {} WHERE false", columns.join(", "));
    if let Ok(Statement::Query(empty)) =
        Parser::parse_sql(&PostgreSqlDialect {}, &sql).map(|mut statements| statements.swap_remove(0))
    {
        *query = *empty;
    }
}

/// True where it follows from the tables that a query reads that it has no rows. `known` are queries of a WITH around it that have none.
fn has_no_rows(query: &Query, known: &BTreeSet<String>, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    let mut known = known.clone();
    for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
        let name = cte.alias.name.value.to_lowercase();
        match has_no_rows(&cte.query, &known, depth + 1) {
            true => known.insert(name),
            false => known.remove(&name),
        };
    }
    body_has_no_rows(&query.body, &known, depth)
}

fn body_has_no_rows(body: &SetExpr, known: &BTreeSet<String>, depth: usize) -> bool {
    match body {
        SetExpr::Query(query) => has_no_rows(query, known, depth + 1),
        SetExpr::SetOperation { op, left, right, .. } => {
            let (left, right) = (body_has_no_rows(left, known, depth), body_has_no_rows(right, known, depth));
            match op {
                ast::SetOperator::Intersect => left || right,
                ast::SetOperator::Except | ast::SetOperator::Minus => left,
                ast::SetOperator::Union => left && right,
            }
        }
        SetExpr::Select(select) => {
            let is_grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(by, _) if by.is_empty());
            let aggregates = select.projection.iter().any(|item| match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => is_aggregate(expr),
                _ => false,
            });
            let is_false =
                matches!(&select.selection, Some(Expr::Value(value)) if value.value == Value::Boolean(false));
            // An aggregate over nothing is one row.
            (is_grouped || !aggregates)
                && (is_false || select.from.iter().any(|from| from_has_no_rows(from, known, depth)))
        }
        _ => false,
    }
}

fn from_has_no_rows(from: &TableWithJoins, known: &BTreeSet<String>, depth: usize) -> bool {
    let mut is_empty = factor_has_no_rows(&from.relation, known, depth);
    for join in &from.joins {
        let right = factor_has_no_rows(&join.relation, known, depth);
        is_empty = match &join.join_operator {
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => is_empty || right,
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => is_empty,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => right,
            JoinOperator::FullOuter(_) => is_empty && right,
            _ => false,
        };
    }
    is_empty
}

fn factor_has_no_rows(factor: &TableFactor, known: &BTreeSet<String>, depth: usize) -> bool {
    match factor {
        TableFactor::Table { name, args: None, .. } => {
            let last = last(name).to_lowercase();
            let is_bare = name.0.len() == 1;
            (is_bare && known.contains(&last)) || EMPTY.contains(&last.as_str())
        }
        TableFactor::Derived { subquery, .. } => has_no_rows(subquery, known, depth + 1),
        TableFactor::NestedJoin { table_with_joins, .. } => from_has_no_rows(table_with_joins, known, depth),
        _ => false,
    }
}

/// `x LIKE p ESCAPE '/'` with the one escape that the engine has, a backslash.
fn escapes(expr: &mut Expr) {
    let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = expr else { return };
    let Some(escape) = escape_char.as_ref().and_then(|value| match &value.value {
        ast::Value::SingleQuotedString(text) => Some(text.clone()),
        _ => None,
    }) else {
        return;
    };
    if escape == "\\" {
        return;
    }
    let quoted = escape.replace('\'', "''");
    let replaced = match escape.is_empty() {
        // No escape at all: backslashes mean themselves.
        true => expression(&format!("replace({pattern}, '\\', '\\\\')")),
        false => expression(&format!("replace(replace({pattern}, '\\', '\\\\'), '{quoted}', '\\')")),
    };
    if let Some(replaced) = replaced {
        **pattern = replaced;
        *escape_char = None;
    }
}

/// `SELECT EXISTS (SELECT ...)`, which the engine knows as a condition only.
fn exists(item: &mut SelectItem) {
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { return };
    let _all: ControlFlow<()> = ast::visit_expressions_mut(expr, |expr| {
        if let Expr::Exists { subquery, negated } = expr {
            let mut subquery = subquery.clone();
            if subquery.limit_clause.is_none() && subquery.fetch.is_none() {
                subquery.order_by = None;
            }
            let op = if *negated { "=" } else { ">" };
            if let Some(counted) = expression(&format!("(SELECT count(*) {op} 0 FROM ({subquery}) AS found)")) {
                *expr = counted;
            }
        }
        ControlFlow::Continue(())
    });
}

/// Functions of Postgres that the engine has under another name.
const OTHER_NAMES: [(&str, &str); 8] = [
    ("clock_timestamp", "now"),
    ("every", "bool_and"),
    ("gen_random_uuid", "uuid"),
    ("regexp_matches", "regexp_match"),
    ("statement_timestamp", "now"),
    ("transaction_timestamp", "now"),
    ("json_array_length", "json_length"),
    ("jsonb_array_length", "json_length"),
];

/// `LIMIT '10'`, as drivers write that put values into the text themselves.
struct Counts;

impl VisitorMut for Counts {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let number = |expr: &mut Expr| {
            let digits = text_of(expr).map(str::trim).filter(|text| text.parse::<u64>().is_ok()).map(str::to_string);
            if let Some(digits) = digits {
                *expr = Expr::Value(Value::Number(digits, false).with_empty_span());
            }
        };
        // FETCH FIRST 10 ROWS ONLY.
        if let Some(ast::Fetch { with_ties: false, percent: false, quantity }) = &query.fetch {
            let quantity = quantity.clone().or_else(|| expression("1"));
            match &mut query.limit_clause {
                Some(ast::LimitClause::LimitOffset { limit: limit @ None, .. }) => {
                    *limit = quantity;
                    query.fetch = None;
                }
                None => {
                    let clause = ast::LimitClause::LimitOffset { limit: quantity, offset: None, limit_by: Vec::new() };
                    query.limit_clause = Some(clause);
                    query.fetch = None;
                }
                Some(_) => {}
            }
        }
        if let SetExpr::Select(select) = query.body.as_mut() {
            for item in &mut select.projection {
                exists(item);
            }
        }
        if let Some(ast::LimitClause::LimitOffset { limit, offset, .. }) = &mut query.limit_clause {
            limit.iter_mut().for_each(number);
            offset.iter_mut().map(|offset| &mut offset.value).for_each(number);
        }
        ControlFlow::Continue(())
    }
}

/// Literals of types, and casts to types, that the engine has not or reads otherwise.
fn literals(expr: &mut Expr) {
    let text = |text: &str| Expr::Value(Value::SingleQuotedString(text.to_string()).with_empty_span());
    match expr {
        Expr::Cast { expr: inner, data_type: ast::DataType::Interval { .. }, .. } => {
            if let Some(plain) = text_of(inner).and_then(interval::plain) {
                **inner = text(&plain);
            }
        }
        Expr::Interval(ast::Interval { value, leading_field: None, .. }) => {
            if let Some(plain) = text_of(value).and_then(interval::plain) {
                **value = text(&plain);
            }
        }
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
            if let Some((_, own)) = OTHER_NAMES.iter().find(|(theirs, _)| *theirs == name) {
                function.name = ast::ObjectName::from(vec![ast::Ident::new(*own)]);
                return;
            }
            // A text as a literal that means it.
            let FunctionArguments::List(list) = &function.args else { return };
            let [argument] = list.args.as_slice() else { return };
            let quoted = format!("('''' || replace(CAST({argument} AS TEXT), '''', '''''') || '''')");
            let quoted = match name {
                "quote_literal" => expression(&quoted),
                "quote_nullable" => expression(&format!("coalesce({quoted}, 'NULL')")),
                _ => None,
            };
            if let Some(quoted) = quoted {
                *expr = quoted;
            }
        }
        // Have they an element in common?
        Expr::BinaryOp { left, op: ast::BinaryOperator::PGOverlap, right } => {
            if let Some(overlap) = expression(&format!("array_has_any({left}, {right})")) {
                *expr = overlap;
            }
        }
        Expr::Cast { data_type, .. } if casts::is_text(data_type) => *data_type = ast::DataType::Text,
        Expr::Value(value) => {
            if let Value::SingleQuotedString(literal) = &mut value.value
                && decode::date_text(literal).len() < literal.len()
                && literal.as_bytes().get(4) == Some(&b'-')
            {
                *literal = decode::date_text(literal).to_string();
            }
        }
        _ => {}
    }
}

/// Arrays as text, which Postgres reads where it wants an array: `x = ANY('{a,b}')`, `'{1,2}'::int[]`.
fn array_literals(expr: &mut Expr) {
    match expr {
        Expr::AnyOp { left, compare_op, right, .. } => {
            let Some(elements) = text_of(right).and_then(|text| decode::array(&Type::TEXT, text)) else { return };
            // Text in a list becomes what it is compared with, as it does where it stands alone.
            *expr = match compare_op {
                ast::BinaryOperator::Eq => in_list(left, elements, false),
                _ => each(left, compare_op, elements, ast::BinaryOperator::Or),
            };
        }
        Expr::AllOp { left, compare_op, right } => {
            let Some(elements) = text_of(right).and_then(|text| decode::array(&Type::TEXT, text)) else { return };
            *expr = match compare_op {
                ast::BinaryOperator::NotEq => in_list(left, elements, true),
                _ => each(left, compare_op, elements, ast::BinaryOperator::And),
            };
        }
        Expr::Cast { kind: CastKind::DoubleColon | CastKind::Cast, expr: inner, data_type, .. } => {
            let Some(text) = text_of(inner) else { return };
            let Ok(array) = types::by_name(&data_type.to_string()) else { return };
            let Some(element) = types::element_of(&array) else { return };
            if let Some(list) = decode::array(&element, text).and_then(|list| Parameter::List(list).expr().ok()) {
                *expr = list;
            }
        }
        _ => {}
    }
}

/// The text of a literal, in parentheses or not.
fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(inner) => text_of(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn in_list(left: &Expr, elements: Vec<Parameter>, negated: bool) -> Expr {
    let list: Vec<Expr> = elements.iter().filter_map(|element| element.expr().ok()).collect();
    match list.is_empty() {
        // Nothing is among no elements.
        true => Expr::Value(Value::Boolean(negated).with_empty_span()),
        false => Expr::InList { expr: Box::new(left.clone()), list, negated },
    }
}

fn each(left: &Expr, op: &ast::BinaryOperator, elements: Vec<Parameter>, between: ast::BinaryOperator) -> Expr {
    let none = Expr::Value(Value::Boolean(between == ast::BinaryOperator::And).with_empty_span());
    let one = |element: Expr| Expr::BinaryOp { left: Box::new(left.clone()), op: op.clone(), right: Box::new(element) };
    let all = elements.iter().filter_map(|element| element.expr().ok()).map(one);
    let all = all.reduce(|a, b| Expr::BinaryOp { left: Box::new(a), op: between.clone(), right: Box::new(b) });
    all.map_or(none, |all| Expr::Nested(Box::new(all)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn rewritten(sql: &str) -> String {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().swap_remove(0);
        catalog(&mut statement);
        any(&mut statement);
        statement.to_string()
    }

    #[test]
    fn what_joins_with_nothing_is_nothing() {
        let nothing = "SELECT CAST(NULL AS TEXT) AS \"a\", CAST(NULL AS TEXT) AS \"b\" WHERE false";
        for sql in [
            "SELECT c.a, f(x) AS b FROM pg_class c JOIN pg_catalog.pg_index i ON true",
            "SELECT a, b FROM pg_class, pg_constraint",
            "SELECT a, b FROM (SELECT x AS a, y AS b FROM pg_trigger) t, pg_class",
            "WITH i AS (SELECT * FROM pg_index) SELECT a, b FROM i",
            "SELECT a, b FROM pg_policy UNION SELECT c, d FROM pg_enum",
            "SELECT a, count(*) AS b FROM pg_enum GROUP BY 1",
        ] {
            assert_eq!(rewritten(sql), nothing, "{sql}");
        }
        for sql in [
            "SELECT a FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_index AS i ON true",
            "SELECT count(*) FROM pg_catalog.pg_index",
            "SELECT a FROM pg_catalog.pg_class UNION SELECT b FROM pg_catalog.pg_index",
            "SELECT a FROM logs",
        ] {
            assert_eq!(rewritten(sql), sql);
        }
    }

    #[test]
    fn what_the_engine_spells_otherwise() {
        for (sql, expected) in [
            ("SELECT a FROM t OFFSET 2 FETCH FIRST 3 ROWS ONLY", "SELECT a FROM t LIMIT 3 OFFSET 2"),
            ("SELECT a FROM t FETCH NEXT ROW ONLY", "SELECT a FROM t LIMIT 1"),
            ("SELECT a FROM t LIMIT '10'", "SELECT a FROM t LIMIT 10"),
            (
                "SELECT EXISTS(SELECT 1 FROM t), 1 FROM u WHERE EXISTS (SELECT 2 FROM v)",
                "SELECT (SELECT count(*) > 0 FROM (SELECT 1 FROM t) AS found), 1 FROM u WHERE EXISTS (SELECT 2 FROM v)",
            ),
            (
                "SELECT every(a), '{a}'::jsonb, a && b FROM t",
                "SELECT bool_and(a), '{a}'::TEXT, array_has_any(a, b) FROM t",
            ),
            ("SELECT '01:00:00'::interval", "SELECT '0 mons 0 days 3600000000 microseconds'::INTERVAL"),
            ("SELECT a = '2026-01-02 +00', '2026-01-02'", "SELECT a = '2026-01-02', '2026-01-02'"),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }

    #[test]
    fn arrays_as_text() {
        for (sql, expected) in [
            ("SELECT x = ANY('{a,\"b c\"}')", "SELECT x IN ('a', 'b c')"),
            ("SELECT x = ANY(('{1,2}'))", "SELECT x IN ('1', '2')"),
            ("SELECT x <> ALL('{a}')", "SELECT x NOT IN ('a')"),
            ("SELECT x = ANY('{}'), x <> ALL('{}')", "SELECT false, true"),
            ("SELECT x > ANY('{1,2}')", "SELECT (x > '1' OR x > '2')"),
            ("SELECT '{1,NULL}'::int[], CAST('{}' AS TEXT[])", "SELECT [1, arrow_cast(NULL, 'Int32')], []"),
            ("SELECT '{1}'::text, x = ANY(y)", "SELECT '{1}'::TEXT, x = ANY(y)"),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }

    #[test]
    fn forms_that_only_postgres_has() {
        for (sql, expected) in [
            (
                "SELECT (SELECT x FROM pg_attrdef WHERE y = c.oid), EXISTS (SELECT 1 FROM pg_index) FROM pg_class AS c",
                "SELECT NULL, false FROM pg_catalog.pg_class AS c",
            ),
            (
                "SELECT t.typinput = 'pg_catalog.array_in'::regproc FROM pg_type AS t",
                "SELECT t.typinput = 'array_in' FROM pg_catalog.pg_type AS t",
            ),
            (
                "SELECT 1 WHERE (SELECT c.relkind = 'c' FROM pg_class AS c WHERE c.oid = 1)",
                "SELECT 1 WHERE (SELECT max(c.relkind = 'c') FROM pg_catalog.pg_class AS c WHERE c.oid = 1)",
            ),
            (
                "SELECT x NOT LIKE 'pg/_%' ESCAPE '/'",
                "SELECT x NOT LIKE replace(replace('pg/_%', '\\', '\\\\'), '/', '\\')",
            ),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }
}
