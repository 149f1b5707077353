//! What stage 2 does with the partials of one rollup: the trait, and what its two kinds have in common.
//!
//! ```text
//!            watermark past end + lateness              10 s of append time with no row for it
//!   open ─────────────────────────────────► closed ◄──────────────────────────────────────── late
//!                                            │  │  a row for it                                ▲ ▲
//!                     horizon of append time │  └──────────────────────────────────────────────┘ │
//!                                            ▼                       first row, behind the watermark
//!                                           gone: rows for it are too late
//! ```
//!
//! Every arrow to *closed* is a closing: the first is revision 0, each later one the next. A closed window keeps its partials, so that a
//! later row is folded with those before it. Of windows that are gone only the span of time is kept. Where late rows are dropped
//! ([`LatePolicy`](super::LatePolicy)), a window is open and then gone, and the watermark alone says which.

use std::io;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_pipeline::runtime::snapshot::Section;
use highwater_pipeline::runtime::{ProcessorError, Scratch};
use serde::{Deserialize, Serialize};

use super::fixed::FixedWindows;
use super::plan::RollupPlan;
use super::sessions::Sessions;
use super::spans::Spans;
use super::windows::Windows;
use crate::frames::{self, Framed};

/// A late window closes once this much append time has passed without another row for it, in microseconds.
pub(super) const QUIET_US: i64 = 10_000_000;

/// The windows of one rollup in one stage-2 task. Times are Unix microseconds; `now_us` is append time, `merged_us` the merged watermark.
pub(super) trait Folding: Send {
    fn counts(&self) -> Counts;

    /// What its open and late windows take.
    fn open_bytes(&self) -> usize;

    /// Of that, what can be packed.
    fn loose_bytes(&self) -> usize;

    /// Packs the largest part of that. False where there is none.
    fn pack_largest(&mut self) -> Result<bool, ProcessorError>;

    /// What of its packed partials is in memory, of open and closed windows alike.
    fn packed_in_memory_bytes(&self) -> usize;

    /// Puts so much of that aside, the largest panes first; or all of it.
    fn put_aside(&mut self, scratch: &dyn Scratch, bytes: usize) -> io::Result<()>;

    /// Whether what it keeps stays in memory whatever is put aside.
    fn stays_in_memory(&self) -> bool;

    /// How many rows of partials are folded at once where a window has many.
    fn fold_in(&mut self, bucket_rows: usize);

    /// What its closed windows take.
    fn kept_bytes(&self) -> usize;

    /// Takes one source's partial of a pane, `rows` rows in all.
    fn take(&mut self, partial: Partial, merged_us: Option<i64>, now_us: i64) -> Result<(), ProcessorError>;

    /// What this source has sent for a pane holds no more, as its windows below were closed again; what follows takes its place.
    fn retract(
        &mut self,
        source: usize,
        pane_us: i64,
        merged_us: Option<i64>,
        now_us: i64,
    ) -> Result<(), ProcessorError>;

    /// Closes what this watermark has reached, all of it or the first part.
    fn close_reached(&mut self, merged_us: i64, now_us: i64) -> Result<Option<Closing>, ProcessorError>;

    /// Closes what has been quiet for long enough, all of it or the first part.
    fn close_quiet(&mut self, now_us: i64) -> Result<Option<Closing>, ProcessorError>;

    /// Since when the late window has been without a row that has been so for longest, and its start.
    fn longest_quiet(&self) -> Option<(i64, i64)>;

    /// Closes that one before its time.
    fn close_quietest(&mut self, now_us: i64) -> Result<Option<Closing>, ProcessorError>;

    /// Since when the window has been closed that has been so for longest, and its start.
    fn longest_closed(&self) -> Option<(i64, i64)>;

    /// Drops its partials before their time.
    fn forget_longest_closed(&mut self);

    /// Drops the partials of the windows that were closed a horizon ago.
    fn pass(&mut self, now_us: i64);

    /// Its section of a snapshot.
    fn write(&self) -> Result<Framed, ProcessorError>;

    /// Takes over what [`Self::write`] wrote.
    fn restore(&mut self, section: &Section) -> Result<(), ProcessorError>;

    /// Starts anew after the state of another definition of this rollup: windows of which that one has written rows are gone, or to be replaced where
    /// the rollup is filled with what was before.
    fn start_after(&mut self, body: &Bytes, is_filled: bool);

    /// The rows that it is filled with begin here: what another definition has written of windows before is left as it is.
    fn filled_from(&mut self, from_us: i64);
}

/// Windows as the plan has them, with no partials yet, of this many sources.
pub(super) fn new(plan: Arc<RollupPlan>, sources: usize) -> Box<dyn Folding> {
    match plan.windows {
        Windows::Fixed { slide_us, size_us, .. } => Box::new(FixedWindows::new(plan, slide_us, size_us, sources)),
        Windows::Session { gap_us, .. } => Box::new(Sessions::new(plan, gap_us, sources)),
    }
}

/// The windows that another definition of a rollup has written rows of, from its state: for this one they are gone.
pub(super) fn gone_after(plan: &RollupPlan, body: &Bytes) -> Written {
    #[derive(Deserialize)]
    struct Window {
        window_us: i64,
        revision: i32,
    }
    #[derive(Deserialize)]
    struct Before {
        gone: Spans,
        /// Of sessions: the time of all that have rows.
        #[serde(default)]
        written: Spans,
        /// Of fixed windows: those there are, and how far apart.
        #[serde(default)]
        width_us: i64,
        #[serde(default)]
        windows: Vec<Window>,
    }
    let Ok((Before { mut gone, written, width_us, windows }, _)) = frames::decode_streams(body) else {
        tracing::warn!(rollup = %plan.name, "the state before the change is of an older version: rows for windows closed then start them anew");
        return Written { spans: Spans::default(), slide_us: 0 };
    };
    for Window { window_us, .. } in windows.into_iter().filter(|window| window.revision > 0) {
        gone.insert(window_us, window_us.saturating_add(width_us));
    }
    for (start_us, end_us) in Vec::from(written) {
        gone.insert(start_us, end_us);
    }
    Written { spans: gone, slide_us: width_us }
}

/// The windows that a definition has written rows of.
pub(super) struct Written {
    pub(super) spans: Spans,
    /// From one's start to the next; 0 where they are sessions.
    pub(super) slide_us: i64,
}

/// What one source has for one pane.
pub(super) struct Partial {
    pub(super) source: usize,
    pub(super) pane_us: i64,
    pub(super) batch: RecordBatch,
    /// How many rows went into it.
    pub(super) rows: u64,
}

/// Since the start of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Rows that came for a window behind the watermark and are in its next revision.
    pub(super) late_rows: u64,
    /// Rows that came for a window that was gone: beyond the correction horizon.
    pub(super) too_late_rows: u64,
    /// Rows that came for a closed window where late rows are dropped.
    #[serde(default)]
    pub(super) dropped_rows: u64,
    /// Closings after the first.
    pub(super) corrections: u64,
    /// Windows whose partials were dropped before their time, for want of memory.
    pub(super) forgotten_windows: u64,
}

/// Where a window stands. Times are append times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Waits for the watermark.
    Open,
    /// Waits for rows to cease; the last one came at this time.
    Late(i64),
    /// Closed at this time.
    Closed(i64),
}

/// A closing: what windows come to.
pub(super) struct Closing {
    /// Starts whose rows so far hold no more, and the revision of those that follow.
    pub(super) superseded: Vec<(i64, i32)>,
    pub(super) rows: RecordBatch,
    /// Which part of a closing it is, where there are several.
    pub(super) part: i64,
}
