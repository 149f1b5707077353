//! An append-only file of checked entries, replaced as a whole when most of it is out of date.
//!
//! ```text
//! <sequence>.journal:  entries back to back, then the zeros of preallocation
//!   0  4  length of the entry, at least 1
//!   4  4  CRC32C of the entry
//!   8  .. the entry (entry.rs)
//! ```
//!
//! Only the file with the highest sequence counts. A torn tail is cut where nothing valid follows; damage in the middle is
//! passed over and reported, since each entry stands for itself and later ones replace earlier ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::Entry;
use crate::error::{BrokerError, is_disk_full};
use crate::fs::file::{read_all, rewrite, sweep_temporary_files, write_atomically};
use crate::fs::{Fs, FsFile, OpenMode};

const FRAME_HEADER_SIZE_BYTES: usize = 8;
const MAX_ENTRY_SIZE_BYTES: usize = 16 << 20;
const STEP_BYTES: u64 = 64 << 10;
const SUFFIX: &str = ".journal";

pub(super) struct Journal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    sequence: u64,
    path: PathBuf,
    file: Arc<dyn FsFile>,
    written: u64,
    allocated: u64,
    /// Size right after it was last written anew.
    compacted: u64,
}

impl Journal {
    /// Opens the newest journal for writing, or makes the first.
    pub(super) fn open(fs: Arc<dyn Fs>, dir: PathBuf) -> Result<(Self, Vec<Entry>), BrokerError> {
        sweep_temporary_files(fs.as_ref(), &dir)?;
        let mut sequences = sequences(fs.as_ref(), &dir)?;
        let sequence = match sequences.pop() {
            Some(newest) => newest,
            None => {
                write_atomically(fs.as_ref(), &path_of(&dir, 1), &[])?;
                1
            }
        };
        for old in sequences {
            remove(fs.as_ref(), &path_of(&dir, old));
        }
        let path = path_of(&dir, sequence);
        let bytes = read_all(fs.as_ref(), &path)?.unwrap_or_default();
        let (entries, end) = parse(&bytes, &path);
        let io = |action| {
            let path = path.clone();
            move |e: std::io::Error| BrokerError::io(action, path.clone(), &e)
        };
        let file = fs.open(&path, OpenMode::Write).map_err(io("open"))?;
        if bytes[end..].iter().any(|byte| *byte != 0) {
            tracing::warn!(path = %path.display(), bytes = bytes.len() - end, "cut a torn tail off the journal of committed offsets");
            file.set_len(end as u64).map_err(io("cut"))?;
        }
        rewrite(file.as_ref(), 0, end as u64).map_err(io("write"))?;
        file.sync_data().map_err(io("sync"))?;
        let allocated = file.size_bytes().map_err(io("measure"))?;
        let journal = Self { fs, dir, sequence, path, file, written: end as u64, allocated, compacted: 0 };
        Ok((journal, entries))
    }

    /// The entries of the newest journal, changing nothing.
    pub(super) fn read(fs: &dyn Fs, dir: &Path) -> Result<Vec<Entry>, BrokerError> {
        let Some(newest) = sequences(fs, dir)?.pop() else { return Ok(Vec::new()) };
        let path = path_of(dir, newest);
        // Gone between the two looks: it was replaced, so there is a newer one.
        match read_all(fs, &path)? {
            Some(bytes) => Ok(parse(&bytes, &path).0),
            None => Self::read(fs, dir),
        }
    }

    /// Writes an entry; it is durable after [`Self::sync`]. Where the disk is full nothing of it remains.
    pub(super) fn append(&mut self, entry: &Entry) -> Result<(), BrokerError> {
        let frame = frame(entry)?;
        let needed = self.written + frame.len() as u64;
        let reserved = if needed <= self.allocated { Ok(()) } else { self.file.allocate(needed + STEP_BYTES) };
        match reserved.and_then(|()| self.file.write_all_at(&frame, self.written)) {
            Ok(()) => {
                self.written = needed;
                self.allocated = self.allocated.max(needed);
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.written).map_err(|e| BrokerError::io("cut", &self.path, &e))?;
                self.allocated = self.written;
                Err(if is_disk_full(&error) {
                    BrokerError::DiskFull { path: self.path.clone(), needed_bytes: frame.len() as u64 }
                } else {
                    BrokerError::io("write", &self.path, &error)
                })
            }
        }
    }

    pub(super) fn sync(&self) -> Result<(), BrokerError> {
        self.file.sync_data().map_err(|e| BrokerError::io("sync", &self.path, &e))
    }

    /// True where the journal is larger than this and has at least doubled since it was last written anew.
    pub(super) fn is_compaction_due(&self, above_bytes: u64) -> bool {
        self.written > above_bytes && self.written > 2 * self.compacted
    }

    /// Puts a new journal of only these entries in place of this one.
    pub(super) fn replace(&mut self, entries: &[Entry]) -> Result<(), BrokerError> {
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend_from_slice(&frame(entry)?);
        }
        let path = path_of(&self.dir, self.sequence + 1);
        write_atomically(self.fs.as_ref(), &path, &bytes)?;
        self.file = self.fs.open(&path, OpenMode::Write).map_err(|e| BrokerError::io("open", &path, &e))?;
        remove(self.fs.as_ref(), &self.path);
        self.path = path;
        self.sequence += 1;
        self.written = bytes.len() as u64;
        self.allocated = self.written;
        self.compacted = self.written;
        Ok(())
    }
}

fn frame(entry: &Entry) -> Result<Vec<u8>, BrokerError> {
    let body = entry.encode();
    if body.len() > MAX_ENTRY_SIZE_BYTES {
        return Err(BrokerError::InvalidConfig {
            what: format!(
                "a commit of {} bytes is above the limit of {MAX_ENTRY_SIZE_BYTES}: commit fewer partitions at once",
                body.len()
            ),
        });
    }
    let mut frame = Vec::with_capacity(FRAME_HEADER_SIZE_BYTES + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// All valid entries and where the last one ends.
fn parse(bytes: &[u8], path: &Path) -> (Vec<Entry>, usize) {
    let mut entries = Vec::new();
    let (mut at, mut end) = (0, 0);
    while at < bytes.len() {
        match entry_at(&bytes[at..]) {
            Some((entry, size)) => {
                if at > end {
                    tracing::error!(path = %path.display(), from = end, to = at, "the journal of committed offsets is damaged here; later entries are read");
                    metrics::counter!("highwater_broker_journal_damaged_total").increment(1);
                }
                entries.push(entry);
                at += size;
                end = at;
            }
            None => at += 1,
        }
    }
    (entries, end)
}

fn entry_at(bytes: &[u8]) -> Option<(Entry, usize)> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let size = u32::from_be_bytes(*size) as usize;
    if size == 0 || size > MAX_ENTRY_SIZE_BYTES {
        return None;
    }
    let body = rest.get(..size)?;
    let entry = (crc32c::crc32c(body) == u32::from_be_bytes(*crc)).then(|| Entry::decode(body))??;
    Some((entry, FRAME_HEADER_SIZE_BYTES + size))
}

fn sequences(fs: &dyn Fs, dir: &Path) -> Result<Vec<u64>, BrokerError> {
    let entries = fs.read_dir(dir).map_err(|e| BrokerError::io("list", dir, &e))?;
    let mut sequences: Vec<u64> = entries.iter().filter_map(|e| e.name.strip_suffix(SUFFIX)?.parse().ok()).collect();
    sequences.sort_unstable();
    Ok(sequences)
}

fn path_of(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:020}{SUFFIX}"))
}

fn remove(fs: &dyn Fs, path: &Path) {
    if let Err(error) = fs.remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove an old journal; the next start tries again");
    }
}
