//! A member of a group: what it brought, what it got, and what it waits for.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::Ticket;
use crate::coordinator::StoredMember;

/// A way of dividing the work that a member knows, with what it has to say to whoever divides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: Arc<str>,
    pub(crate) metadata: Bytes,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: Arc<str>,
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    /// In the member's order of preference.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// Its join that waits for an answer.
    pub(super) join: Option<Ticket>,
    /// Its sync that waits for an answer.
    pub(super) sync: Option<Ticket>,
    /// True until its first join is answered: before that it cannot know its id, so it cannot prove to be alive.
    pub(super) is_new: bool,
    /// When it is given up unless it is heard of; `None` while it waits for an answer of ours.
    pub(super) deadline_ms: Option<i64>,
}

impl Member {
    /// A member that waits for us to answer need not say that it is alive, unless it is new.
    pub(super) fn is_excused(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }

    pub(super) fn expect_sign_of_life(&mut self, now_ms: i64) {
        self.deadline_ms = Some(now_ms + i64::from(self.session_timeout_ms));
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|p| p.name.as_ref() == protocol).map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// The first of its protocols that all members know.
    pub(super) fn vote<'a>(&'a self, candidates: &BTreeSet<&str>) -> Option<&'a Arc<str>> {
        self.protocols.iter().map(|p| &p.name).find(|name| candidates.contains(name.as_ref()))
    }

    pub(super) fn store(&self, assignment: Bytes) -> StoredMember {
        StoredMember {
            id: Arc::clone(&self.id),
            instance_id: self.instance_id.clone(),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocols: self.protocols.iter().map(|p| (Arc::clone(&p.name), p.metadata.clone())).collect(),
            assignment,
        }
    }

    pub(super) fn restore(stored: StoredMember, now_ms: i64) -> Self {
        let protocols = stored.protocols.into_iter().map(|(name, metadata)| Protocol { name, metadata }).collect();
        let mut member = Self {
            id: stored.id,
            instance_id: stored.instance_id,
            client_id: stored.client_id,
            client_host: stored.client_host,
            session_timeout_ms: stored.session_timeout_ms,
            rebalance_timeout_ms: stored.rebalance_timeout_ms,
            protocols,
            assignment: stored.assignment,
            join: None,
            sync: None,
            is_new: false,
            deadline_ms: None,
        };
        member.expect_sign_of_life(now_ms);
        member
    }
}
