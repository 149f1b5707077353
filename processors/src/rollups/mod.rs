//! Rollups: windows in SQL.
//!
//! A rollup is a `SELECT ... GROUP BY tumble(timestamp, INTERVAL '...'), ...` over `logs` or `metrics`, or over another rollup. DataFusion parses, plans and
//! checks it ([`RollupPlan`]) and its group values and accumulators hold the state ([`groups`]); the windows are ours.
//!
//! Two stages, so that a window holds rows of all partitions of its topic:
//!
//! 1. [`PartialsProcessor`], one per input partition: accumulates each open window. When the partition's watermark reaches the window's end
//!    plus lateness, the accumulators' states go to `__highwater.partials`, partitioned by group. Rows that come
//!    for such a window later are *supplements*; they follow at the next second of event time.
//! 2. [`FoldProcessor`], one per partition of `__highwater.partials`: keeps the partials of each source apart. When the merged watermark
//!    reaches the window's end plus lateness, it folds them in the order of the source partitions and emits the rows. It keeps them
//!    ([`folding`]): what comes later opens the window again, and its next closing replaces the one before.
//!
//! Invariants:
//! - The tenant is part of every group.
//! - Within a source, a group's state has seen its rows in log order; across sources, partials are folded in partition order. So the result is
//!   the same to the bit, however the records arrive.
//! - The last revision of a window holds every row that ever came for it, but those counted as too late: rows whose window's partials were
//!   dropped, a day of append time after its last closing. A row is never folded into another window.

mod backfill;
mod built_in;
mod chain;
mod closing;
mod config;
mod explain;
mod extremes;
pub(crate) mod filling;
mod fixed;
mod fold;
mod folding;
mod fragments;
mod groups;
mod mergeable;
mod panes;
mod partials;
mod place;
mod plan;
mod planner;
mod prepared;
mod rewrite;
mod session_state;
mod sessions;
mod spans;
mod variance;
mod windows;

pub use backfill::BackfillProcessor;
pub use built_in::{built_in, built_in_names};
pub use config::{LatePolicy, RollupConfig};
pub(crate) use config::{default_backfill, default_horizon};
pub use fold::{FoldLimits, FoldProcessor, FoldTopics};
pub use partials::PartialsProcessor;
pub use plan::{RollupPlan, Source};
pub(crate) use planner::reads;

#[cfg(test)]
mod explosion_tests;
#[cfg(test)]
mod tests;
