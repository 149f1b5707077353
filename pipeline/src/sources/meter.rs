//! Counters of the doors. Labels are `door`, `signal` and `reason`: few values, and never a tenant's name.

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use super::batcher::Batch;
use crate::ledger::Doors;

#[cfg(test)]
mod tests;

const RECEIVED: &str = "highwater_ingest_received_total";
const STORED: &str = "highwater_ingest_stored_total";
const DUPLICATE: &str = "highwater_ingest_duplicate_total";
const REJECTED: &str = "highwater_ingest_rejected_total";
const REFUSED_REQUESTS: &str = "highwater_ingest_refused_requests_total";
const RECEIVED_SIZE: &str = "highwater_ingest_received_size_bytes_total";
const STORED_SIZE: &str = "highwater_ingest_stored_size_bytes_total";
const REQUEST_SECONDS: &str = "highwater_ingest_request_seconds";

/// Says what the metrics mean.
pub(super) fn describe() {
    describe_counter!(RECEIVED, "Entries received; received = stored + duplicate + rejected");
    describe_counter!(STORED, "Entries made durable");
    describe_counter!(DUPLICATE, "Entries that an earlier request with the same idempotency key had stored");
    describe_counter!(REJECTED, "Entries not stored, by reason");
    describe_counter!(
        REFUSED_REQUESTS,
        "Requests answered with an error, by reason; entries are counted only of those that the log did not take"
    );
    describe_counter!(RECEIVED_SIZE, Unit::Bytes, "Bytes of bodies once decompressed");
    describe_counter!(STORED_SIZE, Unit::Bytes, "Bytes of record values made durable");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Time from a request's head to its answer");
}

/// The counters of one door and signal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter<'d> {
    pub(super) door: &'static str,
    pub(super) signal: &'static str,
    /// Where the ledger takes its counts from.
    pub(super) doors: &'d Doors,
}

impl Meter<'_> {
    /// A body was read to its end.
    pub(super) fn read(self, size_bytes: usize, batch: &Batch) {
        let Self { door, signal, doors } = self;
        counter!(RECEIVED_SIZE, "door" => door, "signal" => signal).increment(size_bytes as u64);
        let received = batch.report.accepted + batch.report.rejected;
        counter!(RECEIVED, "door" => door, "signal" => signal).increment(received);
        doors.received(door, signal, received, &batch.rejected_by);
        for &(reason, count) in &batch.rejected_by {
            counter!(REJECTED, "door" => door, "signal" => signal, "reason" => reason).increment(count);
        }
    }

    /// A record was appended.
    pub(super) fn appended(self, rows: u64, size_bytes: usize, duplicate: bool) {
        let Self { door, signal, doors } = self;
        doors.appended(door, signal, rows, duplicate);
        if duplicate {
            counter!(DUPLICATE, "door" => door, "signal" => signal).increment(rows);
        } else {
            counter!(STORED, "door" => door, "signal" => signal).increment(rows);
            counter!(STORED_SIZE, "door" => door, "signal" => signal).increment(size_bytes as u64);
        }
    }

    /// Entries were not stored.
    pub(super) fn rejected(self, reason: &'static str, rows: u64) {
        let Self { door, signal, doors } = self;
        doors.rejected(door, signal, reason, rows);
        counter!(REJECTED, "door" => door, "signal" => signal, "reason" => reason).increment(rows);
    }

    /// A request was refused as a whole.
    pub(super) fn refused(self, reason: &'static str) {
        let Self { door, signal, .. } = self;
        counter!(REFUSED_REQUESTS, "door" => door, "signal" => signal, "reason" => reason).increment(1);
    }

    /// A request was answered.
    pub(super) fn answered(self, seconds: f64) {
        let Self { door, signal, .. } = self;
        histogram!(REQUEST_SECONDS, "door" => door, "signal" => signal).record(seconds);
    }
}
