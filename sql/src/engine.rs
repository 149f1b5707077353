//! The engine: plans and runs queries, within limits, on threads of its own.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::common::format::ExplainFormat;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use highwater_pipeline::functions::{self, HighwaterDialect};
use highwater_pipeline::log::Log;
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::TableSpec;
use object_store::ObjectStore;
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::as_of;
use crate::catalog::{CATALOG, CatalogList, QueryCatalog, SCHEMA, Tables};
use crate::config::SqlConfig;
use crate::error::SqlError;
use crate::guard;
use crate::parameters::{self, Parameter, ParameterTypes};
use crate::postgres::catalog::{PostgresCatalog, Relations, SessionFacts};
use crate::postgres::names;
use crate::promoted::PromotedAttributes;
use crate::query::{self, QueryInfo, QueryResult};
use crate::store::LockedRegistry;
use crate::table::Table;
use crate::tail::Budget;
use crate::times::ShortTimes;
use crate::view::{View, Views};
use crate::views::{self, SqlViews};
use crate::{json, json_inside};

/// How many operators a memory error names.
const NAMED_CONSUMERS: usize = 3;
/// What the footers of files may take up, bytes.
const METADATA_CACHE_BYTES: usize = 256 << 20;

/// Answers SQL over the tables of one storage root and one log. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    /// One for each query that may run.
    permits: Arc<Semaphore>,
}

/// What queries share.
pub(crate) struct Shared {
    config: SqlConfig,
    storage: Storage,
    log: Arc<dyn Log>,
    budget: Arc<Budget>,
    tables: RwLock<Arc<Tables>>,
    views: RwLock<Arc<Views>>,
    sql_views: RwLock<Arc<SqlViews>>,
    registry: Arc<LockedRegistry>,
    /// Holds what all queries have in common: caches, spill space, the object store.
    runtime_env: RuntimeEnv,
    /// Holds functions and settings; a query adds its catalog and its memory.
    session: Arc<SessionState>,
    /// The same for sessions of Postgres clients, made for the first of them.
    postgres: OnceLock<Result<PostgresCatalog, String>>,
}

impl Engine {
    /// An engine over these tables. `spill_dir` is where big sorts and joins put what does not fit in memory; it is the engine's alone, and what a
    /// killed process left there is for the caller to remove.
    ///
    /// # Errors
    /// [`SqlError::Start`] where the spill directory cannot be had.
    pub fn new(
        config: SqlConfig,
        storage: Storage,
        log: Arc<dyn Log>,
        tables: Vec<TableSpec>,
        spill_dir: &Path,
    ) -> Result<Self, SqlError> {
        let start = |message: String| SqlError::Start { message };
        let registry = Arc::new(LockedRegistry::new(Arc::clone(storage.objects())).map_err(|e| start(e.to_string()))?);
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![spill_dir.to_path_buf()]))
            .with_max_temp_directory_size(config.spill_limit_bytes);
        let runtime_env = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(disk)
            .with_object_store_registry(Arc::<LockedRegistry>::clone(&registry))
            // Footers of months of files, with their page indexes.
            .with_metadata_cache_limit(METADATA_CACHE_BYTES)
            .build()
            .map_err(|e| start(format!("spill directory {}: {e}", spill_dir.display())))?;
        let session = Arc::new(base_session(&config).map_err(|e| start(e.to_string()))?);
        let budget = Arc::new(Budget::new(config.tail_cache_bytes));
        let permits = Arc::new(Semaphore::new(config.max_concurrent_queries));
        let (tables_now, views) = (RwLock::default(), RwLock::default());
        let shared = Shared {
            config,
            storage,
            log,
            budget,
            tables: tables_now,
            views,
            sql_views: RwLock::default(),
            registry,
            runtime_env,
            session,
            postgres: OnceLock::new(),
        };
        let engine = Self { shared: Arc::new(shared), permits };
        engine.set_tables(tables);
        Ok(engine)
    }

    /// Changes which tables there are. Running queries keep those they began with; a table whose description is the same keeps its caches.
    pub fn set_tables(&self, specs: Vec<TableSpec>) {
        let shared = &self.shared;
        let old = Arc::clone(&shared.tables.read());
        let mut tables = Tables::new();
        for spec in specs {
            let is_same =
                |old: &TableSpec| (&old.topics, &old.kind, &old.promoted) == (&spec.topics, &spec.kind, &spec.promoted);
            let kept = old.get(&spec.name).filter(|table| is_same(&table.spec));
            let table = match kept {
                Some(table) => Arc::clone(table),
                None => Arc::new(Table::new(
                    spec.clone(),
                    &shared.storage,
                    Arc::clone(&shared.log),
                    Arc::clone(&shared.budget),
                )),
            };
            tables.insert(spec.name, table);
        }
        let tables = Arc::new(tables);
        *shared.sql_views.write() = Arc::new(shared.views_over(&tables));
        *shared.tables.write() = tables;
    }

    /// Adds a table that is made when it is read, or replaces the one of this name. A stored table of the same name goes before it.
    pub fn register_view(&self, name: &str, view: Arc<dyn View>) {
        let mut views = self.shared.views.write();
        let mut changed = Views::clone(&views);
        changed.insert(name.to_owned(), view);
        *views = Arc::new(changed);
    }

    /// The tables whose description `test` likes, as they are now.
    pub(crate) fn tables(&self, test: impl Fn(&TableSpec) -> bool) -> Vec<Arc<Table>> {
        let tables = Arc::clone(&self.shared.tables.read());
        tables.values().filter(|table| test(&table.spec)).map(Arc::clone).collect()
    }

    /// The storage root, where files of tables lie.
    pub(crate) fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(self.shared.storage.objects())
    }

    /// The limits in force.
    pub fn config(&self) -> &SqlConfig {
        &self.shared.config
    }

    /// Plans and starts a query on behalf of a tenant. Rows come as the result is polled; dropping it (or this future) stops the query.
    ///
    /// # Errors
    /// Whatever stands in the way of the first row's plan: see [`SqlError`]. Later errors come in the stream.
    pub async fn query(&self, tenant: &str, sql: &str) -> Result<QueryResult, SqlError> {
        self.query_with(tenant, sql, QueryOptions::default()).await
    }

    /// The same with parameters and a time limit.
    ///
    /// # Errors
    /// As [`Engine::query`], and [`SqlError::Parameter`] where parameters and text do not go together.
    pub async fn query_with(&self, tenant: &str, sql: &str, options: QueryOptions) -> Result<QueryResult, SqlError> {
        let prepared = guard::parse(sql, &HighwaterDialect).and_then(|mut statement| {
            parameters::put_into(&mut statement, &options.parameters)?;
            Ok(statement)
        });
        match prepared {
            Ok(statement) => self.run(tenant, Ask { timeout: options.timeout, ..Ask::of(statement) }).await,
            Err(error) => Err(counted(error)),
        }
    }

    /// [`Self::query`] over the rows of all tenants, and no views: for what the process itself does with stored rows, never for a request.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn query_all_tenants(&self, sql: &str) -> Result<QueryResult, SqlError> {
        self.start(None, Ask::of(guard::parse(sql, &HighwaterDialect)?)).await
    }

    /// Plans and starts what is asked.
    pub(crate) async fn run(&self, tenant: &str, ask: Ask) -> Result<QueryResult, SqlError> {
        self.start(Some(tenant), ask).await.map_err(counted)
    }

    /// The columns that the answer will have. Nothing is read but the tables' descriptions.
    pub(crate) async fn columns(&self, tenant: &str, ask: Ask) -> Result<SchemaRef, SqlError> {
        let limit = self.limit(&ask);
        let permit = self.permit(&ask, limit).await?;
        let shared = Arc::clone(&self.shared);
        let tenant = Arc::<str>::from(tenant);
        let work = async move {
            let columns = async {
                let (state, _) = shared.session_for(Some(&tenant), &ask)?;
                let is_postgres = ask.postgres.is_some();
                let plan = shared.logical(&state, ask.statement, is_postgres).await?;
                let plan = state.optimize(&plan)?;
                Ok::<_, PlanError>(if is_postgres && is_json(&plan) {
                    Arc::new(Schema::new(vec![Field::new(QUERY_PLAN, DataType::Utf8, false)]))
                } else {
                    Arc::clone(plan.schema().inner())
                })
            };
            columns.await.map_err(|e| shared.explain(e))
        };
        query::apart(limit, work, permit).await
    }

    /// The types that the statement's parameters have to have, as far as they follow from where they stand: by name (`$1`).
    pub(crate) async fn parameter_types(&self, tenant: &str, ask: Ask) -> Result<ParameterTypes, SqlError> {
        let limit = self.limit(&ask);
        let permit = self.permit(&ask, limit).await?;
        let shared = Arc::clone(&self.shared);
        let tenant = Arc::<str>::from(tenant);
        let work = async move {
            let types = async {
                let (state, _) = shared.session_for(Some(&tenant), &ask)?;
                let plan = state.statement_to_plan(ask.statement).await?;
                Ok::<_, PlanError>(parameters::types(&plan)?)
            };
            types.await.map_err(|e| shared.explain(e))
        };
        query::apart(limit, work, permit).await
    }

    /// How long this may take.
    fn limit(&self, ask: &Ask) -> Duration {
        let limit = self.shared.config.timeout;
        ask.timeout.map_or(limit, |timeout| timeout.min(limit))
    }

    async fn permit(&self, ask: &Ask, limit: Duration) -> Result<OwnedSemaphorePermit, SqlError> {
        let busy = || SqlError::Busy { limit: self.shared.config.max_concurrent_queries };
        let permits = Arc::clone(&self.permits);
        if !ask.waits {
            return permits.try_acquire_owned().map_err(|_| busy());
        }
        match tokio::time::timeout(limit, permits.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    async fn start(&self, tenant: Option<&str>, ask: Ask) -> Result<QueryResult, SqlError> {
        let limit = self.limit(&ask);
        let permit = self.permit(&ask, limit).await?;
        let shared = Arc::clone(&self.shared);
        let tenant = tenant.map(Arc::<str>::from);
        let plan = async move {
            let planned = shared.plan(tenant.as_ref(), ask).await;
            planned.map_err(|e| shared.explain(e))
        };
        QueryResult::start(&self.shared.config, limit, plan, permit).await
    }
}

/// Counts a query that did not begin.
fn counted(error: SqlError) -> SqlError {
    metrics::counter!("highwater_sql_queries_total", "outcome" => error.code()).increment(1);
    error
}

/// What goes with a query's text.
#[derive(Debug, Clone, Default)]
pub struct QueryOptions {
    /// The values of `$1`, `$2`, ...
    pub parameters: Vec<Parameter>,
    /// Cut after this long, if that is sooner than `sql.timeout`.
    pub timeout: Option<Duration>,
}

/// A statement to run, past the guard and with its parameters in it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) statement: Statement,
    /// Who asks, where it is a session of a Postgres client: it sees `pg_catalog`, and an `information_schema` as there.
    pub(crate) postgres: Option<Arc<SessionFacts>>,
    /// Cut after this long, if that is sooner than `sql.timeout`.
    pub(crate) timeout: Option<Duration>,
    /// Waits for its turn where as many queries run as may, rather than being refused.
    pub(crate) waits: bool,
}

impl Ask {
    /// An ask with nothing but a statement.
    pub(crate) fn of(statement: Statement) -> Self {
        Self { statement, postgres: None, timeout: None, waits: false }
    }
}

impl Shared {
    /// The views in SQL that can be made of these tables, with their columns.
    fn views_over(&self, tables: &Tables) -> SqlViews {
        let nobody = Arc::<str>::from("");
        let catalog = QueryCatalog::new(tables, &Views::default(), Some(&nobody), self.registry.url(), None);
        let state = SessionStateBuilder::new_from_existing(SessionState::clone(&self.session))
            .with_catalog_list(Arc::new(CatalogList::new(catalog, None)))
            .build();
        views::over(&state)
    }

    /// The session in which one query of a tenant, or over all of them, is planned and run, and the catalog in it.
    fn session_for(
        &self,
        tenant: Option<&Arc<str>>,
        ask: &Ask,
    ) -> datafusion::error::Result<(SessionState, Arc<QueryCatalog>)> {
        let tables = Arc::clone(&self.tables.read());
        let views = Arc::clone(&self.views.read());
        let sql_views = Arc::clone(&self.sql_views.read());
        let in_sql = Some((Arc::clone(&sql_views), Arc::clone(&self.session)));
        let catalog = QueryCatalog::new(&tables, &views, tenant, self.registry.url(), in_sql);
        let memory = TrackConsumersPool::new(
            FairSpillPool::new(self.config.memory_limit_bytes),
            std::num::NonZeroUsize::MIN.saturating_add(NAMED_CONSUMERS - 1),
        );
        let runtime_env =
            RuntimeEnvBuilder::from_runtime_env(&self.runtime_env).with_memory_pool(Arc::new(memory)).build_arc()?;
        let (session, system) = match &ask.postgres {
            None => (SessionState::clone(&self.session), None),
            Some(facts) => {
                let postgres = self.postgres.get_or_init(|| PostgresCatalog::new(&self.session));
                let postgres = postgres.as_ref().map_err(|e| DataFusionError::Internal(e.clone()))?;
                let relations = Arc::new(Relations::of(&tables, &views, &sql_views));
                (postgres.session(facts, &relations)?, Some(postgres.schemas(relations, facts)))
            }
        };
        let mut state = SessionStateBuilder::new_from_existing(session)
            .with_catalog_list(Arc::new(CatalogList::new(Arc::clone(&catalog), system)))
            .with_runtime_env(runtime_env)
            .build();
        state.mark_start_execution();
        Ok((state, catalog))
    }

    /// The plan of a statement, not yet optimised.
    async fn logical(
        &self,
        state: &SessionState,
        statement: Statement,
        is_postgres: bool,
    ) -> Result<LogicalPlan, PlanError> {
        let mut statement = statement;
        as_of::resolve(&mut statement, state)?;
        let plan = match state.statement_to_plan(statement.clone()).await {
            // Columns that are computed alike, which Postgres has nothing against.
            Err(error) if is_postgres && error.strip_backtrace().contains("require unique expression names") => {
                names::name_all(&mut statement);
                state.statement_to_plan(statement).await?
            }
            plan => plan?,
        };
        // The guard has let through only what reads; here is the second lock on the same door.
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        Ok(json_as_text(plan)?)
    }

    async fn plan(
        &self,
        tenant: Option<&Arc<str>>,
        ask: Ask,
    ) -> Result<(SendableRecordBatchStream, QueryInfo), PlanError> {
        let (state, catalog) = self.session_for(tenant, &ask)?;
        let is_postgres = ask.postgres.is_some();
        let plan = self.logical(&state, ask.statement, is_postgres).await?;
        let mut physical = state.create_physical_plan(&plan).await?;
        if is_postgres && is_json(&plan) {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new_with_schema("plan", &physical.schema())?);
            let only = ProjectionExpr::new(column, QUERY_PLAN);
            physical = Arc::new(ProjectionExec::try_new(vec![only], physical)?);
        }
        let stream = execute_stream(physical, state.task_ctx())?;
        Ok((stream, QueryInfo { tables: catalog.seen() }))
    }

    fn explain(&self, error: PlanError) -> SqlError {
        match error {
            PlanError::Own(error) => error,
            PlanError::DataFusion(error) => SqlError::from_datafusion(error, self.config.memory_limit_bytes),
        }
    }
}

/// An error on the way to a plan, ours or DataFusion's.
enum PlanError {
    Own(SqlError),
    DataFusion(datafusion::error::DataFusionError),
}

impl From<SqlError> for PlanError {
    fn from(error: SqlError) -> Self {
        Self::Own(error)
    }
}

impl From<datafusion::error::DataFusionError> for PlanError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        Self::DataFusion(error)
    }
}

/// The one column of a plan as Postgres shows it.
const QUERY_PLAN: &str = "QUERY PLAN";

/// A plan that is shown as Postgres's JSON.
fn is_json(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Explain(explain) => explain.explain_format == ExplainFormat::PostgresJSON,
        LogicalPlan::Analyze(analyze) => analyze.format == ExplainFormat::PostgresJSON,
        _ => false,
    }
}

/// What every query's session begins with.
fn base_session(limits: &SqlConfig) -> datafusion::error::Result<SessionState> {
    let threads = limits.thread_count();
    let mut config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA);
    let options = config.options_mut();
    // Times have a zone here, so that comparing them with a column's costs no conversion of the column.
    options.execution.time_zone = Some("UTC".to_string());
    // Text is plain Utf8 in our tables; another kind from a cast would convert the column on every comparison.
    options.sql_parser.map_string_types_to_utf8view = false;
    // So that errors can say where.
    options.sql_parser.collect_spans = true;
    // What each sort keeps back for merging what it spilled; all of them together leave most of the memory to use.
    let keep_back = limits.memory_limit_bytes / threads / 8;
    options.execution.sort_spill_reservation_bytes = options.execution.sort_spill_reservation_bytes.min(keep_back);
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    let mut state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    functions::register_ad_hoc(&mut state)?;
    json::register(&mut state)?;
    json_inside::register(&mut state)?;
    state.add_analyzer_rule(Arc::new(ShortTimes));
    for rule in functions::analyzer_rules(functions::Windows::Unfolded) {
        state.add_analyzer_rule(rule);
    }
    state.add_analyzer_rule(Arc::new(PromotedAttributes));
    Ok(state)
}

/// `labels -> 'x'` is a union of the JSON types, which no output format holds: it leaves as JSON text.
fn json_as_text(plan: LogicalPlan) -> datafusion::error::Result<LogicalPlan> {
    let is_union = |data_type: &arrow::datatypes::DataType| matches!(data_type, arrow::datatypes::DataType::Union(..));
    if !plan.schema().fields().iter().any(|f| is_union(f.data_type())) {
        return Ok(plan);
    }
    let to_text = datafusion_functions_json::udfs::json_union_to_text_udf();
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| {
            let column = Expr::from((qualifier, field));
            if is_union(field.data_type()) {
                to_text.call(vec![column]).alias_qualified(qualifier.cloned(), field.name())
            } else {
                column
            }
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
