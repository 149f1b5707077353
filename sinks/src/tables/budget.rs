//! The memory that all tables share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of decoded rows held by all table writers together. Cheap to clone; clones share the count.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

impl MemoryBudget {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self { used: Arc::default(), limit: limit_bytes }
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// True where nothing more should be read before something is written.
    pub fn is_exhausted(&self) -> bool {
        self.used() >= self.limit
    }

    pub(super) fn hold(&self, bytes: usize) -> Held {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Held { budget: self.clone(), bytes }
    }
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: MemoryBudget,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
