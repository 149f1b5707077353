//! Pieces of data files read last, kept: files never change, and a dashboard asks for the same few pages every few seconds.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;
use parking_lot::Mutex;

/// Memory for pieces, bytes.
const KEPT_BYTES: usize = 64 << 20;
/// A larger piece is not kept: one scan of much would push out what many small queries need.
const MAX_PIECE_BYTES: u64 = 512 << 10;
/// What a piece takes beside its bytes.
const OVERHEAD_BYTES: usize = 128;

/// Pieces in two generations: what is asked for goes into the young one, and once that is full the old one goes.
#[derive(Debug, Default)]
pub(super) struct Ranges(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Path, Pieces>,
    old: HashMap<Path, Pieces>,
    young_bytes: usize,
}

/// By first and last byte.
type Pieces = HashMap<(u64, u64), Bytes>;

impl Ranges {
    /// A piece, if it is kept.
    pub(super) fn get(&self, path: &Path, range: &Range<u64>) -> Option<Bytes> {
        let key = (range.start, range.end);
        let mut generations = self.0.lock();
        if let Some(piece) = generations.young.get(path).and_then(|pieces| pieces.get(&key)) {
            return Some(piece.clone());
        }
        let piece = generations.old.get_mut(path)?.remove(&key)?;
        generations.insert(path, key, piece.clone());
        Some(piece)
    }

    /// Keeps a piece, unless it is large.
    pub(super) fn put(&self, path: &Path, range: &Range<u64>, piece: &Bytes) {
        if range.end.saturating_sub(range.start) <= MAX_PIECE_BYTES {
            // A copy: what came may be a slice of much more.
            self.0.lock().insert(path, (range.start, range.end), Bytes::copy_from_slice(piece));
        }
    }
}

impl Generations {
    fn insert(&mut self, path: &Path, key: (u64, u64), piece: Bytes) {
        let size = piece.len() + OVERHEAD_BYTES;
        if self.young_bytes + size > KEPT_BYTES / 2 {
            (self.old, self.young_bytes) = (std::mem::take(&mut self.young), 0);
        }
        let pieces = match self.young.get_mut(path) {
            Some(pieces) => pieces,
            None => self.young.entry(path.clone()).or_default(),
        };
        if pieces.insert(key, piece).is_none() {
            self.young_bytes += size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_last_is_kept_within_bounds() {
        let ranges = Ranges::default();
        let (path, piece) = (Path::from("a"), Bytes::from(vec![7; 1 << 18]));
        let range = |i: u64| i << 18..(i + 1) << 18;
        for i in 0..1_000 {
            ranges.put(&path, &range(i), &piece);
            assert_eq!(ranges.get(&path, &range(0)).as_ref(), Some(&piece), "asked for all the time, after {i}");
        }
        assert_eq!(ranges.get(&path, &range(999)), Some(piece.clone()));
        assert_eq!(ranges.get(&path, &range(1)), None);
        assert_eq!(ranges.get(&Path::from("b"), &range(0)), None);
        let kept = (0..1_000).filter(|i| ranges.get(&path, &range(*i)).is_some()).count();
        assert!(kept << 18 <= KEPT_BYTES, "{kept} pieces");
        ranges.put(&path, &(0..1 << 20), &Bytes::from(vec![0; 1 << 20]));
        assert_eq!(ranges.get(&path, &(0..1 << 20)), None, "too large");
    }
}
