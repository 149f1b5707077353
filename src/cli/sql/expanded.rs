//! A row as lines, one per column: for rows that are wider than the screen.

use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The rows of a batch, numbered on from those `before`.
pub(super) fn write(batch: &RecordBatch, before: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::default().with_null("");
    let schema = batch.schema();
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| Ok((field.name(), ArrayFormatter::try_new(column, &options)?)))
        .collect::<Result<Vec<_>, ArrowError>>()?;
    let width = columns.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        let title = format!("-[ RECORD {} ]", before + row + 1);
        // Writing into memory does not fail.
        writeln!(text, "{title:-<length$}", length = (width + 3).max(title.len() + 1)).unwrap_or_default();
        for (name, values) in &columns {
            let value = values.value(row).try_to_string()?;
            // Lines after the first stand under it.
            let value = value.replace('\n', &format!("\n{:width$} | ", ""));
            writeln!(text, "{name:width$} | {value}").unwrap_or_default();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_line_for_each_value() {
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef),
            ("message", Arc::new(StringArray::from(vec!["a", "b\nc"]))),
        ])
        .unwrap();
        assert_eq!(
            write(&batch, 4).unwrap(),
            "-[ RECORD 5 ]-\nn       | 1\nmessage | a\n-[ RECORD 6 ]-\nn       | \nmessage | b\n        | c\n"
        );
    }
}
