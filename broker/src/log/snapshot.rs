//! The snapshot of what a partition remembers, as it was at one offset, written when a segment is closed.
//!
//! ```text
//! at  size  field
//!  0   4    magic "HWPS"
//!  4   4    version (2; 1 ends before the producers)
//!  8   8    offset: the state is that of all records below it
//! 16   4    task count, then per task: name length (2), name, epoch (4), position (8), index (4)
//!  ..  4    key count, then per key, oldest first: hash (16), base offset (8), record count (4), append time ms (8)
//!  ..  4    producer count, then per producer: id (8), epoch (2), epoch of the coordinator (4), last heard of, ms (8),
//!           first offset of the open transaction (8, -1: none), offset of the last marker (8, -1: none), 1 if it was a commit (1),
//!           batch count (1), then per batch, oldest first: last sequence (4), last offset (8), offset delta (4), timestamp (8)
//!  ..  4    count of aborted transactions, then per transaction, by marker: producer id (8), first offset (8), offset of the
//!           marker (8), offset below which no later one begins (8)
//!  ..  4    CRC32C of everything before
//! ```
//!
//! Named `<offset>.state`. The newest two are kept; where both are damaged, the state is rebuilt from all of the log.

use std::collections::VecDeque;
use std::sync::Arc;

use super::guard_state::{GuardState, TaskState};
use super::producers::{Aborted, Ended, Producer, Producers, WINDOW, Written};
use super::state::PartitionState;
use crate::append::EffectMark;

const MAGIC: u32 = u32::from_be_bytes(*b"HWPS");
const VERSION: u32 = 2;
const VERSION_WITHOUT_PRODUCERS: u32 = 1;

pub(super) fn encode(state: &PartitionState, offset: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + state.guard.tasks.len() * 64 + state.guard.key_order.len() * 36);
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
    put_guard(&state.guard, &mut out);
    put_producers(&state.producers, &mut out);
    out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
    out
}

/// The state and its offset; `None` where the bytes are damaged.
pub(super) fn decode(bytes: &[u8], max_keys: usize) -> Option<(PartitionState, i64)> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let mut rest = body;
    if take::<4>(&mut rest).map(u32::from_be_bytes)? != MAGIC {
        return None;
    }
    let version = u32::from_be_bytes(take(&mut rest)?);
    if !(VERSION_WITHOUT_PRODUCERS..=VERSION).contains(&version) {
        return None;
    }
    let offset = i64::from_be_bytes(take(&mut rest)?);
    let guard = take_guard(&mut rest, max_keys)?;
    let producers =
        if version == VERSION_WITHOUT_PRODUCERS { Producers::default() } else { take_producers(&mut rest)? };
    rest.is_empty().then_some((PartitionState { guard, producers }, offset))
}

fn put_guard(state: &GuardState, out: &mut Vec<u8>) {
    out.extend_from_slice(&(state.tasks.len() as u32).to_be_bytes());
    for (name, task) in &state.tasks {
        out.extend_from_slice(&(name.len() as u16).to_be_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&task.epoch.to_be_bytes());
        out.extend_from_slice(&task.mark.position.to_be_bytes());
        out.extend_from_slice(&task.mark.index.to_be_bytes());
    }
    let keys: Vec<_> = state.key_order.iter().filter_map(|hash| Some((hash, state.keys.get(hash)?))).collect();
    out.extend_from_slice(&(keys.len() as u32).to_be_bytes());
    for (hash, key) in keys {
        out.extend_from_slice(&hash.to_be_bytes());
        out.extend_from_slice(&key.base_offset.to_be_bytes());
        out.extend_from_slice(&key.count.to_be_bytes());
        out.extend_from_slice(&key.append_time_ms.to_be_bytes());
    }
}

fn take_guard(rest: &mut &[u8], max_keys: usize) -> Option<GuardState> {
    let mut state = GuardState::new(max_keys);
    for _ in 0..u32::from_be_bytes(take(rest)?) {
        let size = u16::from_be_bytes(take(rest)?) as usize;
        let (name, tail) = rest.split_at_checked(size)?;
        *rest = tail;
        let epoch = i32::from_be_bytes(take(rest)?);
        let position = i64::from_be_bytes(take(rest)?);
        let index = i32::from_be_bytes(take(rest)?);
        let name = std::str::from_utf8(name).ok()?;
        state.tasks.insert(Arc::from(name), TaskState { epoch, mark: EffectMark { position, index } });
    }
    for _ in 0..u32::from_be_bytes(take(rest)?) {
        let hash = u128::from_be_bytes(take(rest)?);
        let base_offset = i64::from_be_bytes(take(rest)?);
        let count = u32::from_be_bytes(take(rest)?);
        let append_time_ms = i64::from_be_bytes(take(rest)?);
        state.note_key(hash, base_offset, count, append_time_ms);
    }
    Some(state)
}

fn put_producers(producers: &Producers, out: &mut Vec<u8>) {
    out.extend_from_slice(&(producers.iter().len() as u32).to_be_bytes());
    for (id, producer) in producers.iter() {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&producer.epoch.to_be_bytes());
        out.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(&producer.seen_ms.to_be_bytes());
        out.extend_from_slice(&producer.open_from.unwrap_or(-1).to_be_bytes());
        out.extend_from_slice(&producer.ended.map_or(-1, |ended| ended.offset).to_be_bytes());
        out.push(u8::from(producer.ended.is_some_and(|ended| ended.commit)));
        out.push(producer.window.len() as u8);
        for written in &producer.window {
            out.extend_from_slice(&written.last_sequence.to_be_bytes());
            out.extend_from_slice(&written.last_offset.to_be_bytes());
            out.extend_from_slice(&written.offset_delta.to_be_bytes());
            out.extend_from_slice(&written.timestamp_ms.to_be_bytes());
        }
    }
    let aborted = producers.aborted().entries();
    out.extend_from_slice(&(aborted.len() as u32).to_be_bytes());
    for Aborted { producer_id, first_offset, last_offset, stable_after } in aborted {
        for field in [producer_id, first_offset, last_offset, stable_after] {
            out.extend_from_slice(&field.to_be_bytes());
        }
    }
}

fn take_producers(rest: &mut &[u8]) -> Option<Producers> {
    let mut producers = Producers::default();
    for _ in 0..u32::from_be_bytes(take(rest)?) {
        let id = i64::from_be_bytes(take(rest)?);
        let epoch = i16::from_be_bytes(take(rest)?);
        let coordinator_epoch = i32::from_be_bytes(take(rest)?);
        let seen_ms = i64::from_be_bytes(take(rest)?);
        let open_from = Some(i64::from_be_bytes(take(rest)?)).filter(|offset| *offset >= 0);
        let ended = Some(i64::from_be_bytes(take(rest)?)).filter(|offset| *offset >= 0);
        let [commit] = take(rest)?;
        let ended = ended.map(|offset| Ended { offset, commit: commit == 1 });
        let [count] = take(rest)?;
        if count as usize > WINDOW {
            return None;
        }
        let mut window = VecDeque::with_capacity(count as usize);
        for _ in 0..count {
            window.push_back(Written {
                last_sequence: i32::from_be_bytes(take(rest)?),
                last_offset: i64::from_be_bytes(take(rest)?),
                offset_delta: i32::from_be_bytes(take(rest)?),
                timestamp_ms: i64::from_be_bytes(take(rest)?),
            });
        }
        producers.restore(id, Producer { epoch, coordinator_epoch, seen_ms, open_from, ended, window });
    }
    for _ in 0..u32::from_be_bytes(take(rest)?) {
        producers.restore_aborted(Aborted {
            producer_id: i64::from_be_bytes(take(rest)?),
            first_offset: i64::from_be_bytes(take(rest)?),
            last_offset: i64::from_be_bytes(take(rest)?),
            stable_after: i64::from_be_bytes(take(rest)?),
        });
    }
    Some(producers)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
