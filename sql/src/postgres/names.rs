//! What Postgres calls columns that have no alias: `count` for `count(*)`, `?column?` for `1 + 1`.

use std::collections::BTreeSet;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Expr, SelectItem, SetExpr};

/// The names of a query's columns, one each; `None` where a `*` stands among them, or the statement is no SELECT.
pub(crate) fn of(statement: &Statement) -> Option<Vec<String>> {
    let Statement::Statement(statement) = statement else { return None };
    let ast::Statement::Query(query) = statement.as_ref() else { return None };
    of_body(&query.body)
}

/// The same of a part of a query.
pub(crate) fn of_body(body: &SetExpr) -> Option<Vec<String>> {
    match body {
        SetExpr::Select(select) => select.projection.iter().map(in_item).collect(),
        SetExpr::Query(query) => of_body(&query.body),
        SetExpr::SetOperation { left, .. } => of_body(left),
        SetExpr::Values(values) => {
            let width = values.rows.first()?.len();
            Some((1..=width).map(|n| format!("column{n}")).collect())
        }
        _ => None,
    }
}

fn in_item(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expr) => Some(of_expr(expr).unwrap_or_else(|| "?column?".to_string())),
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        _ => None,
    }
}

fn folded(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn of_expr(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(folded(ident)),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded),
        Expr::Function(function) => function.name.0.last().and_then(|part| part.as_ident()).map(folded),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => of_expr(inner),
        // What is subscripted gives the name: `attributes['x']`.
        Expr::CompoundFieldAccess { root, .. } => of_expr(root),
        Expr::Cast { expr, data_type, .. } => of_expr(expr).or_else(|| Some(type_name(data_type))),
        Expr::Case { else_result, .. } => else_result.as_deref().and_then(of_expr).or_else(|| Some("case".to_string())),
        Expr::Extract { .. } => Some("extract".to_string()),
        Expr::Substring { .. } => Some("substring".to_string()),
        Expr::Trim { .. } => Some("btrim".to_string()),
        Expr::Position { .. } => Some("position".to_string()),
        Expr::Ceil { .. } => Some("ceil".to_string()),
        Expr::Floor { .. } => Some("floor".to_string()),
        Expr::Overlay { .. } => Some("overlay".to_string()),
        Expr::AtTimeZone { .. } => Some("timezone".to_string()),
        Expr::Exists { .. } => Some("exists".to_string()),
        Expr::Array(_) => Some("array".to_string()),
        Expr::Tuple(_) => Some("row".to_string()),
        Expr::Interval(_) => Some("interval".to_string()),
        Expr::TypedString(typed) => Some(type_name(&typed.data_type)),
        Expr::Subquery(query) => of_body(&query.body)?.into_iter().next(),
        _ => None,
    }
}

/// A type by the name that Postgres keeps for it.
fn type_name(data_type: &ast::DataType) -> String {
    let text = data_type.to_string().to_lowercase();
    let text = text.rsplit('.').next().unwrap_or(&text);
    let bare = text.split('(').next().unwrap_or(text).trim();
    match bare {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "double precision" | "double" | "float" => "float8",
        "real" => "float4",
        "boolean" => "bool",
        "character varying" => "varchar",
        "character" => "bpchar",
        "decimal" => "numeric",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        "time without time zone" => "time",
        other => other,
    }
    .to_string()
}

/// Gives columns of the same name, or computed alike, names of their own: the engine wants each name once, and clients are told those of
/// [`of`] anyway.
pub(crate) fn make_distinct(statement: &mut Statement) {
    let Statement::Statement(statement) = statement else { return };
    let ast::Statement::Query(query) = statement.as_mut() else { return };
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let mut seen = BTreeSet::new();
    for (number, item) in select.projection.iter_mut().enumerate() {
        let name = match &*item {
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(_)) => continue,
            SelectItem::UnnamedExpr(expr) => expr.to_string(),
            SelectItem::ExprWithAlias { alias, .. } => folded(alias),
            _ => continue,
        };
        if seen.insert(name) {
            continue;
        }
        let alias = ast::Ident::with_quote('"', format!("?column?{number}"));
        match item {
            SelectItem::UnnamedExpr(expr) => *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias },
            SelectItem::ExprWithAlias { alias: old, .. } => *old = alias,
            _ => {}
        }
    }
}

/// Gives every column that has none a name of its own.
pub(crate) fn name_all(statement: &mut Statement) {
    let Statement::Statement(statement) = statement else { return };
    let ast::Statement::Query(query) = statement.as_mut() else { return };
    name_all_in(&mut query.body);
}

fn name_all_in(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for (number, item) in select.projection.iter_mut().enumerate() {
                if let SelectItem::UnnamedExpr(expr) = item
                    && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
                {
                    let alias = ast::Ident::with_quote('"', format!("?column?{number}"));
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            }
        }
        SetExpr::Query(query) => name_all_in(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            name_all_in(left);
            name_all_in(right);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use highwater_pipeline::functions::HighwaterDialect;

    use super::*;
    use crate::guard;

    #[test]
    fn columns_are_called_as_postgres_calls_them() {
        let sql = "SELECT count(*), 1 + 1, l.message, \"A b\", B AS \"C\", D AS E, x::int, '1'::bigint, CASE WHEN a THEN b END, \
                   (SELECT max(y) FROM t), attributes['x'], extract(epoch FROM ts), (a), NULL, date_trunc('day', ts) FROM l";
        let statement = guard::parse(sql, &HighwaterDialect).unwrap();
        assert_eq!(
            of(&statement).unwrap(),
            [
                "count",
                "?column?",
                "message",
                "A b",
                "C",
                "e",
                "x",
                "int8",
                "case",
                "max",
                "attributes",
                "extract",
                "a",
                "?column?",
                "date_trunc"
            ]
        );
        let names = |sql: &str| of(&guard::parse(sql, &HighwaterDialect).unwrap());
        assert_eq!(names("SELECT *, 1 FROM l"), None);
        assert_eq!(names("VALUES (1, 2)").unwrap(), ["column1", "column2"]);
        assert_eq!(names("SELECT a FROM l UNION SELECT b FROM l").unwrap(), ["a"]);
        assert_eq!(names("EXPLAIN SELECT 1"), None);
    }
}
