//! What to read and how to cut it into events.

use std::collections::BTreeMap;
use std::time::Duration;

use super::containers::Wrapping;
use super::filters::FilterOptions;
use crate::agents::AgentError;
use crate::agents::shipping::{ShippingOptions, WhenFull};

/// The server's limit on a field is 1 MiB, as JSON: escapes count.
const MAX_LINE_SIZE_BYTES: usize = 1_000_000;

/// Options of [`super::run`]. [`LogsOptions::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct LogsOptions {
    /// Where to ship.
    pub shipping: ShippingOptions,
    /// The `service` of every row.
    pub service: String,
    /// The `host` of every row.
    pub host: String,
    /// What to read.
    pub input: Input,
    /// Added to every row's attributes.
    pub labels: BTreeMap<String, String>,
    /// What lines come in. Default: a container runtime's envelope, where they have one.
    pub wrapping: Wrapping,
    /// What becomes of events before they are rows.
    pub filters: FilterOptions,
    /// Join lines into events. Default: one line, one event.
    pub multiline: Multiline,
    /// How formats without all parts of a date are read.
    pub dates: Dates,
    /// A longer line (or joined event) is cut. Default 256 KiB.
    pub line_size_bytes: usize,
    /// A last line without newline is sent after this long. Default 5 s.
    pub partial_wait: Duration,
    /// How often files are looked at for new bytes. Default 250 ms.
    pub poll_every: Duration,
    /// How often patterns are matched again and rotation is looked for. Default 1 s.
    pub discover_every: Duration,
    /// A file that was renamed or removed is read until it has been silent for this long. Default 5 s.
    pub rotated_wait: Duration,
}

/// What an agent reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Files, by path or pattern.
    Files {
        /// Paths and glob patterns (`*`, `?`, `[..]`, `**`).
        patterns: Vec<String>,
        /// Paths and patterns of files that are not read although a pattern leads to them.
        exclude: Vec<String>,
        /// Where a file starts for which no position is kept, at the start of the agent. Files that appear later are
        /// read from their beginning.
        start: StartAt,
        /// False: read what is there now, ship it and end (`--no-follow`).
        follow: bool,
    },
    /// Standard input, to its end.
    Stdin,
}

/// Where reading a new file starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// At its first byte.
    #[default]
    Beginning,
    /// At its end: only what is written from now on.
    End,
}

/// Which lines belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Multiline {
    /// Each line is an event.
    #[default]
    Off,
    /// Stack traces: a line that starts with white space, `at `, `Caused by`, `Suppressed:`, `... N more`, a qualified
    /// Java exception (`java.io.IOException: ...`) or `Traceback (most recent call last)` continues the event; so does
    /// the line that ends a Python traceback.
    Traces(MultilineLimits),
    /// A line that matches the regular expression starts an event; all others continue it.
    Start(String, MultilineLimits),
}

/// When an event ends although no line said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultilineLimits {
    /// This long after its last line. Default 2 s.
    pub wait: Duration,
    /// At this many lines. Default 1000. (The size cap is [`LogsOptions::line_size_bytes`].)
    pub lines: usize,
}

impl Default for MultilineLimits {
    fn default() -> Self {
        Self { wait: Duration::from_secs(2), lines: 1000 }
    }
}

/// What lines leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dates {
    /// The year of lines that state none. Without it: the latest year that does not put the line in the future, by more
    /// than the 14 hours that zones can be apart.
    pub year: Option<i32>,
    /// The zone of lines that state none, as seconds east of UTC. Default 0.
    pub utc_offset_s: i32,
}

impl LogsOptions {
    /// The defaults, for this service, host and input.
    pub fn new(shipping: ShippingOptions, service: impl Into<String>, host: impl Into<String>, input: Input) -> Self {
        Self {
            shipping,
            service: service.into(),
            host: host.into(),
            input,
            labels: BTreeMap::new(),
            wrapping: Wrapping::default(),
            filters: FilterOptions::default(),
            multiline: Multiline::default(),
            dates: Dates::default(),
            line_size_bytes: 256 << 10,
            partial_wait: Duration::from_secs(5),
            poll_every: Duration::from_millis(250),
            discover_every: Duration::from_secs(1),
            rotated_wait: Duration::from_secs(5),
        }
    }

    /// Files that are read once stay where they are, so nothing of them is dropped for a full spool: the rest waits in
    /// the file.
    pub(crate) fn with_files_kept(mut self) -> Self {
        if matches!(self.input, Input::Files { follow: false, .. }) {
            self.shipping.when_full = WhenFull::Wait;
        }
        self
    }

    pub(crate) fn check(&self) -> Result<(), AgentError> {
        self.shipping.check()?;
        let wrong = |option, reason: &str| Err(AgentError::Option { option, reason: reason.to_owned() });
        if self.service.is_empty() {
            return wrong("--service", "every row needs the name of a service");
        }
        if !(1..=MAX_LINE_SIZE_BYTES).contains(&self.line_size_bytes) {
            return wrong("--max-line-bytes", "expected 1 to 1000000: the server takes no longer field");
        }
        if self.dates.year.is_some_and(|year| !(1970..=9999).contains(&year)) {
            return wrong("--year", "expected 1970 to 9999");
        }
        if self.dates.utc_offset_s.abs() > 18 * 3600 {
            return wrong("--utc-offset", "a zone is at most 18 hours from UTC");
        }
        Ok(())
    }
}
