//! What a task's input topic holds.

use crate::data::{Decoder, RowKind};

/// How the records of a task's input topic are read.
#[derive(Debug, Clone)]
pub enum InputKind {
    /// Rows of a table that anybody may write (`logs`, `metrics`). The task keeps the partition's watermark, dead-letters what
    /// cannot be read, and writes clock records in silence.
    Table(RowKind),
    /// A stage topic that only tasks write: [`super::StageRows`] and progress.
    Stage,
    /// A topic that only tasks write, whose records ask for stored rows: [`super::SliceRequest`].
    Slices,
}

/// The reader behind an [`InputKind`].
pub(super) enum Reader {
    Table(Box<Decoder>),
    Stage,
    Slices,
}

impl Reader {
    pub(super) fn new(kind: &InputKind) -> Self {
        match kind {
            InputKind::Table(kind) => Self::Table(Box::new(Decoder::new(kind.clone()))),
            InputKind::Stage => Self::Stage,
            InputKind::Slices => Self::Slices,
        }
    }
}
