//! The disk spool: what has been read and not yet been acknowledged.
//!
//! A batch is one file in `spool/` ([`super::batch_file`]), named by its number. Its life:
//!
//! ```text
//!   push ──> waiting ──claim──> in flight ──settle──> gone (position in the checkpoint)
//!               └──over the cap──> dropped (counted; position in the checkpoint)
//! ```
//! Invariants:
//! - a batch is durable before it can be claimed, and its position with it;
//! - its file is removed only after its position is durable in the checkpoint, so a position is never lost and never
//!   goes back;
//! - of one lane at most one batch is in flight, the lowest number first;
//! - the newest batch is never dropped, one in flight neither: the cap may be exceeded by those.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::batch_file::{self, Header};
use super::checkpoint::Checkpoint;
use super::files;
use super::options::{ShippingOptions, WhenFull};
use super::position::{FileId, Place, Position};
use super::refused::RefusedFolder;
use crate::agents::AgentError;
use crate::agents::report::{Counters, Report};

/// While the server takes what it is sent, readers pause at this many waiting batches instead of filling the disk.
const HEALTHY_BACKLOG: usize = 256;
/// zstd's fastest ordinary level: log lines shrink about tenfold, for less CPU than sending them would cost.
const COMPRESSION_LEVEL: i32 = 1;

/// Gauges of all spools of a process together.
const SIZE: &str = "highwater_agent_spool_size_bytes";
const ROWS: &str = "highwater_agent_spool_rows";

/// Rows ready to be spooled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft<'a> {
    /// Rows of one lane are sent in order.
    pub(crate) lane: &'a str,
    /// How many lines `body` has.
    pub(crate) rows: u64,
    /// NDJSON.
    pub(crate) body: &'a [u8],
    /// Where reading goes on behind these rows.
    pub(crate) position: Option<Position>,
}

/// A batch that is now the claimer's to deliver, and to settle or release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) number: u64,
    pub(crate) lane: Arc<str>,
    pub(crate) rows: u64,
    pub(crate) path: PathBuf,
}

/// See the module's documentation.
pub(crate) struct Spool {
    directory: PathBuf,
    checkpoint_path: PathBuf,
    limit_bytes: u64,
    when_full: WhenFull,
    healthy: AtomicBool,
    state: Mutex<State>,
    /// Held over every change of the checkpoint file, so that an older one never replaces a newer.
    settling: Mutex<Checkpoint>,
    pushed: Notify,
    counters: Arc<Counters>,
    refused: RefusedFolder,
    _lock: File,
}

#[derive(Default)]
struct State {
    batches: BTreeMap<u64, Entry>,
    /// All lanes there were, so that batches share their names.
    lanes: HashSet<Arc<str>>,
    /// Lanes with a batch in flight.
    busy: HashSet<Arc<str>>,
    next_number: u64,
    size_bytes: u64,
    rows: u64,
}

/// What is kept in memory of a batch: little, for a full spool may hold half a million.
struct Entry {
    lane: Arc<str>,
    rows: u64,
    size_bytes: u64,
    place: Option<Place>,
    stage: Stage,
}

impl Entry {
    /// A batch with a position has the file's path for its lane.
    fn position(&self) -> Option<Position> {
        self.place.map(|place| Position { path: self.lane.to_string(), place })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    InFlight,
    /// Being dropped: nobody may claim it any more.
    Leaving,
}

impl Spool {
    /// Opens the state directory: takes its lock, sweeps what a crash left half written, finds the batches to deliver.
    /// A damaged batch goes to `refused/`, counted as dropped.
    pub(crate) fn open(options: &ShippingOptions, counters: Arc<Counters>) -> Result<Self, AgentError> {
        let root = &options.state_dir;
        let directory = root.join("spool");
        files::create_directory(root)?;
        files::create_directory(&directory)?;
        let lock = lock(root)?;
        let refused = RefusedFolder::open(root.join("refused"))?;
        let checkpoint_path = root.join("checkpoint.json");
        let checkpoint = Checkpoint::read(&checkpoint_path)?;
        let mut state = State { next_number: checkpoint.last_batch() + 1, ..State::default() };
        for path in listed(&directory)? {
            let Some(number) = number_of(&path) else {
                fs::remove_file(&path).map_err(AgentError::io("remove", &path))?;
                continue;
            };
            state.next_number = state.next_number.max(number + 1);
            match batch_file::read_header(&path)? {
                (Ok(header), size_bytes) => {
                    counters.rows_found(header.rows);
                    state.insert(number, header, size_bytes);
                }
                (Err(damage), _) => {
                    tracing::error!(path = %path.display(), "a spooled batch is damaged ({damage}): moved to refused/");
                    refused.keep_damaged(&path)?;
                    counters.batches_damaged(1);
                }
            }
        }
        Ok(Self {
            directory,
            checkpoint_path,
            limit_bytes: options.spool_size_bytes,
            when_full: options.when_full,
            healthy: AtomicBool::new(true),
            state: Mutex::new(state),
            settling: Mutex::new(checkpoint),
            pushed: Notify::new(),
            counters,
            refused,
            _lock: lock,
        })
    }

    /// Where each known file is read on: the checkpoint, overruled by the batches still here.
    pub(crate) fn positions(&self) -> Vec<Position> {
        let mut merged = self.settling.lock().clone();
        let state = self.state.lock();
        for (number, entry) in &state.batches {
            if let Some(position) = entry.position() {
                merged.advance(*number, &position);
            }
        }
        merged.positions()
    }

    /// Notes where a file is to be read on although nothing before was shipped.
    pub(crate) fn note(&self, position: &Position) -> Result<(), AgentError> {
        let mut checkpoint = self.settling.lock();
        checkpoint.advance(self.state.lock().take_number(), position);
        checkpoint.write(&self.checkpoint_path)
    }

    /// Forgets files that are gone.
    pub(crate) fn forget(&self, files: &[FileId]) -> Result<(), AgentError> {
        let mut checkpoint = self.settling.lock();
        let known = files.iter().filter(|file| checkpoint.forget(**file)).count();
        if known > 0 { checkpoint.write(&self.checkpoint_path) } else { Ok(()) }
    }

    /// Makes a batch durable and offers it for delivery. Where the spool is full, the oldest waiting batches go first.
    /// After an error nothing has changed and the draft can be pushed again.
    pub(crate) fn push(&self, draft: Draft<'_>) -> Result<(), AgentError> {
        let number = self.state.lock().take_number();
        let path = self.path_of(number);
        let body = zstd::bulk::compress(draft.body, COMPRESSION_LEVEL).map_err(AgentError::io("compress", &path))?;
        let header = Header {
            key: Uuid::new_v4().to_string(),
            lane: draft.lane.to_string(),
            rows: draft.rows,
            position: draft.position,
        };
        let bytes = batch_file::encode(&header, &body)
            .map_err(|error| AgentError::State { path: path.clone(), reason: error.to_string() })?;
        let size_bytes = bytes.len() as u64;
        if self.when_full == WhenFull::DropOldest {
            self.make_room(size_bytes)?;
        }
        files::write_durably(&path, &bytes)?;
        self.counters.rows_made(draft.rows);
        self.state.lock().insert(number, header, size_bytes);
        self.pushed.notify_one();
        Ok(())
    }

    /// Whether readers should read on. While the server answers, a modest backlog is enough: what is not read yet is
    /// safe where it is. While it is away, reading goes on (up to the cap with [`WhenFull::Wait`]).
    pub(crate) fn wants_more(&self) -> bool {
        let state = self.state.lock();
        let has_room = state.size_bytes < self.limit_bytes;
        match (self.healthy.load(Ordering::Relaxed), self.when_full) {
            (true, _) => has_room && state.batches.len() < HEALTHY_BACKLOG,
            (false, WhenFull::Wait) => has_room,
            (false, WhenFull::DropOldest) => true,
        }
    }

    /// Tells readers whether the server takes what it is sent.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    /// The oldest batch whose lane has none in flight.
    pub(crate) fn claim(&self) -> Option<Claimed> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (number, entry) = state
            .batches
            .iter_mut()
            .find(|(_, entry)| entry.stage == Stage::Waiting && !state.busy.contains(&entry.lane))?;
        entry.stage = Stage::InFlight;
        state.busy.insert(Arc::clone(&entry.lane));
        Some(Claimed { number: *number, lane: Arc::clone(&entry.lane), rows: entry.rows, path: self.path_of(*number) })
    }

    /// Waits for a batch to be pushed.
    pub(crate) async fn pushed(&self) {
        self.pushed.notified().await;
    }

    /// These batches are done with, delivered or refused: their positions go to the checkpoint, then their files go.
    pub(crate) fn settle(&self, claimed: &[Claimed]) -> Result<(), AgentError> {
        let numbers: Vec<u64> = claimed.iter().map(|claimed| claimed.number).collect();
        self.remove(&numbers)?;
        let mut state = self.state.lock();
        for claimed in claimed {
            state.busy.remove(&claimed.lane);
        }
        Ok(())
    }

    /// Where refused rows are kept.
    pub(crate) fn refused(&self) -> &RefusedFolder {
        &self.refused
    }

    /// The counters, with what is in the spool now.
    pub(crate) fn report(&self) -> Report {
        let state = self.state.lock();
        Report { rows_spooled: state.rows, spool_size_bytes: state.size_bytes, ..self.counters.report() }
    }

    /// How many batches are here.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().batches.len()
    }

    /// The spool's directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn make_room(&self, size_bytes: u64) -> Result<(), AgentError> {
        let (numbers, rows) = {
            let mut state = self.state.lock();
            let mut excess = (state.size_bytes + size_bytes).saturating_sub(self.limit_bytes);
            let mut numbers = Vec::new();
            let mut rows = 0;
            for (number, entry) in state.batches.iter_mut().filter(|(_, entry)| entry.stage == Stage::Waiting) {
                if excess == 0 {
                    break;
                }
                entry.stage = Stage::Leaving;
                excess = excess.saturating_sub(entry.size_bytes);
                rows += entry.rows;
                numbers.push(*number);
            }
            (numbers, rows)
        };
        if numbers.is_empty() {
            return Ok(());
        }
        tracing::error!(
            spool = %self.directory.display(), batches = numbers.len(), rows,
            "the spool is full ({} bytes) and the server is away: the oldest batches are dropped", self.limit_bytes
        );
        let removed = self.remove(&numbers);
        if removed.is_err() {
            let mut state = self.state.lock();
            for number in &numbers {
                if let Some(entry) = state.batches.get_mut(number) {
                    entry.stage = Stage::Waiting;
                }
            }
        }
        removed?;
        self.counters.rows_dropped(rows);
        Ok(())
    }

    /// Positions first, then files. Where a later batch of the same file stays, the position it carries is enough: no
    /// checkpoint is written then, which makes draining a backlog cheap, and possible on a full disk.
    fn remove(&self, numbers: &[u64]) -> Result<(), AgentError> {
        let mut checkpoint = self.settling.lock();
        let must_write = {
            let state = self.state.lock();
            let mut must_write = false;
            for number in numbers {
                let Some(position) = state.batches.get(number).and_then(Entry::position) else {
                    continue;
                };
                checkpoint.advance(*number, &position);
                must_write |= !state.is_overruled(*number, position.place.file, numbers);
            }
            must_write
        };
        if must_write {
            checkpoint.write(&self.checkpoint_path)?;
        }
        for number in numbers {
            let path = self.path_of(*number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(AgentError::io("remove", &path)(error));
                }
                _ => self.state.lock().remove(*number),
            }
        }
        Ok(())
    }

    fn path_of(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:020}.{ENDING}"))
    }
}

const ENDING: &str = "batch";

impl State {
    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    fn insert(&mut self, number: u64, header: Header, size_bytes: u64) {
        metrics::gauge!(SIZE).increment(size_bytes as f64);
        metrics::gauge!(ROWS).increment(header.rows as f64);
        self.size_bytes += size_bytes;
        self.rows += header.rows;
        let lane: Arc<str> = match self.lanes.get(header.lane.as_str()) {
            Some(lane) => Arc::clone(lane),
            None => Arc::from(header.lane),
        };
        self.lanes.insert(Arc::clone(&lane));
        let place = header.position.map(|position| position.place);
        self.batches.insert(number, Entry { lane, rows: header.rows, size_bytes, place, stage: Stage::Waiting });
    }

    /// Whether a batch that stays has a later position of this file.
    fn is_overruled(&self, number: u64, file: FileId, leaving: &[u64]) -> bool {
        self.batches
            .range(number + 1..)
            .any(|(later, entry)| entry.place.is_some_and(|place| place.file == file) && !leaving.contains(later))
    }

    fn remove(&mut self, number: u64) {
        if let Some(entry) = self.batches.remove(&number) {
            metrics::gauge!(SIZE).decrement(entry.size_bytes as f64);
            metrics::gauge!(ROWS).decrement(entry.rows as f64);
            self.size_bytes -= entry.size_bytes;
            self.rows -= entry.rows;
        }
    }
}

fn number_of(path: &Path) -> Option<u64> {
    (path.extension()? == ENDING).then_some(())?;
    path.file_stem()?.to_str()?.parse().ok()
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>, AgentError> {
    let io = |source| AgentError::io("list", directory)(source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The lock is the kernel's: it goes with the process, however that ends.
fn lock(root: &Path) -> Result<File, AgentError> {
    let path = root.join("lock");
    let file = File::create(&path).map_err(AgentError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AgentError::Locked { directory: root.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(AgentError::io("lock", &path)(source)),
    }
}
