//! Where snapshots are kept: `snapshots/<task>/<offset>-<epoch>.snap` in the object store, and packs of chunks beside them, `<offset>-<epoch>.<n>.pack`.
//!
//! A pack is `HWPACK` 0x00 0x01 and the bytes of chunks, one behind the other; the snapshots that name them say where each begins. What holds:
//! - Packs are written before the snapshot that names them, and a pack goes only once none of the snapshots kept names it and all are newer than it. So
//!   another run of the task, which is writing its first, loses nothing.
//! - A chunk is written by the first snapshot that has it and by the next: from then on it is in two packs. So the loss of any one file costs the newest
//!   snapshot at most, and the one before it is whole.
//! - A snapshot names so many packs at most, none of which is mostly dead ([`Known::places`]): what would lie in others is written again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use parking_lot::Mutex;

use super::file::{File, FileChunk, corrupt};
use super::packs::{COPIES, INLINE_BYTES, Known, PACK_BYTES, PACK_MAGIC, Pack, PackName};
use super::{StateReader, StateWriter};
use crate::runtime::RuntimeError;
use crate::runtime::chunks::{Chunk, ChunkId, Scratch};

/// How many snapshots a task keeps: the newest and the one before it, in case the newest is corrupt.
const KEPT: usize = 2;
/// How much of a pack is read at once.
const READ_BYTES: u64 = 8 << 20;

/// What a snapshot's file name says. Ordered by offset, then epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName {
    /// S: the next input offset to read.
    pub offset: i64,
    /// Epoch of the run that wrote it.
    pub epoch: i32,
}

impl SnapshotName {
    fn parse(file_name: &str) -> Option<Self> {
        Self::parse_stem(file_name.strip_suffix(".snap")?)
    }

    pub(super) fn parse_stem(stem: &str) -> Option<Self> {
        let (offset, epoch) = stem.split_once('-')?;
        Some(Self { offset: offset.parse().ok()?, epoch: epoch.parse().ok()? })
    }

    pub(super) fn stem(self) -> String {
        // Padded, so that a listing by name is a listing by offset.
        format!("{:020}-{}", self.offset, self.epoch)
    }
}

/// The snapshots of one task.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    store: Arc<dyn ObjectStore>,
    directory: Path,
    scratch: Option<Arc<dyn Scratch>>,
    inline_bytes: u64,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Listed {
    /// Newest first.
    snapshots: Vec<SnapshotName>,
    packs: Vec<PackName>,
}

impl SnapshotStore {
    /// Those of this task.
    pub fn new(store: Arc<dyn ObjectStore>, task: &str) -> Self {
        let directory = Path::from(format!("snapshots/{task}"));
        Self { store, directory, scratch: None, inline_bytes: INLINE_BYTES, known: Arc::default() }
    }

    /// Chunks that memory has no room for are put there as they are loaded.
    #[must_use]
    pub fn with_scratch(self, scratch: Option<Arc<dyn Scratch>>) -> Self {
        Self { scratch, ..self }
    }

    /// A snapshot whose new chunks come to no more than this has them in itself.
    #[must_use]
    pub fn with_inline_bytes(self, inline_bytes: u64) -> Self {
        Self { inline_bytes, ..self }
    }

    /// The names of all snapshots, newest first. Other files are passed over.
    pub async fn list(&self) -> Result<Vec<SnapshotName>, RuntimeError> {
        Ok(self.listed().await?.snapshots)
    }

    async fn listed(&self) -> Result<Listed, RuntimeError> {
        let files: Vec<_> =
            self.store.list(Some(&self.directory)).try_collect().await.map_err(|e| failed(&self.directory, e))?;
        let mut listed = Listed::default();
        for name in files.iter().filter_map(|meta| meta.location.filename()) {
            listed.snapshots.extend(SnapshotName::parse(name));
            listed.packs.extend(PackName::parse(name));
        }
        listed.snapshots.sort_unstable_by(|a, b| b.cmp(a));
        Ok(listed)
    }

    /// Reads and checks one, its chunks as well.
    pub async fn load(&self, name: SnapshotName) -> Result<StateReader, RuntimeError> {
        let mut file = self.file(name).await?;
        let chunks = self.fetch(&mut file).await?;
        self.known.lock().is_newest(name, &file);
        StateReader::of(file, &chunks)
    }

    async fn file(&self, name: SnapshotName) -> Result<File, RuntimeError> {
        let path = self.path(name);
        let got = self.store.get(&path).await.map_err(|e| failed(&path, e))?;
        let file = File::parse(&got.bytes().await.map_err(|e| failed(&path, e))?)?;
        if file.offset != name.offset {
            return Err(corrupt(format!("{path} holds the state at offset {}", file.offset)));
        }
        Ok(file)
    }

    /// All chunks of a snapshot. A place that does not hold its chunk is taken out: it will be written anew.
    async fn fetch(&self, file: &mut File) -> Result<Vec<Chunk>, RuntimeError> {
        let mut in_memory = 0;
        let mut chunks: Vec<Option<Chunk>> = Vec::with_capacity(file.chunks.len());
        let mut damaged: Vec<(usize, usize)> = Vec::new();
        for chunk in &mut file.chunks {
            let here = chunk.here.take().map(|bytes| self.chunk(Bytes::copy_from_slice(&bytes), &mut in_memory));
            chunks.push(here);
        }
        for copy in 0..COPIES {
            // What has not been found in a place before, by pack, in the order in which it lies there.
            let mut wanted: BTreeMap<u32, Vec<(u64, usize)>> = BTreeMap::new();
            for (index, chunk) in file.chunks.iter().enumerate().filter(|&(index, _)| chunks[index].is_none()) {
                if let Some(&(pack, at)) = chunk.places.get(copy) {
                    wanted.entry(pack).or_default().push((at, index));
                }
            }
            for (pack, mut wanted) in wanted {
                wanted.sort_unstable();
                let pack = file.packs[pack as usize];
                for (ranges, wanted) in batches(&wanted, &file.chunks) {
                    let Some(read) = self.read(pack, &ranges).await? else { continue };
                    for (bytes, index) in read.iter().zip(wanted) {
                        if ChunkId::of(bytes) == file.chunks[index].id {
                            chunks[index] = Some(self.chunk(Bytes::copy_from_slice(bytes), &mut in_memory));
                        }
                    }
                }
            }
            for (index, chunk) in file.chunks.iter().enumerate() {
                if chunks[index].is_none() && chunk.places.len() > copy {
                    tracing::warn!(directory = %self.directory, chunk = ?chunk.id, "a chunk of a snapshot is damaged or gone; it is looked for in another place");
                    damaged.push((index, copy));
                }
            }
        }
        for (index, copy) in damaged.into_iter().rev() {
            file.chunks[index].places.remove(copy);
        }
        let found = chunks
            .into_iter()
            .zip(&file.chunks)
            .map(|(found, chunk)| found.ok_or_else(|| corrupt(format!("chunk {:?} is nowhere whole", chunk.id))));
        found.collect()
    }

    fn chunk(&self, bytes: Bytes, in_memory: &mut usize) -> Chunk {
        let mut chunk = Chunk::new(bytes);
        *in_memory += chunk.size_bytes();
        if let Some(scratch) = self.scratch.as_ref().filter(|scratch| *in_memory > scratch.memory_bytes()) {
            match chunk.put_aside(&**scratch) {
                Ok(()) => *in_memory -= chunk.size_bytes(),
                Err(error) => tracing::warn!(%error, "state is loaded into memory, as it cannot be put aside"),
            }
        }
        chunk
    }

    /// These ranges of a pack. `None` where it is not what was written.
    async fn read(&self, pack: Pack, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>, RuntimeError> {
        if ranges.iter().any(|range| range.end > pack.size_bytes) {
            return Ok(None);
        }
        let path = self.directory.clone().join(pack.name.file_name());
        let error = match self.store.get_ranges(&path, ranges).await {
            Ok(read) => return Ok(Some(read)),
            Err(error) => error,
        };
        // A store does not say of its errors which come of a file that is too short.
        match self.store.head(&path).await {
            Ok(meta) if meta.size == pack.size_bytes => Err(failed(&path, error)),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// Writes one: what it has that the one saved or loaded before it has not, and the names of the rest. Durable when it returns, as far as the store is.
    /// Returns how many bytes were written.
    pub async fn save(&self, name: SnapshotName, state: StateWriter) -> Result<u64, RuntimeError> {
        let (sections, chunks) = state.split();
        let (mut places, sizes) = {
            let known = self.known.lock();
            (known.places(&chunks), known.sizes.clone())
        };
        let is_new = |places: &[Vec<_>], index: usize| places[index].len() < COPIES;
        let new: Vec<usize> = (0..chunks.len()).filter(|&index| is_new(&places, index)).collect();
        let new_bytes: u64 = new.iter().map(|&index| chunks[index].size_bytes() as u64).sum();
        let mut here: BTreeMap<usize, Bytes> = BTreeMap::new();
        let mut written: Vec<Pack> = Vec::new();
        if new_bytes <= self.inline_bytes {
            for index in new {
                here.insert(index, read(&chunks[index])?);
            }
        } else {
            let (mut payload, mut size) = (vec![Bytes::from_static(PACK_MAGIC)], PACK_MAGIC.len() as u64);
            let mut last = new.iter().peekable();
            while let Some(&index) = last.next() {
                let part = u32::try_from(written.len()).unwrap_or(u32::MAX);
                let pack = PackName { of: name, part };
                places[index].push((pack, size));
                payload.push(read(&chunks[index])?);
                size += chunks[index].size_bytes() as u64;
                if size >= PACK_BYTES || last.peek().is_none() {
                    let path = self.directory.clone().join(pack.file_name());
                    let parts = std::mem::replace(&mut payload, vec![Bytes::from_static(PACK_MAGIC)]);
                    self.store.put(&path, parts.into_iter().collect()).await.map_err(|e| failed(&path, e))?;
                    written.push(Pack { name: pack, size_bytes: size });
                    size = PACK_MAGIC.len() as u64;
                }
            }
        }
        let mut packs: Vec<Pack> = Vec::new();
        let mut indices: BTreeMap<PackName, u32> = BTreeMap::new();
        let mut listed = Vec::with_capacity(chunks.len());
        for (index, (chunk, places)) in chunks.iter().zip(&places).enumerate() {
            let of = |(pack, at): &(PackName, u64)| {
                let next = u32::try_from(packs.len()).unwrap_or(u32::MAX);
                let number = *indices.entry(*pack).or_insert(next);
                if number == next {
                    let own = written.iter().find(|own| own.name == *pack).map(|own| own.size_bytes);
                    let size_bytes = own.or(sizes.get(pack).copied()).unwrap_or(0);
                    packs.push(Pack { name: *pack, size_bytes });
                }
                (number, *at)
            };
            let places = places.iter().map(of).collect();
            let size_bytes = chunk.size_bytes() as u64;
            listed.push(FileChunk { id: chunk.id(), size_bytes, places, here: here.remove(&index) });
        }
        let file = File { offset: name.offset, epoch: name.epoch, sections, packs, chunks: listed };
        let bytes = file.encode()?;
        let total = bytes.len() as u64 + written.iter().map(|pack| pack.size_bytes).sum::<u64>();
        let path = self.path(name);
        self.store.put(&path, PutPayload::from_bytes(bytes)).await.map_err(|e| failed(&path, e))?;
        self.known.lock().is_newest(name, &file);
        Ok(total)
    }

    /// Deletes all but the newest two, and the packs that neither of them names. Returns the oldest that is kept.
    pub async fn prune(&self) -> Result<Option<SnapshotName>, RuntimeError> {
        let Listed { snapshots, packs } = self.listed().await?;
        let (kept, old) = snapshots.split_at(snapshots.len().min(KEPT));
        for &name in old {
            self.delete(name).await?;
        }
        self.known.lock().named.retain(|name, _| kept.contains(name));
        let Some(&oldest) = kept.last() else { return Ok(None) };
        // What is newer may be of a snapshot that is being written.
        let mut unnamed: BTreeSet<PackName> = packs.into_iter().filter(|pack| pack.of < oldest).collect();
        for &name in kept {
            if unnamed.is_empty() {
                break;
            }
            let named = self.known.lock().named.get(&name).cloned();
            let named = match named {
                Some(named) => named,
                None => match self.file(name).await {
                    Ok(file) => file.packs.iter().map(|pack| pack.name).collect(),
                    // It names nothing that anybody could read. What the others have only to themselves goes with a later one.
                    Err(error) if !error.is_retryable() => return Ok(Some(oldest)),
                    Err(error) => return Err(error),
                },
            };
            unnamed.retain(|pack| !named.contains(pack));
        }
        for pack in unnamed {
            let path = self.directory.clone().join(pack.file_name());
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(&path, error)),
            }
        }
        Ok(Some(oldest))
    }

    /// Deletes one. Its packs stay: others may name them.
    pub async fn delete(&self, name: SnapshotName) -> Result<(), RuntimeError> {
        let path = self.path(name);
        self.store.delete(&path).await.map_err(|e| failed(&path, e))
    }

    fn path(&self, name: SnapshotName) -> Path {
        self.directory.clone().join(format!("{}.snap", name.stem()))
    }
}

/// What is wanted of a pack in portions, in order: where each chunk lies, and its index.
fn batches(wanted: &[(u64, usize)], chunks: &[FileChunk]) -> Vec<(Vec<Range<u64>>, Vec<usize>)> {
    let mut portions: Vec<(Vec<Range<u64>>, Vec<usize>)> = Vec::new();
    let mut size = u64::MAX;
    for &(at, index) in wanted {
        let length = chunks[index].size_bytes;
        if size.saturating_add(length) > READ_BYTES {
            portions.push((Vec::new(), Vec::new()));
            size = 0;
        }
        size += length;
        if let Some((ranges, indices)) = portions.last_mut() {
            ranges.push(at..at.saturating_add(length));
            indices.push(index);
        }
    }
    portions
}

fn read(chunk: &Chunk) -> Result<Bytes, RuntimeError> {
    chunk.read().map_err(|source| RuntimeError::Scratch { source })
}

fn failed(path: &Path, source: object_store::Error) -> RuntimeError {
    RuntimeError::Storage { path: path.to_string(), source }
}
