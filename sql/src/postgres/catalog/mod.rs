//! The system catalog that Postgres clients look into: schemas `pg_catalog` and `information_schema`, and the functions that go with them.
//!
//! What describes Postgres itself (types, functions, operators, casts) are the tables of `datafusion-pg-catalog`; what describes our tables is made
//! here, for each query, from the tables there are then. Identifiers of objects follow from their names, so that they are the same on every
//! connection, on every node and after every restart: clients keep them.

mod columns;
mod format;
mod functions;
mod information;
pub(super) mod relations;
mod system;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::memory::MemoryCatalogProviderList;
use datafusion::catalog::{CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::functions::core::arrow_cast;
use datafusion::functions::string::expr_fn::{btrim, replace};
use datafusion::functions_nested::expr_fn::string_to_array;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, lit};
use datafusion::prelude::SessionContext;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables};
use parking_lot::Mutex;

use crate::catalog::SystemSchemas;
use crate::postgres::as_text::AsPostgresPrints;
use crate::postgres::in_zone::InZone;
use crate::postgres::rewrite;
use crate::postgres::settings::{Settings, Zone};

pub(crate) use relations::Relations;

/// The name of the one database.
pub(crate) const DATABASE: &str = crate::catalog::CATALOG;
/// The schema of the system catalog.
pub(crate) const PG_CATALOG: &str = "pg_catalog";
/// The schema of the standard's catalog.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// What functions of a session can say about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SessionFacts {
    /// Who logged in.
    pub(crate) user: String,
    /// The number of the connection.
    pub(crate) pid: i32,
    /// Settings: name as it is written, and value.
    pub(crate) settings: Vec<(String, String)>,
    /// The zone in which times are shown.
    pub(crate) zone: Zone,
    /// Its name, where it is not UTC: calendars and clocks go by it.
    pub(crate) zone_name: Option<String>,
    /// What the statement sets as it runs.
    pub(crate) wanted: Wanted,
}

/// Settings as `set_config` makes them while a statement runs; the session has them once it is through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted(Arc<Mutex<Option<InHand>>>);

/// The session's settings with what a statement has set, and that, in order.
#[derive(Debug)]
struct InHand {
    settings: Settings,
    set: Vec<(String, String)>,
}

impl Wanted {
    /// Begins with the session's.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self(Arc::new(Mutex::new(Some(InHand { settings: settings.clone(), set: Vec::new() }))))
    }

    /// Sets one. Gives its value as it is shown.
    pub(crate) fn set(&self, name: &str, value: &str) -> std::result::Result<String, String> {
        let mut wanted = self.0.lock();
        let Some(InHand { settings, set }) = wanted.as_mut() else { return Ok(value.to_string()) };
        if name.to_lowercase().starts_with("highwater.") {
            return Err(format!("parameter \"{name}\" cannot be set after connection start"));
        }
        settings.set(name, value).map_err(|e| e.message)?;
        set.push((name.to_string(), value.to_string()));
        Ok(settings.show(name).map_or_else(|_| value.to_string(), |(_, value)| value.to_string()))
    }

    /// What was set since, each once.
    pub(crate) fn take(&self) -> Vec<(String, String)> {
        self.0.lock().as_mut().map(|wanted| std::mem::take(&mut wanted.set)).unwrap_or_default()
    }
}

type Fixed = PgCatalogSchemaProvider<Arc<dyn CatalogProviderList>, EmptyContextProvider>;

/// What all sessions of Postgres clients have in common.
pub(crate) struct PostgresCatalog {
    session: SessionState,
    fixed: Arc<Fixed>,
}

impl PostgresCatalog {
    /// From the session of every other query.
    pub(crate) fn new(base: &SessionState) -> std::result::Result<Self, String> {
        Self::build(base).map_err(|e| format!("the Postgres catalog: {e}"))
    }

    fn build(base: &SessionState) -> Result<Self> {
        let fixed_tables = Arc::new(PgCatalogStaticTables::try_new()?);
        // Ours replaces the engine's `information_schema`, whose columns are others.
        let config = base.config().clone().with_information_schema(false);
        let state = SessionStateBuilder::new_from_existing(base.clone())
            .with_config(config)
            .with_type_planner(Arc::new(PgOidTypePlanner))
            .build();
        let context = SessionContext::new_with_state(state);
        CoerceIntArgsToBigInt::widen(&context);
        context.register_udtf("pg_get_keywords", Arc::clone(&fixed_tables.pg_get_keywords) as _);
        for function in functions::fixed() {
            context.register_udf(function);
        }
        let nothing: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
        let fixed = PgCatalogSchemaProvider::try_new(nothing, fixed_tables, EmptyContextProvider)?;
        Ok(Self { session: context.state(), fixed: Arc::new(fixed) })
    }

    /// The session of one query of this connection.
    pub(crate) fn session(&self, facts: &Arc<SessionFacts>, relations: &Arc<Relations>) -> Result<SessionState> {
        let mut state = self.session.clone();
        functions::of_session(facts, relations, &mut state)?;
        if let (Some(zone), Some(convert)) = (&facts.zone_name, state.scalar_functions().get("timezone").cloned()) {
            state.add_analyzer_rule(Arc::new(InZone::new(zone, convert)));
        }
        state.add_analyzer_rule(Arc::new(AsPostgresPrints::new(facts.zone)));
        Ok(state)
    }

    /// The schemas that such a query sees beside its tables.
    pub(crate) fn schemas(&self, relations: Arc<Relations>, facts: &Arc<SessionFacts>) -> SystemSchemas {
        let pg_catalog: Arc<dyn SchemaProvider> = Arc::new(PgCatalog {
            relations: Arc::clone(&relations),
            facts: Arc::clone(facts),
            fixed: Arc::clone(&self.fixed),
        });
        let information: Arc<dyn SchemaProvider> = Arc::new(InformationSchema { relations, facts: Arc::clone(facts) });
        SystemSchemas::from([(PG_CATALOG, pg_catalog), (INFORMATION_SCHEMA, information)])
    }
}

/// Columns of arrays, which the library has as text: `['a', 'b']`.
const ARRAYS_AS_TEXT: [(&str, &str); 4] = [
    ("extconfig", "List(UInt32)"),
    ("proallargtypes", "List(UInt32)"),
    ("proargmodes", "List(Utf8)"),
    ("proargnames", "List(Utf8)"),
];

/// The table with arrays for what is text that stands for them.
fn with_arrays(name: &str, table: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let schema = table.schema();
    let array = |field: &str, data_type: &str| {
        let trimmed = btrim(vec![col(field), lit("[]")]);
        let bare = replace(trimmed, lit("'"), lit(""));
        let list = string_to_array(bare, lit(", "), lit(ScalarValue::Utf8(None)));
        arrow_cast().call(vec![list, lit(data_type)]).alias(field)
    };
    let columns =
        schema.fields().iter().map(|field| match ARRAYS_AS_TEXT.iter().find(|(name, _)| name == field.name()) {
            Some((name, data_type)) => array(name, data_type),
            None => col(field.name()),
        });
    let columns: Vec<Expr> = columns.collect();
    let plan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.project(columns)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// The columns of `pg_user_mappings`.
fn user_mappings() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let number = |name| Field::new(name, DataType::Int32, true);
    let fields =
        vec![number("umid"), number("srvid"), text("srvname"), number("umuser"), text("usename"), text("umoptions")];
    Arc::new(Schema::new(fields))
}

struct PgCatalog {
    relations: Arc<Relations>,
    facts: Arc<SessionFacts>,
    fixed: Arc<Fixed>,
}

impl std::fmt::Debug for PgCatalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("pg_catalog")
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        relations::system_names().map(str::to_string).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = system::table(name, &self.relations, &self.facts)? {
            return Ok(Some(table));
        }
        match self.fixed.table(name).await? {
            // Postgres's own, of which nobody here has anything.
            Some(table) if rewrite::EMPTY.contains(&name) => Ok(Some(Arc::new(EmptyTable::new(table.schema())))),
            Some(table) if name == "pg_proc" || name == "pg_extension" => with_arrays(name, table).map(Some),
            None if name == "pg_user_mappings" => Ok(Some(Arc::new(EmptyTable::new(user_mappings())))),
            table => Ok(table),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        relations::system_names().any(|n| n == name)
    }
}

struct InformationSchema {
    relations: Arc<Relations>,
    facts: Arc<SessionFacts>,
}

impl std::fmt::Debug for InformationSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("information_schema")
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        information::NAMES.iter().map(ToString::to_string).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        information::table(name, &self.relations, &self.facts)
    }

    fn table_exist(&self, name: &str) -> bool {
        information::NAMES.contains(&name)
    }
}
