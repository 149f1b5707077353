//! Reads metric rows from a data file: what statistics leave, filtered column by column, so that values are decoded only of wanted rows.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicate, ArrowPredicateFn, RowFilter};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;

use super::catalogue::Catalogue;
use super::columns::{self, SeriesColumns, Texts};
use super::footers::Footers;
use super::prune::prune;
use super::{ReadError, Wanted};
use crate::delta::DataFile;

/// Rows decoded at once.
const BATCH_ROWS: usize = 16 << 10;

/// What every file of a scan is read with.
pub(super) struct FileScan {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) footers: Arc<Footers>,
    pub(super) wanted: Arc<Wanted>,
    pub(super) catalogue: Arc<Catalogue>,
    /// The columns to read.
    pub(super) columns: &'static [&'static str],
}

impl FileScan {
    /// Gives each batch of wanted rows of a file to `each`.
    pub(super) async fn read(
        &self,
        file: &DataFile,
        mut each: impl FnMut(&RecordBatch) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let object = &file.file.object_meta;
        let failed = |error: ParquetError| ReadError::file(&object.location, error);
        let (reader, footer) = self.footers.open(&self.objects, &object.location, object.size).await.map_err(failed)?;
        let pruned = prune(footer.metadata(), &self.wanted);
        if pruned.row_groups.is_empty() {
            return Ok(());
        }
        let schema = footer.parquet_schema();
        let mask = |names: &[&str]| ProjectionMask::columns(schema, names.iter().copied());
        let mut predicates: Vec<Box<dyn ArrowPredicate>> = Vec::new();
        // The name first: as a file is sorted it leaves rows that lie together, and names take next to nothing to read.
        if !pruned.all_names && self.wanted.asks_for_name() {
            let wanted = Arc::clone(&self.wanted);
            let test =
                move |batch: RecordBatch| Ok(Texts::of(&batch, columns::METRIC)?.select(|name| wanted.has_name(name)));
            predicates.push(Box::new(ArrowPredicateFn::new(mask(&[columns::METRIC]), test)));
        }
        if !pruned.all_times {
            let wanted = Arc::clone(&self.wanted);
            let test = move |batch: RecordBatch| {
                let times = columns::times_us(&batch)?;
                Ok(BooleanArray::from(times.iter().map(|time| wanted.has_time(*time)).collect::<Vec<_>>()))
            };
            predicates.push(Box::new(ArrowPredicateFn::new(mask(&[columns::TIMESTAMP]), test)));
        }
        if self.wanted.asks_for_labels() {
            let catalogue = Arc::clone(&self.catalogue);
            let test = move |batch: RecordBatch| wanted_series(&catalogue, &batch);
            predicates.push(Box::new(ArrowPredicateFn::new(mask(&columns::OF_SERIES), test)));
        }
        let projection = mask(self.columns);
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer)
            .with_batch_size(BATCH_ROWS)
            .with_projection(projection)
            .with_row_groups(pruned.row_groups);
        if let Some(rows) = pruned.rows {
            builder = builder.with_row_selection(rows);
        }
        if !predicates.is_empty() {
            builder = builder.with_row_filter(RowFilter::new(predicates));
        }
        let mut batches = builder.build().map_err(failed)?.map_err(failed);
        while let Some(batch) = batches.next().await {
            each(&batch?)?;
        }
        Ok(())
    }
}

/// Which rows are of series that are wanted.
fn wanted_series(catalogue: &Catalogue, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
    let series = SeriesColumns::of(batch)?;
    let mut wanted = Vec::with_capacity(batch.num_rows());
    while wanted.len() < batch.num_rows() {
        let (id, name, labels) = series.get(wanted.len());
        let place = catalogue.place(id, name, labels).map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
        wanted.resize(series.run_end(wanted.len()), place.is_some());
    }
    Ok(BooleanArray::from(wanted))
}
