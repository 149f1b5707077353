//! `information_schema` as the SQL standard has it and Postgres fills it.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::catalog::TableProvider;
use datafusion::error::Result;
use pgwire::api::Type;

use super::columns::Columns;
use super::relations::{NAMESPACES, Relation, Relations};
use super::{DATABASE, SessionFacts};
use crate::postgres::types;

/// The tables of the schema.
pub(super) const NAMES: [&str; 14] = [
    "character_sets",
    "check_constraints",
    "columns",
    "constraint_column_usage",
    "key_column_usage",
    "parameters",
    "referential_constraints",
    "routines",
    "schemata",
    "sequences",
    "table_constraints",
    "tables",
    "triggers",
    "views",
];

/// A table of this name, where it is one of these.
pub(super) fn table(name: &str, relations: &Relations, facts: &SessionFacts) -> Result<Option<Arc<dyn TableProvider>>> {
    match name {
        "tables" => tables(relations),
        "columns" => columns(relations),
        "schemata" => schemata(),
        "views" => views(relations),
        "character_sets" => character_sets(),
        // There are none of these, and clients look for them all the same.
        "check_constraints" => empty(&["constraint_catalog", "constraint_schema", "constraint_name", "check_clause"]),
        "constraint_column_usage" => empty(&[
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
        ]),
        "key_column_usage" => Columns::of(0)
            .no_text("constraint_catalog")
            .no_text("constraint_schema")
            .no_text("constraint_name")
            .no_text("table_catalog")
            .no_text("table_schema")
            .no_text("table_name")
            .no_text("column_name")
            .no_int("ordinal_position")
            .no_int("position_in_unique_constraint")
            .finish(),
        "referential_constraints" => empty(&[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "unique_constraint_catalog",
            "unique_constraint_schema",
            "unique_constraint_name",
            "match_option",
            "update_rule",
            "delete_rule",
        ]),
        "table_constraints" => empty(&[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "constraint_type",
            "is_deferrable",
            "initially_deferred",
            "enforced",
        ]),
        "routines" => empty(&[
            "specific_catalog",
            "specific_schema",
            "specific_name",
            "routine_catalog",
            "routine_schema",
            "routine_name",
            "routine_type",
            "data_type",
            "type_udt_name",
            "routine_definition",
            "external_language",
        ]),
        "parameters" => Columns::of(0)
            .no_text("specific_catalog")
            .no_text("specific_schema")
            .no_text("specific_name")
            .no_int("ordinal_position")
            .no_text("parameter_mode")
            .no_text("parameter_name")
            .no_text("data_type")
            .no_text("udt_name")
            .no_text("parameter_default")
            .finish(),
        "sequences" => empty(&[
            "sequence_catalog",
            "sequence_schema",
            "sequence_name",
            "data_type",
            "start_value",
            "minimum_value",
            "maximum_value",
            "increment",
            "cycle_option",
        ]),
        "triggers" => empty(&[
            "trigger_catalog",
            "trigger_schema",
            "trigger_name",
            "event_manipulation",
            "event_object_catalog",
            "event_object_schema",
            "event_object_table",
            "action_statement",
            "action_orientation",
            "action_timing",
        ]),
        _ => {
            let _nobody = facts;
            Ok(None)
        }
    }
}

fn empty(names: &[&str]) -> Result<Option<Arc<dyn TableProvider>>> {
    names.iter().fold(Columns::of(0), |columns, name| columns.no_text(name)).finish()
}

fn tables(relations: &Relations) -> Result<Option<Arc<dyn TableProvider>>> {
    let all = &relations.0;
    Columns::of(all.len())
        .all_text("table_catalog", DATABASE)
        .text("table_schema", all.iter().map(|r| r.schema))
        .text("table_name", all.iter().map(|r| &r.name))
        .text("table_type", all.iter().map(|r| if r.is_view { "VIEW" } else { "BASE TABLE" }))
        .no_text("self_referencing_column_name")
        .no_text("reference_generation")
        .no_text("user_defined_type_catalog")
        .no_text("user_defined_type_schema")
        .no_text("user_defined_type_name")
        .all_text("is_insertable_into", "NO")
        .all_text("is_typed", "NO")
        .no_text("commit_action")
        .finish()
}

fn columns(relations: &Relations) -> Result<Option<Arc<dyn TableProvider>>> {
    let all: Vec<(&Relation, i32, &FieldRef, Type)> = relations
        .ours()
        .flat_map(|(relation, columns)| {
            columns
                .fields()
                .iter()
                .zip(1..)
                .map(move |(field, number)| (relation, number, field, types::type_of(field)))
        })
        .collect();
    let precision = |pg_type: &Type| match *pg_type {
        Type::INT2 => Some(16),
        Type::INT4 => Some(32),
        Type::INT8 => Some(64),
        Type::FLOAT4 => Some(24),
        Type::FLOAT8 => Some(53),
        _ => None,
    };
    let is_whole = |pg_type: &Type| matches!(*pg_type, Type::INT2 | Type::INT4 | Type::INT8);
    let of_time = |pg_type: &Type| match *pg_type {
        Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME | Type::INTERVAL => Some(6),
        Type::DATE => Some(0),
        _ => None,
    };
    Columns::of(all.len())
        .all_text("table_catalog", DATABASE)
        .text("table_schema", all.iter().map(|(relation, ..)| relation.schema))
        .text("table_name", all.iter().map(|(relation, ..)| &relation.name))
        .text("column_name", all.iter().map(|(_, _, field, _)| field.name()))
        .int("ordinal_position", all.iter().map(|(_, number, ..)| *number))
        .no_text("column_default")
        .text("is_nullable", all.iter().map(|(_, _, field, _)| if field.is_nullable() { "YES" } else { "NO" }))
        .text("data_type", all.iter().map(|(.., pg_type)| types::standard_name(pg_type)))
        .no_int("character_maximum_length")
        .some_int("character_octet_length", all.iter().map(|(.., t)| (*t == Type::TEXT).then_some(1 << 30)))
        .some_int("numeric_precision", all.iter().map(|(.., t)| precision(t)))
        .some_int("numeric_precision_radix", all.iter().map(|(.., t)| precision(t).map(|_| 2)))
        .some_int("numeric_scale", all.iter().map(|(.., t)| is_whole(t).then_some(0)))
        .some_int("datetime_precision", all.iter().map(|(.., t)| of_time(t)))
        .no_text("interval_type")
        .no_int("interval_precision")
        .no_text("character_set_catalog")
        .no_text("character_set_schema")
        .no_text("character_set_name")
        .no_text("collation_catalog")
        .no_text("collation_schema")
        .no_text("collation_name")
        .no_text("domain_catalog")
        .no_text("domain_schema")
        .no_text("domain_name")
        .all_text("udt_catalog", DATABASE)
        .all_text("udt_schema", super::PG_CATALOG)
        .text("udt_name", all.iter().map(|(.., t)| t.name().to_string()))
        .no_text("scope_catalog")
        .no_text("scope_schema")
        .no_text("scope_name")
        .no_int("maximum_cardinality")
        .text("dtd_identifier", all.iter().map(|(_, number, ..)| number.to_string()))
        .all_text("is_self_referencing", "NO")
        .all_text("is_identity", "NO")
        .no_text("identity_generation")
        .all_text("is_generated", "NEVER")
        .no_text("generation_expression")
        .all_text("is_updatable", "NO")
        .finish()
}

fn schemata() -> Result<Option<Arc<dyn TableProvider>>> {
    Columns::of(NAMESPACES.len())
        .all_text("catalog_name", DATABASE)
        .text("schema_name", NAMESPACES.map(|(name, _)| name))
        .all_text("schema_owner", "highwater")
        .no_text("default_character_set_catalog")
        .no_text("default_character_set_schema")
        .no_text("default_character_set_name")
        .no_text("sql_path")
        .finish()
}

fn views(relations: &Relations) -> Result<Option<Arc<dyn TableProvider>>> {
    let all: Vec<&Relation> = relations.0.iter().filter(|r| r.is_view).collect();
    Columns::of(all.len())
        .all_text("table_catalog", DATABASE)
        .text("table_schema", all.iter().map(|r| r.schema))
        .text("table_name", all.iter().map(|r| &r.name))
        .some_text("view_definition", all.iter().map(|r| r.definition))
        .all_text("check_option", "NONE")
        .all_text("is_updatable", "NO")
        .all_text("is_insertable_into", "NO")
        .finish()
}

fn character_sets() -> Result<Option<Arc<dyn TableProvider>>> {
    Columns::of(1)
        .no_text("character_set_catalog")
        .no_text("character_set_schema")
        .all_text("character_set_name", "UTF8")
        .all_text("character_repertoire", "UCS")
        .all_text("form_of_use", "UTF8")
        .all_text("default_collate_catalog", DATABASE)
        .all_text("default_collate_schema", super::PG_CATALOG)
        .all_text("default_collate_name", "C.UTF-8")
        .finish()
}
