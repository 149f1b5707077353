//! What one query can name: the tables of its tenant, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::datasource::{TableType, ViewTable};
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use parking_lot::Mutex;

use crate::as_of::AsOf;
use crate::error::SqlError;
use crate::guard::is_table_function;
use crate::scan::TenantTable;
use crate::table::{Table, TableCut};
use crate::view::{TenantView, View, Views};
use crate::views::SqlViews;

/// The catalog's name.
pub(crate) const CATALOG: &str = "highwater";
/// The name of the schema that holds the tables.
pub(crate) const SCHEMA: &str = "public";

/// Tables by name.
pub(crate) type Tables = BTreeMap<String, Arc<Table>>;

/// The catalog, the schema and the tables of one query at once.
#[derive(Debug)]
pub(crate) struct QueryCatalog {
    tables: BTreeMap<String, Arc<TenantTable>>,
    views: BTreeMap<String, Arc<TenantView>>,
    /// Tables as of a moment, by the names they have in the statement.
    past: Mutex<BTreeMap<String, Arc<TenantTable>>>,
    /// Views in SQL, and where they are planned; none for what is planned there.
    sql_views: Option<(Arc<SqlViews>, Arc<SessionState>)>,
}

impl QueryCatalog {
    /// As this tenant sees it; without one, with the rows of all, and no views.
    pub(crate) fn new(
        tables: &Tables,
        views: &Views,
        tenant: Option<&Arc<str>>,
        store_url: &ObjectStoreUrl,
        sql_views: Option<(Arc<SqlViews>, Arc<SessionState>)>,
    ) -> Arc<Self> {
        let tables = tables
            .iter()
            .map(|(name, table)| {
                let table = TenantTable::new(Arc::clone(table), tenant.map(Arc::clone), store_url.clone());
                (name.clone(), Arc::new(table))
            })
            .collect();
        let view = |(name, view): (&String, &Arc<dyn View>)| {
            Some((name.clone(), Arc::new(TenantView::new(Arc::clone(view), Arc::clone(tenant?)))))
        };
        let views = views.iter().filter_map(view).collect();
        Arc::new(Self { tables, views, past: Mutex::default(), sql_views: sql_views.filter(|_| tenant.is_some()) })
    }

    /// The same tables and no views in SQL, for those to be planned over: they read what the query reads.
    fn below_views(&self) -> Arc<Self> {
        let (tables, views) = (self.tables.clone(), self.views.clone());
        Arc::new(Self { tables, views, past: Mutex::default(), sql_views: None })
    }

    /// A view in SQL, planned.
    async fn sql_view(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some((views, session)) = &self.sql_views else { return Ok(None) };
        let Some(view) = views.get(name) else { return Ok(None) };
        let list = CatalogList::new(self.below_views(), None);
        let state = SessionStateBuilder::new_from_existing(SessionState::clone(session))
            .with_catalog_list(Arc::new(list))
            .build();
        let plan = state.statement_to_plan(view.statement.clone()).await?;
        Ok(Some(Arc::new(ViewTable::new(plan, Some(view.sql.to_string())))))
    }

    fn is_sql_view(&self, name: &str) -> bool {
        self.sql_views.as_ref().is_some_and(|(views, _)| views.contains_key(name))
    }

    /// A table as of the moment that its name says.
    fn past(&self, name: &str) -> Option<Arc<TenantTable>> {
        let (table, as_of) = AsOf::of_name(name)?;
        let table = self.tables.get(table)?;
        let mut past = self.past.lock();
        Some(Arc::clone(past.entry(name.to_string()).or_insert_with(|| Arc::new(table.at(as_of)))))
    }

    /// The names of all tables and views, each once, sorted.
    fn names(&self) -> BTreeSet<&str> {
        let in_sql = self.sql_views.iter().flat_map(|(views, _)| views.keys().copied());
        self.tables.keys().chain(self.views.keys()).map(String::as_str).chain(in_sql).collect()
    }

    /// What the query saw of each table it scanned.
    pub(crate) fn seen(&self) -> Vec<TableCut> {
        let past = self.past.lock();
        self.tables.values().chain(past.values()).filter_map(|t| t.seen().cloned()).collect()
    }

    fn unknown(&self, name: &str) -> DataFusionError {
        if let Some((table, _)) = AsOf::of_name(name) {
            let message = format!("AS OF goes by stored tables, and '{table}' is none");
            return SqlError::Invalid { message, at: None }.into();
        }
        let names: Vec<&str> = self.names().into_iter().collect();
        let nearest = names.iter().map(|n| (levenshtein(n, name), *n)).min().filter(|(distance, _)| *distance <= 3);
        let hint = match nearest {
            Some((_, n)) => format!("Did you mean '{n}'?"),
            None => format!("The tables are {}.", names.join(", ")),
        };
        SqlError::Invalid { message: format!("there is no table '{name}'. {hint}"), at: None }.into()
    }
}

/// The schema, as a provider of its own: it holds the catalog.
#[derive(Debug)]
struct Public(Arc<QueryCatalog>);

/// The catalog, likewise.
#[derive(Debug)]
struct Catalog {
    tables: Arc<QueryCatalog>,
    system: Option<SystemSchemas>,
}

/// Schemas that describe the tables rather than hold them, by name.
pub(crate) type SystemSchemas = BTreeMap<&'static str, Arc<dyn SchemaProvider>>;

/// The list of the one catalog.
#[derive(Debug)]
pub(crate) struct CatalogList(Arc<Catalog>);

impl CatalogList {
    pub(crate) fn new(tables: Arc<QueryCatalog>, system: Option<SystemSchemas>) -> Self {
        Self(Arc::new(Catalog { tables, system }))
    }
}

#[async_trait]
impl SchemaProvider for Public {
    fn table_names(&self) -> Vec<String> {
        self.0.names().into_iter().map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = self.0.tables.get(name).map(|table| Arc::<TenantTable>::clone(table) as Arc<dyn TableProvider>);
        let view = || self.0.views.get(name).map(|view| Arc::<TenantView>::clone(view) as Arc<dyn TableProvider>);
        let past = || self.0.past(name).map(|table| table as Arc<dyn TableProvider>);
        if let Some(found) = table.or_else(view).or_else(past) {
            return Ok(Some(found));
        }
        match self.0.sql_view(name).await? {
            Some(view) => Ok(Some(view)),
            // Table functions are looked up here before they are looked up among functions.
            None if is_table_function(name) => Ok(None),
            None => Err(self.0.unknown(name)),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        let view = || (self.0.views.contains_key(name) || self.0.is_sql_view(name)).then_some(TableType::View);
        Ok(self.0.tables.contains_key(name).then_some(TableType::Base).or_else(view))
    }

    fn table_exist(&self, name: &str) -> bool {
        let is_past = || AsOf::of_name(name).is_some_and(|(table, _)| self.0.tables.contains_key(table));
        self.0.tables.contains_key(name) || self.0.views.contains_key(name) || self.0.is_sql_view(name) || is_past()
    }
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        let system = self.system.iter().flat_map(BTreeMap::keys).map(ToString::to_string);
        std::iter::once(SCHEMA.to_string()).chain(system).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == SCHEMA {
            return Some(Arc::new(Public(Arc::clone(&self.tables))));
        }
        self.system.as_ref()?.get(name).map(Arc::clone)
    }
}

impl CatalogProviderList for CatalogList {
    /// Nothing is added to a query's catalog.
    fn register_catalog(&self, _name: String, _catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_string()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| {
            let catalog: Arc<dyn CatalogProvider> = Arc::<Catalog>::clone(&self.0);
            catalog
        })
    }
}
