//! What a partition remembers so that nothing is applied twice: the highest effect per task, and the idempotency keys of the
//! last 24 hours. It is a function of the log: each batch carries what it changed in headers of its records, so the state
//! is rebuilt by reading the tail behind the newest snapshot.
//!
//! Rules:
//! - an effect at or below its task's highest mark is in the log already and is left out;
//! - an epoch below the highest seen for its task is fenced;
//! - an idempotency key that is known answers with the earlier append; keys age by append time, and beyond the limit the
//!   oldest are forgotten early. A key is kept as its 128-bit hash: a made-up twin needs 2^64 tries.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use twox_hash::XxHash3_128;

use crate::append::{Appended, EFFECT_HEADER, EffectMark, Guard, IDEMPOTENCY_HEADER, IDEMPOTENCY_HORIZON_MS};
use crate::record::StoredRecord;

/// Where a task stands in this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskState {
    /// Highest epoch that wrote here.
    pub epoch: i32,
    /// Highest effect written here.
    pub mark: EffectMark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyState {
    pub(super) base_offset: i64,
    pub(super) count: u32,
    pub(super) append_time_ms: i64,
}

/// What to do with a guarded append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write the records from this index on; those before it are in the log.
    Write { from: usize },
    /// All of it is in the log, as this answer says.
    Duplicate(Appended),
    /// A newer epoch wrote already.
    Fenced { current: i32 },
}

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GuardState {
    pub(super) tasks: BTreeMap<Arc<str>, TaskState>,
    pub(super) keys: HashMap<u128, KeyState>,
    /// Keys from the oldest append to the newest.
    pub(super) key_order: VecDeque<u128>,
    pub(super) max_keys: usize,
    /// Keys forgotten before their time, since the start.
    pub(super) forgotten_keys: u64,
}

impl GuardState {
    pub(super) fn new(max_keys: usize) -> Self {
        Self { max_keys, ..Self::default() }
    }

    /// Judges an append without changing anything.
    pub(super) fn judge(&self, guard: &Guard, now_ms: i64) -> Verdict {
        match guard {
            Guard::None => Verdict::Write { from: 0 },
            Guard::Effects { task, epoch, marks } => match self.tasks.get(task) {
                None => Verdict::Write { from: 0 },
                Some(state) if *epoch < state.epoch => Verdict::Fenced { current: state.epoch },
                Some(state) => Verdict::Write { from: marks.partition_point(|mark| *mark <= state.mark) },
            },
            Guard::Idempotency { scope } => match self.keys.get(&key_hash(scope.as_bytes())) {
                Some(key) if now_ms.saturating_sub(key.append_time_ms) < IDEMPOTENCY_HORIZON_MS => {
                    Verdict::Duplicate(Appended {
                        base_offset: key.base_offset,
                        last_offset: key.base_offset + i64::from(key.count) - 1,
                        append_time_ms: key.append_time_ms,
                        duplicate: true,
                        suppressed: 0,
                    })
                }
                _ => Verdict::Write { from: 0 },
            },
        }
    }

    /// Remembers an append that was written.
    pub(super) fn apply(&mut self, guard: &Guard, appended: &Appended) {
        match guard {
            Guard::None => {}
            Guard::Effects { task, epoch, marks } => {
                if let Some(mark) = marks.last() {
                    self.note_effect(task, *epoch, *mark);
                }
            }
            Guard::Idempotency { scope } => {
                let count = (appended.last_offset - appended.base_offset + 1) as u32;
                self.note_key(key_hash(scope.as_bytes()), appended.base_offset, count, appended.append_time_ms);
            }
        }
    }

    /// Remembers what the records of one stored batch say of themselves.
    pub(super) fn observe(&mut self, records: &[StoredRecord], append_time_ms: i64) {
        for record in records {
            if let Some((task, epoch, mark)) = record.header(EFFECT_HEADER).and_then(|v| parse_effect(v)) {
                self.note_effect(&Arc::from(task), epoch, mark);
            }
        }
        if let Some(first) = records.first()
            && let Some(scope) = first.header(IDEMPOTENCY_HEADER)
        {
            self.note_key(key_hash(scope), first.offset, records.len() as u32, append_time_ms);
        }
    }

    fn note_effect(&mut self, task: &Arc<str>, epoch: i32, mark: EffectMark) {
        let state = self.tasks.entry(Arc::clone(task)).or_insert(TaskState { epoch, mark });
        state.epoch = state.epoch.max(epoch);
        state.mark = state.mark.max(mark);
    }

    pub(super) fn note_key(&mut self, hash: u128, base_offset: i64, count: u32, append_time_ms: i64) {
        if self.keys.insert(hash, KeyState { base_offset, count, append_time_ms }).is_some() {
            // An aged key used anew: it takes the place of a new one.
            self.key_order.retain(|known| *known != hash);
        }
        self.key_order.push_back(hash);
        while let Some(oldest) = self.key_order.front() {
            let age_ms = self.keys.get(oldest).map_or(i64::MAX, |k| append_time_ms.saturating_sub(k.append_time_ms));
            let aged = age_ms >= IDEMPOTENCY_HORIZON_MS;
            if !aged && self.key_order.len() <= self.max_keys {
                break;
            }
            self.forgotten_keys += u64::from(!aged);
            if let Some(oldest) = self.key_order.pop_front() {
                self.keys.remove(&oldest);
            }
        }
    }
}

pub(super) fn key_hash(scope: &[u8]) -> u128 {
    XxHash3_128::oneshot(scope)
}

/// The header that a record gets from its guard. An idempotency key goes on the first record only: a batch is all or nothing.
pub(super) fn guard_header(guard: &Guard, index: usize, is_first: bool) -> Option<(&'static str, Bytes)> {
    match guard {
        Guard::Idempotency { scope } if is_first => {
            Some((IDEMPOTENCY_HEADER, Bytes::copy_from_slice(scope.as_bytes())))
        }
        Guard::None | Guard::Idempotency { .. } => None,
        Guard::Effects { task, epoch, marks } => {
            let EffectMark { position, index } = marks.get(index)?;
            Some((EFFECT_HEADER, Bytes::from(format!("{task}\0{epoch}\0{position}\0{index}"))))
        }
    }
}

fn parse_effect(value: &[u8]) -> Option<(&str, i32, EffectMark)> {
    let mut parts = std::str::from_utf8(value).ok()?.rsplitn(4, '\0');
    let index = parts.next()?.parse().ok()?;
    let position = parts.next()?.parse().ok()?;
    let epoch = parts.next()?.parse().ok()?;
    Some((parts.next()?, epoch, EffectMark { position, index }))
}
