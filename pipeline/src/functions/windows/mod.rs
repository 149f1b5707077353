//! Window functions: how rows are grouped by stretches of event time.
//!
//! | in `GROUP BY` | a row's windows |
//! |---|---|
//! | `tumble(timestamp, width)` | one: of this width, aligned to the Unix epoch |
//! | `hop(timestamp, slide, size)` | all that span it: one begins every slide, each is `size` wide, aligned to the epoch |
//! | `session(timestamp, gap)` | one: the rows of its group with less than the gap between each and the next |
//!
//! The value is the window's start. `tumble` is a function of its arguments alone and may stand anywhere; the other two stand in `GROUP BY`, where
//! [`InGroupBy`] turns them into what a query engine can run. Rollups keep them, and have their own way to the same rows.

mod grouped;
mod hop;
mod in_group_by;
mod session;
mod tumble;

pub use grouped::{HOP, SESSION};
pub use hop::hop_starts_us;
pub use in_group_by::InGroupBy;
pub use tumble::{TUMBLE, Tumble, tumble, tumble_start_us, tumble_width_us};

pub(super) use grouped::GroupedWindow;
