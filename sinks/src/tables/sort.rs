//! From rows in log order to rows in file order: split by tenant and date, sorted by what queries filter on.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::Date32Type;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use highwater_pipeline::tables::{DATE_COLUMN, PARTITION_COLUMNS, TENANT_COLUMN, TableSpec};

/// The rows of one file.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) tenant: Option<String>,
    /// Days since 1970.
    pub(super) date: Option<i32>,
    /// Sorted, without the partition columns.
    pub(super) rows: RecordBatch,
}

/// Splits and sorts. Rows that sort equal keep the order they came in. Groups come in the order of tenant and date.
pub(super) fn split_and_sort(spec: &TableSpec, batches: &[RecordBatch]) -> Result<Vec<Group>, ArrowError> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let all = concat_batches(&first.schema(), batches)?;
    let keep: Vec<usize> = (0..all.num_columns())
        .filter(|&i| !PARTITION_COLUMNS.contains(&all.schema_ref().field(i).name().as_str()))
        .collect();
    let groups = rows_by_group(&all)?;
    let stored = all.project(&keep)?;
    drop(all);
    groups
        .into_iter()
        .map(|((tenant, date), mut rows)| {
            sort_rows(spec, &stored, &mut rows)?;
            let rows = take_record_batch(&stored, &UInt32Array::from(rows))?;
            Ok(Group { tenant, date, rows })
        })
        .collect()
}

type GroupKey = (Option<String>, Option<i32>);

fn rows_by_group(all: &RecordBatch) -> Result<BTreeMap<GroupKey, Vec<u32>>, ArrowError> {
    let column = |name: &str| {
        all.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("rows lack the column {name}")))
    };
    let tenants = column(TENANT_COLUMN)?
        .as_string_opt::<i32>()
        .ok_or_else(|| ArrowError::SchemaError(format!("column {TENANT_COLUMN} is not text")))?;
    let dates = column(DATE_COLUMN)?
        .as_primitive_opt::<Date32Type>()
        .ok_or_else(|| ArrowError::SchemaError(format!("column {DATE_COLUMN} is not a date")))?;
    let count = u32::try_from(all.num_rows())
        .map_err(|_| ArrowError::InvalidArgumentError("more than 4 billion rows in one commit".to_string()))?;

    let mut groups: BTreeMap<GroupKey, Vec<u32>> = BTreeMap::new();
    // Neighbours mostly belong together: collect a run, then look its group up once.
    let mut run_start = 0_u32;
    let key_at = |row: u32| {
        let i = row as usize;
        // Delta cannot tell an empty partition value from NULL.
        let tenant = (!tenants.is_null(i)).then(|| tenants.value(i)).filter(|t| !t.is_empty());
        (tenant, (!dates.is_null(i)).then(|| dates.value(i)))
    };
    for row in 1..=count {
        if row == count || key_at(row) != key_at(run_start) {
            let (tenant, date) = key_at(run_start);
            groups.entry((tenant.map(str::to_string), date)).or_default().extend(run_start..row);
            run_start = row;
        }
    }
    Ok(groups)
}

fn sort_rows(spec: &TableSpec, stored: &RecordBatch, rows: &mut [u32]) -> Result<(), ArrowError> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for name in &spec.sort_columns {
        let column = stored
            .column_by_name(name)
            .ok_or_else(|| ArrowError::SchemaError(format!("rows lack the sort column {name}")))?;
        fields.push(SortField::new(column.data_type().clone()));
        columns.push(std::sync::Arc::clone(column));
    }
    let keys = RowConverter::new(fields)?.convert_columns(&columns)?;
    rows.sort_unstable_by(|&a, &b| keys.row(a as usize).cmp(&keys.row(b as usize)).then(a.cmp(&b)));
    Ok(())
}
