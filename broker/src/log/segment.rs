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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentPaths {
    pub(crate) base_offset: i64,
    pub(crate) log: PathBuf,
    pub(crate) index: PathBuf,
}

impl SegmentPaths {
    pub(crate) fn new(dir: &Path, base_offset: i64) -> Self {
        Self {
            base_offset,
            log: dir.join(format!("{base_offset:020}.log")),
            index: dir.join(format!("{base_offset:020}.index")),
        }
    }
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
