//! Sorted files to sorted files, in bounded memory.
//!
//! ```text
//!  file ─► reader ─┐ a batch each                       cut where large enough
//!  file ─► reader ─┼─► smallest next row ─► 8,192 rows ─► writer ─► file, file, ...
//!  file ─► reader ─┘
//! ```
//!
//! What is in memory: a batch of each input and, compressed, the columns of the row group it is in; one row group of the output, encoded. The
//! sizes of batches follow from how many inputs share the memory set aside for it.
//!
//! Rows that sort equal lie in the order of partition, offset and row, so what comes out does not depend on how the input was cut into files.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use futures::StreamExt;
use futures::stream::BoxStream;
use highwater_pipeline::data::identity;
use highwater_pipeline::tables::{TableSpec, data_file_path};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::AsyncArrowWriter;
use uuid::Uuid;

use super::Upkeep;
use crate::SinkError;
use crate::tables::TablesConfig;
use crate::tables::delta::WrittenFile;
use crate::tables::encode::properties;
use crate::tables::read::FileColumns;
use crate::tables::stats::FileStats;

/// One sorted input: batches of the table's file columns.
pub(super) type Input = BoxStream<'static, Result<RecordBatch, SinkError>>;

/// Whose rows the output holds, and how it is cut.
pub(super) struct Output<'a> {
    pub(super) spec: &'a TableSpec,
    pub(super) config: &'a TablesConfig,
    pub(super) columns: &'a FileColumns,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) tenant: Option<String>,
    pub(super) date: Option<String>,
    /// A file is ended once it is this large.
    pub(super) file_size_bytes: u64,
    /// Rows given to the writer at a time.
    pub(super) piece_rows: usize,
}

/// How fast a merge goes.
pub(super) struct Pace {
    pub(super) upkeep: Upkeep,
    /// Size of the files that are merged, and rows in them.
    pub(super) size_bytes: u64,
    pub(super) rows: u64,
    pub(super) paid_bytes: u64,
}

impl Pace {
    /// Waits as long as reading the rows written so far may take.
    async fn keep(&mut self, rows_written: u64) {
        let rows = self.rows.max(1);
        // What of the files was read by now, as near as it can be told.
        let read = u128::from(self.size_bytes) * u128::from(rows_written.min(rows)) / u128::from(rows);
        let read = u64::try_from(read).unwrap_or(self.size_bytes);
        self.upkeep.pay(read.saturating_sub(self.paid_bytes)).await;
        self.paid_bytes = read;
    }
}

/// Merges the inputs.
pub(super) async fn merge(
    inputs: Vec<Input>,
    output: &Output<'_>,
    mut pace: Pace,
) -> Result<Vec<WrittenFile>, SinkError> {
    let mut writer = Writer { output, open: None, files: Vec::new() };
    match writer.merge_into(inputs, &mut pace).await {
        Ok(()) => Ok(writer.files),
        Err(error) => {
            writer.abandon().await;
            Err(error)
        }
    }
}

struct Writer<'a> {
    output: &'a Output<'a>,
    open: Option<OpenFile>,
    files: Vec<WrittenFile>,
}

struct OpenFile {
    path: String,
    parquet: AsyncArrowWriter<BufWriter>,
    stats: FileStats,
    rows: u64,
}

impl Writer<'_> {
    async fn merge_into(&mut self, inputs: Vec<Input>, pace: &mut Pace) -> Result<(), SinkError> {
        let mut cursors = Cursors::open(self.output.spec, inputs).await?;
        let mut written = 0;
        while let Some(rows) = cursors.next(self.output.spec, self.output.piece_rows).await? {
            written += rows.num_rows() as u64;
            self.write(&rows).await?;
            pace.keep(written).await;
        }
        self.end_file().await
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        let open = match self.open.take() {
            Some(open) => self.open.insert(open),
            None => {
                let open = self.output.open_file()?;
                self.open.insert(open)
            }
        };
        open.stats.add(rows);
        open.rows += rows.num_rows() as u64;
        open.parquet.write(rows).await.map_err(|e| self.output.parquet(e))?;
        let size_bytes = open.parquet.bytes_written() + open.parquet.in_progress_size();
        if size_bytes as u64 >= self.output.file_size_bytes {
            self.end_file().await?;
        }
        Ok(())
    }

    async fn end_file(&mut self) -> Result<(), SinkError> {
        let Some(OpenFile { path, mut parquet, stats, rows }) = self.open.take() else { return Ok(()) };
        let footer = parquet.finish().await.map_err(|e| self.output.parquet(e))?;
        self.files.push(WrittenFile {
            path,
            tenant: self.output.tenant.clone(),
            date: self.output.date.clone(),
            rows,
            size_bytes: parquet.bytes_written() as u64,
            stats: stats.to_json(&footer),
        });
        Ok(())
    }

    /// Takes back what was written so far. What cannot be removed is swept one day.
    async fn abandon(&mut self) {
        if let Some(open) = self.open.take() {
            // Nothing has its name before the upload ends.
            let mut upload = open.parquet.into_inner();
            if let Err(error) = upload.abort().await {
                tracing::debug!(table = %self.output.spec.name, %error, "an upload could not be taken back");
            }
        }
        discard(self.output.store.as_ref(), &self.output.spec.name, &self.files).await;
    }
}

/// Removes files that no commit names and none will.
pub(super) async fn discard(store: &dyn ObjectStore, table: &str, files: &[WrittenFile]) {
    for file in files {
        if let Err(error) = store.delete(&Path::from(file.path.as_str())).await {
            tracing::debug!(%table, path = %file.path, %error, "a file that is not needed could not be removed; it will be swept");
        }
    }
}

impl Output<'_> {
    fn open_file(&self) -> Result<OpenFile, SinkError> {
        let path = data_file_path(self.tenant.as_deref(), self.date.as_deref(), Uuid::new_v4());
        let object = |source| SinkError::Object { table: self.spec.name.clone(), path: path.clone(), source };
        let location = Path::parse(&path).map_err(|e| object(e.into()))?;
        let properties = properties(&self.columns.promoted, self.spec, self.config, &self.columns.schema)
            .map_err(|e| self.parquet(e))?;
        let target = BufWriter::new(Arc::clone(&self.store), location);
        let parquet = AsyncArrowWriter::try_new(target, SchemaRef::clone(&self.columns.schema), Some(properties))
            .map_err(|e| self.parquet(e))?;
        Ok(OpenFile { path, parquet, stats: FileStats::new(&self.columns.schema), rows: 0 })
    }

    fn parquet(&self, source: parquet::errors::ParquetError) -> SinkError {
        SinkError::Parquet { table: self.spec.name.clone(), source }
    }
}

/// What is merged: the inputs, each at its next row, the smallest on top of a heap.
struct Cursors {
    inputs: Vec<Option<Input>>,
    converter: RowConverter,
    /// Batches that are being read or whose rows are in the piece being made.
    batches: Vec<Sortable>,
    /// Of each input: which batch, and which row of it comes next.
    at: Vec<(usize, usize)>,
    /// Inputs that have a next row; the one with the smallest first.
    heap: Vec<usize>,
}

/// A batch with what its rows are compared by.
struct Sortable {
    batch: RecordBatch,
    keys: Rows,
}

impl Sortable {
    fn tie(&self, row: usize) -> (i32, i64, i32) {
        let column = |name| self.batch.column_by_name(name);
        (
            column(identity::PARTITION).map_or(0, |c| c.as_primitive::<Int32Type>().value(row)),
            column(identity::OFFSET).map_or(0, |c| c.as_primitive::<Int64Type>().value(row)),
            column(identity::ROW).map_or(0, |c| c.as_primitive::<Int32Type>().value(row)),
        )
    }
}

impl Cursors {
    async fn open(spec: &TableSpec, inputs: Vec<Input>) -> Result<Self, SinkError> {
        let schema = spec.table_schema();
        let fields: Result<Vec<SortField>, ArrowError> = spec
            .sort_columns
            .iter()
            .map(|name| Ok(SortField::new(schema.field_with_name(name)?.data_type().clone())))
            .collect();
        let arrow = |source| SinkError::Arrow { table: spec.name.clone(), source };
        let converter = RowConverter::new(fields.map_err(arrow)?).map_err(arrow)?;
        let count = inputs.len();
        let inputs = inputs.into_iter().map(Some).collect();
        let mut cursors =
            Self { inputs, converter, batches: Vec::new(), at: vec![(0, 0); count], heap: Vec::with_capacity(count) };
        for input in 0..count {
            if cursors.fill(spec, input).await? {
                cursors.push(input);
            }
        }
        Ok(cursors)
    }

    /// Reads the next batch of an input; false where it has ended.
    async fn fill(&mut self, spec: &TableSpec, input: usize) -> Result<bool, SinkError> {
        while let Some(stream) = &mut self.inputs[input] {
            let Some(batch) = stream.next().await.transpose()? else {
                self.inputs[input] = None;
                break;
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let arrow = |source| SinkError::Arrow { table: spec.name.clone(), source };
            let columns: Result<Vec<_>, ArrowError> = spec
                .sort_columns
                .iter()
                .map(|name| {
                    let missing = || ArrowError::SchemaError(format!("rows lack the sort column {name}"));
                    batch.column_by_name(name).map(Arc::clone).ok_or_else(missing)
                })
                .collect();
            let keys = self.converter.convert_columns(&columns.map_err(arrow)?).map_err(arrow)?;
            self.at[input] = (self.batches.len(), 0);
            self.batches.push(Sortable { batch, keys });
            return Ok(true);
        }
        Ok(false)
    }

    /// The next rows in order, at most `piece_rows`; `None` at the end.
    async fn next(&mut self, spec: &TableSpec, piece_rows: usize) -> Result<Option<RecordBatch>, SinkError> {
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(piece_rows);
        while places.len() < piece_rows {
            let Some(&input) = self.heap.first() else { break };
            let (batch, first) = self.at[input];
            let rows = self.batches[batch].batch.num_rows();
            let end = rows.min(first + piece_rows - places.len());
            // As long as this input has the smallest row there is, its rows are taken without asking the others.
            let rival = self.second();
            let mut row = first + 1;
            while row < end && rival.is_none_or(|rival| self.less((batch, row), input, rival)) {
                row += 1;
            }
            places.extend((first..row).map(|row| (batch, row)));
            self.at[input].1 = row;
            if row < rows || self.fill(spec, input).await? {
                self.sink();
            } else {
                self.pop();
            }
        }
        if places.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().map(|b| &b.batch).collect();
        let rows = interleave_record_batch(&batches, &places)
            .map_err(|source| SinkError::Arrow { table: spec.name.clone(), source })?;
        self.forget();
        Ok(Some(rows))
    }

    /// Drops the batches that no input reads any more.
    fn forget(&mut self) {
        let mut places = vec![None; self.batches.len()];
        for &input in &self.heap {
            places[self.at[input].0] = Some(input);
        }
        let mut kept = Vec::with_capacity(self.heap.len());
        for (batch, reader) in std::mem::take(&mut self.batches).into_iter().zip(places) {
            if let Some(input) = reader {
                self.at[input].0 = kept.len();
                kept.push(batch);
            }
        }
        self.batches = kept;
    }

    /// The input with the smallest next row but one.
    fn second(&self) -> Option<usize> {
        match (self.heap.get(1), self.heap.get(2)) {
            (Some(&a), Some(&b)) => Some(if self.is_before(b, a) { b } else { a }),
            (a, _) => a.copied(),
        }
    }

    fn is_before(&self, a: usize, b: usize) -> bool {
        self.less(self.at[a], a, b)
    }

    /// Whether this row of input `a` goes before the next row of input `b`.
    fn less(&self, (batch, row): (usize, usize), a: usize, b: usize) -> bool {
        let (other, other_row) = self.at[b];
        let (ours, theirs) = (&self.batches[batch], &self.batches[other]);
        match ours.keys.row(row).cmp(&theirs.keys.row(other_row)) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => (ours.tie(row), a) < (theirs.tie(other_row), b),
        }
    }

    fn push(&mut self, input: usize) {
        let mut at = self.heap.len();
        self.heap.push(input);
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.is_before(self.heap[at], self.heap[parent]) {
                break;
            }
            self.heap.swap(at, parent);
            at = parent;
        }
    }

    fn pop(&mut self) {
        self.heap.swap_remove(0);
        self.sink();
    }

    /// Puts the first of the heap, whose next row is another one now, where it belongs.
    fn sink(&mut self) {
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut least = at;
            for child in [left, right] {
                if child < self.heap.len() && self.is_before(self.heap[child], self.heap[least]) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}
