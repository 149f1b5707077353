//! The log lines behind an alert: those that the rollup of a rule over logs has kept.

use arrow::array::{Array, AsArray};
use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value};

use super::over_topic::LINES;

/// Most lines shown.
const MOST: usize = 10;

/// The lines of rows that do not contradict the row that decided.
pub(super) fn of_rows(batches: &[RecordBatch], decided: &Map<String, Value>) -> Vec<Value> {
    let mut lines = Vec::new();
    for batch in batches {
        let Some(lists) = batch.column_by_name(LINES).and_then(|c| c.as_list_opt::<i32>()) else { continue };
        for row in (0..batch.num_rows()).filter(|row| agrees(batch, *row, decided)) {
            if lists.is_null(row) {
                continue;
            }
            let texts = lists.value(row);
            let texts = texts.as_string_opt::<i32>().into_iter().flatten().flatten();
            lines.extend(texts.filter_map(|text| serde_json::from_str(text).ok()));
            if lines.len() >= MOST {
                lines.truncate(MOST);
                return lines;
            }
        }
    }
    lines
}

/// Texts of the same name are the same.
fn agrees(batch: &RecordBatch, row: usize, decided: &Map<String, Value>) -> bool {
    batch.schema_ref().fields().iter().zip(batch.columns()).all(|(field, column)| {
        match (column.as_string_opt::<i32>(), decided.get(field.name())) {
            (Some(texts), Some(Value::String(wanted))) => texts.is_valid(row) && texts.value(row) == wanted,
            (Some(texts), Some(Value::Null)) => texts.is_null(row),
            _ => true,
        }
    })
}
