//! The tables there are, with identifiers that follow from their names.

use std::collections::BTreeSet;

use arrow::datatypes::SchemaRef;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;

use super::information;
use crate::catalog::{SCHEMA, Tables};
use crate::view::Views;
use crate::views::SqlViews;

/// Schemas and their identifiers, as Postgres numbers those that it has.
pub(super) const NAMESPACES: [(&str, i32); 4] =
    [(super::PG_CATALOG, 11), ("pg_toast", 99), (SCHEMA, 2200), (super::INFORMATION_SCHEMA, 13_000)];

/// System tables that others refer to by number.
const NUMBERED: [(&str, i32); 12] = [
    ("pg_type", 1247),
    ("pg_attribute", 1249),
    ("pg_proc", 1255),
    ("pg_class", 1259),
    ("pg_authid", 1260),
    ("pg_database", 1262),
    ("pg_attrdef", 2604),
    ("pg_constraint", 2606),
    ("pg_description", 2609),
    ("pg_index", 2610),
    ("pg_namespace", 2615),
    ("pg_trigger", 2620),
];

/// System tables that are made here and are not among those of the library.
pub(super) const OURS: [&str; 4] = ["pg_user", "pg_shadow", "pg_stat_activity", "pg_user_mappings"];

/// The first identifier of what is not the system's own.
const FIRST_USER_OID: u32 = 16_384;

/// Names of the tables of `pg_catalog`.
pub(in crate::postgres) fn system_names() -> impl Iterator<Item = &'static str> {
    PG_CATALOG_TABLES.iter().copied().chain(OURS)
}

/// The identifier of a schema.
pub(super) fn namespace_oid(schema: &str) -> i32 {
    NAMESPACES.iter().find(|(name, _)| *name == schema).map_or(0, |(_, oid)| *oid)
}

/// A table or view.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) oid: i32,
    pub(super) schema: &'static str,
    pub(super) name: String,
    pub(super) is_view: bool,
    /// What a view is, where it is SQL.
    pub(super) definition: Option<&'static str>,
    /// Its columns; `None` for one of the system's, whose columns nobody lists.
    pub(super) columns: Option<SchemaRef>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Relations(pub(super) Vec<Relation>);

impl Relations {
    /// Those of `public`, and those of the system.
    pub(crate) fn of(tables: &Tables, views: &Views, sql_views: &SqlViews) -> Self {
        let mut taken = BTreeSet::new();
        let mut relations = Vec::new();
        let stored = tables.iter().map(|(name, table)| (name.as_str(), false, SchemaRef::clone(&table.schema)));
        // A stored table of the same name goes before a view.
        let made = views
            .iter()
            .filter(|(name, _)| !tables.contains_key(*name))
            .map(|(name, view)| (name.as_str(), true, view.schema()));
        let in_sql = sql_views
            .iter()
            .filter(|(name, _)| !tables.contains_key(**name) && !views.contains_key(**name))
            .map(|(name, view)| (*name, true, SchemaRef::clone(&view.schema)));
        for (name, is_view, columns) in stored.chain(made).chain(in_sql) {
            relations.push(Relation {
                definition: is_view
                    .then(|| sql_views.get(name).map_or("SELECT made_when_it_is_read()", |view| view.sql)),
                oid: oid(SCHEMA, name, FIRST_USER_OID, &mut taken),
                schema: SCHEMA,
                name: name.to_string(),
                is_view,
                columns: Some(columns),
            });
        }
        let system = system_names().map(|name| (super::PG_CATALOG, name));
        let standard = information::NAMES.iter().map(|name| (super::INFORMATION_SCHEMA, *name));
        for (schema, name) in system.chain(standard) {
            let numbered = NUMBERED.iter().find(|(numbered, _)| *numbered == name).map(|(_, oid)| *oid);
            relations.push(Relation {
                oid: numbered.unwrap_or_else(|| oid(schema, name, FIRST_USER_OID, &mut taken)),
                schema,
                name: name.to_string(),
                is_view: schema == super::INFORMATION_SCHEMA,
                definition: None,
                columns: None,
            });
        }
        Self(relations)
    }

    /// The identifier of the table that a name, with its schema or without, means.
    pub(super) fn oid_of(&self, name: &str) -> Option<i32> {
        let bare = |part: &str| match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => part.to_lowercase(),
        };
        let (schema, name) = match name.split_once('.') {
            Some((schema, name)) => (Some(bare(schema)), bare(name)),
            None => (None, bare(name)),
        };
        let is_it = |r: &&Relation| r.name == name && schema.as_deref().is_none_or(|schema| schema == r.schema);
        self.0.iter().find(is_it).map(|r| r.oid)
    }

    /// Those whose columns are listed.
    pub(super) fn ours(&self) -> impl Iterator<Item = (&Relation, &SchemaRef)> {
        self.0.iter().filter_map(|relation| relation.columns.as_ref().map(|columns| (relation, columns)))
    }
}

/// FNV-1a of the name, above `first`; the next free one where two names meet.
fn oid(schema: &str, name: &str, first: u32, taken: &mut BTreeSet<i32>) -> i32 {
    let bytes = schema.bytes().chain([0]).chain(name.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let range = i32::MAX.cast_unsigned() - first;
    let mut oid = (first + hash % range).cast_signed();
    while !taken.insert(oid) {
        oid = oid.checked_add(1).unwrap_or(first.cast_signed());
    }
    oid
}
