//! A filesystem in memory, for tests and simulations: it knows what was synced and what was not, and takes the rest away on request.
//!
//! Every file and every directory has two states: what the process sees, and what is durable. Syncing moves the changes
//! between them, in order. [`SimFs::crash`] drops changes that were not synced, or keeps some of them and tears others
//! (seeded, so that a failing run can be had again). A sync that is made to fail leaves its changes visible and never
//! makes them durable, however often it is tried again: that is what real kernels do.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DirEntry, Fs, FsFile, FsLock, OpenMode};

/// Bytes that a disk writes at once; a torn write tears at multiples of this.
const SECTOR_SIZE_BYTES: usize = 512;

/// What a crash leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies, the machine lives: all writes are kept.
    Kill,
    /// Power loss, at its worst: nothing that was not synced is kept.
    LoseUnsynced,
    /// Power loss, at its strangest: of the writes not synced some are kept, some lost, some torn, chosen by this seed.
    Tear(u64),
}

/// A filesystem in memory. Clones share it.
#[derive(Clone)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
}

impl Default for SimFs {
    fn default() -> Self {
        Self::new()
    }
}

impl SimFs {
    /// An empty filesystem, with no limit and no faults.
    pub fn new() -> Self {
        let nodes = HashMap::from([(ROOT, Node::Dir(DirNode::default()))]);
        let state = State {
            nodes,
            next_id: ROOT + 1,
            life: 0,
            locks: HashSet::new(),
            capacity_bytes: None,
            failing_syncs: Vec::new(),
            failing_writes: Vec::new(),
            sync_count: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Crashes: open files go stale, locks are freed, and unsynced changes fare as `crash` says.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.state.lock();
        state.life += 1;
        state.locks.clear();
        state.failing_syncs.clear();
        state.failing_writes.clear();
        if crash == Crash::Kill {
            return;
        }
        let mut random = match crash {
            Crash::Tear(seed) => Some(Random(seed)),
            Crash::Kill | Crash::LoseUnsynced => None,
        };
        // In order of age, so that a seed always does the same.
        let mut ids: Vec<u64> = state.nodes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            match state.nodes.get_mut(&id) {
                Some(Node::File(file)) => file.crash(random.as_mut()),
                Some(Node::Dir(dir)) => dir.crash(random.as_mut()),
                None => {}
            }
        }
    }

    /// Limits the bytes all files together may take; `None` lifts the limit.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Bytes all files take now.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes(ROOT)
    }

    /// Makes the next sync of a file or directory whose path contains `needle` fail.
    pub fn fail_next_sync(&self, needle: &str) {
        self.state.lock().failing_syncs.push(needle.to_owned());
    }

    /// Makes the next write to a file whose path contains `needle` fail with `kind` after `written_bytes` of it were written.
    pub fn fail_next_write(&self, needle: &str, written_bytes: usize, kind: ErrorKind) {
        self.state.lock().failing_writes.push((needle.to_owned(), written_bytes, kind));
    }

    /// How many file syncs there were, to see appends share them.
    pub fn sync_count(&self) -> u64 {
        self.state.lock().sync_count
    }

    /// Flips the bits of `mask` in the byte at `at`, durably: a disk that forgot what it stored.
    pub fn flip(&self, path: &Path, at: u64, mask: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(path)?;
        let file = state.file(id)?;
        for bytes in [&mut file.now, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(at as usize) {
                *byte ^= mask;
            }
        }
        Ok(())
    }
}

const ROOT: u64 = 0;

struct State {
    nodes: HashMap<u64, Node>,
    next_id: u64,
    /// Counts crashes; handles of an earlier life are stale.
    life: u64,
    locks: HashSet<u64>,
    capacity_bytes: Option<u64>,
    failing_syncs: Vec<String>,
    failing_writes: Vec<(String, usize, ErrorKind)>,
    sync_count: u64,
}

enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Default)]
struct FileNode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
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
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    fn crash(&mut self, mut random: Option<&mut Random>) {
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
struct DirNode {
    now: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// Each change is a set of names bound or unbound at once, as a rename is.
    pending: Vec<Vec<(String, Option<u64>)>>,
}

impl DirNode {
    fn change(&mut self, names: Vec<(String, Option<u64>)>) {
        bind(&mut self.now, &names);
        self.pending.push(names);
    }

    /// A journalling filesystem keeps some prefix of a directory's changes.
    fn crash(&mut self, random: Option<&mut Random>) {
        let pending = std::mem::take(&mut self.pending);
        let kept = random.map_or(0, |r| r.below(pending.len() as u64 + 1));
        for names in pending.iter().take(kept as usize) {
            bind(&mut self.durable, names);
        }
        self.now = self.durable.clone();
    }
}

fn bind(map: &mut BTreeMap<String, u64>, names: &[(String, Option<u64>)]) {
    for (name, id) in names {
        match id {
            Some(id) => map.insert(name.clone(), *id),
            None => map.remove(name),
        };
    }
}

impl State {
    fn dir(&mut self, id: u64) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn file(&mut self, id: u64) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn add(&mut self, node: Node) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        id
    }

    fn find(&mut self, path: &Path) -> io::Result<u64> {
        let mut id = ROOT;
        for name in names(path)? {
            id = *self.dir(id)?.now.get(name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(id)
    }

    fn find_parent<'a>(&mut self, path: &'a Path) -> io::Result<(u64, &'a str)> {
        let mut names = names(path)?;
        let last = names.pop().ok_or(ErrorKind::InvalidInput)?;
        let mut id = ROOT;
        for name in names {
            id = *self.dir(id)?.now.get(name).ok_or(ErrorKind::NotFound)?;
        }
        self.dir(id)?;
        Ok((id, last))
    }

    fn used_bytes(&self, id: u64) -> u64 {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => file.now.len() as u64,
            Some(Node::Dir(dir)) => dir.now.values().map(|&child| self.used_bytes(child)).sum(),
            None => 0,
        }
    }

    fn check_room(&self, more_bytes: u64) -> io::Result<()> {
        match self.capacity_bytes {
            Some(capacity) if more_bytes > 0 && self.used_bytes(ROOT) + more_bytes > capacity => {
                Err(ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn clear_dir(&mut self, id: u64) -> io::Result<()> {
        for (name, child) in self.dir(id)?.now.clone() {
            if matches!(self.nodes.get(&child), Some(Node::Dir(_))) {
                self.clear_dir(child)?;
            }
            self.dir(id)?.change(vec![(name, None)]);
        }
        Ok(())
    }

    fn sync_fails(&mut self, path: &str) -> bool {
        let found = self.failing_syncs.iter().position(|needle| path.contains(needle.as_str()));
        found.map(|i| self.failing_syncs.remove(i)).is_some()
    }
}

/// The names along a path, from the root.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    path.components()
        .filter(|c| !matches!(c, Component::RootDir | Component::CurDir))
        .map(|c| match c {
            Component::Normal(name) => name.to_str().ok_or_else(|| ErrorKind::InvalidInput.into()),
            _ => Err(ErrorKind::InvalidInput.into()),
        })
        .collect()
}

impl Fs for SimFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        let mut state = self.state.lock();
        let id = match (state.find(path), mode) {
            (Ok(id), OpenMode::Create) => {
                state.file(id)?.change(Change::Resize(0));
                id
            }
            (Ok(id), OpenMode::Read | OpenMode::Write) => {
                state.file(id)?;
                id
            }
            (Err(_), OpenMode::Create) => {
                let (parent, name) = state.find_parent(path)?;
                let id = state.add(Node::File(FileNode::default()));
                state.dir(parent)?.change(vec![(name.to_owned(), Some(id))]);
                id
            }
            (Err(error), OpenMode::Read | OpenMode::Write) => return Err(error),
        };
        let path = path.to_string_lossy().into_owned();
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), id, life: state.life, path, mode }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut id = ROOT;
        for name in names(path)? {
            id = match state.dir(id)?.now.get(name).copied() {
                Some(child) => child,
                None => {
                    let child = state.add(Node::Dir(DirNode::default()));
                    state.dir(id)?.change(vec![(name.to_owned(), Some(child))]);
                    child
                }
            };
        }
        state.dir(id).map(|_| ())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state.lock();
        let id = state.find(path)?;
        let entries: Vec<(String, u64)> = state.dir(id)?.now.iter().map(|(n, id)| (n.clone(), *id)).collect();
        let is_dir = |id: &u64| matches!(state.nodes.get(id), Some(Node::Dir(_)));
        Ok(entries.into_iter().map(|(name, id)| DirEntry { is_dir: is_dir(&id), name }).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state.lock().find(path).is_ok())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(from)?;
        let (old_parent, old_name) = state.find_parent(from)?;
        let (new_parent, new_name) = state.find_parent(to)?;
        let unbind = (old_name.to_owned(), None);
        let bind = (new_name.to_owned(), Some(id));
        if old_parent == new_parent {
            state.dir(old_parent)?.change(vec![unbind, bind]);
        } else {
            state.dir(new_parent)?.change(vec![bind]);
            state.dir(old_parent)?.change(vec![unbind]);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(path)?;
        state.file(id)?;
        let (parent, name) = state.find_parent(path)?;
        state.dir(parent)?.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(path)?;
        state.clear_dir(id)?;
        let (parent, name) = state.find_parent(path)?;
        state.dir(parent)?.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let fails = state.sync_fails(&path.to_string_lossy());
        let id = state.find(path)?;
        let dir = state.dir(id)?;
        let pending = std::mem::take(&mut dir.pending);
        if fails {
            return Err(io::Error::other("injected: sync of a directory failed"));
        }
        for names in &pending {
            bind(&mut dir.durable, names);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FsLock>> {
        let file = match self.open(path, OpenMode::Write) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.open(path, OpenMode::Create),
            other => other,
        };
        file?;
        let mut state = self.state.lock();
        let id = state.find(path)?;
        if !state.locks.insert(id) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { state: Arc::clone(&self.state), id, life: state.life }))
    }
}

struct SimLock {
    state: Arc<Mutex<State>>,
    id: u64,
    life: u64,
}

impl FsLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.life == self.life {
            state.locks.remove(&self.id);
        }
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    id: u64,
    life: u64,
    path: String,
    mode: OpenMode,
}

impl SimFile {
    fn with<T>(&self, run: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.life != self.life {
            return Err(io::Error::other("the process that opened this file is dead"));
        }
        run(&mut state)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.mode == OpenMode::Read { Err(ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }

    fn write(&self, state: &mut State, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let grown = end.saturating_sub(state.file(self.id)?.now.len() as u64);
        state.check_room(grown)?;
        state.file(self.id)?.change(Change::Write { at: offset as usize, bytes: bytes.to_vec() });
        Ok(())
    }

    fn resize(&self, state: &mut State, size_bytes: u64) -> io::Result<()> {
        let grown = size_bytes.saturating_sub(state.file(self.id)?.now.len() as u64);
        state.check_room(grown)?;
        state.file(self.id)?.change(Change::Resize(size_bytes as usize));
        Ok(())
    }
}

impl FsFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            let content = &state.file(self.id)?.now;
            let rest = content.get(offset as usize..).unwrap_or_default();
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.with(|state| {
            if let Some(i) = state.failing_writes.iter().position(|(needle, ..)| self.path.contains(needle.as_str())) {
                let (_, written_bytes, kind) = state.failing_writes.remove(i);
                self.write(state, &bytes[..written_bytes.min(bytes.len())], offset)?;
                return Err(kind.into());
            }
            self.write(state, bytes, offset)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state| {
            state.sync_count += 1;
            let fails = state.sync_fails(&self.path);
            let file = state.file(self.id)?;
            let pending = std::mem::take(&mut file.pending);
            if fails {
                return Err(io::Error::other("injected: sync failed"));
            }
            for change in &pending {
                change.apply(&mut file.durable);
            }
            Ok(())
        })
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        self.with(|state| {
            if state.file(self.id)?.now.len() as u64 >= size_bytes { Ok(()) } else { self.resize(state, size_bytes) }
        })
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        self.with(|state| self.resize(state, size_bytes))
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.file(self.id)?.now.len() as u64))
    }
}

/// SplitMix64: small, seeded, and ours, so that a seed means the same for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}
