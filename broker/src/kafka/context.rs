//! What a handler is given beside its request.

use std::net::SocketAddr;
use std::sync::Arc;

use super::settings::DoorSettings;
use crate::broker::Broker;
use crate::groups::Groups;

/// The one node there is.
pub(in crate::kafka) const NODE_ID: i32 = 1;

/// Everything a handler may use. One per connection, made anew where the client's name or principal changes.
pub(in crate::kafka) struct Context {
    /// The log.
    pub(in crate::kafka) broker: Arc<Broker>,
    /// Consumer groups.
    pub(in crate::kafka) groups: Arc<Groups>,
    /// Settings of the door.
    pub(in crate::kafka) door: Arc<DoorSettings>,
    /// Identity of the cluster, the same across restarts.
    pub(in crate::kafka) cluster_id: Arc<str>,
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

/// Whom an API key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name of the key.
    pub name: String,
    /// The tenant that it belongs to.
    pub tenant: String,
}

impl Context {
    /// Host and port that clients are told to dial.
    pub(in crate::kafka) fn advertised(&self) -> (String, i32) {
        match &self.door.advertised {
            Some(advertised) => (advertised.host.clone(), i32::from(advertised.port)),
            None => (self.client.dialled.ip().to_string(), i32::from(self.client.dialled.port())),
        }
    }
}
