//! A table's columns and protocol in Delta's terms: how it is made, and what its schema may grow by.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{Action, CommitInfo, MetadataExt, Protocol, StructType, new_metadata};
use highwater_pipeline::tables::{ATTRIBUTE_KEY, PARTITION_COLUMNS, TableSpec};
use serde_json::json;

use super::commit_info;
use crate::SinkError;

/// The Delta protocol of our tables: what every reader can read.
pub(super) const READER_VERSION: i32 = 1;
pub(super) const WRITER_VERSION: i32 = 2;

/// The actions of a table's first commit.
pub(super) fn create(table: &str, schema: &StructType, now_ms: i64) -> Result<[Action; 3], SinkError> {
    let delta = |source: DeltaTableError| SinkError::Delta { table: table.to_string(), source: Box::new(source) };
    let protocol: Protocol = serde_json::from_value(json!({
        "minReaderVersion": READER_VERSION, "minWriterVersion": WRITER_VERSION,
    }))
    .map_err(|e| delta(e.into()))?;
    let metadata = new_metadata(schema, PARTITION_COLUMNS, std::iter::empty::<(&str, &str)>())
        .map_err(|e| delta(e.into()))?
        .with_name(table.to_string())
        .map_err(|e| delta(e.into()))?;
    let info = CommitInfo { read_version: None, ..commit_info("CREATE TABLE", 0, now_ms, HashMap::new()) };
    Ok([Action::CommitInfo(info), Action::Protocol(protocol), Action::Metadata(metadata)])
}

/// The columns of a table. Those of promoted attributes say so.
pub(super) fn of(spec: &TableSpec) -> Result<StructType, SinkError> {
    let mark = |field: &FieldRef| {
        let name = field.name().clone();
        if !spec.promoted.contains(&name) {
            return Arc::clone(field);
        }
        let metadata = HashMap::from([(ATTRIBUTE_KEY.to_string(), name)]);
        Arc::new(field.as_ref().clone().with_metadata(metadata))
    };
    let schema = Schema::new(spec.table_schema().fields().iter().map(mark).collect::<Vec<_>>());
    let schema: StructType =
        (&schema).try_into_kernel().map_err(|source| SinkError::Arrow { table: spec.name.clone(), source })?;
    Ok(schema)
}

/// The table's schema with the columns it lacks, or `None` where it lacks none.
pub(super) fn evolve(table: &str, have: &StructType, want: &StructType) -> Result<Option<StructType>, SinkError> {
    let conflict = |column: &str, in_table: String, wanted: String| SinkError::SchemaConflict {
        table: table.to_string(),
        column: column.to_string(),
        in_table,
        wanted,
    };
    let describe = |field: &deltalake_core::kernel::StructField| {
        format!("{}{}", field.data_type(), if field.is_nullable() { "" } else { " not null" })
    };
    let mut new = Vec::new();
    for field in want.fields() {
        match have.field(field.name()) {
            Some(there) if there.data_type() != field.data_type() || (field.is_nullable() && !there.is_nullable()) => {
                return Err(conflict(field.name(), describe(there), describe(field)));
            }
            Some(_) => {}
            None if field.is_nullable() => new.push(field.clone()),
            None => return Err(conflict(field.name(), "missing".to_string(), describe(field))),
        }
    }
    // A column that is no longer written reads as NULL, so it has to be nullable.
    if let Some(orphan) = have.fields().find(|f| !f.is_nullable() && want.field(f.name()).is_none()) {
        return Err(conflict(orphan.name(), describe(orphan), "missing".to_string()));
    }
    if new.is_empty() {
        return Ok(None);
    }
    StructType::try_new(have.fields().cloned().chain(new))
        .map(Some)
        .map_err(|e| SinkError::Delta { table: table.to_string(), source: Box::new(e.into()) })
}
