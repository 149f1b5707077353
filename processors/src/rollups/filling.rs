//! Filling: a rollup that is new, or edited, takes in the rows that were stored before it began.
//!
//! ```text
//! logs/2:  0 ...... rows below the cut, read from the table ......│cut│...... rows of the log, as they come ......
//! ```
//!
//! The cut of a partition is the first record that its task steps with the new definition. That task asks for the rows below it (topic
//! `__highwater.backfill`), slice by slice in order of event time, and each slice is accumulated like a record of the log, as a source of its own
//! beside the live one: `backfill/logs/2`. So no row is missing and none is there twice, and a crash in the middle repeats a step.
//!
//! Stage 2 closes no window that a slice may still have rows for: for a rollup that is being filled, time is no further than the slices are. So its
//! windows close once, and complete, in the order of time, history first; and what is open meanwhile is one slice and what came live.

use std::collections::BTreeMap;

use highwater_pipeline::runtime::{SliceReader, SliceRequest};
use serde::{Deserialize, Serialize};

use super::plan::RollupPlan;

/// What the sources of stored rows are called, in front of the partition's name.
pub(super) const SOURCE: &str = "backfill/";
/// Width of the first slice that is asked for, microseconds.
pub(crate) const FIRST_WIDTH_US: i64 = 60 * 60 * 1_000_000;

/// How far a rollup is filled, in one stage-2 task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Filling {
    /// By partition of what it reads, e.g. `logs/2`: those that have said anything.
    sources: BTreeMap<String, Filled>,
    /// True once it was settled from when on there are stored rows.
    begun: bool,
}

/// What one of them has said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Filled {
    pub(super) from_us: Option<i64>,
    pub(super) until_us: Option<i64>,
    pub(super) done: bool,
}

impl Filling {
    /// Takes a report.
    pub(super) fn report(&mut self, source: &str, filled: Filled) {
        let known = self.sources.entry(source.to_owned()).or_insert(filled);
        // Only the first slice says where rows begin.
        *known = Filled { from_us: known.from_us.or(filled.from_us), ..filled };
    }

    /// True while stored rows are still to come.
    pub(super) fn is_on(&self) -> bool {
        self.sources.values().any(|source| !source.done)
    }

    /// The watermark that holds for the rollup, where this is that of what it reads.
    pub(super) fn watermark_us(&self, live_us: Option<i64>, plan: &RollupPlan) -> Option<i64> {
        let reached = |source: &Filled| source.until_us.map(|until_us| until_us.saturating_add(plan.lateness_us));
        let filled = self.sources.values().filter(|source| !source.done).map(reached).min();
        match filled {
            None => live_us,
            Some(filled_us) => filled_us.and_then(|filled_us| live_us.map(|live_us| live_us.min(filled_us))),
        }
    }

    /// Once, when all partitions have said it: the event time of the first stored row; `i64::MAX` where there is none.
    pub(super) fn begin(&mut self, partitions: usize) -> Option<i64> {
        let said = |source: &Filled| source.from_us.is_some() || source.done;
        if self.begun || self.sources.len() < partitions || !self.sources.values().all(said) {
            return None;
        }
        self.begun = true;
        Some(self.sources.values().filter_map(|source| source.from_us).min().unwrap_or(i64::MAX))
    }
}

/// The request for the first slice below the cut of a partition.
pub(super) fn first_request(table: &str, partition: i32, cut: i64, plans: &[&RollupPlan]) -> SliceRequest {
    let reader = |plan: &&RollupPlan| SliceReader { name: plan.name.to_string(), definition: hex(plan.definition) };
    SliceRequest {
        table: table.to_owned(),
        topic: None,
        partition,
        below_offset: cut,
        from_us: None,
        width_us: FIRST_WIDTH_US,
        readers: plans.iter().map(reader).collect(),
        series: None,
    }
}

/// A definition's hash as it is written.
pub(crate) fn hex(definition: u64) -> String {
    format!("{definition:016x}")
}
