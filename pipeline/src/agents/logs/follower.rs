//! All files of an agent: discovery, rotation, reading in turn, spooling.
//!
//! A file is known by (device, inode), not by its name. When its name comes to lead to another file, that one waits
//! until the first has been read to its end. A file without a name is kept open and read until it has been silent for a
//! while, for its writer may not know yet. After a restart a file that was renamed meanwhile is looked for in its
//! directory and finished first.
//!
//! [`Follower::step`] is synchronous and takes the time, so that tests drive it through minutes in microseconds.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::options::{LogsOptions, StartAt};
use super::patterns::{FoundFile, Patterns};
use super::rotated::{self, Rest};
use super::tailed::{Copied, LAG, Read, TailedFile, resume};
use crate::agents::AgentError;
use crate::agents::report::Counters;
use crate::agents::shipping::{Draft, FileId, Place, Position, Spool};

const BUFFER_SIZE_BYTES: usize = 128 << 10;
/// How much of one file is read before it is the next one's turn.
const TURN_SIZE_BYTES: usize = 1 << 20;
/// How long a file is left alone whose reading failed.
const UNREADABLE_REST_MS: i64 = 10_000;
/// How long a file is left alone that looks like a copy of another.
const COPY_WAIT_MS: i64 = 10_000;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There may be more at once.
    Busy,
    /// Nothing to do before some time has passed.
    Idle,
    /// There is more, but the spool has enough for now.
    Full,
    /// Everything has been read and spooled, and nothing more will come.
    Ended,
}

/// See the module's documentation.
pub(crate) struct Follower {
    options: Arc<LogsOptions>,
    patterns: Patterns,
    start: StartAt,
    follow: bool,
    spool: Arc<Spool>,
    counters: Arc<Counters>,
    files: Vec<TailedFile>,
    /// Positions of files that are not open.
    known: HashMap<FileId, Position>,
    /// Compressed files, which are left alone, and files that could not be opened; so that each is mentioned once.
    ignored: HashSet<FoundFile>,
    unopened: HashSet<FoundFile>,
    /// Files that look like copies of open ones, and since when: they are left alone until the other is truncated or shown to be different.
    copies: HashMap<FoundFile, i64>,
    discovered_ms: Option<i64>,
    buffer: Vec<u8>,
}

impl Follower {
    /// A follower of these files that goes on where the spool says.
    pub(crate) fn new(
        options: Arc<LogsOptions>,
        patterns: Patterns,
        start: StartAt,
        follow: bool,
        spool: Arc<Spool>,
        counters: Arc<Counters>,
    ) -> Result<Self, AgentError> {
        for path in patterns.missing() {
            if !follow {
                return Err(AgentError::NoSuchFile { path });
            }
            tracing::warn!(path = %path.display(), "no such file yet; waiting for it");
        }
        let known = spool.positions().into_iter().map(|position| (position.place.file, position)).collect();
        Ok(Self {
            options,
            patterns,
            start,
            follow,
            spool,
            counters,
            files: Vec::new(),
            known,
            ignored: HashSet::new(),
            unopened: HashSet::new(),
            copies: HashMap::new(),
            discovered_ms: None,
            buffer: vec![0; BUFFER_SIZE_BYTES],
        })
    }

    /// Looks for files where that is due, reads what is new, spools what is ready. After an error the step can be
    /// repeated.
    pub(crate) fn step(&mut self, now_ms: i64) -> Result<Progress, AgentError> {
        self.discover_if_due(now_ms)?;
        let mut has_more = false;
        for at in 0..self.files.len() {
            has_more |= self.turn(at, now_ms)?;
        }
        self.close_gone(now_ms)?;
        Ok(match has_more {
            _ if !self.follow && self.files.iter().all(|file| file.at_end) => Progress::Ended,
            true if self.spool.wants_more() => Progress::Busy,
            true => Progress::Full,
            false => Progress::Idle,
        })
    }

    /// Closes and spools all events. A last line without newline waits in its file for the next run.
    pub(crate) fn finish(&mut self, now_ms: i64) -> Result<(), AgentError> {
        for file in &mut self.files {
            file.feed.finish(false, now_ms);
            spool_closed(file, &self.spool)?;
        }
        Ok(())
    }

    /// One file's turn. True where it has more.
    fn turn(&mut self, at: usize, now_ms: i64) -> Result<bool, AgentError> {
        let waits = self.files[at].after.is_some_and(|before| self.is_being_finished(at, before));
        let file = &mut self.files[at];
        let blocked = waits || now_ms < file.rest_until_ms;
        let mut taken = 0;
        let mut caught_up = false;
        spool_closed(file, &self.spool)?;
        while !blocked && !caught_up && taken < TURN_SIZE_BYTES && self.spool.wants_more() {
            let read = match file.read(&mut self.buffer, now_ms) {
                // One bad file must not hold up the others.
                Err(error) if self.follow => {
                    file.rest_until_ms = now_ms.saturating_add(UNREADABLE_REST_MS);
                    tracing::warn!("{error}; trying again");
                    return Ok(false);
                }
                read => read?,
            };
            match read {
                Read::Bytes(count) => taken += count,
                Read::Truncated => {
                    self.counters.files_truncated(1);
                    tracing::info!(path = %file.path.display(), "truncated: reading the file from its beginning");
                    return self.begin_anew(at, now_ms);
                }
                Read::End => {
                    caught_up = true;
                    if !self.follow {
                        file.feed.finish(true, now_ms);
                    }
                }
            }
            spool_closed(file, &self.spool)?;
        }
        file.feed.tick(caught_up, now_ms);
        spool_closed(file, &self.spool)?;
        Ok(!blocked && !caught_up)
    }

    /// A file was truncated. What it held may be in a copy, which is then read to its end before the file itself is read on.
    fn begin_anew(&mut self, at: usize, now_ms: i64) -> Result<bool, AgentError> {
        let file = &self.files[at];
        let mut position = file.origin().position(file.feed.line_start());
        position.path = file.path.display().to_string();
        let rest = self.rest_of(&position);
        self.files[at].begin_anew(rest.is_some(), now_ms);
        spool_closed(&mut self.files[at], &self.spool)?;
        position.path = self.files[at].lane.to_string();
        if let Some(rest) = rest {
            self.files[at].after = self.go_on_in(rest, &position, now_ms)?;
        }
        Ok(true)
    }

    /// What a position was read from, where it is in another file by now. A directory that cannot be looked through has none.
    fn rest_of(&self, position: &Position) -> Option<Rest> {
        rotated::find(position, |found| self.knows(found)).unwrap_or_else(|error| {
            tracing::warn!("{error}: what was not read of {} may be in there", position.path);
            None
        })
    }

    /// Whether a file is being read or has been; not only one that had its number.
    fn knows(&self, found: &FoundFile) -> bool {
        let is_open = || self.files.iter().any(|file| file.id == found.id && !file.is_unpacked());
        let was_read = |known: &Position| resume(&found.path, &known.place).is_ok_and(|offset| offset.is_some());
        is_open() || self.known.get(&found.id).is_some_and(was_read)
    }

    /// Opens what was found of a file, to be read to its end; gives its id, unless there is nothing to read.
    fn go_on_in(&mut self, rest: Rest, position: &Position, now_ms: i64) -> Result<Option<FileId>, AgentError> {
        let (counters, offset) = (Arc::clone(&self.counters), position.place.offset);
        let mut file = match rest {
            Rest::Copy { found, has_more } => {
                // Not from its beginning, should a pattern lead to it.
                self.copies.remove(&found);
                let size_bytes = fs::metadata(&found.path).map_err(AgentError::io("look at", &found.path))?.len();
                let place = Place { file: found.id, offset: size_bytes.min(offset), ..position.place };
                let here = Position { path: position.path.clone(), place };
                // The file that it is a copy of will soon be known at another place.
                self.spool.note(&here)?;
                if !has_more {
                    self.known.insert(found.id, here);
                    return Ok(None);
                }
                tracing::info!(from = position.path, to = %found.path.display(), "the file was copied: finishing the copy");
                TailedFile::open(&found.path, &position.path, offset, &self.options, counters, now_ms)?
            }
            Rest::Unpacked(unpacked) => {
                tracing::info!(from = position.path, to = %unpacked.path.display(), "the file was compressed: finishing it");
                TailedFile::unpacked(unpacked, position, &self.options, counters, now_ms)?
            }
        };
        file.gone_since_ms = Some(now_ms);
        let id = file.id;
        self.files.push(file);
        Ok(Some(id))
    }

    /// Whether another file still has bytes that were not read.
    fn is_being_finished(&self, at: usize, id: FileId) -> bool {
        self.files.iter().enumerate().any(|(other, file)| other != at && file.id == id && !file.at_end)
    }

    fn discover_if_due(&mut self, now_ms: i64) -> Result<(), AgentError> {
        let every_ms = self.options.discover_every.as_millis() as i64;
        match self.discovered_ms {
            Some(last_ms) if !self.follow || (last_ms..last_ms.saturating_add(every_ms)).contains(&now_ms) => Ok(()),
            _ => {
                let first = self.discovered_ms.is_none();
                self.discover(first, now_ms)?;
                self.discovered_ms = Some(now_ms);
                Ok(())
            }
        }
    }

    fn discover(&mut self, first: bool, now_ms: i64) -> Result<(), AgentError> {
        let found = self.patterns.find();
        if first {
            self.find_renamed(&found, now_ms)?;
        }
        // Which open file had each name, before names are brought up to date.
        let before: HashMap<PathBuf, FileId> =
            self.files.iter().map(|file| (file.path.clone(), file.id)).chain(self.renamed_at_start()).collect();
        let names: HashMap<FileId, &PathBuf> = found.iter().map(|found| (found.id, &found.path)).collect();
        // One that is unpacked has no name of its own, and the number of its file may have been given to another.
        for file in self.files.iter_mut().filter(|file| !file.is_unpacked()) {
            match names.get(&file.id) {
                Some(&name) => {
                    if file.path != *name {
                        tracing::info!(from = %file.path.display(), to = %name.display(), "the file was renamed");
                        self.counters.files_rotated(1);
                        file.at_end = false;
                    }
                    file.path.clone_from(name);
                    file.gone_since_ms = None;
                }
                None if file.gone_since_ms.is_none() => {
                    tracing::info!(path = %file.path.display(), "renamed or removed: reading the file to its end");
                    self.counters.files_rotated(1);
                    file.gone_since_ms = Some(now_ms);
                    file.at_end = false;
                }
                None => {}
            }
        }
        for file in &self.files {
            file.tell_lag();
        }
        // Forgotten once they are gone: a new file may be given the number of an old one.
        self.ignored.retain(|file| found.contains(file));
        self.unopened.retain(|file| found.contains(file));
        self.copies.retain(|file, _| found.contains(file));
        let open: HashSet<FileId> = self.files.iter().filter(|file| !file.is_unpacked()).map(|file| file.id).collect();
        for found in found.iter().filter(|found| !open.contains(&found.id)) {
            if self.ignored.contains(found) || self.looks_like_a_copy(found, now_ms) {
                continue;
            }
            match self.open(found, first, now_ms) {
                Ok(Some(mut file)) => {
                    file.after = before.get(&found.path).copied();
                    self.files.push(file);
                }
                Ok(None) => {
                    self.ignored.insert(found.clone());
                }
                // It may be gone again, or become readable.
                Err(error) if self.follow => {
                    if self.unopened.insert(found.clone()) {
                        tracing::warn!("{error}; trying again");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether a new file is a copy of an open one, so that its content is read already or will be. Told from a file that merely begins alike by what follows:
    /// the other is truncated, and reading goes on in the copy behind what was read; or the two become different. Where neither happens for a while, it
    /// is a file of its own.
    fn looks_like_a_copy(&mut self, found: &FoundFile, now_ms: i64) -> bool {
        if !self.follow || self.knows(found) {
            return false;
        }
        let mut of = self.files.iter().map(|file| file.is_copied_to(&found.path).unwrap_or(Copied::No));
        let is_empty = || fs::metadata(&found.path).is_ok_and(|metadata| metadata.len() == 0);
        match of.find(|copied| *copied != Copied::No) {
            None | Some(Copied::No) => return false,
            Some(Copied::Before) => return true,
            Some(Copied::Now) if is_empty() => return true,
            Some(Copied::Now) => {}
        }
        let since_ms = *self.copies.entry(found.clone()).or_insert_with(|| {
            tracing::info!(path = %found.path.display(), "looks like a copy of a file that is being read: left alone for now");
            now_ms
        });
        (since_ms..since_ms.saturating_add(COPY_WAIT_MS)).contains(&now_ms)
    }

    fn open(&mut self, found: &FoundFile, first: bool, now_ms: i64) -> Result<Option<TailedFile>, AgentError> {
        let path = &found.path;
        if rotated::compression(path).map_err(AgentError::io("look into", path))?.is_some() {
            tracing::warn!(path = %path.display(), "the file is compressed: left alone");
            return Ok(None);
        }
        let offset = match self.known.get(&found.id) {
            Some(position) => match resume(path, &position.place)? {
                Some(offset) => offset,
                None => {
                    tracing::info!(path = %path.display(), "not the file it was: reading it from its beginning");
                    self.counters.files_truncated(1);
                    0
                }
            },
            None if first && self.start == StartAt::End => {
                fs::metadata(path).map_err(AgentError::io("look at", path))?.len()
            }
            None => 0,
        };
        let lane = path.display().to_string();
        let file = TailedFile::open(path, &lane, offset, &self.options, Arc::clone(&self.counters), now_ms)?;
        if self.known.remove(&found.id).is_none() && offset > 0 {
            // Where reading starts at the end, that must hold for the next run too.
            self.spool.note(&file.origin().position(offset))?;
        }
        tracing::info!(path = %path.display(), offset, "reading");
        Ok(Some(file))
    }

    /// What became of files while no agent ran: those with bytes left that were renamed, copied and truncated, or compressed are opened as files that have
    /// lost their name. Positions of files that are gone are forgotten.
    fn find_renamed(&mut self, found: &[FoundFile], now_ms: i64) -> Result<(), AgentError> {
        let mut deleted = Vec::new();
        let positions: Vec<Position> = self.known.values().cloned().collect();
        for position in positions {
            let path = Path::new(&position.path);
            let here = found.iter().find(|found| found.id == position.place.file);
            if here.is_some_and(|here| resume(&here.path, &position.place).is_ok_and(|offset| offset.is_some())) {
                continue;
            }
            let Some(neighbours) = neighbours(path) else { continue };
            let now_at = neighbours.into_iter().find(|found| found.id == position.place.file);
            let renamed = now_at.filter(|_| here.is_none());
            let size_bytes = |path: &Path| Ok(fs::metadata(path).map_err(AgentError::io("look at", path))?.len());
            if let Some(renamed) = &renamed
                && resume(&renamed.path, &position.place)?.is_some()
            {
                if size_bytes(&renamed.path)? <= position.place.offset || !self.patterns.covers(path) {
                    continue;
                }
                let (from, to) = (path.display(), renamed.path.display());
                tracing::info!(%from, %to, "renamed while no agent ran: finishing the file");
                let (counters, offset) = (Arc::clone(&self.counters), position.place.offset);
                let mut file =
                    TailedFile::open(&renamed.path, &position.path, offset, &self.options, counters, now_ms)?;
                file.gone_since_ms = Some(now_ms);
                self.counters.files_rotated(1);
                self.files.push(file);
                continue;
            }
            let rest = if self.patterns.covers(path) { self.rest_of(&position) } else { None };
            match rest {
                Some(rest) => {
                    let has_more = self.go_on_in(rest, &position, now_ms)?.is_some();
                    self.counters.files_rotated(u64::from(has_more));
                }
                None if here.is_none() && renamed.is_none() => {
                    tracing::info!(path = position.path, "gone: what was not read of it cannot be");
                    deleted.push(position.place.file);
                }
                None => {}
            }
        }
        // Positions in files that were written anew in place go with the first batch of what is in them now.
        for file in
            self.files.iter().filter(|file| !file.is_unpacked() || !found.iter().any(|found| found.id == file.id))
        {
            self.known.remove(&file.id);
        }
        for file in &deleted {
            self.known.remove(file);
        }
        self.spool.forget(&deleted)
    }

    /// The names that files found by [`Self::find_renamed`] had.
    fn renamed_at_start(&self) -> impl Iterator<Item = (PathBuf, FileId)> + '_ {
        let without_name = self.files.iter().filter(|file| file.gone_since_ms.is_some());
        without_name.map(|file| (PathBuf::from(&*file.lane), file.id))
    }

    /// Closes files without a name that have been read to their end and stay silent.
    fn close_gone(&mut self, now_ms: i64) -> Result<(), AgentError> {
        let wait_ms = self.options.rotated_wait.as_millis() as i64;
        let spool = &self.spool;
        let mut at = 0;
        while let Some(file) = self.files.get_mut(at) {
            let is_over =
                file.at_end && file.gone_since_ms.is_some_and(|since_ms| file.is_silent(since_ms, wait_ms, now_ms));
            if !(self.follow && is_over) {
                at += 1;
                continue;
            }
            file.feed.finish(true, now_ms);
            spool_closed(file, spool)?;
            tracing::info!(path = %file.path.display(), "closing the file that was renamed or removed");
            let file = self.files.remove(at);
            metrics::gauge!(LAG, "path" => file.lane.to_string()).set(0.0);
            self.known.insert(file.id, file.origin().position(file.feed.offset()));
        }
        Ok(())
    }
}

/// Makes the closed batches of a file durable, with the positions behind them.
fn spool_closed(file: &mut TailedFile, spool: &Spool) -> Result<(), AgentError> {
    let (lane, origin) = (Arc::clone(&file.lane), file.origin());
    file.feed.drain_closed(|batch| {
        spool.push(Draft {
            lane: &lane,
            rows: batch.rows,
            body: &batch.body,
            position: Some(origin.position(batch.end)),
        })
    })
}

/// The regular files in the directory of `path`; `None` where it cannot be listed (an unmounted disk, say).
fn neighbours(path: &Path) -> Option<Vec<FoundFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(rotated::directory(path)).ok()?.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            files.push(FoundFile { path: entry.path(), id: FileId::of(&metadata) });
        }
    }
    Some(files)
}
