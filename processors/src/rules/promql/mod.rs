//! Rules in PromQL.
//!
//! - [`GroupPlan`], [`PromRule`]: rules, planned. No state.
//! - [`Head`]: the samples that they look at.
//! - [`GroupState`]: alerts and recorded series; [`GroupState::evaluate`] is one evaluation.
//! - [`timing`], [`watch`]: which of them have to be evaluated at a tick, by what has come and what goes out of sight.
//! - [`look_back`], [`stored`]: what a new rule sees of the time before it.
//! - [`shards`]: which task evaluates a group; [`moved`]: what happens where that becomes another one.
//! - [`ticks`]: the part of a rules task that evaluates them as event time goes on; [`router`]: how samples get there.

mod alerts;
mod board;
mod group;
mod head;
#[cfg(test)]
mod incremental_tests;
mod look_back;
#[cfg(test)]
mod look_back_tests;
pub(super) mod moved;
mod plan;
mod recorded;
pub(crate) mod router;
mod saved;
mod selector_index;
mod shards;
mod silent;
mod statement;
pub(crate) mod stored;
mod taken;
pub(crate) mod ticks;
mod timing;
mod watch;

pub use alerts::Alert;
pub use board::{Boards, Shown, boards};
pub use group::{GroupState, RuleState};
pub use head::{Coordinate, Head};
pub use plan::{Environment, GroupPlan, Kind, PromRule};
pub(crate) use plan::{Selectors, hash_of};
pub(crate) use shards::Shards;
pub use silent::ALERTNAME as SELECTS_NOTHING;
pub(super) use silent::{annotations as nothing_texts, labels as nothing_labels};
