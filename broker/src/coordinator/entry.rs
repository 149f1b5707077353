//! What the journal is made of.
//!
//! ```text
//! commit (kind 1):  kind (1), group, offset count (4), then per offset: topic, topic id (16), partition (4), offset (8), metadata
//! epoch  (kind 2):  kind (1), task, epoch (4)
//! ```
//!
//! All big-endian; a text is its length in bytes (4) and its UTF-8.

use std::sync::Arc;

use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Commit { group: Arc<str>, offsets: Vec<CommittedEntry> },
    Epoch { task: Arc<str>, epoch: i32 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommittedEntry {
    pub(super) topic: Arc<str>,
    pub(super) topic_id: Uuid,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) metadata: String,
}

const COMMIT: u8 = 1;
const EPOCH: u8 = 2;

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Commit { group, offsets } => {
                out.push(COMMIT);
                put_text(&mut out, group);
                out.extend_from_slice(&(offsets.len() as u32).to_be_bytes());
                for offset in offsets {
                    put_text(&mut out, &offset.topic);
                    out.extend_from_slice(offset.topic_id.as_bytes());
                    out.extend_from_slice(&offset.partition.to_be_bytes());
                    out.extend_from_slice(&offset.offset.to_be_bytes());
                    put_text(&mut out, &offset.metadata);
                }
            }
            Self::Epoch { task, epoch } => {
                out.push(EPOCH);
                put_text(&mut out, task);
                out.extend_from_slice(&epoch.to_be_bytes());
            }
        }
        out
    }

    /// `None` where the bytes are not an entry.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let entry = match take::<1>(rest)? {
            [COMMIT] => {
                let group = take_text(rest)?.into();
                let count = u32::from_be_bytes(take(rest)?);
                let mut offsets = Vec::new();
                for _ in 0..count {
                    offsets.push(CommittedEntry {
                        topic: take_text(rest)?.into(),
                        topic_id: Uuid::from_bytes(take(rest)?),
                        partition: i32::from_be_bytes(take(rest)?),
                        offset: i64::from_be_bytes(take(rest)?),
                        metadata: take_text(rest)?.to_owned(),
                    });
                }
                Self::Commit { group, offsets }
            }
            [EPOCH] => Self::Epoch { task: take_text(rest)?.into(), epoch: i32::from_be_bytes(take(rest)?) },
            _ => return None,
        };
        rest.is_empty().then_some(entry)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let size = u32::from_be_bytes(take(rest)?) as usize;
    let (head, tail) = rest.split_at_checked(size)?;
    *rest = tail;
    std::str::from_utf8(head).ok()
}
