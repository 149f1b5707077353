//! A data file's rows, as the table has them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use highwater_pipeline::tables::{ATTRIBUTES_COLUMN, DATE_COLUMN, TENANT_COLUMN, TableSpec, attribute_column};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::delta::ActiveFile;
use crate::SinkError;

/// Bytes read from the end of a file at once: most footers.
const FOOTER_BYTES: usize = 64 << 10;

/// A file that is read piece by piece.
pub(crate) type FileBuilder = ParquetRecordBatchStreamBuilder<StoreReader>;

/// Reads a Parquet file's pieces from a store.
pub(crate) struct StoreReader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size_bytes: u64,
}

impl AsyncFileReader for StoreReader {
    fn get_bytes(&mut self, range: std::ops::Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { Ok(self.store.get_range(&self.path, range).await?) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<std::ops::Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { Ok(self.store.get_ranges(&self.path, &ranges).await?) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size_bytes = self.size_bytes;
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES));
            Ok(Arc::new(reader.load_and_finish(self, size_bytes).await?))
        }
        .boxed()
    }
}

/// Columns of a table that are read of its files.
#[derive(Debug, Clone)]
pub(crate) struct FileColumns {
    /// The columns.
    pub(crate) schema: SchemaRef,
    /// Those of them that hold a promoted attribute: they are made from the file's map.
    pub(crate) promoted: Vec<String>,
}

impl FileColumns {
    /// All columns of a table.
    pub(crate) fn of(spec: &TableSpec) -> Self {
        Self { schema: spec.table_schema(), promoted: spec.promoted.clone() }
    }
}

/// The rows of the file with these bytes, with all columns of the table: the partition columns as the Delta log has them, columns added since as
/// NULL, or as the map of attributes has them.
pub(crate) fn read_file(
    spec: &TableSpec,
    tenant: Option<&str>,
    date: Option<&str>,
    bytes: Bytes,
) -> Result<Vec<RecordBatch>, SinkError> {
    let parquet = |source| SinkError::Parquet { table: spec.name.clone(), source };
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(parquet)?.build().map_err(parquet)?;
    let columns = FileColumns::of(spec);
    reader
        .map(|batch| aligned(&columns, tenant, date, &batch?))
        .collect::<Result<_, ArrowError>>()
        .map_err(|source| SinkError::Arrow { table: spec.name.clone(), source })
}

/// Opens a file: its footer is read. `store` has paths relative to the table's directory.
pub(crate) async fn open_file(
    table: &str,
    store: &Arc<dyn ObjectStore>,
    file: &ActiveFile,
) -> Result<FileBuilder, SinkError> {
    let object = |source| SinkError::Object { table: table.to_string(), path: file.path.clone(), source };
    let path = Path::parse(&file.path).map_err(|e| object(e.into()))?;
    let size_bytes = u64::try_from(file.size_bytes).unwrap_or(0);
    let reader = StoreReader { store: Arc::clone(store), path, size_bytes };
    ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|e| failed(table, &file.path, e))
}

/// The rows of an opened file, with these columns of the table.
pub(crate) fn stream(
    table: &str,
    columns: &FileColumns,
    file: &ActiveFile,
    builder: FileBuilder,
) -> Result<BoxStream<'static, Result<RecordBatch, SinkError>>, SinkError> {
    let reader = builder.build().map_err(|e| failed(table, &file.path, e))?;
    let (table, columns, file) = (table.to_string(), columns.clone(), file.clone());
    Ok(reader
        .map_err({
            let (table, path) = (table.clone(), file.path.clone());
            move |e| failed(&table, &path, e)
        })
        .and_then(move |batch| {
            let aligned = aligned(&columns, file.tenant.as_deref(), file.date.as_deref(), &batch);
            let aligned = aligned.map_err(|source| SinkError::Arrow { table: table.clone(), source });
            futures::future::ready(aligned)
        })
        .boxed())
}

/// What a store says while Parquet reads is the store's fault, and may pass.
fn failed(table: &str, path: &str, error: ParquetError) -> SinkError {
    match error {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(source) => SinkError::Object { table: table.to_string(), path: path.to_string(), source: *source },
            Err(source) => SinkError::Parquet { table: table.to_string(), source: ParquetError::External(source) },
        },
        source => SinkError::Parquet { table: table.to_string(), source },
    }
}

/// A file's rows with these columns.
fn aligned(
    columns: &FileColumns,
    tenant: Option<&str>,
    date: Option<&str>,
    batch: &RecordBatch,
) -> Result<RecordBatch, ArrowError> {
    let count = batch.num_rows();
    let FileColumns { schema, promoted } = columns;
    let attributes = batch.column_by_name(ATTRIBUTES_COLUMN);
    let columns: Result<Vec<ArrayRef>, ArrowError> = schema
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            TENANT_COLUMN => {
                let repeated = std::iter::repeat_n(tenant.unwrap_or_default(), count);
                let repeated: ArrayRef = Arc::new(StringArray::from_iter_values(repeated));
                Ok(repeated)
            }
            DATE_COLUMN => dates(date, count),
            name => {
                let map = attributes.filter(|_| promoted.iter().any(|attribute| attribute == name));
                match (map, batch.column_by_name(name)) {
                    // Whatever the file has: who else writes to the table need not have filled the column.
                    (Some(map), _) => attribute_column(map, name),
                    (None, Some(column)) => as_type(column, field.data_type()),
                    (None, None) => Ok(new_null_array(field.data_type(), count)),
                }
            }
        })
        .collect();
    RecordBatch::try_new(SchemaRef::clone(schema), columns?)
}

fn dates(date: Option<&str>, count: usize) -> Result<ArrayRef, ArrowError> {
    let Some(date) = date else { return Ok(Arc::new(Date32Array::new_null(count))) };
    let one = cast(&StringArray::from(vec![date]), &DataType::Date32)?;
    arrow::compute::take(&one, &UInt32Array::from(vec![0; count]), None)
}

fn as_type(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == wanted { Ok(Arc::clone(column)) } else { cast(column, wanted) }
}
