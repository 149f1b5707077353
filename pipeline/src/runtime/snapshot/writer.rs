//! Sections of state, and the file they make up.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::file::{File, FileChunk, FileSection, corrupt};
use crate::runtime::RuntimeError;
use crate::runtime::chunks::{Chunk, ChunkId};

/// One named part of a task's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, unique within a snapshot.
    pub name: String,
    /// Hash of the configuration that gives the bytes their meaning; 0 where there is none.
    pub definition: u64,
    /// The state.
    pub body: Bytes,
    /// Parts of the state that do not change, in an order that the body knows.
    pub chunks: Vec<Chunk>,
}

/// Takes state at a barrier.
#[derive(Debug, Default)]
pub struct StateWriter {
    sections: Vec<Section>,
}

impl StateWriter {
    /// A writer with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a section.
    pub fn put(&mut self, name: impl Into<String>, definition: u64, body: impl Into<Bytes>) {
        self.put_chunks(name, definition, body, Vec::new());
    }

    /// Adds a section that has chunks.
    pub fn put_chunks(&mut self, name: impl Into<String>, definition: u64, body: impl Into<Bytes>, chunks: Vec<Chunk>) {
        self.sections.push(Section { name: name.into(), definition, body: body.into(), chunks });
    }

    /// What a reader of the file would read, without the bytes in between.
    pub fn into_reader(self, offset: i64, epoch: i32) -> StateReader {
        StateReader { offset, epoch, sections: self.sections }
    }

    /// A file that holds everything, its chunks as well.
    pub fn finish(self, offset: i64, epoch: i32) -> Result<Bytes, RuntimeError> {
        let (sections, chunks) = self.split();
        let here = |chunk: &Chunk| -> Result<FileChunk, RuntimeError> {
            let bytes = chunk.read().map_err(|source| RuntimeError::Scratch { source })?;
            Ok(FileChunk { id: chunk.id(), size_bytes: bytes.len() as u64, places: Vec::new(), here: Some(bytes) })
        };
        let chunks = chunks.iter().map(here).collect::<Result<_, _>>()?;
        File { offset, epoch, sections, packs: Vec::new(), chunks }.encode()
    }

    /// The sections, and each chunk of theirs once.
    pub(super) fn split(self) -> (Vec<FileSection>, Vec<Chunk>) {
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut indices: BTreeMap<ChunkId, u32> = BTreeMap::new();
        let mut index = |chunk: Chunk| {
            *indices.entry(chunk.id()).or_insert_with(|| {
                chunks.push(chunk);
                u32::try_from(chunks.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let sections = self.sections.into_iter().map(|Section { name, definition, body, chunks }| FileSection {
            name,
            definition,
            body,
            chunks: chunks.into_iter().map(&mut index).collect(),
        });
        let sections = sections.collect();
        (sections, chunks)
    }
}

/// A snapshot read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateReader {
    offset: i64,
    epoch: i32,
    sections: Vec<Section>,
}

impl StateReader {
    /// Checks and reads a file that holds everything.
    pub fn parse(file: &Bytes) -> Result<Self, RuntimeError> {
        let mut file = File::parse(file)?;
        let chunk = |chunk: &mut FileChunk| match chunk.here.take() {
            Some(bytes) => Ok(Chunk::new(bytes)),
            None => Err(corrupt(format!("chunk {:?} is in another file", chunk.id))),
        };
        let chunks = file.chunks.iter_mut().map(chunk).collect::<Result<Vec<_>, _>>()?;
        Self::of(file, &chunks)
    }

    /// A file whose chunks have been fetched, in the order of its list.
    pub(super) fn of(file: File, chunks: &[Chunk]) -> Result<Self, RuntimeError> {
        let section = |FileSection { name, definition, body, chunks: of }: FileSection| {
            let own = of.iter().map(|&index| chunks.get(index as usize).cloned());
            let chunks = own.collect::<Option<_>>().ok_or_else(|| corrupt(format!("section {name} lacks a chunk")))?;
            Ok(Section { name, definition, body, chunks })
        };
        let sections = file.sections.into_iter().map(section).collect::<Result<_, RuntimeError>>()?;
        Ok(Self { offset: file.offset, epoch: file.epoch, sections })
    }

    /// S: the next input offset to read.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Epoch of the run that wrote it.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// All sections.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// A section; `None` where it is missing or of another definition.
    pub fn section(&self, name: &str, definition: u64) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name && s.definition == definition)
    }

    /// The body of a section that has no chunks; `None` where it is missing or of another definition.
    pub fn get(&self, name: &str, definition: u64) -> Option<&Bytes> {
        self.section(name, definition).map(|s| &s.body)
    }
}
