//! All that a partition remembers beside its records: a function of the log, kept in snapshots so that only the tail has to be read.

use super::guard_state::GuardState;
use super::producers::Producers;

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PartitionState {
    /// Of Highwater's own appends.
    pub(super) guard: GuardState,
    /// Of Kafka's producers.
    pub(super) producers: Producers,
}

impl PartitionState {
    pub(super) fn new(max_keys: usize) -> Self {
        Self { guard: GuardState::new(max_keys), producers: Producers::default() }
    }
}
