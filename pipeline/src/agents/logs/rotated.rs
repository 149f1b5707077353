//! Where the content of a file went that its name does not lead to any more: a copy that was made before the file was truncated, or a
//! compressed one.
//!
//! It is looked for in the file's own directory, among those whose names begin as the file's does (`app.log.1`, `app-20260301.log.gz`), and known by its
//! first bytes. What compresses or copies in another way (another directory, xz, bzip2) is not found.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::patterns::FoundFile;
use crate::agents::AgentError;
use crate::agents::shipping::{FileId, HEAD_SIZE_BYTES, Head, Position};

/// How much of two files is compared in one place to see whether one is a copy.
const SAMPLE_SIZE_BYTES: u64 = 4 << 10;

/// Content that was read in part, found again.
#[derive(Debug)]
pub(super) enum Rest {
    /// A copy. What lies behind the position has still to be read, or nothing does.
    Copy {
        /// Where it is.
        found: FoundFile,
        /// Whether it has more than was read.
        has_more: bool,
    },
    /// A compressed file, unpacked up to the position.
    Unpacked(Unpacked),
}

/// Finds what a position was read from, which is neither where it was nor under another name.
///
/// # Errors
/// Where a file that may be it cannot be read.
pub(super) fn find(position: &Position, is_known: impl Fn(&FoundFile) -> bool) -> Result<Option<Rest>, AgentError> {
    let path = Path::new(&position.path);
    let place = &position.place;
    // Of nothing everything is a copy.
    if place.offset == 0 {
        return Ok(None);
    }
    for found in relatives(path) {
        if found.id == place.file || is_known(&found) {
            continue;
        }
        let io = |source| AgentError::io("look into", &found.path)(source);
        match compression(&found.path).map_err(io)? {
            None => {
                let file = File::open(&found.path).map_err(io)?;
                if place.head.matches(&file).map_err(io)? {
                    let has_more = file.metadata().map_err(io)?.len() > place.offset;
                    return Ok(Some(Rest::Copy { found, has_more }));
                }
            }
            Some(compression) => {
                // One that is damaged is not what is looked for, and is nobody's loss but its own.
                match Unpacked::at(&found.path, compression, position) {
                    Ok(Some(unpacked)) => return Ok(Some(Rest::Unpacked(unpacked))),
                    Ok(None) => {}
                    Err(error) => tracing::warn!("{}: {error}: not looked into", found.path.display()),
                }
            }
        }
    }
    Ok(None)
}

/// Whether `found` begins with what is in `original` by now, as far as samples show: a copy that is being made, or has been.
///
/// # Errors
/// Where one of them cannot be read.
pub(super) fn is_copy(original: &Path, original_file: &File, found: &Path) -> io::Result<bool> {
    if !is_relative(original, found) {
        return Ok(false);
    }
    let copy = File::open(found)?;
    let (original_size_bytes, size_bytes) = (original_file.metadata()?.len(), copy.metadata()?.len());
    let size_bytes = match size_bytes.min(original_size_bytes) {
        // One that has nothing yet may become one.
        0 => return Ok(size_bytes == 0),
        both => both,
    };
    let (mut here, mut there) = ([0; SAMPLE_SIZE_BYTES as usize], [0; SAMPLE_SIZE_BYTES as usize]);
    for from in [0, size_bytes / 2, size_bytes.saturating_sub(SAMPLE_SIZE_BYTES)] {
        let count = usize::try_from((size_bytes - from).min(SAMPLE_SIZE_BYTES)).unwrap_or_default();
        original_file.read_exact_at(&mut here[..count], from)?;
        copy.read_exact_at(&mut there[..count], from)?;
        if here[..count] != there[..count] {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The regular files in the directory of `path` whose names begin as its does, the newest first.
fn relatives(path: &Path) -> Vec<FoundFile> {
    let mut found: Vec<(SystemTime, FoundFile)> = Vec::new();
    for entry in fs::read_dir(directory(path)).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let entry_path = entry.path();
        if metadata.is_file() && is_relative(path, &entry_path) {
            let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((changed, FoundFile { path: entry_path, id: FileId::of(&metadata) }));
        }
    }
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    found.into_iter().map(|(_, found)| found).collect()
}

/// The directory of a file.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a file is one that rotation may have made of another: beside it, and named as it is up to the first point.
pub(super) fn is_relative(path: &Path, other: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default();
    let (own, others) = (name(path), name(other));
    let stem = own.iter().skip(1).position(|byte| *byte == b'.').map_or(own.len(), |point| point + 1);
    stem > 0 && others.starts_with(&own[..stem]) && directory(path) == directory(other)
}

/// What a file is compressed with, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    /// Compressed, and not by what is unpacked here.
    Other,
}

/// First bytes of compressed files: gzip, zstd, xz, bzip2.
const MAGIC: [(&[u8], Compression); 4] = [
    (b"\x1f\x8b", Compression::Gzip),
    (b"\x28\xb5\x2f\xfd", Compression::Zstd),
    (b"\xfd7zXZ", Compression::Other),
    (b"BZh", Compression::Other),
];

/// What a file is compressed with; `None` where it is not.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn compression(path: &Path) -> io::Result<Option<Compression>> {
    let mut start = Vec::new();
    File::open(path)?.take(8).read_to_end(&mut start)?;
    Ok(MAGIC.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, compression)| *compression))
}

/// A compressed file, read from its beginning to its end.
pub(super) struct Unpacked {
    pub(super) path: PathBuf,
    /// Its first bytes, up to [`HEAD_SIZE_BYTES`] and up to the position that it was opened at.
    pub(super) head: Vec<u8>,
    compression: Compression,
    reader: Box<dyn Read + Send>,
    at: u64,
}

impl Unpacked {
    /// Opens a file and unpacks it up to a position; `None` where it is not what the position is of, or holds no more than was read.
    fn at(path: &Path, compression: Compression, position: &Position) -> io::Result<Option<Self>> {
        let Some(mut reader) = unpack(path, compression)? else { return Ok(None) };
        let place = &position.place;
        let mut head = Vec::new();
        reader.by_ref().take(place.head.size_bytes.min(HEAD_SIZE_BYTES) as u64).read_to_end(&mut head)?;
        if Head::of(&head) != place.head {
            return Ok(None);
        }
        let mut unpacked = Self { path: path.to_path_buf(), at: head.len() as u64, head, compression, reader };
        // Whether there is more shows by reading on; what was read of it is unpacked once more.
        let whole = !unpacked.skip_to(place.offset)? || unpacked.reader.read(&mut [0])? == 0;
        if whole {
            return Ok(None);
        }
        unpacked.rewind()?;
        unpacked.skip_to(place.offset)?;
        Ok(Some(unpacked))
    }

    /// Reads what follows `offset`, which is where the last reading ended unless that failed.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.at != offset {
            self.rewind()?;
            self.skip_to(offset)?;
        }
        loop {
            match self.reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // What the reader is good for now nobody knows.
                    self.at = u64::MAX;
                    return Err(error);
                }
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
            }
        }
    }

    fn rewind(&mut self) -> io::Result<()> {
        if let Some(reader) = unpack(&self.path, self.compression)? {
            (self.reader, self.at) = (reader, 0);
        }
        Ok(())
    }

    /// False where it ends before.
    fn skip_to(&mut self, offset: u64) -> io::Result<bool> {
        let wanted = offset.saturating_sub(self.at);
        let skipped = io::copy(&mut self.reader.by_ref().take(wanted), &mut io::sink())?;
        self.at += skipped;
        Ok(skipped == wanted)
    }
}

impl std::fmt::Debug for Unpacked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacked").field("path", &self.path).field("at", &self.at).finish_non_exhaustive()
    }
}

fn unpack(path: &Path, compression: Compression) -> io::Result<Option<Box<dyn Read + Send>>> {
    let file = io::BufReader::with_capacity(64 << 10, File::open(path)?);
    Ok(match compression {
        Compression::Gzip => Some(Box::new(flate2::bufread::MultiGzDecoder::new(file))),
        Compression::Zstd => Some(Box::new(zstd::stream::read::Decoder::with_buffer(file)?)),
        Compression::Other => None,
    })
}
