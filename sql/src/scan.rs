//! A table inside one query: the cut is taken at the first scan and shared by all of them, so that a self-join sees one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{FieldRef, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue, Statistics, stats::Precision};
use datafusion::datasource::TableType;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::functions::core::get_field;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, ident, lit, not};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::TryStreamExt;
use highwater_pipeline::data::identity;
use highwater_pipeline::tables::{ATTRIBUTES_COLUMN, DATE_COLUMN, Superseded, TENANT_COLUMN, WINDOW_START_COLUMN};
use tokio::sync::OnceCell;

use crate::as_of::AsOf;
use crate::delta::DataFile;
use crate::error::SqlError;
use crate::stats::{self, FileStatistics};
use crate::table::{Cut, Table, TableCut};
use crate::tail::{TailPartition, TailReader};

/// One table, for one query of one tenant. No row of another tenant leaves it.
pub(crate) struct TenantTable {
    table: Arc<Table>,
    /// `None` for the rows of all of them, which only the process itself may see.
    tenant: Option<Arc<str>>,
    store_url: ObjectStoreUrl,
    cut: OnceCell<Cut>,
    /// What the tail supersedes, in files and tail.
    superseded: OnceCell<Arc<Superseded>>,
    /// The moment at which the query sees it; `None`: the present.
    as_of: Option<AsOf>,
}

impl std::fmt::Debug for TenantTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TenantTable({} of {})", self.table.spec.name, self.tenant.as_deref().unwrap_or("everybody"))
    }
}

impl TenantTable {
    pub(crate) fn new(table: Arc<Table>, tenant: Option<Arc<str>>, store_url: ObjectStoreUrl) -> Self {
        Self { table, tenant, store_url, cut: OnceCell::new(), superseded: OnceCell::new(), as_of: None }
    }

    /// Whether a column holds an attribute that the map has, too.
    pub(crate) fn is_promoted(&self, column: &str) -> bool {
        self.table.spec.promoted.iter().any(|attribute| attribute == column)
    }

    /// The same table at another moment.
    pub(crate) fn at(&self, as_of: AsOf) -> Self {
        let (table, tenant, store_url) = (Arc::clone(&self.table), self.tenant.clone(), self.store_url.clone());
        Self { table, tenant, store_url, cut: OnceCell::new(), superseded: OnceCell::new(), as_of: Some(as_of) }
    }

    /// What keeps out the rows that were appended after the moment of the query, where the cut does not.
    fn appended_by(&self) -> Option<Expr> {
        match self.as_of {
            Some(AsOf::Time(us)) if !self.table.spec.is_revised() => {
                let moment = ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
                Some(ident(identity::APPEND_TIME).lt_eq(lit(moment)))
            }
            _ => None,
        }
    }

    /// What the query saw of it; `None` where it did not look.
    pub(crate) fn seen(&self) -> Option<&TableCut> {
        self.cut.get().map(|cut| &cut.info)
    }

    /// The tenant's files that may hold rows for which the filters are true.
    fn files(&self, cut: &Cut, state: &dyn Session, filters: &[Expr]) -> Result<Vec<Arc<DataFile>>> {
        let Some(snapshot) = &cut.snapshot else { return Ok(Vec::new()) };
        let own = |file: &&Arc<DataFile>| self.tenant.as_deref().is_none_or(|own| file.tenant.as_deref() == Some(own));
        let files: Vec<Arc<DataFile>> = snapshot.files.iter().filter(own).map(Arc::clone).collect();
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(files) };
        let schema = SchemaRef::clone(self.scan_schema().table_schema());
        let predicate = state.create_physical_expr(filter, &DFSchema::try_from(SchemaRef::clone(&schema))?)?;
        let Some(pruning) = PruningPredicateBuilder::new().with_file_schema(SchemaRef::clone(&schema)).build(predicate)
        else {
            return Ok(files);
        };
        let keep = pruning.prune(&FileStatistics::new(&files, schema))?;
        Ok(files.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
    }

    /// The columns as a file scan has them: those in the files, then the partition columns.
    fn scan_schema(&self) -> TableSchema {
        let field = |name| self.table.schema.field_with_name(name).ok().map(|f| FieldRef::new(f.clone()));
        let partition_columns: Vec<FieldRef> = [TENANT_COLUMN, DATE_COLUMN].into_iter().filter_map(field).collect();
        TableSchema::builder(SchemaRef::clone(&self.table.file_schema))
            .with_table_partition_cols(partition_columns)
            .build()
    }

    /// The order in which the rows of each of these files lie; `None` where not all were written by us.
    fn order(&self, files: &[Arc<DataFile>], schema: &SchemaRef) -> Option<LexOrdering> {
        if !files.iter().all(|file| file.is_sorted) {
            return None;
        }
        let by = |name: &String| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, schema.index_of(name).ok()?));
            Some(PhysicalSortExpr::new(column, SortOptions { descending: false, nulls_first: true }))
        };
        LexOrdering::new(self.table.spec.sort_columns.iter().map(by).collect::<Option<Vec<_>>>()?)
    }

    /// The files in groups that are read side by side, the newest rows first in each: whoever wants the latest finds them at once, and leaves out by
    /// their statistics the files behind.
    fn groups(&self, files: &[Arc<DataFile>], schema: &SchemaRef, count: usize) -> Vec<FileGroup> {
        let time = schema.index_of(&self.table.spec.time_column).ok();
        let newest = |file: &DataFile| {
            let statistics = file.file.statistics.as_deref()?;
            match statistics.column_statistics.get(time?)?.max_value.get_value()? {
                ScalarValue::TimestampMicrosecond(us, _) => *us,
                _ => None,
            }
        };
        let mut files: Vec<_> = files.iter().map(|file| (newest(file), file)).collect();
        files.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.file.path().cmp(b.1.file.path())));
        let count = count.clamp(1, files.len().max(1));
        let mut groups = vec![Vec::with_capacity(files.len().div_ceil(count)); count];
        for (i, (_, file)) in files.into_iter().enumerate() {
            groups[i % count].push(file.file.clone());
        }
        groups.into_iter().map(FileGroup::new).collect()
    }

    fn scan_files(
        &self,
        files: &[Arc<DataFile>],
        state: &dyn Session,
        projection: &[usize],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan_schema = self.scan_schema();
        let statistics = total(files, scan_schema.table_schema());
        // From places in the table's columns to places in the scan's.
        let indices = projection
            .iter()
            .map(|i| Ok(scan_schema.table_schema().index_of(self.table.schema.field(*i).name())?))
            .collect::<Result<Vec<_>>>()?;
        let runtime = state.runtime_env();
        let reader = CachedParquetFileReaderFactory::new(
            runtime.object_store(&self.store_url)?,
            runtime.cache_manager.get_file_metadata_cache(),
        );
        let groups = self.groups(files, scan_schema.table_schema(), state.config().target_partitions());
        let order = self.order(files, scan_schema.table_schema());
        let source = ParquetSource::new(scan_schema)
            .with_table_parquet_options(state.default_table_options().parquet)
            .with_parquet_file_reader_factory(Arc::new(reader));
        let config = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_output_ordering(order.into_iter().collect())
            .with_statistics(statistics)
            .with_projection_indices(Some(indices))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// The files' rows. Files that lack the column of a promoted attribute, because they were written before it was promoted, give it from the map.
    fn scan_stored(
        &self,
        files: &[Arc<DataFile>],
        state: &dyn Session,
        projection: &[usize],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = &self.table.schema;
        let wanted: Vec<usize> = projection
            .iter()
            .filter(|i| self.is_promoted(schema.field(**i).name()))
            .map(|i| self.table.file_schema.index_of(schema.field(*i).name()))
            .collect::<Result<_, _>>()?;
        let has_them = |file: &Arc<DataFile>| {
            let statistics = file.file.statistics.as_deref();
            statistics.is_some_and(|s| wanted.iter().all(|column| stats::has_column(s, *column)))
        };
        let (with, without): (Vec<_>, Vec<_>) =
            files.iter().map(Arc::clone).partition(|file| wanted.is_empty() || has_them(file));
        if without.is_empty() {
            return self.scan_files(files, state, projection, limit);
        }
        let from_maps = self.scan_maps(&without, state, projection, limit)?;
        if with.is_empty() {
            return Ok(from_maps);
        }
        UnionExec::try_new(vec![self.scan_files(&with, state, projection, limit)?, from_maps])
    }

    /// The rows of files without the columns of promoted attributes, which are looked up in the map.
    fn scan_maps(
        &self,
        files: &[Arc<DataFile>],
        state: &dyn Session,
        projection: &[usize],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = &self.table.schema;
        let is_promoted = |i: &usize| self.is_promoted(schema.field(*i).name());
        let mut needed: Vec<usize> = projection.iter().copied().filter(|i| !is_promoted(i)).collect();
        let map = schema.index_of(ATTRIBUTES_COLUMN)?;
        if !needed.contains(&map) {
            needed.push(map);
        }
        let stored = self.scan_files(files, state, &needed, limit)?;
        let columns = DFSchema::try_from(stored.schema())?;
        let column = |i: &usize| {
            let name = schema.field(*i).name();
            let expr = match is_promoted(i) {
                true => get_field().call(vec![ident(ATTRIBUTES_COLUMN), lit(name.as_str())]),
                false => ident(name),
            };
            Ok(ProjectionExpr::new(state.create_physical_expr(expr, &columns)?, name))
        };
        let columns = projection.iter().map(column).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(columns, stored)?))
    }

    /// The files' rows that the tail does not supersede: windows of a rollup that were closed again since the files were written.
    fn scan_files_without(
        &self,
        superseded: &Superseded,
        files: &[Arc<DataFile>],
        state: &dyn Session,
        projection: &[usize],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut needed = projection.to_vec();
        for name in [identity::PARTITION, WINDOW_START_COLUMN] {
            let index = self.table.schema.index_of(name)?;
            if !needed.contains(&index) {
                needed.push(index);
            }
        }
        let stored = self.scan_files(files, state, &needed, None)?;
        let schema = DFSchema::try_from(stored.schema())?;
        let holds = state.create_physical_expr(not(is_superseded(superseded)), &schema)?;
        let filter = FilterExecBuilder::new(holds, stored).apply_projection(Some((0..projection.len()).collect()))?;
        Ok(Arc::new(filter.build()?))
    }

    fn scan_tail(
        &self,
        cut: &Cut,
        superseded: &Arc<Superseded>,
        projection: &[usize],
        limit: Option<usize>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let schema: SchemaRef = Arc::new(self.table.schema.project(projection)?);
        let projection: Arc<[usize]> = projection.into();
        let partitions: Vec<Arc<dyn PartitionStream>> = cut
            .tails
            .iter()
            .filter(|(_, offsets)| !offsets.is_empty())
            .map(|(place, offsets)| {
                let stream: Arc<dyn PartitionStream> = Arc::new(TailStream {
                    reader: Arc::clone(&self.table.tail),
                    place: place.clone(),
                    from: offsets.start,
                    to: offsets.end,
                    tenant: self.tenant.clone(),
                    projection: Arc::clone(&projection),
                    superseded: Arc::clone(superseded),
                    schema: SchemaRef::clone(&schema),
                });
                stream
            })
            .collect();
        if partitions.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(StreamingTableExec::try_new(schema, partitions, None, None, false, limit)?)))
    }
}

#[async_trait]
impl TableProvider for TenantTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.table.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Files are left out by their statistics and rows by row groups and pages; what passes is filtered again.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let cut = self.cut.get_or_try_init(|| self.table.cut(self.as_of)).await?;
        let superseded = self.superseded.get_or_try_init(|| self.table.superseded(cut)).await?;
        let all: Vec<usize>;
        let projection = match projection {
            Some(projection) => projection.as_slice(),
            None => {
                all = (0..self.table.schema.fields().len()).collect();
                &all
            }
        };
        let Some(appended_by) = self.appended_by() else {
            return self.scan_cut(cut, superseded, state, projection, filters, limit);
        };
        let mut needed = projection.to_vec();
        let index = self.table.schema.index_of(identity::APPEND_TIME)?;
        if !needed.contains(&index) {
            needed.push(index);
        }
        let filters: Vec<Expr> = filters.iter().cloned().chain([appended_by.clone()]).collect();
        let all = self.scan_cut(cut, superseded, state, &needed, &filters, None)?;
        let holds = state.create_physical_expr(appended_by, &DFSchema::try_from(all.schema())?)?;
        let filter = FilterExecBuilder::new(holds, all).apply_projection(Some((0..projection.len()).collect()))?;
        Ok(Arc::new(filter.build()?))
    }
}

impl TenantTable {
    /// The rows of a cut, those that the filters leave out by statistics not among them.
    fn scan_cut(
        &self,
        cut: &Cut,
        superseded: &Arc<Superseded>,
        state: &dyn Session,
        projection: &[usize],
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // Filters are applied above this scan, so a limit below them would cut too early.
        let limit = limit.filter(|_| filters.is_empty());
        let files = self.files(cut, state, filters)?;
        let stored = match files.as_slice() {
            [] => None,
            files if superseded.is_empty() => Some(self.scan_stored(files, state, projection, limit)?),
            files => Some(self.scan_files_without(superseded, files, state, projection)?),
        };
        let live = self.scan_tail(cut, superseded, projection, limit)?;
        match (stored, live) {
            (Some(stored), Some(live)) => UnionExec::try_new(vec![stored, live]),
            (Some(only), None) | (None, Some(only)) => Ok(only),
            (None, None) => Ok(Arc::new(EmptyExec::new(Arc::new(self.table.schema.project(projection)?)))),
        }
    }
}

/// True for rows of the windows that are closed again, partition by partition.
fn is_superseded(superseded: &Superseded) -> Expr {
    let mut windows: BTreeMap<i32, Vec<Expr>> = BTreeMap::new();
    for (partition, window_start_us, _) in superseded.iter() {
        let start = ScalarValue::TimestampMicrosecond(Some(window_start_us), Some("UTC".into()));
        windows.entry(partition).or_default().push(lit(start));
    }
    let of_partition = |(partition, starts)| {
        ident(identity::PARTITION).eq(lit(partition)).and(ident(WINDOW_START_COLUMN).in_list(starts, false))
    };
    windows.into_iter().map(of_partition).reduce(Expr::or).unwrap_or_else(|| lit(false))
}

/// What is known of all files together: how many rows, and their size.
fn total(files: &[Arc<DataFile>], schema: &SchemaRef) -> Statistics {
    let mut total = Statistics::new_unknown(schema);
    total.num_rows = Precision::Exact(0);
    total.total_byte_size = Precision::Inexact(0);
    for file in files {
        let (rows, bytes) = match file.file.statistics.as_deref() {
            Some(s) => (s.num_rows, s.total_byte_size),
            None => (Precision::Absent, Precision::Absent),
        };
        total.num_rows = total.num_rows.add(&rows);
        total.total_byte_size = total.total_byte_size.add(&bytes);
    }
    total
}

/// The tail of one partition as a plan's leaf.
struct TailStream {
    reader: Arc<TailReader>,
    place: TailPartition,
    from: i64,
    to: i64,
    tenant: Option<Arc<str>>,
    projection: Arc<[usize]>,
    superseded: Arc<Superseded>,
    schema: SchemaRef,
}

impl std::fmt::Debug for TailStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} [{}, {})", self.place.topic, self.place.partition, self.from, self.to)
    }
}

impl PartitionStream for TailStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (tenant, projection) = (self.tenant.clone(), Arc::clone(&self.projection));
        let rows = Arc::clone(&self.reader)
            .read(self.place.clone(), self.from..self.to, tenant, projection, Arc::clone(&self.superseded))
            .map_err(SqlError::into);
        Box::pin(RecordBatchStreamAdapter::new(SchemaRef::clone(&self.schema), rows))
    }
}
