//! Small tables, column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int16Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::oid_field::{self, oid_field};

/// A table under way; all its columns have the same number of rows.
pub(super) struct Columns {
    rows: usize,
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    /// With so many rows.
    pub(super) fn of(rows: usize) -> Self {
        Self { rows, fields: Vec::new(), arrays: Vec::new() }
    }

    fn add(mut self, field: Field, array: ArrayRef) -> Self {
        self.fields.push(field);
        self.arrays.push(array);
        self
    }

    fn array(self, name: &str, array: ArrayRef) -> Self {
        let field = Field::new(name, array.data_type().clone(), true);
        self.add(field, array)
    }

    /// Identifiers of objects.
    pub(super) fn oid(self, name: &str, values: impl IntoIterator<Item = i32>) -> Self {
        let field = oid_field(name, oid_field::kind::OID, true);
        self.add(field, Arc::new(Int32Array::from_iter_values(values)))
    }

    /// The same identifier in each row.
    pub(super) fn all_oid(self, name: &str, value: i32) -> Self {
        let rows = self.rows;
        self.oid(name, std::iter::repeat_n(value, rows))
    }

    pub(super) fn text<S: AsRef<str>>(self, name: &str, values: impl IntoIterator<Item = S>) -> Self {
        self.array(name, Arc::new(StringArray::from_iter_values(values)))
    }

    pub(super) fn some_text<S: AsRef<str>>(self, name: &str, values: impl IntoIterator<Item = Option<S>>) -> Self {
        self.array(name, Arc::new(values.into_iter().collect::<StringArray>()))
    }

    pub(super) fn all_text(self, name: &str, value: &str) -> Self {
        let rows = self.rows;
        self.text(name, std::iter::repeat_n(value, rows))
    }

    pub(super) fn no_text(self, name: &str) -> Self {
        let rows = self.rows;
        self.array(name, new_null_array(&DataType::Utf8, rows))
    }

    /// NULL in place of a list of texts.
    pub(super) fn no_texts(self, name: &str) -> Self {
        let rows = self.rows;
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        self.array(name, new_null_array(&list, rows))
    }

    pub(super) fn int(self, name: &str, values: impl IntoIterator<Item = i32>) -> Self {
        self.array(name, Arc::new(Int32Array::from_iter_values(values)))
    }

    pub(super) fn some_int(self, name: &str, values: impl IntoIterator<Item = Option<i32>>) -> Self {
        self.array(name, Arc::new(values.into_iter().collect::<Int32Array>()))
    }

    pub(super) fn all_int(self, name: &str, value: i32) -> Self {
        let rows = self.rows;
        self.int(name, std::iter::repeat_n(value, rows))
    }

    pub(super) fn no_int(self, name: &str) -> Self {
        let rows = self.rows;
        self.array(name, new_null_array(&DataType::Int32, rows))
    }

    pub(super) fn small(self, name: &str, values: impl IntoIterator<Item = i16>) -> Self {
        self.array(name, Arc::new(Int16Array::from_iter_values(values)))
    }

    pub(super) fn all_small(self, name: &str, value: i16) -> Self {
        let rows = self.rows;
        self.small(name, std::iter::repeat_n(value, rows))
    }

    pub(super) fn no_big(self, name: &str) -> Self {
        let rows = self.rows;
        self.array(name, Arc::new(Int64Array::new_null(rows)))
    }

    pub(super) fn all_real(self, name: &str, value: f32) -> Self {
        let rows = self.rows;
        self.array(name, Arc::new(Float32Array::from_iter_values(std::iter::repeat_n(value, rows))))
    }

    pub(super) fn bool(self, name: &str, values: impl IntoIterator<Item = bool>) -> Self {
        self.array(name, Arc::new(values.into_iter().map(Some).collect::<BooleanArray>()))
    }

    pub(super) fn all_bool(self, name: &str, value: bool) -> Self {
        let rows = self.rows;
        self.bool(name, std::iter::repeat_n(value, rows))
    }

    pub(super) fn finish(self) -> Result<Option<Arc<dyn TableProvider>>> {
        let schema = Arc::new(Schema::new(self.fields));
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), self.arrays, &options)?;
        Ok(Some(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?)))
    }
}
