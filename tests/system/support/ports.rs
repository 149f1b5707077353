//! Addresses for processes that have to be told theirs.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below those that the system gives to connections, so that none of these takes one while its server is away.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Where the next search begins; no port is given twice by one process.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// An address on loopback where nobody listens, and that nobody else is given.
pub fn free_address() -> String {
    let count = PORTS.end - PORTS.start;
    // Processes beside each other begin at different places.
    let start = (std::process::id() % u32::from(count)) as u16;
    for _ in 0..count {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (u32::from(start) + u32::from(step)).rem_euclid(u32::from(count)) as u16;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
    panic!("no port between {} and {} is free", PORTS.start, PORTS.end);
}
