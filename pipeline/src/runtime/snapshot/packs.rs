//! Which chunks lie in which packs, and which of those are still worth naming.

use std::collections::{BTreeMap, BTreeSet};

use super::file::File;
use super::store::SnapshotName;
use crate::runtime::chunks::{Chunk, ChunkId};

/// A pack with more chunks to come is closed at this size.
pub(super) const PACK_BYTES: u64 = 64 << 20;
/// A snapshot whose new chunks come to no more than this writes no pack: they are in the snapshot itself.
pub(in crate::runtime) const INLINE_BYTES: u64 = 64 << 10;
/// How often a chunk is written, so that it survives the loss of a file.
pub(super) const COPIES: usize = 2;
/// A pack of which less than this part is alive is named no more; what is alive is written again.
const LIVE_PART: u64 = 4;
/// Most packs of a snapshot, beside those that its chunks would fill.
const MAX_PACKS: u64 = 32;
/// What a pack begins with.
pub(super) const PACK_MAGIC: &[u8; 8] = b"HWPACK\0\x01";

/// A pack: those of one snapshot are numbered. Ordered as snapshots are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PackName {
    pub(super) of: SnapshotName,
    pub(super) part: u32,
}

impl PackName {
    pub(super) fn parse(file_name: &str) -> Option<Self> {
        let (of, part) = file_name.strip_suffix(".pack")?.rsplit_once('.')?;
        Some(Self { of: SnapshotName::parse_stem(of)?, part: part.parse().ok()? })
    }

    pub(super) fn file_name(self) -> String {
        format!("{}.{}.pack", self.of.stem(), self.part)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Pack {
    pub(super) name: PackName,
    pub(super) size_bytes: u64,
}

/// Where a chunk lies: in which pack, and where it begins there.
pub(super) type Place = (PackName, u64);

/// What is known of the packs of a task: those that the newest snapshot names, and which the newest few name.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) places: BTreeMap<ChunkId, Vec<Place>>,
    pub(super) sizes: BTreeMap<PackName, u64>,
    pub(super) named: BTreeMap<SnapshotName, BTreeSet<PackName>>,
}

impl Known {
    /// Of each of these chunks, the places that a new snapshot names. Bounded: packs of which little is alive are not among them, nor more than so many.
    pub(super) fn places(&self, chunks: &[Chunk]) -> Vec<Vec<Place>> {
        let all = || chunks.iter().filter_map(|chunk| Some((chunk, self.places.get(&chunk.id())?)));
        let mut live: BTreeMap<PackName, u64> = BTreeMap::new();
        for (chunk, places) in all() {
            places.iter().for_each(|(pack, _)| *live.entry(*pack).or_default() += chunk.size_bytes() as u64);
        }
        live.retain(|pack, live| *live * LIVE_PART >= self.sizes.get(pack).copied().unwrap_or(u64::MAX / LIVE_PART));
        let total: u64 = chunks.iter().map(|chunk| chunk.size_bytes() as u64).sum();
        let most = MAX_PACKS + 2 * COPIES as u64 * total.div_ceil(PACK_BYTES);
        while live.len() as u64 > most {
            let Some(pack) = live.iter().min_by_key(|&(pack, live)| (*live, *pack)).map(|(pack, _)| *pack) else {
                break;
            };
            live.remove(&pack);
        }
        let kept = |chunk: &Chunk| {
            let places = self.places.get(&chunk.id()).into_iter().flatten();
            places.filter(|(pack, _)| live.contains_key(pack)).copied().collect()
        };
        chunks.iter().map(kept).collect()
    }

    /// This snapshot is the newest now.
    pub(super) fn is_newest(&mut self, name: SnapshotName, file: &File) {
        self.sizes = file.packs.iter().map(|pack| (pack.name, pack.size_bytes)).collect();
        let places = |of: &[(u32, u64)]| -> Vec<Place> {
            of.iter().filter_map(|&(pack, at)| Some((file.packs.get(pack as usize)?.name, at))).collect()
        };
        self.places = file.chunks.iter().map(|chunk| (chunk.id, places(&chunk.places))).collect();
        self.named.insert(name, file.packs.iter().map(|pack| pack.name).collect());
    }
}
