//! Stored rows for tasks ([`History`]): a table's files and the tail behind them, as a query over both sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt;
use highwater_pipeline::log::Log;
use highwater_pipeline::runtime::{History, HistoryError, MAX_SLICE_ROWS, SeriesRequest, Slice, SliceRequest};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{TableSpec, built_in_tables};
use highwater_sql::{Engine, SqlConfig};

use crate::error::Error;

/// No slice is narrowed below this, microseconds.
const MIN_WIDTH_US: i64 = 1_000_000;
/// A slice that takes longer is asked for again.
const TIMEOUT: Duration = Duration::from_secs(600);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The tables that everybody has, with the rows of all tenants.
pub(crate) struct StoredRows {
    engine: Engine,
    tables: Vec<TableSpec>,
}

impl StoredRows {
    /// Over this storage and log. What sorts spill goes to a directory of its own.
    pub(crate) fn open(data_dir: &Path, storage: &Storage, log: &Arc<dyn Log>) -> Result<Arc<Self>, Error> {
        let spill_dir = super::clear_dir(&data_dir.join("spill-tasks"))?;
        // A query at a time for each partition that is read, each on a thread: they are not to be in the way of what is live.
        let config = SqlConfig {
            timeout: TIMEOUT,
            threads: 1,
            max_concurrent_queries: 1_024,
            tail_cache_bytes: 32 << 20,
            ..SqlConfig::default()
        };
        let tables = built_in_tables();
        let engine = Engine::new(config, storage.clone(), Arc::clone(log), tables.clone(), &spill_dir)
            .map_err(|error| Error::failed("preparing to read stored rows", error))?;
        Ok(Arc::new(Self { engine, tables }))
    }

    async fn read(&self, request: &SliceRequest) -> Result<Slice, Failure> {
        let spec = self.tables.iter().find(|spec| spec.name == request.table);
        let spec = spec.ok_or_else(|| format!("there is no table {}", request.table))?;
        let rows = Rows { spec, request };
        let from_us = match request.from_us {
            Some(from_us) => Some(from_us),
            None => self.number(&rows.first(i64::MIN)).await?,
        };
        let Some(from_us) = from_us else {
            return Ok(Slice { batches: Vec::new(), from_us: None, until_us: 0, next_us: None });
        };
        let mut width_us = request.width_us.max(MIN_WIDTH_US);
        let most = i64::try_from(MAX_SLICE_ROWS).unwrap_or(i64::MAX);
        while width_us > MIN_WIDTH_US
            && self.number(&rows.count(from_us, width_us)).await?.is_some_and(|count| count > most)
        {
            width_us = (width_us / 2).max(MIN_WIDTH_US);
        }
        let until_us = from_us.saturating_add(width_us);
        let schema = spec.row_schema();
        let batches = self.rows(&rows.between(&schema, from_us, until_us), &schema).await?;
        let next_us = self.number(&rows.first(until_us)).await?;
        Ok(Slice { batches, from_us: Some(from_us), until_us, next_us })
    }

    async fn rows(&self, sql: &str, schema: &SchemaRef) -> Result<Vec<RecordBatch>, Failure> {
        let mut result = self.engine.query_all_tenants(sql).await?;
        let mut batches = Vec::new();
        while let Some(batch) = result.next().await {
            let batch = batch?;
            let columns =
                batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
            batches.push(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)?);
        }
        Ok(batches)
    }

    /// The one number that a query gives; an instant as Unix microseconds.
    async fn number(&self, sql: &str) -> Result<Option<i64>, Failure> {
        let mut result = self.engine.query_all_tenants(sql).await?;
        let mut number = None;
        while let Some(batch) = result.next().await {
            let batch = batch?;
            let column = batch.column(0);
            let first = match column.as_primitive_opt::<TimestampMicrosecondType>() {
                Some(instants) => instants.iter().next().flatten(),
                None => column.as_primitive_opt::<Int64Type>().and_then(|numbers| numbers.iter().next().flatten()),
            };
            number = number.or(first);
        }
        Ok(number)
    }
}

#[async_trait]
impl History for StoredRows {
    async fn slice(&self, request: &SliceRequest) -> Result<Slice, HistoryError> {
        let read = self.read(request).await;
        read.map_err(|source| HistoryError { table: request.table.clone(), source })
    }
}

/// The rows that a request may be given, as SQL.
struct Rows<'a> {
    spec: &'a TableSpec,
    request: &'a SliceRequest,
}

impl Rows<'_> {
    fn first(&self, from_us: i64) -> String {
        format!("SELECT min({time}) {}", self.from(from_us, i64::MAX), time = self.spec.time_column)
    }

    fn count(&self, from_us: i64, width_us: i64) -> String {
        format!("SELECT count(*) {}", self.from(from_us, from_us.saturating_add(width_us)))
    }

    /// In the order of the log, so that they are accumulated in the same order whenever they are read.
    fn between(&self, schema: &SchemaRef, from_us: i64, until_us: i64) -> String {
        let columns: Vec<String> = schema.fields().iter().map(|field| format!("\"{}\"", field.name())).collect();
        format!("SELECT {} {} ORDER BY _offset, _row", columns.join(", "), self.from(from_us, until_us))
    }

    fn from(&self, from_us: i64, until_us: i64) -> String {
        let SliceRequest { table, topic, partition, below_offset, series, .. } = self.request;
        let time = &self.spec.time_column;
        let mut sql = format!("FROM {table} WHERE _partition = {partition} AND _offset < {below_offset}");
        if self.spec.topics.len() > 1 {
            sql.push_str(&format!(" AND _topic = '{}'", topic.as_ref().unwrap_or(table)));
        }
        if let Some(series) = series {
            sql.push_str(&wanted(series, time));
        }
        if from_us > i64::MIN {
            sql.push_str(&format!(" AND {time} >= {}", instant(from_us)));
        }
        if until_us < i64::MAX {
            sql.push_str(&format!(" AND {time} < {}", instant(until_us)));
        }
        sql
    }
}

fn instant(us: i64) -> String {
    format!("arrow_cast({us}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

/// A condition that what these selectors find satisfies: names are what files are sorted by.
fn wanted(series: &SeriesRequest, time: &str) -> String {
    // By since when they are wanted.
    let mut names: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
    let mut any_us: Option<i64> = None;
    for one in &series.selectors {
        match &one.names {
            Some(of) => names.entry(one.from_us).or_default().extend(of.iter().map(String::as_str)),
            None => any_us = Some(any_us.map_or(one.from_us, |any_us| any_us.min(one.from_us))),
        }
    }
    let since = |from_us: i64| format!("{time} >= {}", instant(from_us));
    let named = names.into_iter().map(|(from_us, names)| {
        let names: Vec<String> = names.into_iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
        format!("(name IN ({}) AND {})", names.join(", "), since(from_us))
    });
    let either: Vec<String> = named.chain(any_us.map(since)).collect();
    let mut sql = format!(" AND ({})", either.join(" OR "));
    if let Some(until_us) = series.until_us {
        sql.push_str(&format!(" AND {time} < {}", instant(until_us)));
    }
    sql
}
