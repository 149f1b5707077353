//! What a processor is.

use std::error::Error;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use super::chunks::Scratch;
use super::effects::Effects;
use super::history::{Slice, SliceRequest};
use super::snapshot::{StateReader, StateWriter};
use super::stage::StageRows;
use crate::data::Control;

/// Where and when a processor stands: the coordinate and time of the record in hand, which are data and not a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Offset of the record.
    pub position: i64,
    /// Its append time, Unix microseconds.
    pub append_time_us: i64,
    /// The input partition's watermark after the record, Unix microseconds; `None` before its first unflagged row, and
    /// always on stage topics (their time comes in [`Control::Progress`]).
    pub watermark_us: Option<i64>,
    /// True while the input partition is idle.
    pub idle: bool,
}

/// Rows of one input record.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The rows, of the input's table schema.
    pub batch: &'a RecordBatch,
    /// Per row: the partition's watermark once that row is counted, Unix microseconds; `i64::MIN` where there is none yet.
    pub watermarks_us: &'a [i64],
}

/// What happens to a processor.
#[derive(Debug)]
pub enum Input<'a> {
    /// Rows of an input topic (`logs`, `metrics`).
    Rows(Rows<'a>),
    /// Rows of a stage topic, written by another task.
    Stage(StageRows),
    /// Stored rows that a record asked for.
    Slice(&'a SliceRequest, &'a Slice),
    /// Time. A clock record arrives here only if it counts; its effect is already in [`At::watermark_us`].
    Control(&'a Control),
    /// A snapshot is due: write all state. State must be the same afterwards, and writing has no effects.
    Barrier(&'a mut StateWriter),
}

/// A stateful function from records to effects.
///
/// The contract, which the runtime relies on and tests check:
/// - **Pure.** State and effects depend on the inputs alone. No clock, no randomness, no I/O (but for [`Self::use_scratch`]), no iteration order of a hash map.
/// - **Deterministic across restarts.** `restore` of what `Barrier` wrote gives a processor whose every later effect is the same to the byte.
/// - **A failed call is final.** After an `Err` or a panic the state is not used again.
pub trait Processor: Send {
    /// Takes one input; pushes what it causes, in order, into `effects`.
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError>;

    /// Where it may put state aside. Called at most once, before [`Self::restore`]. What is there and what is in memory changes no effect.
    fn use_scratch(&mut self, _scratch: &Arc<dyn Scratch>) {}

    /// Takes over the state that a [`Input::Barrier`] wrote. Called once, before the first input. Sections whose
    /// definition has changed since are to be left out: that part starts anew.
    fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError>;

    /// The watermark this processor has merged from its sources, for status and metrics; `None` where it merges none.
    fn merged_watermark_us(&self) -> Option<i64> {
        None
    }
}

/// Why a processor could not go on.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct ProcessorError {
    context: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ProcessorError {
    /// An error with no cause below it; `context` says what was wrong and where.
    pub fn new(context: impl Into<String>) -> Self {
        Self { context: context.into(), source: None }
    }

    /// An error with its cause.
    pub fn caused(context: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { context: context.into(), source: Some(source.into()) }
    }
}
