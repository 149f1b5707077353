//! Bounds on what clients take of a port.

use serde::{Deserialize, Serialize};

/// Limits of one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_address: usize,
    /// Headers of one request.
    pub max_headers: usize,
    /// Bytes of the head of one request.
    pub max_head_size_bytes: usize,
    /// Time a client has for its TLS handshake, for the head of a request, and between two requests, in milliseconds.
    pub head_timeout_ms: u64,
    /// Requests at once on one connection of HTTP/2.
    pub max_streams: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_connections_per_address: 1024,
            max_headers: 100,
            max_head_size_bytes: 64 << 10,
            head_timeout_ms: 60_000,
            max_streams: 256,
        }
    }
}

impl ServerLimits {
    /// Refuses limits under which nobody could be served.
    ///
    /// # Errors
    /// The setting, and what is allowed.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let above_0 = [
            ("max_connections", self.max_connections as u64),
            ("max_connections_per_address", self.max_connections_per_address as u64),
            ("max_headers", self.max_headers as u64),
            ("head_timeout_ms", self.head_timeout_ms),
            ("max_streams", u64::from(self.max_streams)),
        ];
        if let Some((name, _)) = above_0.iter().find(|(_, value)| *value == 0) {
            return Err((name, "is 0: nobody could be served".to_owned()));
        }
        // hyper's own least is 8 KiB.
        if !(8 << 10..=16 << 20).contains(&self.max_head_size_bytes) {
            return Err(("max_head_size_bytes", format!("{} is not 8 KiB to 16 MiB", self.max_head_size_bytes)));
        }
        Ok(())
    }
}
