//! What only Postgres's grammar says of rows as values and of functions as tables.
//!
//! - `SELECT json_agg(t) FROM (SELECT a, b ...) t`, and `row_to_json(t)`: the row is spelt out, `named_struct('a', t.a, 'b', t.b)`.
//! - `json_agg(x ORDER BY y)` is `to_json(array_agg(x ORDER BY y))`.
//! - `SELECT generate_series(1, 3)` has three rows: `unnest` of the list.
//! - `SELECT * FROM upper('x') AS result`, as JDBC's `{call upper(?)}` arrives, is `(SELECT upper('x') AS result) AS result`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, SelectItem,
    SetExpr, Statement, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::names;
use crate::guard;

/// Makes functions of single values that stand where a table may stand into queries.
pub(super) fn calls(statement: &mut Statement) {
    let _all: ControlFlow<()> = statement.visit(&mut Calls);
}

/// Spells out rows that are made into JSON, and gathers them.
pub(super) fn rows(statement: &mut Statement) {
    let _all: ControlFlow<()> = statement.visit(&mut Rows);
}

struct Calls;

impl VisitorMut for Calls {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        for item in &mut select.projection {
            let (expr, alias) = match item {
                SelectItem::UnnamedExpr(expr) => (expr, Ident::new("generate_series")),
                SelectItem::ExprWithAlias { expr, alias } => (expr, alias.clone()),
                _ => continue,
            };
            if let Expr::Function(function) = expr
                && one_name(&function.name).as_deref() == Some("generate_series")
                && let Some(expr) = expression(&format!("unnest({function})"))
            {
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, args: Some(args), alias, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(function) = one_name(name).filter(|name| is_scalar(name)) else { return ControlFlow::Continue(()) };
        let arguments = args.args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let alias = alias.as_ref().map_or_else(|| Ident::new(&function), |alias| alias.name.clone());
        let sql = format!("SELECT * FROM (SELECT {function}({arguments}) AS {alias}) AS {alias}");
        if let Some(query) = query(&sql)
            && let SetExpr::Select(mut select) = *query.body
            && let Some(from) = select.from.pop()
        {
            *factor = from.relation;
        }
        ControlFlow::Continue(())
    }
}

fn one_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(|ident| ident.value.to_lowercase()),
        _ => None,
    }
}

/// True for a function of DataFusion's that gives one value; what reads files is none of them.
fn is_scalar(name: &str) -> bool {
    !guard::is_table_function(name)
        && datafusion::functions::all_default_functions()
            .iter()
            .any(|function| function.name() == name || function.aliases().iter().any(|alias| alias == name))
}

fn query(sql: &str) -> Option<Query> {
    match Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?.pop()? {
        Statement::Query(query) => Some(*query),
        _ => None,
    }
}

struct Rows;

impl VisitorMut for Rows {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        let factors = select
            .from
            .iter()
            .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
        // Of each query in FROM, its name and its columns.
        let mut columns: HashMap<String, Vec<String>> = HashMap::new();
        for factor in factors {
            if let TableFactor::Derived { subquery, alias: Some(alias), .. } = factor {
                let given: Vec<String> = alias.columns.iter().map(|column| column.name.value.clone()).collect();
                let own = names::of_body(&subquery.body).filter(|own| !own.iter().any(|name| name == "?column?"));
                if let Some(names) = if given.is_empty() { own } else { Some(given) } {
                    columns.insert(alias.name.value.clone(), names);
                }
            }
        }
        let _all: ControlFlow<()> = ast::visit_expressions_mut(&mut select.projection, |expr| {
            gathered(expr, &columns);
            ControlFlow::Continue(())
        });
        ControlFlow::Continue(())
    }
}

/// `json_agg(x)` as `to_json(array_agg(x))`, `row_to_json(x)` as `to_json(x)`, with rows spelt out.
fn gathered(expr: &mut Expr, columns: &HashMap<String, Vec<String>>) {
    let Expr::Function(function) = expr else { return };
    let Some(name) = one_name(&function.name) else { return };
    let gathers = match name.as_str() {
        "json_agg" | "jsonb_agg" => true,
        "row_to_json" | "to_json" | "to_jsonb" => false,
        _ => return,
    };
    if let FunctionArguments::List(list) = &mut function.args {
        // The second argument of row_to_json asks for line breaks.
        if name == "row_to_json" {
            list.args.truncate(1);
        }
        if let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = list.args.as_mut_slice()
            && let Expr::Identifier(row) = argument
            && let Some(names) = columns.get(&row.value)
        {
            let quoted =
                |name: &str, quote: char| format!("{quote}{}{quote}", name.replace(quote, &format!("{quote}{quote}")));
            let fields = names.iter().map(|name| format!("{}, {row}.{}", quoted(name, '\''), quoted(name, '"')));
            let row = format!("named_struct({})", fields.collect::<Vec<_>>().join(", "));
            if let Some(row) = expression(&row) {
                *argument = row;
            }
        }
    }
    if !gathers {
        function.name = ObjectName::from(vec![Ident::new("to_json")]);
        return;
    }
    function.name = ObjectName::from(vec![Ident::new("array_agg")]);
    if let Some(Expr::Function(mut to_json)) = expression("to_json(0)") {
        if let FunctionArguments::List(list) = &mut to_json.args {
            list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(Function::clone(function))))];
        }
        *expr = Expr::Function(to_json);
    }
}

fn expression(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_expr()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rewritten(sql: &str) -> String {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().swap_remove(0);
        calls(&mut statement);
        rows(&mut statement);
        statement.to_string()
    }

    #[test]
    fn rows_are_spelt_out_where_their_columns_are_known() {
        for (sql, expected) in [
            (
                "SELECT json_agg(t) FROM (SELECT a, count(*) AS \"N\" FROM logs GROUP BY 1) AS t",
                "SELECT to_json(array_agg(named_struct('a', t.\"a\", 'N', t.\"N\"))) FROM (SELECT a, count(*) AS \"N\" FROM logs GROUP BY 1) AS t",
            ),
            (
                "SELECT row_to_json(r, true) FROM (VALUES (1)) AS r(x)",
                "SELECT to_json(named_struct('x', r.\"x\")) FROM (VALUES (1)) AS r (x)",
            ),
            ("SELECT jsonb_agg(x ORDER BY y) FROM t", "SELECT to_json(array_agg(x ORDER BY y)) FROM t"),
            ("SELECT to_json(x), row_to_json(t) FROM t", "SELECT to_json(x), to_json(t) FROM t"),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_call_is_a_table_of_one_row() {
        for (sql, expected) in [
            ("select * from upper($1) as result", "SELECT * FROM (SELECT upper($1) AS result) AS result"),
            ("SELECT * FROM abs(-1)", "SELECT * FROM (SELECT abs(-1) AS abs) AS abs"),
            ("SELECT * FROM generate_series(1, 3) AS g", "SELECT * FROM generate_series(1, 3) AS g"),
            ("SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_csv('/etc/passwd')"),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }
}
