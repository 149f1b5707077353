//! From rows in log order to rows in file order: split by tenant and date, sorted by what queries filter on.
//!
//! Rows stay where they are. What is split and sorted are their places, and a file's rows are copied out a piece at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Date32Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use highwater_pipeline::tables::{DATE_COLUMN, PARTITION_COLUMNS, TENANT_COLUMN, TableSpec};

/// Where a row lies: which batch, and which row of it.
pub(super) type Place = (usize, usize);

/// The rows of one file.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) tenant: Option<String>,
    /// Days since 1970.
    pub(super) date: Option<i32>,
    /// In file order.
    pub(super) places: Vec<Place>,
}

/// The rows of one or several files.
#[derive(Debug)]
pub(super) struct Sorted {
    /// As they came, without the partition columns.
    stored: Vec<RecordBatch>,
    /// In the order of tenant and date.
    pub(super) groups: Vec<Group>,
}

impl Sorted {
    /// Splits and sorts. Rows that sort equal keep the order they came in. `batches` have one schema and are not empty.
    pub(super) fn new(spec: &TableSpec, batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let mut stored = Vec::with_capacity(batches.len());
        let mut by_key = BTreeMap::new();
        for (i, batch) in batches.iter().enumerate() {
            split(i, batch, &mut by_key)?;
            let keep: Vec<usize> = (0..batch.num_columns())
                .filter(|&c| !PARTITION_COLUMNS.contains(&batch.schema_ref().field(c).name().as_str()))
                .collect();
            stored.push(batch.project(&keep)?);
        }
        let keys = sort_keys(spec, &stored)?;
        let groups = by_key
            .into_iter()
            .map(|((tenant, date), mut places)| {
                places.sort_unstable_by(|a, b| keys[a.0].row(a.1).cmp(&keys[b.0].row(b.1)).then(a.cmp(b)));
                Group { tenant, date, places }
            })
            .collect();
        Ok(Self { stored, groups })
    }

    /// The rows of one file, which have none of the partition columns, sorted.
    pub(super) fn of_one_file(spec: &TableSpec, stored: Vec<RecordBatch>) -> Result<Self, ArrowError> {
        let keys = sort_keys(spec, &stored)?;
        let rows = stored.iter().enumerate().flat_map(|(i, batch)| (0..batch.num_rows()).map(move |row| (i, row)));
        let mut places: Vec<Place> = rows.collect();
        places.sort_unstable_by(|a, b| keys[a.0].row(a.1).cmp(&keys[b.0].row(b.1)).then(a.cmp(b)));
        Ok(Self { stored, groups: vec![Group { tenant: None, date: None, places }] })
    }

    /// The columns of a file; `None` where there are no rows at all.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        self.stored.first().map(RecordBatch::schema)
    }

    /// A copy of the rows at these places.
    pub(super) fn copy(&self, places: &[Place]) -> Result<RecordBatch, ArrowError> {
        interleave_record_batch(&self.stored.iter().collect::<Vec<_>>(), places)
    }
}

type GroupKey = (Option<String>, Option<i32>);

/// Adds the places of a batch's rows to the groups they belong to.
fn split(i: usize, batch: &RecordBatch, groups: &mut BTreeMap<GroupKey, Vec<Place>>) -> Result<(), ArrowError> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("rows lack the column {name}")))
    };
    let tenants = column(TENANT_COLUMN)?
        .as_string_opt::<i32>()
        .ok_or_else(|| ArrowError::SchemaError(format!("column {TENANT_COLUMN} is not text")))?;
    let dates = column(DATE_COLUMN)?
        .as_primitive_opt::<Date32Type>()
        .ok_or_else(|| ArrowError::SchemaError(format!("column {DATE_COLUMN} is not a date")))?;
    let key_at = |row: usize| {
        // Delta cannot tell an empty partition value from NULL.
        let tenant = (!tenants.is_null(row)).then(|| tenants.value(row)).filter(|t| !t.is_empty());
        (tenant, (!dates.is_null(row)).then(|| dates.value(row)))
    };
    // Neighbours mostly belong together: collect a run, then look its group up once.
    let mut run_start = 0;
    for row in 1..=batch.num_rows() {
        if row == batch.num_rows() || key_at(row) != key_at(run_start) {
            let (tenant, date) = key_at(run_start);
            let places = groups.entry((tenant.map(str::to_string), date)).or_default();
            places.extend((run_start..row).map(|row| (i, row)));
            run_start = row;
        }
    }
    Ok(())
}

/// What rows are sorted by, in a form that compares byte by byte: for each batch, of each row.
fn sort_keys(spec: &TableSpec, stored: &[RecordBatch]) -> Result<Vec<Rows>, ArrowError> {
    let Some(first) = stored.first() else { return Ok(Vec::new()) };
    let column = |batch: &RecordBatch, name: &String| {
        let column = batch.column_by_name(name).map(Arc::clone);
        column.ok_or_else(|| ArrowError::SchemaError(format!("rows lack the sort column {name}")))
    };
    let columns_of = |batch: &RecordBatch| -> Result<Vec<_>, ArrowError> {
        spec.sort_columns.iter().map(|name| column(batch, name)).collect()
    };
    let fields = columns_of(first)?.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    stored.iter().map(|batch| converter.convert_columns(&columns_of(batch)?)).collect()
}
