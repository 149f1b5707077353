//! The SQL that people write here: DataFusion's generic dialect, with one thing put right.
//!
//! `labels ->> 'job' = 'web'` means `(labels ->> 'job') = 'web'`. In the generic dialect the arrows bind weaker than `=`, so that it
//! would compare `'job'` with `'web'` first. Here they bind tighter than comparison, arithmetic and `||`, and weaker than `::`.

use std::any::TypeId;

use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};

/// Between `*` (40, 41 for `AT TIME ZONE`) and `::` (50).
const ARROW_PRECEDENCE: u8 = 45;

/// The dialect that everybody who parses SQL here uses.
#[derive(Debug, Default, Clone, Copy)]
pub struct HighwaterDialect;

const GENERIC: GenericDialect = GenericDialect {};

/// What the generic dialect says.
macro_rules! as_generic {
    ($($method:ident,)*) => {
        $(fn $method(&self) -> bool {
            GENERIC.$method()
        })*
    };
}

impl Dialect for HighwaterDialect {
    /// The parser takes it for the generic dialect where it asks for one by type.
    fn dialect(&self) -> TypeId {
        GENERIC.dialect()
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        match precedence {
            Precedence::PgOther => ARROW_PRECEDENCE,
            other => GENERIC.prec_value(other),
        }
    }

    /// `FROM logs VERSION AS OF 12`.
    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GENERIC.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GENERIC.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GENERIC.is_identifier_part(ch)
    }

    as_generic! {
        supports_unicode_string_literal,
        supports_partition_by_after_order_by,
        supports_array_join_syntax,
        supports_group_by_expr,
        supports_group_by_with_modifier,
        supports_left_associative_joins_without_parens,
        supports_connect_by,
        supports_match_recognize,
        supports_pipe_operator,
        supports_start_transaction_modifier,
        supports_window_function_null_treatment_arg,
        supports_dictionary_syntax,
        supports_window_clause_named_window_reference,
        supports_parenthesized_set_variables,
        supports_select_wildcard_except,
        support_map_literal_syntax,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_extract_comma_syntax,
        supports_create_view_comment_syntax,
        supports_parens_around_table_factor,
        supports_values_as_table_factor,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_limit_comma,
        supports_update_order_by,
        supports_from_first_select,
        supports_projection_trailing_commas,
        supports_asc_desc_in_column_definition,
        supports_try_convert,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_assignment_operator,
        supports_struct_literal,
        supports_empty_projections,
        supports_nested_comments,
        supports_multiline_comment_hints,
        supports_user_host_grantee,
        supports_string_escape_constant,
        supports_array_typedef_with_brackets,
        supports_match_against,
        supports_set_names,
        supports_comma_separated_set_assignments,
        supports_filter_during_aggregation,
        supports_select_wildcard_exclude,
        supports_data_type_signed_suffix,
        supports_interval_options,
        supports_quote_delimited_string,
        supports_select_wildcard_replace,
        supports_select_wildcard_ilike,
        supports_select_wildcard_rename,
        supports_optimize_table,
        supports_install,
        supports_detach,
        supports_prewhere,
        supports_with_fill,
        supports_limit_by,
        supports_interpolate,
        supports_settings,
        supports_select_format,
        supports_comment_optimizer_hint,
        supports_constraint_keyword_without_name,
        supports_key_column_option,
        supports_comma_separated_trim,
        supports_cte_without_as,
        supports_select_item_multi_column_alias,
        supports_xml_expressions,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use datafusion::sql::sqlparser::ast::{Expr, Statement};
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn parse(dialect: &dyn Dialect, sql: &str) -> Vec<Statement> {
        Parser::parse_sql(dialect, sql).unwrap()
    }

    /// What the outermost operator is applied to.
    fn operand(sql: &str) -> String {
        match Parser::new(&HighwaterDialect).try_with_sql(sql).unwrap().parse_expr().unwrap() {
            Expr::BinaryOp { left, .. } => left.to_string(),
            Expr::Like { expr, .. } | Expr::IsNull(expr) | Expr::InList { expr, .. } => expr.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arrows_bind_tighter_than_what_is_done_with_their_result() {
        for rest in ["= 'web'", "<> 'web' AND x", "LIKE 'w%'", "IS NULL", "IN ('x')", "|| '-' || x", "+ 1", "* 2"] {
            let outer = operand(&format!("labels ->> 'job' {rest}"));
            let expected = match rest {
                "<> 'web' AND x" => "labels ->> 'job' <> 'web'",
                "|| '-' || x" => "labels ->> 'job' || '-'",
                _ => "labels ->> 'job'",
            };
            assert_eq!(outer, expected, "{rest}");
        }
        assert_eq!(operand("labels -> 'a' ->> 'b'"), "labels -> 'a'");
        assert_eq!(operand("labels::text ->> 'b'"), "labels::TEXT");
    }

    #[test]
    fn all_else_is_as_in_the_generic_dialect() {
        for sql in [
            "SELECT * EXCEPT (a) FROM t",
            "SELECT attributes['x'], [1, 2], MAP {'a': 1} FROM t",
            "FROM t SELECT a",
            "SELECT a FROM t GROUP BY ALL",
            "SELECT count(*) FILTER (WHERE a > 1 + 2 * 3) FROM t QUALIFY row_number() OVER () = 1",
            "SELECT a::int, CAST(b AS text), INTERVAL '1 minute', TIMESTAMP '2026-01-01T00:00:00Z' FROM \"T\"",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "DESCRIBE t",
        ] {
            assert_eq!(parse(&HighwaterDialect, sql), parse(&GENERIC, sql), "{sql}");
        }
    }
}
