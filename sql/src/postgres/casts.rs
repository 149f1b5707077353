//! What a statement says itself of types, before it is made into what the engine plans: `$1::oid[]` is a parameter of that type, and a column
//! that is cast to `jsonb` or `uuid`, which are text here, is told as what it was cast to.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, SelectItem, SetExpr, UnaryOperator, Value, Visit, Visitor,
};
use pgwire::api::Type;

use super::types;

/// The types of parameters that the statement names, by their place; `None` where it does not.
pub(super) fn of_parameters(statement: &Statement) -> Vec<Option<Type>> {
    struct Find(Vec<Option<Type>>);
    impl Find {
        fn is(&mut self, expr: &Expr, pg_type: &Type) {
            let Some(number) = number(expr) else { return };
            if self.0.len() < number {
                self.0.resize(number, None);
            }
            self.0[number - 1].get_or_insert_with(|| pg_type.clone());
        }
    }
    impl Visitor for Find {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Cast { expr, data_type, .. } => {
                    if let Some(pg_type) = named(data_type) {
                        self.is(expr, &pg_type);
                    }
                }
                Expr::Case { operand: None, conditions, .. } => {
                    for when in conditions {
                        self.is(&when.condition, &Type::BOOL);
                    }
                }
                Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
                    self.is(left, &Type::BOOL);
                    self.is(right, &Type::BOOL);
                }
                Expr::UnaryOp { op: UnaryOperator::Not, expr } | Expr::IsTrue(expr) | Expr::IsFalse(expr) => {
                    self.is(expr, &Type::BOOL);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut find = Find(Vec::new());
    if let Statement::Statement(inner) = statement {
        let _all = inner.visit(&mut find);
    }
    find.0
}

/// The types of a query's columns where a cast says what the engine cannot; `None` where it does not.
pub(super) fn of_columns(statement: &Statement) -> Vec<Option<Type>> {
    let Statement::Statement(inner) = statement else { return Vec::new() };
    match inner.as_ref() {
        ast::Statement::Query(query) => of_body(&query.body),
        _ => Vec::new(),
    }
}

fn of_body(body: &SetExpr) -> Vec<Option<Type>> {
    let SetExpr::Select(select) = body else { return Vec::new() };
    let item = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::Cast { data_type, .. })
        | SelectItem::ExprWithAlias { expr: Expr::Cast { data_type, .. }, .. } => {
            let told = [Type::UUID, Type::JSON, Type::JSONB, Type::OID, Type::OID_ARRAY];
            named(data_type).filter(|pg_type| told.contains(pg_type))
        }
        SelectItem::UnnamedExpr(Expr::Function(function))
        | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. } => {
            match function.name.to_string().to_lowercase().as_str() {
                "to_json" | "row_to_json" | "json_agg" | "json_build_object" | "json_build_array"
                | "json_object_of" => Some(Type::JSON),
                "to_jsonb" | "jsonb_agg" | "jsonb_build_object" | "jsonb_build_array" | "jsonb_object_of" => {
                    Some(Type::JSONB)
                }
                _ => None,
            }
        }
        _ => None,
    };
    select.projection.iter().map(item).collect()
}

/// True for a type that is text in the engine.
pub(super) fn is_text(data_type: &ast::DataType) -> bool {
    matches!(named(data_type), Some(Type::UUID | Type::JSON | Type::JSONB | Type::NAME | Type::CHAR))
}

fn named(data_type: &ast::DataType) -> Option<Type> {
    let name = data_type.to_string().to_lowercase();
    types::by_name(name.strip_prefix("pg_catalog.").unwrap_or(&name)).ok()
}

fn number(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Nested(inner) => number(inner),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok().filter(|n| (1..=65_535).contains(n)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use highwater_pipeline::functions::HighwaterDialect;

    use super::*;
    use crate::guard;

    #[test]
    fn casts_say_what_parameters_and_columns_are() {
        let sql = "SELECT $1::oid[], CAST($2 AS uuid) AS u, x, '{}'::pg_catalog.jsonb, y::int FROM t WHERE CASE WHEN $4 THEN a ELSE $5 END AND ($6 OR NOT $7)";
        let statement = guard::parse(sql, &HighwaterDialect).unwrap();
        let bool = Some(Type::BOOL);
        assert_eq!(
            of_parameters(&statement),
            [Some(Type::OID_ARRAY), Some(Type::UUID), None, bool.clone(), None, bool.clone(), bool]
        );
        assert_eq!(of_columns(&statement), [Some(Type::OID_ARRAY), Some(Type::UUID), None, Some(Type::JSONB), None]);
    }
}
