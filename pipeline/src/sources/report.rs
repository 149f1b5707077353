//! What a sender is told.

use serde::Serialize;

/// The answer to a request that was read to its end. A retry under the same idempotency key gets the same answer, but for
/// `duplicate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IngestReport {
    /// Entries that are stored.
    pub accepted: u64,
    /// Entries that were refused.
    pub rejected: u64,
    /// Why, for the first [`IngestReport::MAX_ERRORS`] of them.
    pub errors: Vec<EntryError>,
    /// Of those, samples of series that are too many for their tenant.
    #[serde(skip)]
    pub series_refused: u64,
    /// True where all of the accepted entries had been stored before, by a request with the same key.
    pub duplicate: bool,
}

/// Why one entry was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryError {
    /// Index of the entry in the request, from 0; [`Self::SEVERAL`] where it is about some that are not named.
    pub index: i32,
    /// What is wrong with it.
    pub reason: String,
}

impl EntryError {
    /// The index of entries that are not named.
    pub const SEVERAL: i32 = -1;
}

impl IngestReport {
    /// Most entries of `errors`; `rejected` counts all.
    pub const MAX_ERRORS: usize = 1_000;
}
