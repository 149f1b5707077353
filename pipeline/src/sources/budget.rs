//! Memory for bodies: one budget for all requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::IngestError;

/// Bytes that requests may hold together.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    used_bytes: Arc<AtomicUsize>,
    limit_bytes: usize,
}

/// A request's share, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Budget,
    size_bytes: usize,
}

impl Budget {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { used_bytes: Arc::default(), limit_bytes }
    }

    /// A share of nothing, to grow.
    pub(super) fn reservation(&self) -> Reservation {
        Reservation { budget: self.clone(), size_bytes: 0 }
    }

    /// Bytes in use.
    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }
}

impl Reservation {
    /// Takes more, or none where the budget would be passed.
    pub(super) fn grow(&mut self, size_bytes: usize) -> Result<(), IngestError> {
        let limit_bytes = self.budget.limit_bytes;
        // The counter orders nothing but itself.
        let grown = self.budget.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(size_bytes).filter(|&used| used <= limit_bytes)
        });
        grown.map_err(|_| IngestError::Busy { limit_bytes })?;
        self.size_bytes += size_bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.size_bytes, Ordering::Relaxed);
    }
}
