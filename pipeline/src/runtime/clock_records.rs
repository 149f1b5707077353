//! When a silent partition gets a clock record, and what it says. Pure: the time is an argument.

use super::watermark::{CLOCK_PERIOD_US, IDLE_AFTER_US, IDLE_CLOCK_PERIOD_US, PartitionWatermark};
use crate::data::Control;

/// The clock of one input partition, kept by its owner.
///
/// Event time advances by the append time elapsed since the last row, never by a jump to now: a partition that holds
/// last year's logs stays in last year.
#[derive(Debug, Clone, Default)]
pub struct ClockSchedule {
    written_us: Option<i64>,
}

impl ClockSchedule {
    /// The record to append at `now_us`, if one is due. Ask only while the partition has been read to its end.
    pub fn due(&self, partition: &PartitionWatermark, now_us: i64) -> Option<Control> {
        (now_us >= self.next_us(partition)).then(|| match partition.last_row() {
            None => Control::Clock { base_offset: -1, event_time_us: None, idle: true },
            Some(row) => {
                let elapsed_us = (now_us - row.append_time_us).max(0);
                Control::Clock {
                    base_offset: row.offset,
                    event_time_us: row.watermark_us.map(|w| w.saturating_add(elapsed_us)),
                    idle: elapsed_us >= IDLE_AFTER_US,
                }
            }
        })
    }

    /// When the next one is due, Unix microseconds; `i64::MIN` for at once.
    pub fn next_us(&self, partition: &PartitionWatermark) -> i64 {
        let last_clock = partition.last_clock_us().max(self.written_us);
        let last_row = partition.last_row().map(|row| row.append_time_us);
        let period = match last_row {
            None => IDLE_CLOCK_PERIOD_US,
            Some(_) if partition.is_idle() => IDLE_CLOCK_PERIOD_US,
            Some(_) => CLOCK_PERIOD_US,
        };
        last_clock.max(last_row).map_or(i64::MIN, |last| last.saturating_add(period))
    }

    /// Notes that one was appended at this time.
    pub fn written(&mut self, now_us: i64) {
        self.written_us = Some(now_us);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, TimestampMicrosecondArray};

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn with_row(event_time_us: i64, append_time_us: i64) -> PartitionWatermark {
        let mut partition = PartitionWatermark::default();
        let times = TimestampMicrosecondArray::from(vec![event_time_us]);
        partition.observe_rows(7, append_time_us, &times, &Int32Array::from(vec![0]), &mut Vec::new());
        partition
    }

    #[test]
    fn a_partition_that_never_had_a_row_is_idle_at_once() {
        let mut schedule = ClockSchedule::default();
        let partition = PartitionWatermark::default();
        let expected = Control::Clock { base_offset: -1, event_time_us: None, idle: true };
        assert_eq!(schedule.due(&partition, 5), Some(expected));
        schedule.written(5);
        assert_eq!(schedule.due(&partition, 5 + 9 * SECOND), None);
        assert!(schedule.due(&partition, 5 + 10 * SECOND).is_some());
    }

    #[test]
    fn event_time_advances_by_elapsed_append_time() {
        let mut schedule = ClockSchedule::default();
        let partition = with_row(100 * SECOND, 5_000 * SECOND);
        assert_eq!(schedule.due(&partition, 5_000 * SECOND + SECOND - 1), None);
        let clock = |elapsed: i64, idle| {
            Some(Control::Clock { base_offset: 7, event_time_us: Some((100 + elapsed) * SECOND), idle })
        };
        assert_eq!(schedule.due(&partition, 5_001 * SECOND), clock(1, false));
        schedule.written(5_001 * SECOND);
        assert_eq!(schedule.due(&partition, 5_001 * SECOND + 1), None);
        assert_eq!(schedule.due(&partition, 5_029 * SECOND), clock(29, false));
        assert_eq!(schedule.due(&partition, 5_030 * SECOND), clock(30, true));
    }

    #[test]
    fn an_idle_partition_ticks_every_ten_seconds_and_wakes_on_a_row() {
        let schedule = ClockSchedule::default();
        let mut partition = with_row(100 * SECOND, 0);
        partition.observe_clock(30 * SECOND, 7, Some(130 * SECOND), true);
        assert_eq!(schedule.next_us(&partition), 40 * SECOND);
        let times = TimestampMicrosecondArray::from(vec![110 * SECOND]);
        partition.observe_rows(9, 33 * SECOND, &times, &Int32Array::from(vec![0]), &mut Vec::new());
        assert_eq!(
            schedule.due(&partition, 34 * SECOND),
            Some(Control::Clock { base_offset: 9, event_time_us: Some(131 * SECOND), idle: false }),
            "time goes on from where the clock had carried it"
        );
    }

    #[test]
    fn a_clock_that_goes_back_writes_nothing() {
        let schedule = ClockSchedule::default();
        assert_eq!(schedule.due(&with_row(100 * SECOND, 5_000 * SECOND), 10), None);
    }
}
