//! One partition's event time.

use arrow::array::{Array, Int32Array, TimestampMicrosecondArray};
use serde::{Deserialize, Serialize};

use crate::data::identity::FLAG_FUTURE;

/// The last record with rows, as the clock records that follow need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRow {
    /// Its offset.
    pub offset: i64,
    /// Its append time, Unix microseconds.
    pub append_time_us: i64,
    /// The watermark once its rows were counted.
    pub watermark_us: Option<i64>,
}

/// The watermark of an input partition: the largest unflagged event time so far. In silence, clock records carry it on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionWatermark {
    watermark_us: Option<i64>,
    idle: bool,
    last_row: Option<LastRow>,
    last_clock_us: Option<i64>,
}

impl PartitionWatermark {
    /// The watermark, Unix microseconds; `None` before the first unflagged row.
    pub fn watermark_us(&self) -> Option<i64> {
        self.watermark_us
    }

    /// True after a clock record said so, until the next row.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// The last record with rows.
    pub fn last_row(&self) -> Option<LastRow> {
        self.last_row
    }

    /// Append time of the last clock record, whether it counted or not.
    pub fn last_clock_us(&self) -> Option<i64> {
        self.last_clock_us
    }

    /// Counts the rows of one record. `running` becomes the watermark after each row (`i64::MIN` for none yet). Rows that
    /// are flagged, and NULL times, move nothing.
    pub fn observe_rows(
        &mut self,
        offset: i64,
        append_time_us: i64,
        times: &TimestampMicrosecondArray,
        flags: &Int32Array,
        running: &mut Vec<i64>,
    ) {
        running.clear();
        running.reserve(times.len());
        let mut highest = self.watermark_us.unwrap_or(i64::MIN);
        for (row, (&time, &flag)) in times.values().iter().zip(flags.values()).enumerate() {
            if flag & FLAG_FUTURE == 0 && time > highest && times.is_valid(row) {
                highest = time;
            }
            running.push(highest);
        }
        if !times.is_empty() {
            self.watermark_us = (highest != i64::MIN).then_some(highest);
            self.idle = false;
            self.last_row = Some(LastRow { offset, append_time_us, watermark_us: self.watermark_us });
        }
    }

    /// Counts a clock record, if `base_offset` is still the last row (-1 for no row). Returns whether it did.
    pub fn observe_clock(
        &mut self,
        append_time_us: i64,
        base_offset: i64,
        event_time_us: Option<i64>,
        idle: bool,
    ) -> bool {
        self.last_clock_us = Some(append_time_us);
        if base_offset != self.last_row.map_or(-1, |row| row.offset) {
            return false;
        }
        self.watermark_us = self.watermark_us.max(event_time_us);
        self.idle = idle;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(values: &[Option<i64>]) -> TimestampMicrosecondArray {
        TimestampMicrosecondArray::from(values.to_vec())
    }

    #[test]
    fn the_watermark_is_the_running_maximum_of_unflagged_times() {
        let mut watermark = PartitionWatermark::default();
        let mut running = Vec::new();
        let rows = times(&[Some(5), Some(3), None, Some(99), Some(7)]);
        watermark.observe_rows(4, 1_000, &rows, &Int32Array::from(vec![0, 0, 0, FLAG_FUTURE, 0]), &mut running);
        assert_eq!(running, [5, 5, 5, 5, 7]);
        assert_eq!(watermark.watermark_us(), Some(7));
        assert_eq!(watermark.last_row(), Some(LastRow { offset: 4, append_time_us: 1_000, watermark_us: Some(7) }));
    }

    #[test]
    fn a_partition_with_only_flagged_rows_has_no_watermark() {
        let mut watermark = PartitionWatermark::default();
        let mut running = Vec::new();
        watermark.observe_rows(0, 0, &times(&[Some(99)]), &Int32Array::from(vec![FLAG_FUTURE]), &mut running);
        assert_eq!((watermark.watermark_us(), running.as_slice()), (None, [i64::MIN].as_slice()));
    }

    #[test]
    fn a_clock_record_counts_only_on_the_last_row() {
        let mut watermark = PartitionWatermark::default();
        assert!(watermark.observe_clock(1, -1, None, true));
        assert!(watermark.is_idle());
        let mut running = Vec::new();
        watermark.observe_rows(3, 10, &times(&[Some(50)]), &Int32Array::from(vec![0]), &mut running);
        assert!(!watermark.is_idle());
        assert!(!watermark.observe_clock(20, -1, Some(1_000), true), "written before the row");
        assert_eq!((watermark.watermark_us(), watermark.is_idle()), (Some(50), false));
        assert!(watermark.observe_clock(30, 3, Some(70), false));
        assert_eq!(watermark.watermark_us(), Some(70));
        assert!(watermark.observe_clock(40, 3, Some(60), true), "it never goes back");
        assert_eq!((watermark.watermark_us(), watermark.is_idle()), (Some(70), true));
    }
}
