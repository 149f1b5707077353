//! The bytes of a snapshot file; the [module](super) draws them.

use bytes::Bytes;
use twox_hash::XxHash64;

use super::packs::{Pack, PackName};
use super::store::SnapshotName;
use crate::runtime::RuntimeError;
use crate::runtime::chunks::ChunkId;

const MAGIC: &[u8; 7] = b"HWSNAP\0";
const VERSION: u8 = 2;
const FIRST_VERSION: u8 = 1;
const HEADER_SIZE: usize = 24;
const CHECKSUM_SIZE: usize = 8;

/// A snapshot file, with its chunks as they are written there.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) offset: i64,
    pub(super) epoch: i32,
    pub(super) sections: Vec<FileSection>,
    pub(super) packs: Vec<Pack>,
    pub(super) chunks: Vec<FileChunk>,
}

#[derive(Debug)]
pub(super) struct FileSection {
    pub(super) name: String,
    pub(super) definition: u64,
    pub(super) body: Bytes,
    /// Indices into the list of chunks.
    pub(super) chunks: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct FileChunk {
    pub(super) id: ChunkId,
    pub(super) size_bytes: u64,
    /// Index of the pack, and where it begins there.
    pub(super) places: Vec<(u32, u64)>,
    /// Its bytes, where they are in this file.
    pub(super) here: Option<Bytes>,
}

impl File {
    pub(super) fn encode(&self) -> Result<Bytes, RuntimeError> {
        let too_big = |what: &str| RuntimeError::CorruptSnapshot { reason: format!("{what} is too long to write") };
        let count = |n: usize| u32::try_from(n).map(u32::to_le_bytes).map_err(|_| too_big("a list"));
        let bodies: usize = self.sections.iter().map(|s| 22 + s.name.len() + s.body.len() + 4 * s.chunks.len()).sum();
        let held: usize = self.chunks.iter().map(|c| 50 + c.here.as_ref().map_or(0, Bytes::len)).sum();
        let mut out = Vec::with_capacity(HEADER_SIZE + bodies + held + 24 * self.packs.len() + 16);
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&count(self.sections.len())?);
        for section in &self.sections {
            let name_size = u16::try_from(section.name.len()).map_err(|_| too_big("a section's name"))?;
            out.extend_from_slice(&name_size.to_le_bytes());
            out.extend_from_slice(section.name.as_bytes());
            out.extend_from_slice(&section.definition.to_le_bytes());
            out.extend_from_slice(&(section.body.len() as u64).to_le_bytes());
            out.extend_from_slice(&section.body);
            out.extend_from_slice(&count(section.chunks.len())?);
            section.chunks.iter().for_each(|index| out.extend_from_slice(&index.to_le_bytes()));
        }
        out.extend_from_slice(&count(self.packs.len())?);
        for Pack { name, size_bytes } in &self.packs {
            out.extend_from_slice(&name.of.offset.to_le_bytes());
            out.extend_from_slice(&name.of.epoch.to_le_bytes());
            out.extend_from_slice(&name.part.to_le_bytes());
            out.extend_from_slice(&size_bytes.to_le_bytes());
        }
        out.extend_from_slice(&count(self.chunks.len())?);
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.id.0);
            out.extend_from_slice(&chunk.size_bytes.to_le_bytes());
            out.push(u8::try_from(chunk.places.len()).map_err(|_| too_big("a list of places"))?);
            for (pack, position) in &chunk.places {
                out.extend_from_slice(&pack.to_le_bytes());
                out.extend_from_slice(&position.to_le_bytes());
            }
            out.push(u8::from(chunk.here.is_some()));
            out.extend_from_slice(chunk.here.as_deref().unwrap_or_default());
        }
        let checksum = XxHash64::oneshot(0, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        Ok(out.into())
    }

    /// Checks and reads one. Of chunks whose bytes are in it they are checked as well.
    pub(super) fn parse(file: &Bytes) -> Result<Self, RuntimeError> {
        if file.len() < HEADER_SIZE + CHECKSUM_SIZE {
            return Err(corrupt(format!("{} bytes is too short", file.len())));
        }
        let (content, checksum) = file.split_at(file.len() - CHECKSUM_SIZE);
        let computed = XxHash64::oneshot(0, content);
        if checksum != computed.to_le_bytes() {
            return Err(corrupt(format!("checksum does not match the {} bytes before it", content.len())));
        }
        let version = content[MAGIC.len()];
        if !content.starts_with(MAGIC) || !(FIRST_VERSION..=VERSION).contains(&version) {
            let reason = format!(
                "it does not begin with HWSNAP version {FIRST_VERSION} or {VERSION}; was it written by a newer version?"
            );
            return Err(corrupt(reason));
        }
        let mut at = Cursor { file, at: MAGIC.len() + 1, end: content.len() };
        let mut read = Self { offset: at.i64()?, epoch: at.i32()?, ..Self::default() };
        for _ in 0..at.u32()? {
            read.sections.push(at.section(version)?);
        }
        if version > FIRST_VERSION {
            for _ in 0..at.u32()? {
                let of = SnapshotName { offset: at.i64()?, epoch: at.i32()? };
                read.packs.push(Pack { name: PackName { of, part: at.u32()? }, size_bytes: at.u64()? });
            }
            for _ in 0..at.u32()? {
                let chunk = at.chunk()?;
                if chunk.places.iter().any(|&(pack, _)| pack as usize >= read.packs.len()) {
                    return Err(corrupt(format!("chunk {:?} lies in a pack that is not listed", chunk.id)));
                }
                read.chunks.push(chunk);
            }
        }
        if read.sections.iter().flat_map(|s| &s.chunks).any(|&index| index as usize >= read.chunks.len()) {
            return Err(corrupt("a section has a chunk that is not listed".to_owned()));
        }
        if at.at != at.end {
            return Err(corrupt(format!("{} bytes follow the last chunk", at.end - at.at)));
        }
        Ok(read)
    }
}

pub(super) fn corrupt(reason: String) -> RuntimeError {
    RuntimeError::CorruptSnapshot { reason }
}

struct Cursor<'a> {
    file: &'a Bytes,
    at: usize,
    end: usize,
}

impl Cursor<'_> {
    fn section(&mut self, version: u8) -> Result<FileSection, RuntimeError> {
        let name_size = usize::from(u16::from_le_bytes(self.array()?));
        let name = String::from_utf8(self.take(name_size)?.to_vec())
            .map_err(|_| corrupt("a section's name is not UTF-8".to_owned()))?;
        let definition = self.u64()?;
        let size = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let body = self.take(size)?;
        let mut chunks = Vec::new();
        if version > FIRST_VERSION {
            for _ in 0..self.u32()? {
                chunks.push(self.u32()?);
            }
        }
        Ok(FileSection { name, definition, body, chunks })
    }

    fn chunk(&mut self) -> Result<FileChunk, RuntimeError> {
        let (id, size_bytes) = (ChunkId(self.array()?), self.u64()?);
        let [count] = self.array()?;
        let mut places = Vec::new();
        for _ in 0..count {
            places.push((self.u32()?, self.u64()?));
        }
        let here = match self.array()? {
            [0] => None,
            [_] => Some(self.take(usize::try_from(size_bytes).unwrap_or(usize::MAX))?),
        };
        if here.as_ref().is_some_and(|bytes| ChunkId::of(bytes) != id) {
            return Err(corrupt(format!("chunk {id:?} has other bytes")));
        }
        Ok(FileChunk { id, size_bytes, places, here })
    }

    fn i64(&mut self) -> Result<i64, RuntimeError> {
        self.array().map(i64::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, RuntimeError> {
        self.array().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, RuntimeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, RuntimeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn take(&mut self, size: usize) -> Result<Bytes, RuntimeError> {
        if size > self.end - self.at {
            let reason = format!("{size} bytes wanted at {}, but the file ends at {}", self.at, self.end);
            return Err(corrupt(reason));
        }
        let bytes = self.file.slice(self.at..self.at + size);
        self.at += size;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RuntimeError> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(&bytes[..]).map_err(|_| corrupt(format!("{N} bytes wanted")))
    }
}
