//! Who is connected to a port.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::settings::ServerLimits;

/// Connections by address.
pub(super) struct Guests {
    door: &'static str,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that counts for as long as this is held.
pub(super) struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    pub(super) fn new(door: &'static str) -> Self {
        Self { door, by_address: Mutex::default() }
    }

    /// Lets one more in from this address, or says why not.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, limits: &ServerLimits) -> Result<Guest, &'static str> {
        let mut by_address = self.by_address.lock();
        let total: usize = by_address.values().sum();
        if total >= limits.max_connections {
            return Err("all");
        }
        let known = by_address.get(&address).copied().unwrap_or(0);
        if known >= limits.max_connections_per_address {
            return Err("address");
        }
        by_address.insert(address, known + 1);
        metrics::gauge!("highwater_http_connections", "door" => self.door).increment(1);
        Ok(Guest { guests: Arc::clone(self), address })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut by_address = self.guests.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
        metrics::gauge!("highwater_http_connections", "door" => self.guests.door).decrement(1);
    }
}
