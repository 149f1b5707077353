//! Files and directories of the simulated disk: what the process sees, what is durable, and the changes between the two.

use std::collections::BTreeMap;

/// Bytes that a disk writes at once; a torn write tears at multiples of this.
pub(super) const SECTOR_SIZE_BYTES: usize = 512;

pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Default)]
pub(super) struct FileNode {
    pub(super) now: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

pub(super) enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

impl Change {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(bytes);
            }
            Self::Resize(size) => content.resize(*size, 0),
        }
    }
}

impl FileNode {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    pub(super) fn crash(&mut self, mut random: Option<&mut Random>) {
        for change in std::mem::take(&mut self.pending) {
            let Some(random) = random.as_deref_mut() else { continue };
            match (random.below(3), change) {
                (0, _) => {}
                (1, Change::Write { at, bytes }) => {
                    // Each sector that the write touches is on the disk or is not.
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = (from + SECTOR_SIZE_BYTES - (at + from) % SECTOR_SIZE_BYTES).min(bytes.len());
                        if random.below(2) == 0 {
                            Change::Write { at: at + from, bytes: bytes[from..to].to_vec() }.apply(&mut self.durable);
                        }
                        from = to;
                    }
                }
                (_, change) => change.apply(&mut self.durable),
            }
        }
        self.now = self.durable.clone();
    }
}

#[derive(Default)]
pub(super) struct DirNode {
    pub(super) now: BTreeMap<String, u64>,
    pub(super) durable: BTreeMap<String, u64>,
    /// Each change is a set of names bound or unbound at once, as a rename is.
    pub(super) pending: Vec<Vec<(String, Option<u64>)>>,
}

impl DirNode {
    pub(super) fn change(&mut self, names: Vec<(String, Option<u64>)>) {
        bind(&mut self.now, &names);
        self.pending.push(names);
    }

    /// A journalling filesystem keeps some prefix of a directory's changes.
    pub(super) fn crash(&mut self, random: Option<&mut Random>) {
        let pending = std::mem::take(&mut self.pending);
        let kept = random.map_or(0, |r| r.below(pending.len() as u64 + 1));
        for names in pending.iter().take(kept as usize) {
            bind(&mut self.durable, names);
        }
        self.now = self.durable.clone();
    }
}

pub(super) fn bind(map: &mut BTreeMap<String, u64>, names: &[(String, Option<u64>)]) {
    for (name, id) in names {
        match id {
            Some(id) => map.insert(name.clone(), *id),
            None => map.remove(name),
        };
    }
}

/// SplitMix64: small, seeded, and ours, so that a seed means the same for ever.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}
