//! Event time: how far a partition has come, and how far several have come together.
//!
//! - [`PartitionWatermark`]: the largest unflagged event time of a partition, moved on in silence by clock records.
//! - [`MergedWatermark`]: the minimum over the sources that count.
//!
//! Both are plain data that only move forward; neither reads a clock.

mod merged;
mod partition;

pub use merged::{MergedWatermark, SourceWatermark};
pub use partition::{LastRow, PartitionWatermark};

/// A partition counts as idle once it has had no row for this long, in microseconds.
pub const IDLE_AFTER_US: i64 = 30_000_000;
/// A source further behind the furthest one than this is not waited for, in microseconds.
pub const MAX_BEHIND_US: i64 = 5 * 60 * 1_000_000;
/// Time between clock records of a silent partition that is not idle yet, in microseconds. Also the resolution at which
/// progress without a closing is passed on.
pub const CLOCK_PERIOD_US: i64 = 1_000_000;
/// Time between clock records of an idle partition, in microseconds.
pub const IDLE_CLOCK_PERIOD_US: i64 = 10_000_000;
