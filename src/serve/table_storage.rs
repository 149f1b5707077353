//! How tables are stored, as a SQL table: `table_storage`, one row per table and day.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use highwater_pipeline::storage::Storage;
use highwater_sinks::tables::inspect;
use highwater_sinks::verify::table_names;
use highwater_sql::View;

/// The table's name.
pub(crate) const TABLE: &str = "table_storage";

/// The tables under a storage root. A tenant sees what its own rows take up.
pub(crate) struct TableStorage(pub(crate) Storage);

#[async_trait]
impl View for TableStorage {
    fn schema(&self) -> SchemaRef {
        let text = |name| Field::new(name, DataType::Utf8, true);
        let count = |name| Field::new(name, DataType::Int64, false);
        let fields =
            [text("table_name"), count("version"), text("date"), count("files"), count("rows"), count("size_bytes")];
        Arc::new(Schema::new(fields.to_vec()))
    }

    async fn rows(&self, tenant: &str) -> Result<RecordBatch, Box<dyn std::error::Error + Send + Sync>> {
        let (mut names, mut dates) = (Vec::new(), Vec::new());
        let mut counts: [Vec<i64>; 4] = Default::default();
        for name in table_names(&self.0).await? {
            let stored = inspect::stored(&self.0, &name).await?;
            for day in stored.days.into_iter().filter(|day| day.tenant.as_deref() == Some(tenant)) {
                names.push(Some(name.clone()));
                dates.push(day.date);
                for (column, value) in counts.iter_mut().zip([stored.version, day.files, day.rows, day.size_bytes]) {
                    column.push(i64::try_from(value).unwrap_or(i64::MAX));
                }
            }
        }
        let [versions, files, rows, sizes] = counts.map(|column| Arc::new(Int64Array::from(column)) as ArrayRef);
        let (names, dates) = (Arc::new(StringArray::from(names)), Arc::new(StringArray::from(dates)));
        Ok(RecordBatch::try_new(self.schema(), vec![names, versions, dates, files, rows, sizes])?)
    }
}
