//! The whole simulated disk: its tree, its room and its faults.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use super::node::{DirNode, FileNode, Node};

pub(super) const ROOT: u64 = 0;

pub(super) struct State {
    pub(super) nodes: HashMap<u64, Node>,
    pub(super) next_id: u64,
    /// Counts crashes; handles of an earlier life are stale.
    pub(super) life: u64,
    pub(super) locks: HashSet<u64>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) failing_syncs: Vec<String>,
    pub(super) failing_writes: Vec<(String, usize, ErrorKind)>,
    pub(super) sync_count: u64,
    /// Changes that still happen before the process is as good as dead.
    pub(super) changes_left: Option<u64>,
}

impl State {
    /// Counts a change, and refuses it once there are no more to come.
    pub(super) fn spend_change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("injected: the process is dead")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    pub(super) fn dir(&mut self, id: u64) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file(&mut self, id: u64) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn add(&mut self, node: Node) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        id
    }

    pub(super) fn find(&mut self, path: &Path) -> io::Result<u64> {
        let mut id = ROOT;
        for name in names(path)? {
            id = *self.dir(id)?.now.get(name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(id)
    }

    pub(super) fn find_parent<'a>(&mut self, path: &'a Path) -> io::Result<(u64, &'a str)> {
        let mut names = names(path)?;
        let last = names.pop().ok_or(ErrorKind::InvalidInput)?;
        let mut id = ROOT;
        for name in names {
            id = *self.dir(id)?.now.get(name).ok_or(ErrorKind::NotFound)?;
        }
        self.dir(id)?;
        Ok((id, last))
    }

    pub(super) fn used_bytes(&self, id: u64) -> u64 {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => file.now.len() as u64,
            Some(Node::Dir(dir)) => dir.now.values().map(|&child| self.used_bytes(child)).sum(),
            None => 0,
        }
    }

    pub(super) fn check_room(&self, more_bytes: u64) -> io::Result<()> {
        match self.capacity_bytes {
            Some(capacity) if more_bytes > 0 && self.used_bytes(ROOT) + more_bytes > capacity => {
                Err(ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn clear_dir(&mut self, id: u64) -> io::Result<()> {
        for (name, child) in self.dir(id)?.now.clone() {
            if matches!(self.nodes.get(&child), Some(Node::Dir(_))) {
                self.clear_dir(child)?;
            }
            self.dir(id)?.change(vec![(name, None)]);
        }
        Ok(())
    }

    pub(super) fn sync_fails(&mut self, path: &str) -> bool {
        let found = self.failing_syncs.iter().position(|needle| path.contains(needle.as_str()));
        found.map(|i| self.failing_syncs.remove(i)).is_some()
    }
}

/// The names along a path, from the root.
pub(super) fn names(path: &Path) -> io::Result<Vec<&str>> {
    path.components()
        .filter(|c| !matches!(c, Component::RootDir | Component::CurDir))
        .map(|c| match c {
            Component::Normal(name) => name.to_str().ok_or_else(|| ErrorKind::InvalidInput.into()),
            _ => Err(ErrorKind::InvalidInput.into()),
        })
        .collect()
}
