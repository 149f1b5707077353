//! Every setting and limit of the door.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::access::ApiKeys;
use crate::groups::GroupSettings;
use crate::tls::TlsFiles;

/// Bounds of the limits in bytes. A size on the wire is an i32.
const MIN_SIZE_BYTES: usize = 64 << 10;
const MAX_SIZE_BYTES: usize = i32::MAX as usize;

/// Says something of a topic, such as whether clients may write to it.
pub type MayWrite = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What clients are told to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Settings of a [`super::KafkaServer`].
#[derive(Clone)]
pub struct DoorSettings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What clients are told to dial; `None` tells each the address it came in on.
    pub advertised: Option<Advertised>,
    /// With a certificate the door speaks TLS and nothing else.
    pub tls: Option<TlsFiles>,
    /// With keys, clients log in (SASL PLAIN: the name of a key, and its secret) before they are served.
    pub api_keys: ApiKeys,
    /// Lets clients beyond loopback in without TLS or without keys.
    pub allow_insecure: bool,
    /// Partitions of a topic that a client creates by asking for it; `None` refuses to create topics so.
    pub auto_create_partitions: Option<i32>,
    /// Topics for which this is false answer TOPIC_AUTHORIZATION_FAILED to whatever would change them.
    pub may_write: MayWrite,
    /// Topics for which this is false take records, but are not deleted, cut, given partitions or other settings.
    pub may_alter: MayWrite,
    /// Topics for which this is true hold rows of several tenants: a principal of one of them does not read them.
    pub is_shared: MayWrite,
    /// Records that a principal of one tenant produces to topics for which this is true get [`Self::tenant_header`], with its tenant.
    pub has_tenants: MayWrite,
    /// The name of that header.
    pub tenant_header: &'static str,
    /// Settings of consumer groups.
    pub groups: GroupSettings,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_address: usize,
    /// Bytes of requests on their way over all connections. Past it sockets are not read until there is room; it is also the largest
    /// Produce request.
    pub max_in_flight_bytes: usize,
    /// Largest request other than Produce, in bytes.
    pub max_request_size_bytes: usize,
    /// Bytes of records in answers on their way over all connections. Past it, answers get shorter and then wait.
    pub max_answer_bytes: usize,
    /// A connection on which nothing happens for so long is closed, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Time a client has to send a request it began, or to take an answer, in milliseconds, and a second more per 256 KiB.
    pub transfer_timeout_ms: u64,
    /// Time a client has to finish its TLS handshake and its login, in milliseconds.
    pub login_timeout_ms: u64,
}

impl Default for DoorSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            advertised: None,
            tls: None,
            api_keys: ApiKeys::default(),
            allow_insecure: false,
            auto_create_partitions: Some(1),
            may_write: Arc::new(|_| true),
            may_alter: Arc::new(|_| true),
            is_shared: Arc::new(|_| false),
            has_tenants: Arc::new(|_| false),
            tenant_header: "tenant",
            groups: GroupSettings::default(),
            max_connections: 4096,
            max_connections_per_address: 1024,
            max_in_flight_bytes: 64 << 20,
            max_request_size_bytes: 1 << 20,
            max_answer_bytes: 128 << 20,
            idle_timeout_ms: 10 * 60 * 1000,
            transfer_timeout_ms: 30_000,
            login_timeout_ms: 10_000,
        }
    }
}

impl DoorSettings {
    /// Refuses limits under which nobody could be served.
    pub(in crate::kafka) fn validate(&self) -> Result<(), String> {
        let sizes = [
            ("max_in_flight_bytes", self.max_in_flight_bytes),
            ("max_request_size_bytes", self.max_request_size_bytes),
            ("max_answer_bytes", self.max_answer_bytes),
        ];
        for (name, size_bytes) in sizes {
            if !(MIN_SIZE_BYTES..=MAX_SIZE_BYTES).contains(&size_bytes) {
                return Err(format!("{name} is {size_bytes}, but must be 64 KiB to 2 GiB"));
            }
        }
        let above_0 = [
            ("max_connections", self.max_connections as u64),
            ("max_connections_per_address", self.max_connections_per_address as u64),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("transfer_timeout_ms", self.transfer_timeout_ms),
            ("login_timeout_ms", self.login_timeout_ms),
        ];
        match above_0.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("{name} is 0, but must be above it")),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for DoorSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("DoorSettings");
        shown.field("listen", &self.listen).field("advertised", &self.advertised).field("tls", &self.tls);
        shown.field("api_keys", &self.api_keys).finish_non_exhaustive()
    }
}
