//! The task of a topic that no rollup and no rule reads. The runtime does for it what it does for every task on a table's topic: dead letters and
//! clock records.

use highwater_pipeline::runtime::snapshot::StateReader;
use highwater_pipeline::runtime::{At, Effects, Input, Processor, ProcessorError};

/// Takes everything and says nothing.
pub(crate) struct Unread;

impl Processor for Unread {
    fn process(&mut self, _at: At, _input: Input<'_>, _effects: &mut Effects) -> Result<(), ProcessorError> {
        Ok(())
    }

    fn restore(&mut self, _state: &StateReader) -> Result<(), ProcessorError> {
        Ok(())
    }
}
