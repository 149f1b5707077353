//! The producer-state snapshot: a partition's guard state as it was at one offset, written when a segment is closed.
//!
//! ```text
//! at  size  field
//!  0   4    magic "HWPS"
//!  4   4    version (1)
//!  8   8    offset: the state is that of all records below it
//! 16   4    task count, then per task: name length (2), name, epoch (4), position (8), index (4)
//!  ..  4    key count, then per key, oldest first: hash (16), base offset (8), record count (4), append time ms (8)
//!  ..  4    CRC32C of everything before
//! ```
//!
//! Named `<offset>.state`. The newest two are kept; where both are damaged, the state is rebuilt from all of the log.

use std::sync::Arc;

use super::guard_state::{GuardState, TaskState};
use crate::append::EffectMark;

const MAGIC: u32 = u32::from_be_bytes(*b"HWPS");
const VERSION: u32 = 1;

pub(super) fn encode(state: &GuardState, offset: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + state.tasks.len() * 64 + state.key_order.len() * 36);
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
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
    out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
    out
}

/// The state and its offset; `None` where the bytes are damaged.
pub(super) fn decode(bytes: &[u8], max_keys: usize) -> Option<(GuardState, i64)> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let mut rest = body;
    if take::<4>(&mut rest).map(u32::from_be_bytes)? != MAGIC
        || take::<4>(&mut rest).map(u32::from_be_bytes)? != VERSION
    {
        return None;
    }
    let offset = i64::from_be_bytes(take(&mut rest)?);
    let mut state = GuardState::new(max_keys);
    for _ in 0..u32::from_be_bytes(take(&mut rest)?) {
        let size = u16::from_be_bytes(take(&mut rest)?) as usize;
        let (name, tail) = rest.split_at_checked(size)?;
        rest = tail;
        let epoch = i32::from_be_bytes(take(&mut rest)?);
        let position = i64::from_be_bytes(take(&mut rest)?);
        let index = i32::from_be_bytes(take(&mut rest)?);
        let name = std::str::from_utf8(name).ok()?;
        state.tasks.insert(Arc::from(name), TaskState { epoch, mark: EffectMark { position, index } });
    }
    for _ in 0..u32::from_be_bytes(take(&mut rest)?) {
        let hash = u128::from_be_bytes(take(&mut rest)?);
        let base_offset = i64::from_be_bytes(take(&mut rest)?);
        let count = u32::from_be_bytes(take(&mut rest)?);
        let append_time_ms = i64::from_be_bytes(take(&mut rest)?);
        state.note_key(hash, base_offset, count, append_time_ms);
    }
    rest.is_empty().then_some((state, offset))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
