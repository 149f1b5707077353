//! Who is connected to a port: a cap on connections, of all and of one address. Every door of Highwater that accepts sockets counts by it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Connections by address.
pub struct Guests {
    /// Shows how many there are.
    gauge: metrics::Gauge,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that counts for as long as this is held.
pub struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    /// Nobody yet; `gauge` shows how many there are.
    pub fn new(gauge: metrics::Gauge) -> Self {
        Self { gauge, by_address: Mutex::default() }
    }

    /// Lets one more in from this address.
    ///
    /// # Errors
    /// Which of the two caps is reached: that of `all`, or that of the `address`.
    pub fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        max_connections: usize,
        max_connections_per_address: usize,
    ) -> Result<Guest, &'static str> {
        let mut by_address = self.by_address.lock();
        let total: usize = by_address.values().sum();
        if total >= max_connections {
            return Err("all");
        }
        let known = by_address.get(&address).copied().unwrap_or(0);
        if known >= max_connections_per_address {
            return Err("address");
        }
        by_address.insert(address, known + 1);
        self.gauge.increment(1);
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
        self.guests.gauge.decrement(1);
    }
}
