//! One segment of a partition: a file of batches, `<base offset>.log`, with its index beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::index::{SparseIndex, Summary};
use crate::error::BrokerError;
use crate::fs::{Fs, FsFile, OpenMode};

/// A segment as readers see it.
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    pub(crate) paths: SegmentPaths,
    pub(crate) body: Body,
}

/// What differs between the segment being written and the closed ones.
pub(crate) enum Body {
    /// Being written: the file is open, the index grows in memory.
    Active(ActiveBody),
    /// Closed for good: nothing is held open, so that thousands of them cost no file handles.
    Closed(Summary),
}

pub(crate) struct ActiveBody {
    pub(crate) file: Arc<dyn FsFile>,
    pub(crate) index: RwLock<SparseIndex>,
    /// Bytes that are synced, and so may be read.
    pub(crate) readable_bytes: AtomicU64,
}

impl Segment {
    pub(crate) fn active(paths: SegmentPaths, file: Arc<dyn FsFile>, index: SparseIndex, readable_bytes: u64) -> Self {
        let base_offset = paths.base_offset;
        let readable_bytes = AtomicU64::new(readable_bytes);
        Self { base_offset, paths, body: Body::Active(ActiveBody { file, index: RwLock::new(index), readable_bytes }) }
    }

    pub(crate) fn closed(paths: SegmentPaths, summary: Summary) -> Self {
        Self { base_offset: paths.base_offset, paths, body: Body::Closed(summary) }
    }

    /// Bytes that readers may look at.
    pub(crate) fn readable_bytes(&self) -> u64 {
        match &self.body {
            Body::Active(active) => active.readable_bytes.load(Ordering::Acquire),
            Body::Closed(summary) => summary.size_bytes,
        }
    }

    /// Largest timestamp, `i64::MIN` where it is empty.
    pub(crate) fn max_timestamp_ms(&self) -> i64 {
        match &self.body {
            Body::Active(active) => active.index.read().summary().max_timestamp_ms,
            Body::Closed(summary) => summary.max_timestamp_ms,
        }
    }

    /// The file, for reading.
    pub(crate) fn open(&self, fs: &dyn Fs) -> Result<Arc<dyn FsFile>, BrokerError> {
        match &self.body {
            Body::Active(active) => Ok(Arc::clone(&active.file)),
            Body::Closed(_) => {
                let path = &self.paths.log;
                fs.open(path, OpenMode::Read).map_err(|e| BrokerError::io("open", path, &e))
            }
        }
    }
}

/// Where the files of a segment are.
///
/// A segment as it was written is `<base>.log`. Compaction puts another file in the place of one or several, which covers the
/// offsets of all of them and says so in its name: `<base>-<end>-<generation>.log`. Where a crash leaves both, the higher generation
/// counts. No name is used twice, so a reader never opens another file than it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentPaths {
    pub(crate) base_offset: i64,
    /// How often what is in it was compacted; 0: never.
    pub(crate) generation: u32,
    /// One past the last offset, where the name tells it.
    pub(crate) end_offset: Option<i64>,
    pub(crate) log: PathBuf,
    pub(crate) index: PathBuf,
}

impl SegmentPaths {
    pub(crate) fn new(dir: &Path, base_offset: i64) -> Self {
        Self::named(dir, base_offset, None, 0, &format!("{base_offset:020}"))
    }

    pub(crate) fn compacted(dir: &Path, base_offset: i64, end_offset: i64, generation: u32) -> Self {
        let name = format!("{base_offset:020}-{end_offset:020}-{generation}");
        Self::named(dir, base_offset, Some(end_offset), generation, &name)
    }

    fn named(dir: &Path, base_offset: i64, end_offset: Option<i64>, generation: u32, name: &str) -> Self {
        let (log, index) = (dir.join(format!("{name}.log")), dir.join(format!("{name}.index")));
        Self { base_offset, generation, end_offset, log, index }
    }

    fn parse(dir: &Path, file_name: &str) -> Option<Self> {
        let name = file_name.strip_suffix(".log")?;
        let Some((base, rest)) = name.split_once('-') else {
            return Some(Self::new(dir, offset_of(file_name, ".log")?));
        };
        let (end, generation) = rest.split_once('-')?;
        let paths = Self::compacted(dir, offset_of(base, "")?, offset_of(end, "")?, generation.parse().ok()?);
        (paths.log.file_name()? == file_name).then_some(paths)
    }

    fn covers(&self, offset: i64) -> bool {
        self.end_offset.is_some_and(|end| (self.base_offset..end).contains(&offset))
    }
}

/// The segments of a directory, oldest first, and those that compaction has replaced but not yet removed.
pub(crate) fn list_segments<'a>(
    dir: &Path,
    names: impl Iterator<Item = &'a str>,
) -> (Vec<SegmentPaths>, Vec<SegmentPaths>) {
    let mut all: Vec<SegmentPaths> = names.filter_map(|name| SegmentPaths::parse(dir, name)).collect();
    all.sort_by_key(|paths| (paths.base_offset, paths.generation));
    let compacted: Vec<&SegmentPaths> = all.iter().filter(|paths| paths.generation > 0).collect();
    let replaced: Vec<bool> = all
        .iter()
        .map(|old| compacted.iter().any(|new| new.generation > old.generation && new.covers(old.base_offset)))
        .collect();
    let (gone, live): (Vec<_>, Vec<_>) = all.into_iter().zip(replaced).partition(|(_, replaced)| *replaced);
    let paths = |list: Vec<(SegmentPaths, bool)>| list.into_iter().map(|(paths, _)| paths).collect();
    (paths(live), paths(gone))
}

/// Where the producer-state snapshot of an offset is.
pub(crate) fn snapshot_path(dir: &Path, offset: i64) -> PathBuf {
    dir.join(format!("{offset:020}.state"))
}

/// The offset in a file name of twenty digits and this suffix.
pub(crate) fn offset_of(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}
