//! What an agent has done, in numbers that add up.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one run of an agent did. `rows_found + rows_made = rows_shipped + rows_refused + rows_dropped + rows_spooled`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines read, blank ones aside (metrics: samples collected).
    pub lines_read: u64,
    /// Blank lines, skipped.
    pub lines_blank: u64,
    /// Lines longer than the cap, cut.
    pub lines_truncated: u64,
    /// Lines that were not UTF-8; their bad bytes became U+FFFD.
    pub lines_not_utf8: u64,
    /// Events that patterns leave out.
    pub rows_excluded: u64,
    /// Events that sampling leaves out.
    pub rows_sampled_out: u64,
    /// Events beyond the source's rate.
    pub rows_rate_limited: u64,
    /// Rows already in the spool when the run began.
    pub rows_found: u64,
    /// Rows put into batches in this run: one per line, or per joined event.
    pub rows_made: u64,
    /// Rows the server has acknowledged.
    pub rows_shipped: u64,
    /// Rows the server has refused for good; kept in `refused/`.
    pub rows_refused: u64,
    /// Rows dropped because the spool was full.
    pub rows_dropped: u64,
    /// Spool files that could not be read, moved to `refused/`; how many rows they held is not known.
    pub batches_damaged: u64,
    /// Rows still in the spool at the end.
    pub rows_spooled: u64,
    /// Bytes of the spool at the end.
    pub spool_size_bytes: u64,
    /// Requests sent, successful or not.
    pub requests: u64,
    /// Requests that failed and were or will be sent again.
    pub requests_failed: u64,
    /// Times a file was found rotated by rename.
    pub files_rotated: u64,
    /// Times a file was found truncated.
    pub files_truncated: u64,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident => $metric:literal),* $(,)?) => {
        /// The running counters behind a [`Report`]; each is also a metric.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $($field: AtomicU64),* }

        impl Counters {
            $($(#[$doc])* pub(crate) fn $field(&self, by: u64) {
                if by > 0 {
                    self.$field.fetch_add(by, Ordering::Relaxed);
                    metrics::counter!($metric).increment(by);
                }
            })*

            /// The counters now; what the spool holds is the caller's to add.
            pub(crate) fn report(&self) -> Report {
                Report { $($field: self.$field.load(Ordering::Relaxed),)* ..Report::default() }
            }
        }
    };
}

counters! {
    lines_read => "highwater_agent_lines_read_total",
    lines_blank => "highwater_agent_lines_blank_total",
    lines_truncated => "highwater_agent_lines_truncated_total",
    lines_not_utf8 => "highwater_agent_lines_not_utf8_total",
    rows_excluded => "highwater_agent_rows_excluded_total",
    rows_sampled_out => "highwater_agent_rows_sampled_out_total",
    rows_rate_limited => "highwater_agent_rows_rate_limited_total",
    rows_found => "highwater_agent_rows_found_total",
    rows_made => "highwater_agent_rows_made_total",
    rows_shipped => "highwater_agent_rows_shipped_total",
    rows_refused => "highwater_agent_rows_refused_total",
    rows_dropped => "highwater_agent_rows_dropped_total",
    batches_damaged => "highwater_agent_batches_damaged_total",
    requests => "highwater_agent_requests_total",
    requests_failed => "highwater_agent_requests_failed_total",
    files_rotated => "highwater_agent_files_rotated_total",
    files_truncated => "highwater_agent_files_truncated_total",
}
