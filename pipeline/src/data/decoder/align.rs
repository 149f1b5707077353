//! Arrow rows of any producer, aligned to a table schema, with identity.
//!
//! Columns are found by name, in any order; missing ones are NULL, unknown ones are left out, other types are cast where that
//! loses nothing. A NULL `timestamp` becomes the append time, a NULL `tenant` the default one. A row is refused where a
//! required column is NULL, its tenant's name is not allowed, or its event time is outside the years 1 to 9999.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{Field, Int32Type, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use super::{MAX_REFUSED, Refused, Rows};
use crate::data::identity::{self, Coordinate};
use crate::data::tenant::Tenant;
use crate::data::{columns, ipc, time};

/// The rows of one record so far.
pub(super) struct Aligned {
    schema: SchemaRef,
    coordinate: Coordinate,
    batches: Vec<RecordBatch>,
    refused: Vec<Refused>,
    rows: i32,
}

impl Aligned {
    pub(super) fn new(schema: SchemaRef, coordinate: Coordinate) -> Self {
        Self { schema, coordinate, batches: Vec::new(), refused: Vec::new(), rows: 0 }
    }

    /// Adds rows that follow those before in the record.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let count = i32::try_from(batch.num_rows()).ok().and_then(|count| self.rows.checked_add(count));
        let end = count.ok_or("a record holds more rows than an Int32 can number")?;
        self.add_numbered(batch, Int32Array::from_iter_values(self.rows..end))?;
        self.rows = end;
        Ok(())
    }

    /// Adds rows with these indexes in the record.
    pub(super) fn add_numbered(&mut self, batch: &RecordBatch, rows: Int32Array) -> Result<(), String> {
        let payload = self.schema.fields().iter().filter(|field| !identity::is_identity(field.name()));
        let mut columns = payload.map(|field| self.column(field, batch)).collect::<Result<Vec<_>, _>>()?;
        let refusals = self.refusals(&columns, batch.num_rows());
        let mut rows = rows;
        if self.refused.len() + refusals.len() > MAX_REFUSED {
            let example = refusals.first().map_or("", |(_, reason)| reason.as_str());
            return Err(format!("more than {MAX_REFUSED} of its rows are refused, for example: {example}"));
        }
        if !refusals.is_empty() {
            let mut keep = vec![true; batch.num_rows()];
            for (row, reason) in refusals {
                keep[row] = false;
                let bytes = ipc::encode(&batch.slice(row, 1)).map_err(|error| error.to_string())?;
                self.refused.push(Refused { row: rows.value(row), reason, bytes });
            }
            let keep = BooleanArray::from(keep);
            let kept = |array: &ArrayRef| arrow::compute::filter(array, &keep).map_err(|error| error.to_string());
            columns = columns.iter().map(kept).collect::<Result<_, _>>()?;
            rows = kept(&(Arc::new(rows) as ArrayRef))?.as_primitive::<Int32Type>().clone();
        }
        let times =
            self.schema.fields().iter().zip(&columns).find_map(|(field, column)| event_times(field, column).cloned());
        columns.extend(self.coordinate.columns(rows, times.as_ref()));
        let aligned =
            RecordBatch::try_new(SchemaRef::clone(&self.schema), columns).map_err(|error| error.to_string())?;
        self.batches.push(aligned);
        Ok(())
    }

    /// All rows of the record.
    pub(super) fn finish(mut self) -> Rows {
        let batch = match self.batches.len() {
            1 => self.batches.swap_remove(0),
            _ => concat_batches(&self.schema, &self.batches).map_err(|error| error.to_string())?,
        };
        Ok((batch, self.refused))
    }

    /// The column of this name, in the table's type, with NULLs filled where something stands for them.
    fn column(&self, field: &Field, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let rows = batch.num_rows();
        let found = batch.column_by_name(field.name());
        let column = match found {
            None => new_null_array(field.data_type(), rows),
            Some(column) if column.data_type() == field.data_type() => Arc::clone(column),
            Some(column) => {
                let options = CastOptions { safe: false, ..CastOptions::default() };
                cast_with_options(column, field.data_type(), &options).map_err(|error| {
                    format!("column `{}` is {}, not {}: {error}", field.name(), column.data_type(), field.data_type())
                })?
            }
        };
        if column.null_count() == 0 || field.is_nullable() {
            return Ok(column);
        }
        Ok(match (event_times(field, &column), tenants(field, &column)) {
            (Some(times), _) => {
                let filled = times.iter().map(|time| time.unwrap_or(self.coordinate.append_time_us));
                Arc::new(TimestampMicrosecondArray::from_iter_values(filled).with_timezone(time::ZONE))
            }
            (_, Some(tenants)) => {
                let filled = tenants.iter().map(|tenant| tenant.unwrap_or(Tenant::DEFAULT));
                Arc::new(StringArray::from_iter_values(filled))
            }
            _ => column,
        })
    }

    /// Which rows cannot stay, each with the first reason found.
    fn refusals(&self, columns: &[ArrayRef], rows: usize) -> Vec<(usize, String)> {
        let mut reasons: Vec<Option<String>> = Vec::new();
        let mut refuse = |row: usize, reason: String| {
            reasons.resize(rows, None);
            reasons[row].get_or_insert(reason);
        };
        for (field, column) in self.schema.fields().iter().zip(columns) {
            if !field.is_nullable() && column.null_count() > 0 {
                for row in (0..rows).filter(|&row| column.is_null(row)) {
                    refuse(row, format!("column `{}` is NULL", field.name()));
                }
            }
            if let Some(tenants) = tenants(field, column) {
                let mut checked = "";
                for (row, tenant) in tenants.iter().enumerate() {
                    let tenant = tenant.unwrap_or_default();
                    // Mostly they are all the same.
                    if tenant == checked {
                        continue;
                    }
                    match Tenant::check(tenant) {
                        Ok(()) => checked = tenant,
                        Err(error) => refuse(row, error.to_string()),
                    }
                }
            }
            if let Some(times) = event_times(field, column) {
                for (row, &instant_us) in times.values().iter().enumerate() {
                    if !time::in_range(instant_us) {
                        refuse(row, format!("event time {instant_us} µs is outside the years 1 to 9999"));
                    }
                }
            }
        }
        reasons.into_iter().enumerate().filter_map(|(row, reason)| Some((row, reason?))).collect()
    }
}

/// The column as event times, if that is what it is.
fn event_times<'a>(field: &Field, column: &'a ArrayRef) -> Option<&'a TimestampMicrosecondArray> {
    if field.name() == time::COLUMN { column.as_primitive_opt::<TimestampMicrosecondType>() } else { None }
}

/// The column as tenants' names, if that is what it is.
fn tenants<'a>(field: &Field, column: &'a ArrayRef) -> Option<&'a StringArray> {
    if field.name() == columns::TENANT { column.as_string_opt::<i32>() } else { None }
}
