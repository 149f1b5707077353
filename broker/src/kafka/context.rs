//! What a handler is given beside its request.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::security::Session;
use super::settings::DoorSettings;
use super::turns::Turns;
use crate::access::{May, Principal};
use crate::broker::Broker;
use crate::groups::Groups;
use crate::transactions::Transactions;

/// The one node there is.
pub(in crate::kafka) const NODE_ID: i32 = 1;

/// The epoch of every partition's leader. It never changes, because the leader does not.
pub(in crate::kafka) const LEADER_EPOCH: i32 = 0;

/// What a client may do, as a bit for each of Kafka's operations: whatever there is to be done, because there are no ACLs.
pub(in crate::kafka) mod operations {
    /// With a topic: read, write, create, delete, alter, describe, and describe and alter its settings.
    pub(in crate::kafka) const TOPIC: i32 = 0b1101_1111_1000;
    /// With the cluster: create, alter, describe, act as a member, describe and alter its settings, and write with idempotence.
    pub(in crate::kafka) const CLUSTER: i32 = 0b1_1111_1010_0000;
}

/// Everything a handler may use. One per connection, made anew where the client's name or principal changes.
pub(in crate::kafka) struct Context {
    /// The log.
    pub(in crate::kafka) broker: Arc<Broker>,
    /// Consumer groups.
    pub(in crate::kafka) groups: Arc<Groups>,
    /// The coordinator of transactions.
    pub(in crate::kafka) transactions: Arc<Transactions>,
    /// Settings of the door.
    pub(in crate::kafka) door: Arc<DoorSettings>,
    /// Identity of the cluster, the same across restarts.
    pub(in crate::kafka) cluster_id: Arc<str>,
    /// How far the connection is with its login.
    pub(in crate::kafka) session: Arc<Session>,
    /// Bytes of records that answers may still take, over all connections.
    pub(in crate::kafka) answer_room: Arc<Semaphore>,
    /// In which order Produce requests of the connection reach the log.
    pub(in crate::kafka) turns: Arc<Turns>,
    /// True once the server shuts down: nobody should wait for anything then.
    pub(in crate::kafka) stopped: watch::Receiver<bool>,
    /// Who asks.
    pub(in crate::kafka) client: ClientInfo,
}

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kafka) struct ClientInfo {
    /// The client id that it gave; empty where it gave none.
    pub(in crate::kafka) id: String,
    /// The address that it came from, without the port.
    pub(in crate::kafka) host: String,
    /// The address of ours that it dialled.
    pub(in crate::kafka) dialled: SocketAddr,
    /// Whose key it logged in with; `None` where logins are not asked for.
    pub(in crate::kafka) principal: Option<Principal>,
}

impl Context {
    /// What who asks may do at all.
    pub(in crate::kafka) fn may(&self) -> May {
        self.client.principal.as_ref().map_or(May::ALL, |principal| principal.may)
    }

    /// True where who asks may write to this topic, and make it.
    pub(in crate::kafka) fn may_write(&self, topic: &str) -> bool {
        self.may().ingest && (self.door.may_write)(topic)
    }

    /// True where who asks may do more to this topic than write to it.
    pub(in crate::kafka) fn may_alter(&self, topic: &str) -> bool {
        self.may().admin && (self.door.may_write)(topic) && (self.door.may_alter)(topic)
    }

    /// The header that says whose records for this topic are, where who asks does not say so itself.
    pub(in crate::kafka) fn tenant_header(&self, topic: &str) -> Option<(&'static str, Bytes)> {
        let principal = self.client.principal.as_ref().filter(|principal| !principal.any_tenant)?;
        let value = (self.door.has_tenants)(topic).then(|| Bytes::from(principal.tenant.clone()))?;
        Some((self.door.tenant_header, value))
    }

    /// True where who asks may read this topic. What holds rows of several tenants is read by those who speak for all of them.
    pub(in crate::kafka) fn may_read(&self, topic: &str) -> bool {
        let Some(principal) = &self.client.principal else { return true };
        principal.may.query && (principal.any_tenant || !(self.door.is_shared)(topic))
    }

    /// Host and port that clients are told to dial.
    pub(in crate::kafka) fn advertised(&self) -> (String, i32) {
        match &self.door.advertised {
            Some(advertised) => (advertised.host.clone(), i32::from(advertised.port)),
            None => (self.client.dialled.ip().to_string(), i32::from(self.client.dialled.port())),
        }
    }
}
