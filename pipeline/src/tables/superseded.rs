//! Which rows of a rollup no longer hold.
//!
//! A window that is closed again is written anew, whole, by the task that owns its partition; ahead of the new rows goes a record
//! [`Control::Superseded`](crate::data::Control::Superseded). So one rule says what holds, for files and tail alike: *a row is superseded by a
//! marker of its partition and window at a higher offset.* Nothing has to be known of groups, revisions or other partitions.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampMicrosecondType};

use super::TableError;
use crate::data::identity;

/// Column of a rollup's table: which closing of its window a row is of; 0 for the first. A table with this column holds the newest revision of
/// each row only.
pub const REVISION_COLUMN: &str = "_revision";
/// Column of a rollup's table: the start of the row's window.
pub const WINDOW_START_COLUMN: &str = "window_start";

/// The markers of a rollup's topic, or of a part of it: of each partition and window, the last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Superseded {
    /// By partition and window start (Unix microseconds): rows at lower offsets do not hold.
    below: BTreeMap<(i32, i64), i64>,
}

impl Superseded {
    /// Counts the marker at `offset` of a partition.
    pub fn add(&mut self, partition: i32, window_start_us: i64, offset: i64) {
        let below = self.below.entry((partition, window_start_us)).or_insert(offset);
        *below = offset.max(*below);
    }

    /// Counts all markers of another part of the topic.
    pub fn extend(&mut self, other: &Self) {
        other.iter().for_each(|(partition, window_start_us, offset)| self.add(partition, window_start_us, offset));
    }

    /// True where there is no marker.
    pub fn is_empty(&self) -> bool {
        self.below.is_empty()
    }

    /// Partition, window start and offset of each marker, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i32, i64, i64)> {
        self.below.iter().map(|(&(partition, window_start_us), &offset)| (partition, window_start_us, offset))
    }

    /// Whether a row of this partition, window and offset holds.
    pub fn holds(&self, partition: i32, window_start_us: i64, offset: i64) -> bool {
        self.below.get(&(partition, window_start_us)).is_none_or(|&below| offset >= below)
    }

    /// The rows that hold, in their order.
    ///
    /// # Errors
    /// Where the batch lacks the row identity or the window's start.
    pub fn filter(&self, table: &str, batch: &RecordBatch) -> Result<RecordBatch, TableError> {
        if self.is_empty() || batch.num_rows() == 0 {
            return Ok(batch.clone());
        }
        let mask = self.mask(table, batch)?;
        if mask.true_count() == mask.len() {
            return Ok(batch.clone());
        }
        filter_record_batch(batch, &mask).map_err(|source| TableError::Arrow { table: table.to_string(), source })
    }

    /// Per row: whether it holds.
    ///
    /// # Errors
    /// As [`Self::filter`].
    pub fn mask(&self, table: &str, batch: &RecordBatch) -> Result<BooleanArray, TableError> {
        let partitions = values::<Int32Type>(table, batch, identity::PARTITION, "a 32-bit integer")?;
        let offsets = values::<Int64Type>(table, batch, identity::OFFSET, "a 64-bit integer")?;
        let starts =
            values::<TimestampMicrosecondType>(table, batch, WINDOW_START_COLUMN, "a timestamp in microseconds")?;
        let rows = partitions.iter().zip(starts).zip(offsets);
        Ok(rows.map(|((&partition, &start_us), &offset)| Some(self.holds(partition, start_us, offset))).collect())
    }
}

fn values<'a, T: ArrowPrimitiveType>(
    table: &str,
    batch: &'a RecordBatch,
    name: &str,
    expected: &'static str,
) -> Result<&'a [T::Native], TableError> {
    let column = batch.column_by_name(name);
    let found = || column.map_or_else(|| "missing".to_string(), |c| c.data_type().to_string());
    column.and_then(|c| c.as_primitive_opt::<T>()).map(|c| &c.values()[..]).ok_or_else(|| TableError::BadColumn {
        table: table.to_string(),
        column: name.to_string(),
        expected,
        found: found(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, Int64Array};

    use super::*;
    use crate::data::time;

    fn rows(rows: &[(i32, i64, i64)]) -> RecordBatch {
        let partitions: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int32Array>());
        let starts: ArrayRef = Arc::new(time::array(rows.iter().map(|r| r.1).collect()));
        let offsets: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Int64Array>());
        RecordBatch::try_from_iter([("_partition", partitions), ("window_start", starts), ("_offset", offsets)])
            .unwrap()
    }

    #[test]
    fn a_row_below_a_marker_of_its_partition_and_window_does_not_hold() {
        let mut superseded = Superseded::default();
        let all = rows(&[(0, 60, 4), (0, 60, 6), (0, 120, 4), (1, 60, 4)]);
        assert_eq!(superseded.filter("r", &all).unwrap(), all);
        superseded.add(0, 60, 5);
        assert_eq!(superseded.filter("r", &all).unwrap(), rows(&[(0, 60, 6), (0, 120, 4), (1, 60, 4)]));
        let mut more = Superseded::default();
        more.add(0, 60, 3);
        more.add(1, 60, 5);
        superseded.extend(&more);
        assert_eq!(superseded.iter().collect::<Vec<_>>(), [(0, 60, 5), (1, 60, 5)], "the last marker of each counts");
        assert_eq!(superseded.filter("r", &all).unwrap(), rows(&[(0, 60, 6), (0, 120, 4)]));
    }

    #[test]
    fn rows_without_identity_are_refused() {
        let mut superseded = Superseded::default();
        superseded.add(0, 60, 5);
        let batch = rows(&[(0, 60, 4)]).project(&[0, 1]).unwrap();
        let error = superseded.filter("r", &batch).unwrap_err().to_string();
        assert_eq!(error, "table r: column _offset must be a 64-bit integer, but is missing");
    }
}
