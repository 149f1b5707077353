//! Footers of data files, kept: files never change, and a dashboard asks for the same ones every few seconds.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

use super::columns;
use super::object::DataObject;
use super::ranges::Ranges;

/// Memory for footers, bytes. What was not used for longest goes.
const KEPT_BYTES: usize = 64 << 20;

/// The footers of the files read last, and pieces of the files.
#[derive(Debug, Default)]
pub(in crate::prometheus) struct Footers {
    kept: Mutex<Kept>,
    ranges: Arc<Ranges>,
}

#[derive(Debug, Default)]
struct Kept {
    by_path: HashMap<Path, Footer>,
    size_bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Footer {
    metadata: ArrowReaderMetadata,
    size_bytes: usize,
    last_use: u64,
}

impl Footers {
    /// A file and its footer, with page indexes. Texts are read as dictionaries, which is how they lie there.
    pub(super) async fn open(
        &self,
        objects: &Arc<dyn ObjectStore>,
        path: &Path,
        size_bytes: u64,
    ) -> Result<(DataObject, ArrowReaderMetadata), ParquetError> {
        let ranges = Arc::clone(&self.ranges);
        let mut reader = DataObject { objects: Arc::clone(objects), ranges, path: path.clone(), size_bytes };
        if let Some(metadata) = self.kept.lock().get(path) {
            return Ok((reader, metadata));
        }
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let plain = ArrowReaderMetadata::load_async(&mut reader, options).await?;
        let options = ArrowReaderOptions::new().with_schema(coded(plain.schema()));
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options)?;
        self.kept.lock().insert(path.clone(), metadata.clone());
        Ok((reader, metadata))
    }
}

impl Kept {
    fn get(&mut self, path: &Path) -> Option<ArrowReaderMetadata> {
        self.uses += 1;
        let footer = self.by_path.get_mut(path)?;
        footer.last_use = self.uses;
        Some(footer.metadata.clone())
    }

    fn insert(&mut self, path: Path, metadata: ArrowReaderMetadata) {
        let size_bytes = metadata.metadata().memory_size();
        self.uses += 1;
        let footer = Footer { metadata, size_bytes, last_use: self.uses };
        self.size_bytes += size_bytes;
        if let Some(old) = self.by_path.insert(path, footer) {
            self.size_bytes -= old.size_bytes;
        }
        if self.size_bytes > KEPT_BYTES {
            self.halve();
        }
    }

    /// Forgets the half that was not used for longest.
    fn halve(&mut self) {
        let mut uses: Vec<u64> = self.by_path.values().map(|footer| footer.last_use).collect();
        uses.sort_unstable();
        let keep_from = uses[uses.len() / 2];
        self.by_path.retain(|_, footer| footer.last_use > keep_from);
        self.size_bytes = self.by_path.values().map(|footer| footer.size_bytes).sum();
    }
}

/// The same schema with texts that repeat as dictionaries.
fn coded(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &FieldRef| -> FieldRef {
        let is_text = *field.data_type() == DataType::Utf8;
        if is_text && [columns::METRIC, columns::LABELS, columns::KIND].contains(&field.name().as_str()) {
            let coded = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            Arc::new(Field::new(field.name(), coded, field.is_nullable()))
        } else {
            Arc::clone(field)
        }
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}
