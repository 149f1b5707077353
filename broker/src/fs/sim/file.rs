//! Open files and held locks of the simulated disk.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;

use super::node::Change;
use super::state::State;
use crate::fs::{FsFile, FsLock, OpenMode};

pub(super) struct SimLock {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) id: u64,
    pub(super) life: u64,
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

pub(super) struct SimFile {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) id: u64,
    pub(super) life: u64,
    pub(super) path: String,
    pub(super) mode: OpenMode,
}

impl SimFile {
    fn with<T>(&self, run: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.life != self.life {
            return Err(io::Error::other("the process that opened this file is dead"));
        }
        run(&mut state)
    }

    /// [`Self::with`], for what changes the disk.
    fn change<T>(&self, run: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.with(|state| state.spend_change().and_then(|()| run(state)))
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
        self.change(|state| {
            if let Some(i) = state.failing_writes.iter().position(|(needle, ..)| self.path.contains(needle.as_str())) {
                let (_, written_bytes, kind) = state.failing_writes.remove(i);
                self.write(state, &bytes[..written_bytes.min(bytes.len())], offset)?;
                return Err(kind.into());
            }
            self.write(state, bytes, offset)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|state| {
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
        self.change(|state| {
            if state.file(self.id)?.now.len() as u64 >= size_bytes { Ok(()) } else { self.resize(state, size_bytes) }
        })
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        self.change(|state| self.resize(state, size_bytes))
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.file(self.id)?.now.len() as u64))
    }
}
