//! What the journal is made of.
//!
//! ```text
//! kind  (1)
//!   1   offsets, as written before format 3:  group, count (4), then per offset: topic, topic id (16), partition (4), offset (8), metadata
//!   2   epoch of a task:   task, epoch (4)
//!   3   offsets:           group, count (4), then per offset: topic, topic id (16), partition (4), offset (8), leader epoch (4, -1: not said),
//!                          committed at, Unix ms (8, -1: kept for ever), expires at, Unix ms (8, -1: not said), metadata
//!   4   group:             group, group state (group.rs)
//!   5   offsets forgotten: group, count (4), then per offset: topic, partition (4)
//!   6   group deleted:     group; its offsets go with it
//!  10-12 transactions:     transaction_entry.rs
//! ```
//!
//! How texts and lists are put into bytes says `wire.rs`.

use std::sync::Arc;

use uuid::Uuid;

use super::group::StoredGroup;
use super::transaction_entry;
use super::wire::{put_count, put_text, take, take_i32, take_i64, take_list, take_text};
use crate::transactions::machine::TransactionEntry;

/// One durable change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Offsets of a group, all of them or none.
    Commit { group: Arc<str>, offsets: Vec<CommittedOffset> },
    /// The epoch in charge of a task.
    Epoch { task: Arc<str>, epoch: i32 },
    /// A group's membership, in place of what was known of it.
    Group { group: Arc<str>, state: Box<StoredGroup> },
    /// Offsets of a group that count no more.
    ForgetOffsets { group: Arc<str>, partitions: Vec<(Arc<str>, i32)> },
    /// A group is no more, nor are its offsets.
    DeleteGroup { group: Arc<str> },
    /// A change of transactions.
    Transaction(TransactionEntry),
}

/// How far a group has come in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    pub(crate) topic: Arc<str>,
    /// A topic made again under the same name is another one, for which this offset does not count.
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) committed: Committed,
}

/// What is kept per partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The next offset to read.
    pub(crate) offset: i64,
    /// The leader epoch of the last record read; -1 where the client did not say.
    pub(crate) leader_epoch: i32,
    /// Free text of the client.
    pub(crate) metadata: String,
    /// When, in Unix milliseconds; `None` for what is kept for ever, as Highwater's own progress is.
    pub(crate) committed_at_ms: Option<i64>,
    /// When it expires, in Unix milliseconds, where an old client said so itself.
    pub(crate) expires_at_ms: Option<i64>,
}

const COMMIT_FOR_EVER: u8 = 1;
const EPOCH: u8 = 2;
const COMMIT: u8 = 3;
const GROUP: u8 = 4;
const FORGET_OFFSETS: u8 = 5;
const DELETE_GROUP: u8 = 6;

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Commit { group, offsets } => {
                out.push(COMMIT);
                put_text(&mut out, group);
                put_count(&mut out, offsets.len());
                for offset in offsets {
                    offset.encode(&mut out);
                }
            }
            Self::Epoch { task, epoch } => {
                out.push(EPOCH);
                put_text(&mut out, task);
                out.extend_from_slice(&epoch.to_be_bytes());
            }
            Self::Group { group, state } => {
                out.push(GROUP);
                put_text(&mut out, group);
                state.encode(&mut out);
            }
            Self::ForgetOffsets { group, partitions } => {
                out.push(FORGET_OFFSETS);
                put_text(&mut out, group);
                put_count(&mut out, partitions.len());
                for (topic, partition) in partitions {
                    put_text(&mut out, topic);
                    out.extend_from_slice(&partition.to_be_bytes());
                }
            }
            Self::DeleteGroup { group } => {
                out.push(DELETE_GROUP);
                put_text(&mut out, group);
            }
            Self::Transaction(entry) => transaction_entry::encode(entry, &mut out),
        }
        out
    }

    /// True where it changes, or may change, what is known of a group.
    pub(super) fn concerns(&self, of: &str) -> bool {
        match self {
            Self::Commit { group, .. }
            | Self::Group { group, .. }
            | Self::ForgetOffsets { group, .. }
            | Self::DeleteGroup { group } => group.as_ref() == of,
            Self::Epoch { .. } => false,
            Self::Transaction(_) => true,
        }
    }

    /// `None` where the bytes are not an entry.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let entry = match take::<1>(rest)? {
            [COMMIT_FOR_EVER] => Self::Commit {
                group: take_text(rest)?.into(),
                offsets: take_list(rest, CommittedOffset::decode_for_ever)?,
            },
            [EPOCH] => Self::Epoch { task: take_text(rest)?.into(), epoch: take_i32(rest)? },
            [COMMIT] => {
                Self::Commit { group: take_text(rest)?.into(), offsets: take_list(rest, CommittedOffset::decode)? }
            }
            [GROUP] => Self::Group { group: take_text(rest)?.into(), state: Box::new(StoredGroup::decode(rest)?) },
            [FORGET_OFFSETS] => Self::ForgetOffsets {
                group: take_text(rest)?.into(),
                partitions: take_list(rest, |rest| Some((take_text(rest)?.into(), take_i32(rest)?)))?,
            },
            [DELETE_GROUP] => Self::DeleteGroup { group: take_text(rest)?.into() },
            [other] => Self::Transaction(transaction_entry::decode(other, rest)?),
        };
        rest.is_empty().then_some(entry)
    }
}

impl CommittedOffset {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Committed { offset, leader_epoch, metadata, committed_at_ms, expires_at_ms } = &self.committed;
        put_text(out, &self.topic);
        out.extend_from_slice(self.topic_id.as_bytes());
        out.extend_from_slice(&self.partition.to_be_bytes());
        out.extend_from_slice(&offset.to_be_bytes());
        out.extend_from_slice(&leader_epoch.to_be_bytes());
        out.extend_from_slice(&committed_at_ms.unwrap_or(-1).to_be_bytes());
        out.extend_from_slice(&expires_at_ms.unwrap_or(-1).to_be_bytes());
        put_text(out, metadata);
    }

    pub(super) fn decode(rest: &mut &[u8]) -> Option<Self> {
        let time = |rest: &mut &[u8]| take_i64(rest).map(|ms| (ms >= 0).then_some(ms));
        Some(Self {
            topic: take_text(rest)?.into(),
            topic_id: Uuid::from_bytes(take(rest)?),
            partition: take_i32(rest)?,
            committed: Committed {
                offset: take_i64(rest)?,
                leader_epoch: take_i32(rest)?,
                committed_at_ms: time(rest)?,
                expires_at_ms: time(rest)?,
                metadata: take_text(rest)?.to_owned(),
            },
        })
    }

    fn decode_for_ever(rest: &mut &[u8]) -> Option<Self> {
        Some(Self {
            topic: take_text(rest)?.into(),
            topic_id: Uuid::from_bytes(take(rest)?),
            partition: take_i32(rest)?,
            committed: Committed {
                offset: take_i64(rest)?,
                leader_epoch: -1,
                metadata: take_text(rest)?.to_owned(),
                committed_at_ms: None,
                expires_at_ms: None,
            },
        })
    }
}
