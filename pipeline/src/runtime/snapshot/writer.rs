//! Sections of state, and the file they make up.

use bytes::Bytes;
use twox_hash::XxHash64;

use crate::runtime::RuntimeError;

const MAGIC: &[u8; 8] = b"HWSNAP\0\x01";
const HEADER_SIZE: usize = 24;
const CHECKSUM_SIZE: usize = 8;

/// One named part of a task's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, unique within a snapshot.
    pub name: String,
    /// Hash of the configuration that gives the bytes their meaning; 0 where there is none.
    pub definition: u64,
    /// The state.
    pub body: Bytes,
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
        self.sections.push(Section { name: name.into(), definition, body: body.into() });
    }

    /// What a reader of the file would read, without the bytes in between.
    pub fn into_reader(self, offset: i64, epoch: i32) -> StateReader {
        StateReader { offset, epoch, sections: self.sections }
    }

    /// The file: see the [module](super) for the bytes.
    pub fn finish(self, offset: i64, epoch: i32) -> Result<Bytes, RuntimeError> {
        let too_big = |what: &str| RuntimeError::CorruptSnapshot { reason: format!("{what} is too long to write") };
        let size: usize = self.sections.iter().map(|s| 18 + s.name.len() + s.body.len()).sum();
        let mut out = Vec::with_capacity(HEADER_SIZE + size + CHECKSUM_SIZE);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&epoch.to_le_bytes());
        let count = u32::try_from(self.sections.len()).map_err(|_| too_big("the list of sections"))?;
        out.extend_from_slice(&count.to_le_bytes());
        for section in &self.sections {
            let name_size = u16::try_from(section.name.len()).map_err(|_| too_big("a section's name"))?;
            out.extend_from_slice(&name_size.to_le_bytes());
            out.extend_from_slice(section.name.as_bytes());
            out.extend_from_slice(&section.definition.to_le_bytes());
            out.extend_from_slice(&(section.body.len() as u64).to_le_bytes());
            out.extend_from_slice(&section.body);
        }
        let checksum = XxHash64::oneshot(0, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        Ok(out.into())
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
    /// Checks and reads a file.
    pub fn parse(file: &Bytes) -> Result<Self, RuntimeError> {
        let corrupt = |reason: String| RuntimeError::CorruptSnapshot { reason };
        if file.len() < HEADER_SIZE + CHECKSUM_SIZE {
            return Err(corrupt(format!("{} bytes is too short", file.len())));
        }
        let (content, checksum) = file.split_at(file.len() - CHECKSUM_SIZE);
        let computed = XxHash64::oneshot(0, content);
        if checksum != computed.to_le_bytes() {
            return Err(corrupt(format!("checksum does not match the {} bytes before it", content.len())));
        }
        if !content.starts_with(MAGIC) {
            return Err(corrupt(
                "it does not begin with HWSNAP version 1; was it written by a newer version?".to_owned(),
            ));
        }
        let mut at = Cursor { file, at: MAGIC.len(), end: content.len() };
        let offset = i64::from_le_bytes(at.array()?);
        let epoch = i32::from_le_bytes(at.array()?);
        let count = u32::from_le_bytes(at.array()?);
        let mut sections = Vec::new();
        for _ in 0..count {
            let name_size = usize::from(u16::from_le_bytes(at.array()?));
            let name = String::from_utf8(at.take(name_size)?.to_vec())
                .map_err(|_| corrupt("a section's name is not UTF-8".to_owned()))?;
            let definition = u64::from_le_bytes(at.array()?);
            let size = usize::try_from(u64::from_le_bytes(at.array()?)).unwrap_or(usize::MAX);
            sections.push(Section { name, definition, body: at.take(size)? });
        }
        if at.at != at.end {
            return Err(corrupt(format!("{} bytes follow the last section", at.end - at.at)));
        }
        Ok(Self { offset, epoch, sections })
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

    /// The body of a section; `None` where it is missing or of another definition.
    pub fn get(&self, name: &str, definition: u64) -> Option<&Bytes> {
        self.sections.iter().find(|s| s.name == name && s.definition == definition).map(|s| &s.body)
    }
}

struct Cursor<'a> {
    file: &'a Bytes,
    at: usize,
    end: usize,
}

impl Cursor<'_> {
    fn take(&mut self, size: usize) -> Result<Bytes, RuntimeError> {
        if size > self.end - self.at {
            let reason = format!("{size} bytes wanted at {}, but the file ends at {}", self.at, self.end);
            return Err(RuntimeError::CorruptSnapshot { reason });
        }
        let bytes = self.file.slice(self.at..self.at + size);
        self.at += size;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RuntimeError> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(&bytes[..])
            .map_err(|_| RuntimeError::CorruptSnapshot { reason: format!("{N} bytes wanted") })
    }
}
