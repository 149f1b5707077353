//! The windows of one rollup in one stage-2 task, and what becomes of them.
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
//! Every arrow to *closed* is a closing: the first is revision 0, each later one the next. A closed window keeps its partials, packed, so that a
//! later row is folded with those before it. Of windows that are gone only the span of time is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use highwater_pipeline::runtime::ProcessorError;
use serde::{Deserialize, Serialize};

use super::closing;
use super::plan::RollupPlan;
use super::spans::Spans;
use crate::frames;

/// A late window closes once this much append time has passed without another row for it, in microseconds.
pub(super) const QUIET_US: i64 = 10_000_000;
/// A source with more batches than this in one window has them merged into one.
const MAX_BATCHES: usize = 16;
/// What a batch costs beside its rows, in rows: a window of one row is mostly overhead.
const BATCH_WEIGHT: usize = 16;
/// What a packed window costs beside its bytes.
const PACKED_BYTES: usize = 256;

/// The windows of one rollup.
pub(super) struct Folding {
    pub(super) plan: Arc<RollupPlan>,
    /// True where a rule reads it.
    pub(super) to_rules: bool,
    sources: usize,
    /// All windows that have partials, by their start.
    windows: BTreeMap<i64, Window>,
    /// Starts of the open ones.
    open: BTreeSet<i64>,
    /// Of the late ones, when the last row for it came, and their starts.
    late: BTreeSet<(i64, i64)>,
    /// Of the closed ones, when they were, and their starts.
    closed: BTreeSet<(i64, i64)>,
    gone: Spans,
    counts: Counts,
    weight: usize,
    packed_bytes: usize,
}

/// Since the start of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Rows that came for a window behind the watermark and are in its next revision.
    pub(super) late_rows: u64,
    /// Rows that came for a window that was gone.
    pub(super) too_late_rows: u64,
    /// Closings after the first.
    pub(super) corrections: u64,
    /// Windows whose partials were dropped before their time, for want of memory.
    pub(super) forgotten_windows: u64,
}

struct Window {
    phase: Phase,
    /// Of its next closing.
    revision: i32,
    partials: Partials,
}

/// Times are append times, Unix microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// Waits for the watermark.
    Open,
    /// Waits for rows to cease; the last one came at this time.
    Late(i64),
    /// Closed at this time.
    Closed(i64),
}

enum Partials {
    /// Per source, in source order, its partials in the order they came.
    Loose(Vec<Vec<RecordBatch>>),
    Packed(Packed),
}

/// One partial per source, as one Arrow IPC stream.
struct Packed {
    /// Rows of each source, in source order.
    rows: Vec<usize>,
    stream: Bytes,
}

/// A closing: what its window comes to.
pub(super) struct Closing {
    pub(super) window_us: i64,
    pub(super) revision: i32,
    pub(super) rows: RecordBatch,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    counts: Counts,
    width_us: i64,
    gone: Spans,
    windows: Vec<Saved>,
}

/// A window in a snapshot; its batches are the frames that follow, in order.
#[derive(Serialize, Deserialize)]
struct Saved {
    window_us: i64,
    phase: Phase,
    revision: i32,
    held: Held,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Held {
    /// A frame per batch: the index of its source.
    Loose(Vec<usize>),
    /// One frame: rows of each source.
    Packed(Vec<usize>),
}

impl Folding {
    /// With no windows yet, of this many sources.
    pub(super) fn new(plan: Arc<RollupPlan>, to_rules: bool, sources: usize) -> Self {
        Self {
            plan,
            to_rules,
            sources,
            windows: BTreeMap::new(),
            open: BTreeSet::new(),
            late: BTreeSet::new(),
            closed: BTreeSet::new(),
            gone: Spans::default(),
            counts: Counts::default(),
            weight: 0,
            packed_bytes: 0,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// What its open and late windows weigh, in rows.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// What its closed windows take.
    pub(super) fn packed_bytes(&self) -> usize {
        self.packed_bytes
    }

    /// Takes one source's partial of a window that came at `now_us`, `rows` rows in all. `late` says that the watermark has passed the window.
    pub(super) fn take(
        &mut self,
        source: usize,
        window_us: i64,
        partial: RecordBatch,
        rows: u64,
        late: bool,
        now_us: i64,
    ) -> Result<(), ProcessorError> {
        if !self.windows.contains_key(&window_us) {
            if self.gone.overlaps(window_us, window_us.saturating_add(self.plan.width_us)) {
                self.counts.too_late_rows += rows;
                return Ok(());
            }
            let phase = if late { Phase::Late(now_us) } else { Phase::Open };
            let partials = Partials::Loose(vec![Vec::new(); self.sources]);
            self.windows.insert(window_us, Window { phase, revision: 0, partials });
        }
        if late {
            self.counts.late_rows += rows;
        }
        let Some(window) = self.windows.get_mut(&window_us) else { return Ok(()) };
        match window.phase {
            Phase::Open => {
                self.open.insert(window_us);
            }
            Phase::Late(since_us) => {
                self.late.remove(&(since_us, window_us));
            }
            Phase::Closed(since_us) => {
                self.closed.remove(&(since_us, window_us));
            }
        }
        if window.phase != Phase::Open {
            window.phase = Phase::Late(now_us);
            self.late.insert((now_us, window_us));
        }
        if let Partials::Packed(packed) = &window.partials {
            self.packed_bytes -= packed.size_bytes();
            let sources = packed.unpack(&self.plan)?;
            self.weight += sources.iter().flatten().map(weight).sum::<usize>();
            window.partials = Partials::Loose(sources);
        }
        let Partials::Loose(sources) = &mut window.partials else { return Ok(()) };
        let kept = &mut sources[source];
        self.weight += weight(&partial);
        kept.push(partial);
        if kept.len() > MAX_BATCHES {
            self.weight -= kept.iter().map(weight).sum::<usize>();
            let merged = closing::merge(&self.plan, kept, window_us).map_err(|e| self.plan.cannot_fold(e))?;
            self.weight += weight(&merged);
            *kept = vec![merged];
        }
        Ok(())
    }

    /// The first open window that this watermark closes.
    pub(super) fn reached(&self, merged_us: i64) -> Option<i64> {
        self.open.first().copied().filter(|&window_us| self.plan.closes_us(window_us) <= merged_us)
    }

    /// The late window that has been without a row for longest, if that is long enough at `now_us`.
    pub(super) fn quiet(&self, now_us: i64) -> Option<i64> {
        self.longest_quiet().filter(|&(since_us, _)| since_us.saturating_add(QUIET_US) <= now_us).map(|(_, w)| w)
    }

    /// The late window that has been without a row for longest: since when, and its start.
    pub(super) fn longest_quiet(&self) -> Option<(i64, i64)> {
        self.late.first().copied()
    }

    /// The window that has been closed for longest: since when, and its start.
    pub(super) fn longest_closed(&self) -> Option<(i64, i64)> {
        self.closed.first().copied()
    }

    /// Drops the partials of the windows that were closed a horizon ago.
    pub(super) fn pass(&mut self, now_us: i64) {
        while let Some((since_us, window_us)) = self.longest_closed()
            && since_us.saturating_add(self.plan.horizon_us) <= now_us
        {
            self.drop_closed(since_us, window_us);
        }
    }

    /// Drops the partials of a closed window before its time.
    pub(super) fn forget(&mut self, since_us: i64, window_us: i64) {
        self.drop_closed(since_us, window_us);
        self.counts.forgotten_windows += 1;
    }

    fn drop_closed(&mut self, since_us: i64, window_us: i64) {
        self.closed.remove(&(since_us, window_us));
        if let Some(Window { partials: Partials::Packed(packed), .. }) = self.windows.remove(&window_us) {
            self.packed_bytes -= packed.size_bytes();
        }
        if self.gone.insert(window_us, window_us.saturating_add(self.plan.width_us)) {
            tracing::warn!(rollup = %self.plan.name,
                "closed windows lie too far apart to be remembered one by one; windows between some of them count as gone as well");
        }
    }

    /// Closes a window that is open or late.
    pub(super) fn close(&mut self, window_us: i64, now_us: i64) -> Result<Option<Closing>, ProcessorError> {
        let Some(window) = self.windows.get_mut(&window_us) else { return Ok(None) };
        let Partials::Loose(sources) = &window.partials else { return Ok(None) };
        let mut partials = Vec::with_capacity(sources.len());
        for partial in sources {
            // One partial per source before the sources are folded, so that it is nothing when they were merged.
            partials.push(closing::merge(&self.plan, partial, window_us).map_err(|e| self.plan.cannot_fold(e))?);
        }
        let rows =
            closing::close(&self.plan, &partials, window_us, window.revision).map_err(|e| self.plan.cannot_fold(e))?;
        let closing = Closing { window_us, revision: window.revision, rows };
        self.weight -= sources.iter().flatten().map(weight).sum::<usize>();
        let packed = Packed::new(&self.plan, &partials)?;
        self.packed_bytes += packed.size_bytes();
        window.partials = Partials::Packed(packed);
        match window.phase {
            Phase::Late(since_us) => self.late.remove(&(since_us, window_us)),
            Phase::Open | Phase::Closed(_) => self.open.remove(&window_us),
        };
        window.phase = Phase::Closed(now_us);
        self.closed.insert((now_us, window_us));
        self.counts.corrections += u64::from(window.revision > 0);
        window.revision = window.revision.saturating_add(1);
        Ok(Some(closing))
    }

    /// Its section of a snapshot.
    pub(super) fn write(&self) -> Result<Bytes, ProcessorError> {
        let mut windows = Vec::with_capacity(self.windows.len());
        let mut streams: Vec<Bytes> = Vec::with_capacity(self.windows.len());
        for (&window_us, window) in &self.windows {
            let held = match &window.partials {
                Partials::Packed(packed) => {
                    streams.push(packed.stream.clone());
                    Held::Packed(packed.rows.clone())
                }
                Partials::Loose(sources) => {
                    let mut of = Vec::new();
                    for (source, batches) in sources.iter().enumerate() {
                        for batch in batches {
                            of.push(source);
                            streams.push(frames::stream(batch)?);
                        }
                    }
                    Held::Loose(of)
                }
            };
            windows.push(Saved { window_us, phase: window.phase, revision: window.revision, held });
        }
        let (counts, width_us, gone) = (self.counts, self.plan.width_us, self.gone.clone());
        let manifest = Manifest { counts, width_us, gone, windows };
        frames::encode_streams(&manifest, &streams)
    }

    /// Takes over what [`Self::write`] wrote.
    pub(super) fn restore(&mut self, body: &Bytes) -> Result<(), ProcessorError> {
        let incomplete = || ProcessorError::new(format!("state of rollup {} is incomplete", self.plan.name));
        let (manifest, streams): (Manifest, Vec<&[u8]>) = frames::decode_streams(body)?;
        let mut streams = streams.into_iter();
        (self.counts, self.gone) = (manifest.counts, manifest.gone);
        for Saved { window_us, phase, revision, held } in manifest.windows {
            let partials = match held {
                Held::Packed(rows) if rows.len() == self.sources => {
                    let stream = Bytes::copy_from_slice(streams.next().ok_or_else(incomplete)?);
                    let packed = Packed { rows, stream };
                    self.packed_bytes += packed.size_bytes();
                    Partials::Packed(packed)
                }
                Held::Packed(_) => return Err(incomplete()),
                Held::Loose(of) => {
                    let mut sources = vec![Vec::new(); self.sources];
                    for source in of {
                        let batch = frames::batch(streams.next().ok_or_else(incomplete)?)?;
                        self.weight += weight(&batch);
                        sources.get_mut(source).ok_or_else(incomplete)?.push(batch);
                    }
                    Partials::Loose(sources)
                }
            };
            match phase {
                Phase::Open => self.open.insert(window_us),
                Phase::Late(since_us) => self.late.insert((since_us, window_us)),
                Phase::Closed(since_us) => self.closed.insert((since_us, window_us)),
            };
            self.windows.insert(window_us, Window { phase, revision, partials });
        }
        if streams.next().is_some() {
            return Err(incomplete());
        }
        Ok(())
    }

    /// Starts anew after the state of another definition of this rollup: windows of which that one has written rows are gone.
    pub(super) fn start_after(&mut self, body: &Bytes) {
        let Ok((Manifest { width_us, gone, windows, .. }, _)) = frames::decode_streams(body) else {
            tracing::warn!(rollup = %self.plan.name, "the state before the change is of an older version: rows for windows closed then start them anew");
            return;
        };
        self.gone = gone;
        for Saved { window_us, .. } in windows.into_iter().filter(|window| window.revision > 0) {
            self.gone.insert(window_us, window_us.saturating_add(width_us));
        }
    }
}

impl Packed {
    fn new(plan: &RollupPlan, partials: &[RecordBatch]) -> Result<Self, ProcessorError> {
        let rows = partials.iter().map(RecordBatch::num_rows).collect();
        let all = concat_batches(&plan.partial_schema, partials).map_err(|e| plan.cannot_fold(e.into()))?;
        Ok(Self { rows, stream: frames::stream(&all)? })
    }

    fn unpack(&self, plan: &RollupPlan) -> Result<Vec<Vec<RecordBatch>>, ProcessorError> {
        let all = frames::batch(&self.stream)?;
        if self.rows.iter().sum::<usize>() != all.num_rows() {
            return Err(ProcessorError::new(format!("a closed window of rollup {} is incomplete", plan.name)));
        }
        let mut from = 0;
        let parts = self.rows.iter().map(|&rows| {
            let part = all.slice(from, rows);
            from += rows;
            if rows == 0 { Vec::new() } else { vec![part] }
        });
        Ok(parts.collect())
    }

    fn size_bytes(&self) -> usize {
        self.stream.len() + PACKED_BYTES
    }
}

fn weight(batch: &RecordBatch) -> usize {
    batch.num_rows() + BATCH_WEIGHT
}
