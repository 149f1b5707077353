//! The tables of `pg_catalog` that describe what is here.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::catalog::TableProvider;
use datafusion::error::Result;
use pgwire::api::Type;

use super::columns::Columns;
use super::relations::{NAMESPACES, Relation, Relations, namespace_oid};
use super::{DATABASE, SessionFacts};
use crate::postgres::types;

/// The identifier of whoever owns everything, as Postgres numbers its first role.
const OWNER: i32 = 10;
/// The identifier of the one role that clients are.
const USER: i32 = 16_383;
/// The identifier of the one database.
const DATABASE_OID: i32 = 16_382;
/// The collation of text.
const DEFAULT_COLLATION: i32 = 100;

/// A table of this name, where it is one of these.
pub(super) fn table(name: &str, relations: &Relations, facts: &SessionFacts) -> Result<Option<Arc<dyn TableProvider>>> {
    match name {
        "pg_class" => pg_class(&relations.0),
        "pg_attribute" => pg_attribute(relations),
        "pg_namespace" => pg_namespace(),
        "pg_database" => pg_database(),
        "pg_roles" | "pg_authid" => pg_roles(facts),
        "pg_user" | "pg_shadow" => pg_user(facts),
        "pg_tables" => pg_tables(relations),
        "pg_views" => pg_views(relations),
        "pg_settings" => pg_settings(facts),
        "pg_stat_activity" => pg_stat_activity(facts),
        _ => Ok(None),
    }
}

fn pg_class(all: &[Relation]) -> Result<Option<Arc<dyn TableProvider>>> {
    let natts = |relation: &Relation| relation.columns.as_ref().map_or(0, |c| c.fields().len() as i16);
    Columns::of(all.len())
        .oid("oid", all.iter().map(|r| r.oid))
        .text("relname", all.iter().map(|r| &r.name))
        .oid("relnamespace", all.iter().map(|r| namespace_oid(r.schema)))
        .all_oid("reltype", 0)
        .all_oid("reloftype", 0)
        .all_oid("relowner", OWNER)
        .oid("relam", all.iter().map(|r| if r.is_view { 0 } else { 2 }))
        .oid("relfilenode", all.iter().map(|r| if r.is_view { 0 } else { r.oid }))
        .all_oid("reltablespace", 0)
        .all_int("relpages", 0)
        // Never vacuumed or analyzed: the number of rows is not known.
        .all_real("reltuples", -1.0)
        .all_int("relallvisible", 0)
        .all_oid("reltoastrelid", 0)
        .all_bool("relhasindex", false)
        .all_bool("relisshared", false)
        .all_text("relpersistence", "p")
        .text("relkind", all.iter().map(|r| if r.is_view { "v" } else { "r" }))
        .small("relnatts", all.iter().map(natts))
        .all_small("relchecks", 0)
        .all_bool("relhasrules", false)
        .all_bool("relhastriggers", false)
        .all_bool("relhassubclass", false)
        .all_bool("relrowsecurity", false)
        .all_bool("relforcerowsecurity", false)
        .all_bool("relispopulated", true)
        .all_text("relreplident", "d")
        .all_bool("relispartition", false)
        .all_oid("relrewrite", 0)
        .all_int("relfrozenxid", 0)
        .all_int("relminmxid", 0)
        .no_texts("relacl")
        .no_texts("reloptions")
        .no_text("relpartbound")
        .finish()
}

fn pg_attribute(relations: &Relations) -> Result<Option<Arc<dyn TableProvider>>> {
    let all: Vec<(&Relation, i16, &FieldRef, Type)> = relations
        .ours()
        .flat_map(|(relation, columns)| {
            columns
                .fields()
                .iter()
                .zip(1i16..)
                .map(move |(field, number)| (relation, number, field, types::type_of(field)))
        })
        .collect();
    let is_collated = |pg_type: &Type| matches!(*pg_type, Type::TEXT | Type::TEXT_ARRAY);
    Columns::of(all.len())
        .oid("attrelid", all.iter().map(|(relation, ..)| relation.oid))
        .text("attname", all.iter().map(|(_, _, field, _)| field.name()))
        .oid("atttypid", all.iter().map(|(.., pg_type)| pg_type.oid().cast_signed()))
        .all_int("attstattarget", -1)
        .small("attlen", all.iter().map(|(.., pg_type)| types::size_bytes(pg_type)))
        .small("attnum", all.iter().map(|(_, number, ..)| *number))
        .int("attndims", all.iter().map(|(.., pg_type)| i32::from(types::element_of(pg_type).is_some())))
        .all_int("attcacheoff", -1)
        .all_int("atttypmod", -1)
        .bool("attbyval", all.iter().map(|(.., pg_type)| types::size_bytes(pg_type) > 0))
        .all_text("attalign", "i")
        .text("attstorage", all.iter().map(|(.., pg_type)| if types::size_bytes(pg_type) > 0 { "p" } else { "x" }))
        .all_text("attcompression", "")
        .bool("attnotnull", all.iter().map(|(_, _, field, _)| !field.is_nullable()))
        .all_bool("atthasdef", false)
        .all_bool("atthasmissing", false)
        .all_text("attidentity", "")
        .all_text("attgenerated", "")
        .all_bool("attisdropped", false)
        .all_bool("attislocal", true)
        .all_int("attinhcount", 0)
        .oid("attcollation", all.iter().map(|(.., pg_type)| if is_collated(pg_type) { DEFAULT_COLLATION } else { 0 }))
        .no_texts("attacl")
        .no_texts("attoptions")
        .no_texts("attfdwoptions")
        .no_text("attmissingval")
        .finish()
}

fn pg_namespace() -> Result<Option<Arc<dyn TableProvider>>> {
    Columns::of(NAMESPACES.len())
        .oid("oid", NAMESPACES.map(|(_, oid)| oid))
        .text("nspname", NAMESPACES.map(|(name, _)| name))
        .all_oid("nspowner", OWNER)
        .no_texts("nspacl")
        .finish()
}

fn pg_database() -> Result<Option<Arc<dyn TableProvider>>> {
    Columns::of(1)
        .all_oid("oid", DATABASE_OID)
        .all_text("datname", DATABASE)
        .all_oid("datdba", OWNER)
        .all_int("encoding", 6)
        .all_text("datlocprovider", "c")
        .all_bool("datistemplate", false)
        .all_bool("datallowconn", true)
        .all_int("datconnlimit", -1)
        .all_oid("datlastsysoid", 0)
        .all_int("datfrozenxid", 0)
        .all_int("datminmxid", 0)
        .all_oid("dattablespace", 1663)
        .all_text("datcollate", "C.UTF-8")
        .all_text("datctype", "C.UTF-8")
        .no_text("daticulocale")
        .no_text("datcollversion")
        .no_texts("datacl")
        .finish()
}

/// The owner, and whoever asks. Other keys are nobody's business.
fn roles(facts: &SessionFacts) -> [(i32, &str, bool); 2] {
    [(OWNER, "highwater", true), (USER, facts.user.as_str(), false)]
}

fn pg_roles(facts: &SessionFacts) -> Result<Option<Arc<dyn TableProvider>>> {
    let all = roles(facts);
    Columns::of(all.len())
        .text("rolname", all.iter().map(|(_, name, _)| name))
        .bool("rolsuper", all.iter().map(|(.., is_owner)| *is_owner))
        .all_bool("rolinherit", true)
        .all_bool("rolcreaterole", false)
        .all_bool("rolcreatedb", false)
        .bool("rolcanlogin", all.iter().map(|(.., is_owner)| !is_owner))
        .all_bool("rolreplication", false)
        .all_int("rolconnlimit", -1)
        .all_text("rolpassword", "********")
        .no_text("rolvaliduntil")
        .all_bool("rolbypassrls", false)
        .no_texts("rolconfig")
        .oid("oid", all.iter().map(|(oid, ..)| *oid))
        .finish()
}

fn pg_user(facts: &SessionFacts) -> Result<Option<Arc<dyn TableProvider>>> {
    let all = roles(facts);
    Columns::of(all.len())
        .text("usename", all.iter().map(|(_, name, _)| name))
        .oid("usesysid", all.iter().map(|(oid, ..)| *oid))
        .all_bool("usecreatedb", false)
        .bool("usesuper", all.iter().map(|(.., is_owner)| *is_owner))
        .all_bool("userepl", false)
        .all_bool("usebypassrls", false)
        .all_text("passwd", "********")
        .no_text("valuntil")
        .no_texts("useconfig")
        .finish()
}

fn pg_tables(relations: &Relations) -> Result<Option<Arc<dyn TableProvider>>> {
    let all: Vec<&Relation> = relations.0.iter().filter(|r| !r.is_view).collect();
    Columns::of(all.len())
        .text("schemaname", all.iter().map(|r| r.schema))
        .text("tablename", all.iter().map(|r| &r.name))
        .all_text("tableowner", "highwater")
        .no_text("tablespace")
        .all_bool("hasindexes", false)
        .all_bool("hasrules", false)
        .all_bool("hastriggers", false)
        .all_bool("rowsecurity", false)
        .finish()
}

fn pg_views(relations: &Relations) -> Result<Option<Arc<dyn TableProvider>>> {
    let all: Vec<&Relation> = relations.0.iter().filter(|r| r.is_view).collect();
    Columns::of(all.len())
        .text("schemaname", all.iter().map(|r| r.schema))
        .text("viewname", all.iter().map(|r| &r.name))
        .all_text("viewowner", "highwater")
        .some_text("definition", all.iter().map(|r| r.definition))
        .finish()
}

fn pg_settings(facts: &SessionFacts) -> Result<Option<Arc<dyn TableProvider>>> {
    let all = &facts.settings;
    Columns::of(all.len())
        .text("name", all.iter().map(|(name, _)| name))
        .text("setting", all.iter().map(|(_, value)| value))
        .no_text("unit")
        .all_text("category", "Client Connection Defaults")
        .all_text("short_desc", "")
        .no_text("extra_desc")
        .all_text("context", "user")
        .all_text("vartype", "string")
        .all_text("source", "session")
        .no_text("min_val")
        .no_text("max_val")
        .no_text("enumvals")
        .no_text("boot_val")
        .text("reset_val", all.iter().map(|(_, value)| value))
        .no_text("sourcefile")
        .no_int("sourceline")
        .all_bool("pending_restart", false)
        .finish()
}

/// The session that asks, and no other.
fn pg_stat_activity(facts: &SessionFacts) -> Result<Option<Arc<dyn TableProvider>>> {
    let application = facts.settings.iter().find(|(name, _)| name == "application_name").map_or("", |(_, value)| value);
    Columns::of(1)
        .all_oid("datid", DATABASE_OID)
        .all_text("datname", DATABASE)
        .all_int("pid", facts.pid)
        .all_oid("usesysid", USER)
        .all_text("usename", &facts.user)
        .all_text("application_name", application)
        .no_text("client_addr")
        .no_text("client_hostname")
        .no_int("client_port")
        .no_text("backend_start")
        .no_text("xact_start")
        .no_text("query_start")
        .no_text("state_change")
        .no_text("wait_event_type")
        .no_text("wait_event")
        .all_text("state", "active")
        .no_big("backend_xid")
        .no_big("backend_xmin")
        .no_text("query")
        .all_text("backend_type", "client backend")
        .finish()
}
