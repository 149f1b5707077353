//! What a Delta log says of a file's rows, in DataFusion's terms, and which files a filter rules out by it.
//!
//! Delta writes statistics as JSON, timestamps cut to milliseconds and possibly strings cut too. So a bound is a bound and nothing
//! more: it prunes files. Offered as facts are whole numbers, and times that our own writers wrote with all six digits: by these a query for the latest rows
//! leaves files out while it runs.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use chrono::{DateTime, NaiveDate};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue, Statistics};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::delta::DataFile;

/// Partition values (tenant, date) from their text in the Delta log; `None` where the date is none.
pub(crate) fn partition_values(tenant: Option<&str>, date: Option<&str>) -> Option<Vec<ScalarValue>> {
    let days = match date {
        None => None,
        Some(text) => Some(text.parse::<NaiveDate>().ok()?.to_epoch_days()),
    };
    Some(vec![ScalarValue::Utf8(tenant.map(str::to_string)), ScalarValue::Date32(days)])
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AddStats {
    num_records: Option<u64>,
    min_values: Map<String, Value>,
    max_values: Map<String, Value>,
    null_count: Map<String, Value>,
}

/// Statistics of a file's own columns. What is missing or unreadable in `json` is unknown. `ours`: whether one of our writers made the file.
pub(crate) fn file_statistics(file_schema: &SchemaRef, size_bytes: u64, json: Option<&str>, ours: bool) -> Statistics {
    let stats: AddStats = json.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let column_statistics = file_schema
        .fields()
        .iter()
        .map(|field| {
            let mut column = ColumnStatistics::new_unknown();
            let bound = |values: &Map<String, Value>, bound: Bound| {
                let Some(value) = values.get(field.name()) else { return Precision::Absent };
                let whole_time = ours && value.as_str().is_some_and(has_microseconds);
                let bound = if whole_time { Bound::Exact } else { bound };
                match scalar(field.data_type(), value, bound) {
                    Some(value) if field.data_type().is_integer() => Precision::Exact(value),
                    Some(value @ ScalarValue::TimestampMicrosecond(..)) if whole_time => Precision::Exact(value),
                    Some(value) => Precision::Inexact(value),
                    None => Precision::Absent,
                }
            };
            column.min_value = bound(&stats.min_values, Bound::Lower);
            column.max_value = bound(&stats.max_values, Bound::Upper);
            if let Some(nulls) = stats.null_count.get(field.name()).and_then(Value::as_u64) {
                column.null_count = Precision::Exact(usize::try_from(nulls).unwrap_or(usize::MAX));
            }
            column
        })
        .collect();
    let num_rows = stats.num_records.and_then(|n| usize::try_from(n).ok());
    Statistics {
        num_rows: num_rows.map_or(Precision::Absent, Precision::Exact),
        total_byte_size: usize::try_from(size_bytes).map_or(Precision::Absent, Precision::Inexact),
        column_statistics,
    }
}

/// Of the column of a promoted attribute: whether the file has it. Our writers count the NULLs of every column that a file has.
pub(crate) fn has_column(file: &Statistics, column: usize) -> bool {
    file.column_statistics.get(column).is_some_and(|c| c.null_count.get_value().is_some())
}

/// Forgets what is said of the column of a promoted attribute, unless one of our writers made the file and the column in it: in the file of another the
/// column may be there and not be filled.
pub(crate) fn keep_if_whole(column: &mut ColumnStatistics, ours: bool) {
    if !ours || column.null_count.get_value().is_none() {
        *column = ColumnStatistics::new_unknown();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    Lower,
    Upper,
    /// Not cut at all.
    Exact,
}

/// Whether a time is written with six digits behind the second: who cuts it, leaves three.
fn has_microseconds(time: &str) -> bool {
    time.rsplit_once('.').is_some_and(|(_, fraction)| fraction.len() == 7 && fraction.ends_with('Z'))
}

fn scalar(data_type: &DataType, value: &Value, bound: Bound) -> Option<ScalarValue> {
    match data_type {
        DataType::Int32 => Some(ScalarValue::Int32(Some(i32::try_from(value.as_i64()?).ok()?))),
        DataType::Int64 => Some(ScalarValue::Int64(Some(value.as_i64()?))),
        DataType::Float64 => Some(ScalarValue::Float64(Some(value.as_f64()?))),
        DataType::Utf8 => Some(ScalarValue::Utf8(Some(value.as_str()?.to_string()))),
        DataType::Date32 => Some(ScalarValue::Date32(Some(value.as_str()?.parse::<NaiveDate>().ok()?.to_epoch_days()))),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let us = DateTime::parse_from_rfc3339(value.as_str()?).ok()?.timestamp_micros();
            // The writer may have cut the microseconds off.
            let us = if bound == Bound::Upper { us.checked_add(999)? } else { us };
            Some(ScalarValue::TimestampMicrosecond(Some(us), zone.clone()))
        }
        _ => None,
    }
}

/// The statistics of several files, for a pruning predicate. Bounds count whether they are exact or not.
pub(crate) struct FileStatistics<'a> {
    files: &'a [Arc<DataFile>],
    /// File columns, then partition columns.
    schema: SchemaRef,
}

impl<'a> FileStatistics<'a> {
    pub(crate) fn new(files: &'a [Arc<DataFile>], schema: SchemaRef) -> Self {
        Self { files, schema }
    }

    fn per_file<T>(&self, get: impl Fn(&Statistics) -> Option<T>) -> Vec<Option<T>> {
        self.files.iter().map(|f| f.file.statistics.as_deref().and_then(&get)).collect()
    }

    fn bound(&self, column: &Column, get: impl Fn(&ColumnStatistics) -> &Precision<ScalarValue>) -> Option<ArrayRef> {
        let index = self.schema.index_of(column.name()).ok()?;
        let null = ScalarValue::try_new_null(self.schema.field(index).data_type()).ok()?;
        let values = self.per_file(|s| s.column_statistics.get(index).and_then(|c| get(c).get_value().cloned()));
        if values.iter().all(Option::is_none) {
            return None;
        }
        ScalarValue::iter_to_array(values.into_iter().map(|v| v.unwrap_or_else(|| null.clone()))).ok()
    }
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |c| &c.min_value)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |c| &c.max_value)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let index = self.schema.index_of(column.name()).ok()?;
        let counts = self.per_file(|s| {
            s.column_statistics.get(index).and_then(|c| c.null_count.get_value()).and_then(|n| u64::try_from(*n).ok())
        });
        Some(Arc::new(UInt64Array::from(counts)))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.per_file(|s| s.num_rows.get_value().and_then(|n| u64::try_from(*n).ok()));
        Some(Arc::new(UInt64Array::from(counts)))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn schema() -> SchemaRef {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("timestamp", utc, true),
            Field::new("n", DataType::Int64, true),
            Field::new("v", DataType::Float64, true),
            Field::new("s", DataType::Utf8, true),
            Field::new("b", DataType::Binary, true),
        ]))
    }

    #[test]
    fn bounds_are_read_and_a_cut_time_is_rounded_outwards() {
        let json = r#"{"numRecords":3,"minValues":{"timestamp":"2026-01-02T03:04:05.678Z","n":-5,"v":0.5,"s":"a"},
                       "maxValues":{"timestamp":"2026-01-02T03:04:05.678Z","n":7,"v":1.5,"s":"z"},
                       "nullCount":{"timestamp":0,"n":1,"v":0,"s":2}}"#;
        let statistics = file_statistics(&schema(), 1234, Some(json), true);
        assert_eq!(statistics.num_rows, Precision::Exact(3));
        assert_eq!(statistics.total_byte_size, Precision::Inexact(1234));
        let [time, n, v, s, b] = statistics.column_statistics.as_slice() else { panic!("five columns") };
        let at = |us| Precision::Inexact(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
        assert_eq!(time.min_value, at(1_767_323_045_678_000));
        assert_eq!(time.max_value, at(1_767_323_045_678_999));
        assert_eq!(n.min_value, Precision::Exact(ScalarValue::Int64(Some(-5))));
        assert_eq!(n.null_count, Precision::Exact(1));
        assert_eq!(v.max_value, Precision::Inexact(ScalarValue::Float64(Some(1.5))));
        assert_eq!(s.max_value, Precision::Inexact(ScalarValue::Utf8(Some("z".to_string()))));
        assert_eq!(s.null_count, Precision::Exact(2));
        assert_eq!(b, &ColumnStatistics::new_unknown());
    }

    #[test]
    fn times_with_all_their_digits_are_facts_where_the_file_is_ours() {
        let json = r#"{"maxValues":{"timestamp":"2026-01-02T03:04:05.678900Z"}}"#;
        let max = |ours| file_statistics(&schema(), 1, Some(json), ours).column_statistics[0].max_value.clone();
        let at = |us| ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
        assert_eq!(max(true), Precision::Exact(at(1_767_323_045_678_900)));
        assert_eq!(max(false), Precision::Inexact(at(1_767_323_045_679_899)));
    }

    #[test]
    fn what_is_missing_or_odd_is_unknown() {
        for json in [None, Some("{}"), Some("not json"), Some(r#"{"minValues":{"n":"x","timestamp":5}}"#)] {
            let statistics = file_statistics(&schema(), 1, json, true);
            assert_eq!(statistics.num_rows, Precision::Absent, "{json:?}");
            assert!(statistics.column_statistics.iter().all(|c| c.min_value == Precision::Absent), "{json:?}");
        }
    }

    #[test]
    fn partition_values_are_typed() {
        let values = partition_values(Some("acme"), Some("1970-01-11")).unwrap();
        assert_eq!(values, [ScalarValue::Utf8(Some("acme".to_string())), ScalarValue::Date32(Some(10))]);
        assert_eq!(partition_values(None, None).unwrap(), [ScalarValue::Utf8(None), ScalarValue::Date32(None)]);
        assert!(partition_values(Some("acme"), Some("today")).is_none());
    }
}
