//! Shorthand for the fields that schemas are made of.

use std::sync::Arc;

use arrow::array::MapFieldNames;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use super::{identity, time};

/// A nullable column.
pub(super) fn nullable(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

/// A column that every row has.
pub(super) fn required(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, false))
}

/// A nullable text column.
pub(super) fn text(name: &str) -> FieldRef {
    nullable(name, DataType::Utf8)
}

/// A text column that every row has.
pub(super) fn required_text(name: &str) -> FieldRef {
    required(name, DataType::Utf8)
}

/// A nullable instant.
pub(super) fn instant(name: &str) -> FieldRef {
    nullable(name, time::data_type())
}

/// An instant that every row has.
pub(super) fn required_instant(name: &str) -> FieldRef {
    required(name, time::data_type())
}

/// The names of a map's parts, as Delta's Arrow conversion has them.
pub(super) fn map_field_names() -> MapFieldNames {
    MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() }
}

/// `Map<Utf8, Utf8>`.
pub(super) fn string_map(name: &str) -> FieldRef {
    let names = map_field_names();
    let entries =
        Fields::from(vec![Field::new(names.key, DataType::Utf8, false), Field::new(names.value, DataType::Utf8, true)]);
    nullable(name, DataType::Map(Arc::new(Field::new(names.entry, DataType::Struct(entries), false)), false))
}

/// The table schema of these columns: `tenant` and the row identity are appended.
pub(super) fn table_schema(payload: Vec<FieldRef>) -> SchemaRef {
    let mut fields = payload;
    fields.push(required_text(TENANT));
    fields.extend(identity::fields());
    Arc::new(Schema::new(fields))
}

/// The wire schema that belongs to a table schema: no identity, and an instant that may be NULL ("append time").
pub(super) fn wire_schema(table: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = table
        .fields()
        .iter()
        .filter(|field| !identity::is_identity(field.name()))
        .map(|field| if field.name() == time::COLUMN { instant(time::COLUMN) } else { Arc::clone(field) })
        .collect();
    Arc::new(Schema::new(fields))
}

/// Name of the tenant column, the last payload column of every table.
pub(super) const TENANT: &str = "tenant";
