//! A data file as the Parquet reader wants it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::ranges::Ranges;

/// Read at once from the end of a file: as a rule the footer and both page indexes.
const FOOTER_BYTES: usize = 32 << 10;

/// A file on the object store, of a size that is known.
#[derive(Debug)]
pub(super) struct DataObject {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) ranges: Arc<Ranges>,
    pub(super) path: Path,
    pub(super) size_bytes: u64,
}

impl AsyncFileReader for DataObject {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.objects.get_range(&self.path, range).map_err(ParquetError::from).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        let mut found: Vec<Option<Bytes>> = ranges.iter().map(|range| self.ranges.get(&self.path, range)).collect();
        async move {
            let missing: Vec<Range<u64>> = ranges
                .iter()
                .zip(&found)
                .filter(|(_, piece)| piece.is_none())
                .map(|(range, _)| range.clone())
                .collect();
            if !missing.is_empty() {
                let mut read = self.objects.get_ranges(&self.path, &missing).await?.into_iter();
                for (range, piece) in ranges.iter().zip(&mut found).filter(|(_, piece)| piece.is_none()) {
                    *piece = read.next();
                    if let Some(piece) = piece {
                        self.ranges.put(&self.path, range, piece);
                    }
                }
            }
            let all: Option<Vec<Bytes>> = found.into_iter().collect();
            all.ok_or_else(|| ParquetError::General(format!("{}: fewer pieces than asked for", self.path)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let reader =
                ParquetMetaDataReader::new().with_arrow_reader_options(options).with_prefetch_hint(Some(FOOTER_BYTES));
            let size_bytes = self.size_bytes;
            Ok(Arc::new(reader.load_and_finish(self, size_bytes).await?))
        }
        .boxed()
    }
}
