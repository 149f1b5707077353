//! The windows of `session` in one stage-2 task: one per group, from its first row to the gap past its last.
//!
//! A *fragment* is what one source has of one group in one pane: a row of a partial. Fragments of a group that lie less than the gap apart are one
//! session; a fragment that comes late may join two that were closed. What that means for the rows they were closed with:
//!
//! - A session's rows stand under its start. When a session closes, every start under which rows of its parts stand is superseded, and the sessions of
//!   other groups that stand under those starts are written again behind the marker, as the marker speaks of a start and not of a group.
//! - So the session that two were joined to supersedes both, and is written under the earlier start; one that got an earlier first row supersedes its
//!   old start and stands under the new one.
//! - The revision is that of the start: how often its rows were superseded. All rows that hold under one start have the same.
//!
//! Fragments are folded per source in the order they came, then source by source, so that it is nothing how sources took turns.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use datafusion::common::Result as DataFusionResult;
use highwater_pipeline::runtime::snapshot::Section;
use highwater_pipeline::runtime::{Chunk, ProcessorError, Scratch};
use serde::{Deserialize, Serialize};

use super::closing;
use super::config::LatePolicy;
use super::folding::{Closing, Counts, Folding, Partial, Phase, QUIET_US, gone_after};
use super::fragments::{Fragment, Fragments};
use super::plan::RollupPlan;
use super::session_state::{self, Saved};
use super::spans::Spans;
use crate::frames::{self, Framed};

/// What a session costs beside its fragments, in rows.
const SESSION_WEIGHT: usize = 4;
/// What a fragment of an open session counts as.
const FRAGMENT_BYTES: usize = 128;
/// What a closed session costs beside its fragments.
const SESSION_BYTES: usize = 256;
/// A session of more fragments than this has those of each source folded into one: a group that is never silent has one session for ever. Parts joined
/// after that are folded as they were then, which sums of floats can show in their last bits.
const MAX_FRAGMENTS: usize = 1_024;

/// A group's columns, comparable and hashable as bytes.
type Key = Arc<[u8]>;
/// A session: its start and its group.
type Name = (i64, Key);

/// The sessions of one rollup.
pub(super) struct Sessions {
    plan: Arc<RollupPlan>,
    gap_us: i64,
    sources: usize,
    /// By group and start. Sessions of one group lie at least the gap apart.
    groups: BTreeMap<Key, BTreeMap<i64, Session>>,
    /// Of the open ones, when they close, their starts and groups.
    open: BTreeSet<(i64, i64, Key)>,
    /// Of the late ones, when the last row for it came, their starts and groups.
    late: BTreeSet<(i64, i64, Key)>,
    /// Of the closed ones, when they were, their starts and groups.
    closed: BTreeSet<(i64, i64, Key)>,
    starts: BTreeMap<i64, Start>,
    /// The time that sessions took which are gone, of whatever group.
    gone: Spans,
    counts: Counts,
    weight: usize,
    kept_bytes: usize,
    /// Fragments that ever came.
    arrived: i64,
    fragments: Fragments,
}

/// A session that is not gone.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// The time of its last row.
    pub(super) last_us: i64,
    pub(super) phase: Phase,
    pub(super) fragments: Vec<Fragment>,
    /// Starts under which rows of it, or of what it was joined from, stand.
    pub(super) written: Vec<i64>,
}

/// All sessions that begin at one instant.
#[derive(Default)]
struct Start {
    /// Of the rows that stand under it.
    revision: i32,
    /// How many sessions begin here.
    sessions: usize,
    /// Groups of the closed ones.
    closed: BTreeSet<Key>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    counts: Counts,
    gone: Spans,
    /// The time that sessions took which have rows, those that are gone included: for another definition.
    written: Spans,
    arrived: i64,
    /// Starts whose rows were superseded, and how often.
    revisions: Vec<(i64, i32)>,
}

impl Sessions {
    pub(super) fn new(plan: Arc<RollupPlan>, gap_us: i64, sources: usize) -> Self {
        Self {
            plan,
            gap_us,
            sources,
            groups: BTreeMap::new(),
            open: BTreeSet::new(),
            late: BTreeSet::new(),
            closed: BTreeSet::new(),
            starts: BTreeMap::new(),
            gone: Spans::default(),
            counts: Counts::default(),
            weight: 0,
            kept_bytes: 0,
            arrived: 0,
            fragments: Fragments::default(),
        }
    }

    /// The starts of the group's sessions that lie less than the gap from these times.
    fn near(&self, key: &Key, first_us: i64, last_us: i64) -> Vec<i64> {
        let Some(sessions) = self.groups.get(key) else { return Vec::new() };
        let before = sessions.range(..last_us.saturating_add(self.gap_us)).rev();
        let near = before.take_while(|(_, session)| first_us < session.last_us.saturating_add(self.gap_us));
        near.map(|(&start_us, _)| start_us).collect()
    }

    fn is_open(&self, start_us: i64, key: &Key) -> bool {
        self.groups.get(key).and_then(|s| s.get(&start_us)).is_some_and(|s| s.phase == Phase::Open)
    }

    /// Puts a session in its place.
    fn insert(&mut self, start_us: i64, key: &Key, session: Session) {
        let start = self.starts.entry(start_us).or_default();
        start.sessions += 1;
        let name = |at_us| (at_us, start_us, Arc::clone(key));
        match session.phase {
            Phase::Open => {
                self.open.insert(name(self.plan.session_closes_us(session.last_us)));
            }
            Phase::Late(since_us) => {
                self.late.insert(name(since_us));
            }
            Phase::Closed(since_us) => {
                self.closed.insert(name(since_us));
                start.closed.insert(Arc::clone(key));
            }
        }
        match session.phase {
            Phase::Closed(_) => self.kept_bytes += session.size_bytes(),
            _ => self.weight += session.weight(),
        }
        self.groups.entry(Arc::clone(key)).or_default().insert(start_us, session);
    }

    /// Takes a session out of its place.
    fn remove(&mut self, start_us: i64, key: &Key) -> Option<Session> {
        let sessions = self.groups.get_mut(key)?;
        let session = sessions.remove(&start_us)?;
        if sessions.is_empty() {
            self.groups.remove(key);
        }
        let name = |at_us| (at_us, start_us, Arc::clone(key));
        match session.phase {
            Phase::Open => self.open.remove(&name(self.plan.session_closes_us(session.last_us))),
            Phase::Late(since_us) => self.late.remove(&name(since_us)),
            Phase::Closed(since_us) => self.closed.remove(&name(since_us)),
        };
        match session.phase {
            Phase::Closed(_) => self.kept_bytes -= session.size_bytes(),
            _ => self.weight -= session.weight(),
        }
        if let Some(start) = self.starts.get_mut(&start_us) {
            start.sessions -= 1;
            start.closed.remove(key);
            if start.sessions == 0 && start.revision == 0 {
                self.starts.remove(&start_us);
            }
        }
        Some(session)
    }

    /// Takes one fragment: what its group has from `first_us` to `last_us`.
    fn join(
        &mut self,
        key: &Key,
        (first_us, last_us): (i64, i64),
        fragment: Fragment,
        rows: u64,
        merged_us: Option<i64>,
        now_us: i64,
    ) -> DataFusionResult<()> {
        let reached = |last_us| merged_us.is_some_and(|merged_us| self.plan.session_closes_us(last_us) <= merged_us);
        let late = reached(last_us);
        let near = self.near(key, first_us, last_us);
        let refused = match self.plan.late {
            LatePolicy::Drop if late && !near.iter().any(|&start_us| self.is_open(start_us, key)) => {
                Some(&mut self.counts.dropped_rows)
            }
            LatePolicy::Correct if self.gone.overlaps(first_us, last_us.saturating_add(self.gap_us)) => {
                Some(&mut self.counts.too_late_rows)
            }
            _ => None,
        };
        if let Some(count) = refused {
            *count += rows;
            self.fragments.release(&[fragment]);
            return Ok(());
        }
        self.counts.late_rows += if late { rows } else { 0 };
        let mut start_us = first_us;
        let mut joined = Session { last_us, phase: Phase::Open, fragments: vec![fragment], written: Vec::new() };
        for part_us in near {
            let Some(part) = self.remove(part_us, key) else { continue };
            start_us = start_us.min(part_us);
            joined.last_us = joined.last_us.max(part.last_us);
            joined.fragments.extend(part.fragments);
            joined.written.extend(part.written);
        }
        joined.fragments.sort_unstable_by_key(|fragment| (fragment.source, fragment.arrived));
        joined.written.sort_unstable();
        joined.written.dedup();
        if merged_us.is_some_and(|merged_us| self.plan.session_closes_us(joined.last_us) <= merged_us) {
            joined.phase = Phase::Late(now_us);
        }
        if joined.fragments.len() > MAX_FRAGMENTS {
            self.compact(start_us, &mut joined)?;
        }
        self.insert(start_us, key, joined);
        Ok(())
    }

    /// Folds the fragments of each source into one.
    fn compact(&mut self, start_us: i64, session: &mut Session) -> DataFusionResult<()> {
        let before = std::mem::take(&mut session.fragments);
        for source in before.chunk_by(|a, b| a.source == b.source) {
            let gathered = self.fragments.gather(&self.plan, &[(start_us, source)])?;
            let merged = closing::merge_sessions(&self.plan, &[gathered])?;
            session.fragments.extend(self.fragments.add(&merged, source[0].source, source[0].arrived));
        }
        self.fragments.release(&before);
        Ok(())
    }

    /// Closes sessions that are open or late, all in one go.
    fn close(&mut self, names: Vec<Name>, now_us: i64) -> Result<Option<Closing>, ProcessorError> {
        if names.is_empty() {
            return Ok(None);
        }
        let plan = Arc::clone(&self.plan);
        let mut closing: BTreeMap<Name, Session> = BTreeMap::new();
        for (start_us, key) in names {
            if let Some(mut session) = self.remove(start_us, &key) {
                session.phase = Phase::Closed(now_us);
                closing.insert((start_us, key), session);
            }
        }
        let stale: BTreeSet<i64> = closing.values().flat_map(|session| session.written.iter().copied()).collect();
        let mut superseded = Vec::with_capacity(stale.len());
        let mut rows: BTreeMap<Name, &[Fragment]> = BTreeMap::new();
        for start_us in stale {
            let start = self.starts.entry(start_us).or_default();
            start.revision = start.revision.saturating_add(1);
            superseded.push((start_us, start.revision));
        }
        for &(start_us, _) in &superseded {
            for key in self.starts.get(&start_us).into_iter().flat_map(|start| &start.closed) {
                if let Some(session) = self.groups.get(key).and_then(|sessions| sessions.get(&start_us)) {
                    rows.insert((start_us, Arc::clone(key)), &session.fragments);
                }
            }
        }
        rows.extend(
            closing.iter().map(|((start_us, key), session)| ((*start_us, Arc::clone(key)), &session.fragments[..])),
        );
        let rows = self.fold(&rows).map_err(|e| plan.cannot_fold(e))?;
        self.counts.corrections += superseded.len() as u64;
        for ((start_us, key), mut session) in closing {
            match plan.late {
                LatePolicy::Correct => {
                    session.written = vec![start_us];
                    self.insert(start_us, &key, session);
                }
                // The watermark says that it is gone.
                LatePolicy::Drop => self.fragments.release(&session.fragments),
            }
        }
        self.fragments
            .tidy(self.groups.values_mut().flat_map(BTreeMap::values_mut).map(|s| &mut s.fragments), &plan)
            .map_err(|e| plan.cannot_fold(e))?;
        Ok(Some(Closing { superseded, rows, part: 0 }))
    }

    /// The rows of these sessions.
    fn fold(&self, sessions: &BTreeMap<Name, &[Fragment]>) -> DataFusionResult<RecordBatch> {
        let mut partials = Vec::with_capacity(self.sources);
        for source in 0..self.sources {
            let of_source = sessions.iter().map(|((start_us, _), fragments)| {
                let from = fragments.partition_point(|f| f.source < source);
                let to = fragments.partition_point(|f| f.source <= source);
                (*start_us, &fragments[from..to])
            });
            let gathered = self.fragments.gather(&self.plan, &of_source.collect::<Vec<_>>())?;
            if gathered.num_rows() > 0 {
                partials.push(closing::merge_sessions(&self.plan, &[gathered])?);
            }
        }
        let revision = |start_us: i64| self.starts.get(&start_us).map_or(0, |start| start.revision);
        closing::close_sessions(&self.plan, &partials, revision)
    }

    /// Lets go of a closed session.
    fn drop_closed(&mut self, start_us: i64, key: &Key) {
        let Some(session) = self.remove(start_us, key) else { return };
        self.fragments.release(&session.fragments);
        let end_us = session.last_us.saturating_add(self.gap_us);
        if self.gone.insert(start_us, end_us) {
            tracing::warn!(rollup = %self.plan.name,
                "closed sessions lie too far apart to be remembered one by one; times between some of them count as gone as well");
        }
        // Nothing begins there any more.
        let ended = self.starts.range(start_us..end_us).filter(|(_, start)| start.sessions == 0).map(|(&us, _)| us);
        for start_us in ended.collect::<Vec<_>>() {
            self.starts.remove(&start_us);
        }
    }
}

impl Session {
    fn weight(&self) -> usize {
        self.fragments.len() + SESSION_WEIGHT
    }

    fn size_bytes(&self) -> usize {
        self.fragments.iter().map(|f| f.size_bytes as usize).sum::<usize>() + SESSION_BYTES
    }
}

impl Folding for Sessions {
    fn counts(&self) -> Counts {
        self.counts
    }

    fn open_bytes(&self) -> usize {
        self.weight * FRAGMENT_BYTES
    }

    fn loose_bytes(&self) -> usize {
        0
    }

    fn pack_largest(&mut self) -> Result<bool, ProcessorError> {
        Ok(false)
    }

    fn packed_in_memory_bytes(&self) -> usize {
        0
    }

    fn put_aside(&mut self, _scratch: &dyn Scratch, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn fold_in(&mut self, _bucket_rows: usize) {}

    fn stays_in_memory(&self) -> bool {
        true
    }

    fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    fn take(&mut self, partial: Partial, merged_us: Option<i64>, now_us: i64) -> Result<(), ProcessorError> {
        let plan = Arc::clone(&self.plan);
        let Partial { source, batch, .. } = partial;
        let keys = keys(&plan, &batch).map_err(|e| plan.cannot_fold(e))?;
        let columns = batch.columns();
        let [.., first, last, rows] = columns else { return Ok(()) };
        let (first, last) = (first.as_primitive::<TimestampMicrosecondType>(), last.as_primitive());
        let last: &arrow::array::TimestampMicrosecondArray = last;
        let rows = rows.as_primitive::<Int64Type>();
        let fragments = self.fragments.add(&batch, source, self.arrived);
        self.arrived += fragments.len() as i64;
        for (row, (key, fragment)) in keys.iter().zip(fragments).enumerate() {
            let times = (first.value(row), last.value(row));
            self.join(key, times, fragment, rows.value(row).unsigned_abs(), merged_us, now_us)
                .map_err(|e| plan.cannot_fold(e))?;
        }
        Ok(())
    }

    fn filled_from(&mut self, _from_us: i64) {}

    fn retract(&mut self, _: usize, _: i64, _: Option<i64>, _: i64) -> Result<(), ProcessorError> {
        // Sessions are not made of another rollup's rows: the planner refuses it.
        Ok(())
    }

    fn close_reached(&mut self, merged_us: i64, now_us: i64) -> Result<Option<Closing>, ProcessorError> {
        let reached = self.open.iter().take_while(|(closes_us, ..)| *closes_us <= merged_us);
        let names = reached.map(|(_, start_us, key)| (*start_us, Arc::clone(key))).collect();
        self.close(names, now_us)
    }

    fn close_quiet(&mut self, now_us: i64) -> Result<Option<Closing>, ProcessorError> {
        let quiet = self.late.iter().take_while(|(since_us, ..)| since_us.saturating_add(QUIET_US) <= now_us);
        let names = quiet.map(|(_, start_us, key)| (*start_us, Arc::clone(key))).collect();
        self.close(names, now_us)
    }

    fn longest_quiet(&self) -> Option<(i64, i64)> {
        self.late.first().map(|&(since_us, start_us, _)| (since_us, start_us))
    }

    fn close_quietest(&mut self, now_us: i64) -> Result<Option<Closing>, ProcessorError> {
        let names = self.late.first().map(|(_, start_us, key)| (*start_us, Arc::clone(key))).into_iter().collect();
        self.close(names, now_us)
    }

    fn longest_closed(&self) -> Option<(i64, i64)> {
        self.closed.first().map(|&(since_us, start_us, _)| (since_us, start_us))
    }

    fn forget_longest_closed(&mut self) {
        if let Some((_, start_us, key)) = self.closed.first().cloned() {
            self.drop_closed(start_us, &key);
            self.counts.forgotten_windows += 1;
        }
    }

    fn pass(&mut self, now_us: i64) {
        while let Some((since_us, start_us, key)) = self.closed.first().cloned()
            && since_us.saturating_add(self.plan.horizon_us) <= now_us
        {
            self.drop_closed(start_us, &key);
        }
    }

    fn write(&self) -> Result<Framed, ProcessorError> {
        let sessions: Vec<(i64, &Session)> =
            self.groups.values().flatten().map(|(&start_us, session)| (start_us, session)).collect();
        let mut written = self.gone.clone();
        for (start_us, session) in &sessions {
            let end_us = session.last_us.saturating_add(self.gap_us);
            if !session.written.is_empty() {
                written.insert(*start_us, end_us);
            }
        }
        let revised = self.starts.iter().filter(|(_, start)| start.revision > 0);
        let manifest = Manifest {
            counts: self.counts,
            gone: self.gone.clone(),
            written,
            arrived: self.arrived,
            revisions: revised.map(|(&start_us, start)| (start_us, start.revision)).collect(),
        };
        let batches =
            session_state::write(&self.plan, &self.fragments, &sessions).map_err(|e| self.plan.cannot_fold(e))?;
        Framed::new(&manifest, batches.iter().map(frames::chunk).collect::<Result<_, _>>()?)
    }

    fn restore(&mut self, section: &Section) -> Result<(), ProcessorError> {
        let plan = Arc::clone(&self.plan);
        let (manifest, chunks): (Manifest, Vec<Chunk>) = Framed::decode(section)?;
        let batches = chunks.iter().map(frames::batch_of).collect::<Result<Vec<RecordBatch>, _>>()?;
        (self.counts, self.gone, self.arrived) = (manifest.counts, manifest.gone, manifest.arrived);
        for (start_us, revision) in manifest.revisions {
            self.starts.entry(start_us).or_default().revision = revision;
        }
        let saved = session_state::read(&plan, &mut self.fragments, &batches).map_err(|e| plan.cannot_fold(e))?;
        for Saved { group, start_us, session } in saved {
            let key = keys(&plan, &group).map_err(|e| plan.cannot_fold(e))?;
            let Some(key) = key.first() else {
                return Err(ProcessorError::new(format!("state of rollup {} is incomplete", plan.name)));
            };
            self.insert(start_us, key, session);
        }
        Ok(())
    }

    fn start_after(&mut self, body: &Bytes, _is_filled: bool) {
        self.gone = gone_after(&self.plan, body).spans;
    }
}

/// The groups of a partial's rows.
fn keys(plan: &RollupPlan, partial: &RecordBatch) -> DataFusionResult<Vec<Key>> {
    let groups = plan.group_schema.fields().len();
    let columns: Vec<ArrayRef> = partial.columns()[1..=groups].to_vec();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(&columns)?;
    Ok(rows.iter().map(|row| Arc::from(row.as_ref())).collect())
}
