//! Cancel requests: they come on a connection of their own, with the number and the secret of the one they mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::sync::Notify;

/// The connections there are.
#[derive(Default)]
pub(super) struct Connections {
    next: AtomicI32,
    all: Mutex<HashMap<i32, Entry>>,
}

struct Entry {
    secret: i32,
    cancel: Arc<Notify>,
}

/// A connection's place among the others, until it is dropped.
pub(super) struct Registered {
    connections: Arc<Connections>,
    pub(super) pid: i32,
    pub(super) secret: i32,
    /// Told of each request to cancel what runs.
    pub(super) cancel: Arc<Notify>,
}

impl Connections {
    /// A number and a secret for a new connection; `None` where the system has no randomness to give.
    pub(super) fn register(self: &Arc<Self>) -> Option<Registered> {
        let mut random = [0; 4];
        OsRng.try_fill_bytes(&mut random).ok()?;
        let secret = i32::from_be_bytes(random);
        let cancel = Arc::new(Notify::new());
        let mut all = self.all.lock();
        let pid = loop {
            let pid = self.next.fetch_add(1, Ordering::Relaxed).rem_euclid(i32::MAX - 1) + 1;
            if !all.contains_key(&pid) {
                break pid;
            }
        };
        all.insert(pid, Entry { secret, cancel: Arc::clone(&cancel) });
        drop(all);
        Some(Registered { connections: Arc::clone(self), pid, secret, cancel })
    }

    /// Cancels what this connection runs, if the secret is its own.
    pub(super) fn cancel(&self, pid: i32, secret: &Bytes) {
        if let Some(entry) = self.all.lock().get(&pid)
            && entry.secret.to_be_bytes()[..] == secret[..]
        {
            entry.cancel.notify_waiters();
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.all.lock().remove(&self.pid);
    }
}
