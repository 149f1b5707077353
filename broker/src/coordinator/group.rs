//! What the journal keeps of a consumer group's membership: enough that a restart throws nobody out.
//!
//! ```text
//! group state:  protocol type (optional), generation (4), protocol (optional), leader (optional), since, Unix ms (8),
//!               member count (4), then per member: id, instance id (optional), client id, client host,
//!               session timeout ms (4), rebalance timeout ms (4),
//!               protocol count (4), then per protocol: name, metadata; assignment
//! ```

use std::sync::Arc;

use bytes::Bytes;

use super::wire::{
    put_bytes, put_count, put_optional_text, put_text, take_bytes, take_i32, take_i64, take_list, take_optional_text,
    take_text,
};

/// A group between two rebalances: with members it is stable, without it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredGroup {
    /// What the members use the group for (`consumer`, `connect`); none where it never had members.
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) generation: i32,
    /// The protocol the members agreed on; none while the group is empty.
    pub(crate) protocol: Option<Arc<str>>,
    pub(crate) leader: Option<Arc<str>>,
    /// Since when it is stable or empty, in Unix milliseconds: what the expiry of its offsets counts from.
    pub(crate) since_ms: i64,
    pub(crate) members: Vec<StoredMember>,
}

/// A member with what it brought and what it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredMember {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// In the member's order of preference.
    pub(crate) protocols: Vec<(Arc<str>, Bytes)>,
    pub(crate) assignment: Bytes,
}

impl StoredGroup {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_optional_text(out, self.protocol_type.as_deref());
        out.extend_from_slice(&self.generation.to_be_bytes());
        put_optional_text(out, self.protocol.as_deref());
        put_optional_text(out, self.leader.as_deref());
        out.extend_from_slice(&self.since_ms.to_be_bytes());
        put_count(out, self.members.len());
        for member in &self.members {
            member.encode(out);
        }
    }

    pub(super) fn decode(rest: &mut &[u8]) -> Option<Self> {
        Some(Self {
            protocol_type: take_optional_text(rest)?,
            generation: take_i32(rest)?,
            protocol: take_optional_text(rest)?,
            leader: take_optional_text(rest)?,
            since_ms: take_i64(rest)?,
            members: take_list(rest, StoredMember::decode)?,
        })
    }
}

impl StoredMember {
    fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.id);
        put_optional_text(out, self.instance_id.as_deref());
        put_text(out, &self.client_id);
        put_text(out, &self.client_host);
        out.extend_from_slice(&self.session_timeout_ms.to_be_bytes());
        out.extend_from_slice(&self.rebalance_timeout_ms.to_be_bytes());
        put_count(out, self.protocols.len());
        for (name, metadata) in &self.protocols {
            put_text(out, name);
            put_bytes(out, metadata);
        }
        put_bytes(out, &self.assignment);
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        Some(Self {
            id: take_text(rest)?.into(),
            instance_id: take_optional_text(rest)?,
            client_id: take_text(rest)?.into(),
            client_host: take_text(rest)?.into(),
            session_timeout_ms: take_i32(rest)?,
            rebalance_timeout_ms: take_i32(rest)?,
            protocols: take_list(rest, |rest| Some((take_text(rest)?.into(), take_bytes(rest)?)))?,
            assignment: take_bytes(rest)?,
        })
    }
}
