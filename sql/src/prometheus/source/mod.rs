//! Series from the tables of metrics: stored files and live tail, cut at one place for all that one query reads.
//!
//! A scan takes from each file what its statistics leave (Delta's of the file, then Parquet's of row groups and pages, as files are sorted by
//! name, series and time), filters rows by time, name and labels before it decodes values, and reads the tail behind the stored end from the
//! log. Each series is parsed and matched once per scan. Of samples of one series at one millisecond the last in the log stays; where there are
//! such with different values the scan is made again with offsets, which otherwise nobody reads.
//!
//! Every table of metric rows takes part: `metrics`, and whatever else has that shape.

mod catalogue;
mod collect;
mod columns;
mod files;
mod footers;
mod kinds;
mod object;
mod prefetched;
mod prune;
mod ranges;
mod series;
mod wanted;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use highwater_pipeline::data::RowKind;
use highwater_pipeline::tables::Superseded;
use highwater_promql::{Labels, Series};
use object_store::path::Path;
use parquet::errors::ParquetError;
use tokio::task::JoinSet;

use catalogue::Catalogue;
use collect::{Chunk, Collector};
use columns::SeriesColumns;
use files::FileScan;
use footers::Footers;
use series::KnownSeries;

pub(super) use collect::SampleBudget;
pub(super) use prefetched::Prefetched;
pub(super) use wanted::Wanted;

use crate::delta::DataFile;
use crate::engine::Engine;
use crate::error::SqlError;
use crate::table::{Cut, Table};
use crate::tail::TailPartition;

/// So few samples are dealt with in less time than it takes to wake another thread.
pub(super) const FEW_SAMPLES: usize = 100_000;

/// Why samples were not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// A table, a file or the log cannot be read.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// More samples than a query may hold.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// More series than a query may read.
    #[error(
        "the selectors match more than {limit} series, as many as `promql.max_series` allows; narrow them, or raise the limit"
    )]
    TooManySeries {
        /// The limit.
        limit: usize,
    },
}

impl ReadError {
    fn labels(name: &str, text: &str, why: &str) -> Self {
        let message = format!("labels of {name:?} are no JSON object of strings ({why}): {:.200}", text.escape_debug());
        Self::Sql(SqlError::File { message })
    }

    fn histogram(why: &str) -> Self {
        Self::Sql(SqlError::File { message: format!("a native histogram cannot be read: {why}") })
    }

    /// What stopped the reading of a file: a reason of ours that came through, or the file's.
    fn file(path: &Path, error: ParquetError) -> Self {
        match error {
            ParquetError::External(inner) => match inner.downcast::<ArrowError>() {
                Ok(inner) => match *inner {
                    ArrowError::ExternalError(inner) => inner
                        .downcast::<Self>()
                        .map_or_else(|inner| Self::unreadable(path, &inner.to_string()), |own| *own),
                    inner => Self::unreadable(path, &inner.to_string()),
                },
                Err(inner) => Self::unreadable(path, &inner.to_string()),
            },
            error => Self::unreadable(path, &error.to_string()),
        }
    }

    fn unreadable(path: &Path, why: &str) -> Self {
        Self::Sql(SqlError::File { message: format!("{path}: {why}") })
    }
}

impl From<ArrowError> for ReadError {
    fn from(error: ArrowError) -> Self {
        Self::Sql(SqlError::Internal { message: error.to_string() })
    }
}

/// What is kept from one query to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    footers: Arc<Footers>,
    known_series: Arc<KnownSeries>,
}

/// The tables of metrics as one query sees them.
pub(super) struct Snapshot {
    engine: Engine,
    footers: Arc<Footers>,
    known_series: Arc<KnownSeries>,
    tenant: Arc<str>,
    tables: Vec<(Arc<Table>, Cut)>,
    max_series: usize,
    threads: usize,
}

impl Snapshot {
    /// What is there now.
    pub(super) async fn take(engine: &Engine, kept: &Kept, tenant: &str, max_series: usize) -> Result<Self, ReadError> {
        let mut tables = Vec::new();
        for table in engine.tables(|spec| matches!(spec.kind, RowKind::Metrics)) {
            let cut = table.cut(None).await?;
            tables.push((table, cut));
        }
        let threads = engine.config().thread_count();
        let Kept { footers, known_series } = kept.clone();
        let engine = engine.clone();
        Ok(Self { engine, footers, known_series, tenant: tenant.into(), tables, max_series, threads })
    }

    /// Series with their samples, sorted by labels.
    pub(super) async fn samples(
        &self,
        wanted: &Arc<Wanted>,
        budget: &Arc<SampleBudget>,
    ) -> Result<Vec<Series>, ReadError> {
        if let Some(series) = self.samples_in(wanted, budget, false).await? {
            return Ok(series);
        }
        // Read twice, held once: what the first look took is given back by counting anew.
        let budget = Arc::new(budget.anew());
        let series = self.samples_in(wanted, &budget, true).await?;
        series.ok_or_else(|| ReadError::Sql(SqlError::Internal { message: "samples have no order".to_owned() }))
    }

    /// `None` where samples at one time differ and their order was not read.
    async fn samples_in(
        &self,
        wanted: &Arc<Wanted>,
        budget: &Arc<SampleBudget>,
        ordered: bool,
    ) -> Result<Option<Vec<Series>>, ReadError> {
        let columns: &[&str] = if ordered { &columns::OF_ORDERED_SAMPLES } else { &columns::OF_SAMPLES };
        let catalogue = Arc::new(Catalogue::new(Arc::clone(wanted), Arc::clone(&self.known_series), self.max_series));
        let collector = || Collector::new(Arc::clone(wanted), Arc::clone(&catalogue), Arc::clone(budget), ordered);
        let chunks = self
            .scan(wanted, &catalogue, columns, collector, |collector: &mut Collector, batch| collector.add(batch))
            .await?
            .into_iter()
            .flat_map(Collector::finish)
            .collect::<Vec<Chunk>>();
        let labels = labels_of(catalogue);
        if chunks.iter().map(Chunk::len).sum::<usize>() <= FEW_SAMPLES {
            return Ok(collect::assemble(labels, chunks).ok());
        }
        let assembled = tokio::task::spawn_blocking(move || collect::assemble(labels, chunks)).await;
        Ok(assembled.map_err(|e| SqlError::Internal { message: e.to_string() })?.ok())
    }

    /// The labels of series that have a sample in the time range, sorted.
    pub(super) async fn series(&self, wanted: &Arc<Wanted>) -> Result<Vec<Labels>, ReadError> {
        /// Finds the series of rows.
        struct Finder(Arc<Wanted>, Arc<Catalogue>);
        let catalogue = Arc::new(Catalogue::new(Arc::clone(wanted), Arc::clone(&self.known_series), self.max_series));
        let finder = || Finder(Arc::clone(wanted), Arc::clone(&catalogue));
        let find = |finder: &mut Finder, batch: &RecordBatch| {
            let series = SeriesColumns::of(batch)?;
            // Rows of files were filtered by time where they had to be; those of the tail come with their times.
            let times = match batch.column_by_name(columns::TIMESTAMP) {
                Some(_) => Some(columns::times_us(batch)?),
                None => None,
            };
            let mut row = 0;
            while row < batch.num_rows() {
                let end = series.run_end(row);
                if times.is_none_or(|times| times[row..end].iter().any(|time| finder.0.has_time(*time))) {
                    let (id, name, labels) = series.get(row);
                    finder.1.place(id, name, labels)?;
                }
                row = end;
            }
            Ok(())
        };
        drop(self.scan(wanted, &catalogue, &columns::OF_SERIES, finder, find).await?);
        let mut labels: Vec<Labels> = labels_of(catalogue).into_iter().flatten().collect();
        labels.sort_unstable();
        Ok(labels)
    }

    /// Runs `take` over the wanted rows of all files and tails, several at once, each with a state of its own.
    async fn scan<S, T>(
        &self,
        wanted: &Arc<Wanted>,
        catalogue: &Arc<Catalogue>,
        columns: &'static [&'static str],
        state: impl Fn() -> S,
        take: T,
    ) -> Result<Vec<S>, ReadError>
    where
        S: Send + 'static,
        T: Fn(&mut S, &RecordBatch) -> Result<(), ReadError> + Clone + Send + Sync + 'static,
    {
        let scan = Arc::new(FileScan {
            objects: self.engine.objects(),
            footers: Arc::clone(&self.footers),
            wanted: Arc::clone(wanted),
            catalogue: Arc::clone(catalogue),
            columns,
        });
        let mut jobs: Vec<BoxFuture<'static, Result<S, ReadError>>> = Vec::new();
        for (table, cut) in &self.tables {
            for file in self.files(table, cut, wanted) {
                let (scan, mut state, take) = (Arc::clone(&scan), state(), take.clone());
                jobs.push(Box::pin(async move {
                    scan.read(&file, |batch| take(&mut state, batch)).await?;
                    Ok(state)
                }));
            }
            for (place, offsets) in &cut.tails {
                if offsets.is_empty() {
                    continue;
                }
                let rows = self.tail(table, place, offsets.clone(), columns)?;
                let (mut rows, mut state, take) = (Box::pin(rows), state(), take.clone());
                jobs.push(Box::pin(async move {
                    while let Some(batch) = rows.try_next().await? {
                        take(&mut state, &batch)?;
                    }
                    Ok(state)
                }));
            }
        }
        run(jobs, self.threads).await
    }

    /// The tenant's files that may hold wanted rows.
    fn files(&self, table: &Table, cut: &Cut, wanted: &Wanted) -> Vec<Arc<DataFile>> {
        let Some(snapshot) = &cut.snapshot else { return Vec::new() };
        let place = |name: &str| table.file_schema.index_of(name).ok();
        let (time, name) = (place(columns::TIMESTAMP), place(columns::METRIC));
        let may_hold = |file: &DataFile| {
            let column = |at: Option<usize>| file.file.statistics.as_ref()?.column_statistics.get(at?);
            let bounds = |at: Option<usize>| {
                let column = column(at)?;
                Some((column.min_value.get_value()?, column.max_value.get_value()?))
            };
            let in_time = match bounds(time) {
                Some((
                    ScalarValue::TimestampMicrosecond(Some(first), _),
                    ScalarValue::TimestampMicrosecond(Some(last), _),
                )) => wanted.overlaps(*first, *last),
                _ => true,
            };
            let by_name = match bounds(name) {
                Some((ScalarValue::Utf8(Some(least)), ScalarValue::Utf8(Some(greatest)))) => {
                    wanted.may_have_name(least.as_bytes(), greatest.as_bytes())
                }
                _ => true,
            };
            in_time && by_name
        };
        let own = |file: &&Arc<DataFile>| file.tenant.as_deref() == Some(&*self.tenant) && may_hold(file);
        snapshot.files.iter().filter(own).map(Arc::clone).collect()
    }

    /// The tail of a partition; with times, whatever else is asked for.
    fn tail(
        &self,
        table: &Table,
        place: &TailPartition,
        offsets: std::ops::Range<i64>,
        columns: &[&str],
    ) -> Result<impl futures::Stream<Item = Result<RecordBatch, SqlError>> + Send + 'static, ReadError> {
        let times = [columns::TIMESTAMP];
        let times = times.iter().filter(|time| !columns.contains(time));
        let projection =
            columns.iter().chain(times).map(|name| table.schema.index_of(name)).collect::<Result<Arc<[usize]>, _>>()?;
        let tenant = Arc::clone(&self.tenant);
        Ok(Arc::clone(&table.tail).read(
            place.clone(),
            offsets,
            Some(tenant),
            projection,
            Arc::new(Superseded::default()),
        ))
    }
}

/// The labels found; nobody else looks at the catalogue any more.
fn labels_of(catalogue: Arc<Catalogue>) -> Vec<Option<Labels>> {
    Arc::into_inner(catalogue).map(Catalogue::into_labels).unwrap_or_default()
}

/// Runs jobs, at most so many at once. All of them stop when this future is dropped or one fails.
async fn run<S: Send + 'static>(
    jobs: Vec<BoxFuture<'static, Result<S, ReadError>>>,
    at_once: usize,
) -> Result<Vec<S>, ReadError> {
    let mut done = Vec::with_capacity(jobs.len());
    if jobs.len() == 1 {
        for job in jobs {
            done.push(job.await?);
        }
        return Ok(done);
    }
    let mut running = JoinSet::new();
    let mut jobs = jobs.into_iter();
    for job in jobs.by_ref().take(at_once.max(1)) {
        running.spawn(job);
    }
    while let Some(ended) = running.join_next().await {
        done.push(ended.map_err(|e| SqlError::Internal { message: format!("reading panicked: {e}") })??);
        if let Some(job) = jobs.next() {
            running.spawn(job);
        }
    }
    Ok(done)
}
