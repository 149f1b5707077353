//! Attributes that have columns of their own, besides their place in the map.
//!
//! The column has the attribute's name and holds what `attributes['name']` is, row by row; the map keeps it, so that nothing depends on the
//! column being there. A file either has the column whole or does not have it: files of before the promotion have none, and what merges
//! them makes it from the map ([`ATTRIBUTE_KEY`] in the table's schema says of which attribute).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::{TableError, TableSpec};

/// The map that attributes are promoted from.
pub const ATTRIBUTES_COLUMN: &str = "attributes";
/// The key of a column's metadata in the Delta table that names the attribute it holds.
pub const ATTRIBUTE_KEY: &str = "highwater.attribute";

/// Most attributes that one table promotes.
const MAX_PROMOTED: usize = 64;
/// Longest name of one, bytes.
const MAX_NAME_BYTES: usize = 128;
/// What Parquet and Delta do not take in the name of a column.
const FORBIDDEN: &str = " ,;{}()\n\t=";

impl TableSpec {
    /// Gives these attributes of its rows columns of their own.
    ///
    /// # Errors
    /// [`TableError::BadPromotion`] where the table has no attributes, or one of these cannot be the name of a column beside those there are.
    pub fn promote<'a>(&mut self, attributes: impl IntoIterator<Item = &'a str>) -> Result<(), TableError> {
        for attribute in attributes {
            if self.promoted.iter().any(|known| known == attribute) {
                continue;
            }
            let bad = |reason: String| TableError::BadPromotion {
                table: self.name.clone(),
                attribute: attribute.to_string(),
                reason,
            };
            let schema = self.table_schema();
            if !matches!(schema.field_with_name(ATTRIBUTES_COLUMN).map(Field::data_type), Ok(DataType::Map(..))) {
                return Err(bad(format!("the table has no map `{ATTRIBUTES_COLUMN}`; logs and spans have one")));
            }
            if attribute.is_empty() || attribute.len() > MAX_NAME_BYTES || attribute.starts_with('_') {
                return Err(bad(format!(
                    "a column's name has 1 to {MAX_NAME_BYTES} bytes and does not begin with `_`"
                )));
            }
            if attribute.contains(|c: char| FORBIDDEN.contains(c) || c.is_control()) {
                return Err(bad("a column's name has no blanks and none of `,;{}()=`".to_string()));
            }
            // Delta takes `a` and `A` for one column.
            if let Some(there) = schema.fields().iter().find(|f| f.name().to_lowercase() == attribute.to_lowercase()) {
                return Err(bad(format!("the table has a column `{}`", there.name())));
            }
            if self.promoted.len() == MAX_PROMOTED {
                return Err(bad(format!("a table promotes at most {MAX_PROMOTED} attributes")));
            }
            self.promoted.push(attribute.to_string());
        }
        Ok(())
    }
}

/// A table's columns, with those of the promoted attributes behind them.
pub(super) fn with_columns(schema: SchemaRef, promoted: &[String]) -> SchemaRef {
    if promoted.is_empty() {
        return schema;
    }
    let fields = schema.fields().iter().map(Arc::clone).chain(promoted.iter().map(|name| field(name)));
    Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()))
}

fn field(attribute: &str) -> FieldRef {
    Arc::new(Field::new(attribute, DataType::Utf8, true))
}

/// The column of an attribute: what the map says of it in each row, NULL where it says nothing. Where a key is there twice the first counts, as in
/// `attributes['key']`.
///
/// # Errors
/// Where this is not a map of text.
pub fn attribute_column(map: &dyn Array, attribute: &str) -> Result<ArrayRef, ArrowError> {
    let Some(map) = map.as_map_opt() else {
        return Err(ArrowError::SchemaError(format!("`{ATTRIBUTES_COLUMN}` is {}, not a map", map.data_type())));
    };
    let text = |array: &ArrayRef| match array.data_type() {
        DataType::Utf8 => Ok(Arc::clone(array)),
        _ => cast(array, &DataType::Utf8),
    };
    let (keys, values) = (text(map.keys())?, text(map.values())?);
    let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
    let offsets = map.value_offsets();
    let mut column = StringBuilder::with_capacity(map.len(), 0);
    for row in 0..map.len() {
        let place = |at: i32| usize::try_from(at).unwrap_or(0);
        let mut entries = place(offsets[row])..place(offsets[row + 1]);
        let found = if map.is_null(row) { None } else { entries.find(|&i| keys.value(i) == attribute) };
        column.append_option(found.filter(|&i| values.is_valid(i)).map(|i| values.value(i)));
    }
    Ok(Arc::new(column.finish()))
}
