//! A filesystem in memory, for tests and simulations: it knows what was synced and what was not, and takes the rest away on request.
//!
//! Every file and every directory has two states: what the process sees, and what is durable. Syncing moves the changes
//! between them, in order. [`SimFs::crash`] drops changes that were not synced, or keeps some of them and tears others
//! (seeded, so that a failing run can be had again). A sync that is made to fail leaves its changes visible and never
//! makes them durable, however often it is tried again: that is what real kernels do.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

mod file;
mod node;
mod state;

use super::{DirEntry, Fs, FsFile, FsLock, OpenMode};
use file::{SimFile, SimLock};
use node::{Change, DirNode, FileNode, Node, Random, bind};
use state::{ROOT, State, names};

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
            changes_left: None,
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
        state.changes_left = None;
        if crash == Crash::Kill {
            return;
        }
        let mut random = match crash {
            Crash::Tear(seed) => Some(Random::new(seed)),
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

    /// Lets so many more changes happen (writes, syncs, names) and fails all after them, until the next crash: to die at every
    /// step of something in turn.
    pub fn die_after(&self, changes: u64) {
        self.state.lock().changes_left = Some(changes);
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

impl Fs for SimFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        let mut state = self.state.lock();
        let id = match (state.find(path), mode) {
            (Ok(id), OpenMode::Create) => {
                state.spend_change()?;
                state.file(id)?.change(Change::Resize(0));
                id
            }
            (Ok(id), OpenMode::Read | OpenMode::Write) => {
                state.file(id)?;
                id
            }
            (Err(_), OpenMode::Create) => {
                state.spend_change()?;
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
        state.spend_change()?;
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
        state.spend_change()?;
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
        state.spend_change()?;
        let id = state.find(path)?;
        state.file(id)?;
        let (parent, name) = state.find_parent(path)?;
        state.dir(parent)?.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.spend_change()?;
        let id = state.find(path)?;
        state.clear_dir(id)?;
        let (parent, name) = state.find_parent(path)?;
        state.dir(parent)?.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.spend_change()?;
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
