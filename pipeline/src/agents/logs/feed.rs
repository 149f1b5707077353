//! One source's way from bytes to batches: split, join, detect, write, collect.

use std::collections::VecDeque;
use std::sync::Arc;

use super::containers::{Envelope, Unwrapper};
use super::entry::{EntryWriter, Times};
use super::filters::{Filters, LeftOut};
use super::formats::{Context, Detector, json};
use super::lines::{Line, LineSplitter};
use super::multiline::{Event, Joiner};
use super::options::{Dates, LogsOptions};
use crate::agents::AgentError;
use crate::agents::report::Counters;

/// A line without a time takes that of the line before it, if that one was read at most this long ago: a stack trace
/// belongs to its first line. After a longer pause it is a line of its own and takes the time it was read.
const SAME_MOMENT_MS: i64 = 5_000;

/// Rows on their way to a batch.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    /// NDJSON.
    pub(crate) body: Vec<u8>,
    pub(crate) rows: u64,
    /// Stream offset behind the last row.
    pub(crate) end: u64,
    first_row_ms: i64,
}

/// Turns the bytes of one file, or of standard input, into batches.
#[derive(Debug)]
pub(crate) struct Feed {
    splitter: LineSplitter,
    rows: Rows,
    last_bytes_ms: i64,
    partial_wait_ms: i64,
}

/// Everything behind the splitter.
#[derive(Debug)]
struct Rows {
    unwrapper: Unwrapper,
    joiner: Joiner,
    collector: Collector,
    counters: Arc<Counters>,
}

/// Everything behind the joiner.
#[derive(Debug)]
struct Collector {
    filters: Filters,
    counters: Arc<Counters>,
    detector: Detector,
    writer: EntryWriter,
    dates: Dates,
    /// The last time stated, and when that line was read.
    last_stamp: Option<(i64, i64)>,
    open: Batch,
    closed: VecDeque<Batch>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    rows: u64,
    size_bytes: usize,
    wait_ms: i64,
}

impl Feed {
    /// A feed for a stream read from `offset` on; `path` is the file's.
    pub(crate) fn new(
        options: &LogsOptions,
        path: Option<&str>,
        offset: u64,
        counters: Arc<Counters>,
    ) -> Result<Self, AgentError> {
        Ok(Self {
            splitter: LineSplitter::new(options.line_size_bytes, offset),
            rows: Rows {
                unwrapper: Unwrapper::new(options.wrapping, options.line_size_bytes),
                joiner: Joiner::new(&options.multiline, options.line_size_bytes)?,
                collector: Collector {
                    filters: Filters::new(&options.filters)?,
                    counters: Arc::clone(&counters),
                    detector: Detector::default(),
                    writer: EntryWriter::new(&options.service, &options.host, path, &options.labels),
                    dates: options.dates,
                    last_stamp: None,
                    open: Batch::default(),
                    closed: VecDeque::new(),
                    limits: Limits {
                        rows: options.shipping.batch_rows as u64,
                        size_bytes: options.shipping.batch_size_bytes,
                        wait_ms: options.shipping.batch_wait.as_millis() as i64,
                    },
                },
                counters,
            },
            last_bytes_ms: 0,
            partial_wait_ms: options.partial_wait.as_millis() as i64,
        })
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8], now_ms: i64) {
        self.last_bytes_ms = now_ms;
        let Self { splitter, rows, .. } = self;
        splitter.push(bytes, |line| rows.line(line, now_ms));
    }

    /// Does what time alone makes due: a batch, and where the stream has been read as far as it goes (`caught_up`) a
    /// last line without newline and a joined event. While it has not, the rest of the line is there and only waits to
    /// be read.
    pub(crate) fn tick(&mut self, caught_up: bool, now_ms: i64) {
        let Self { splitter, rows, .. } = self;
        if caught_up && splitter.has_partial() && is_due(self.last_bytes_ms, self.partial_wait_ms, now_ms) {
            splitter.finish(|line| rows.line(line, now_ms));
        }
        let Rows { unwrapper, joiner, collector, .. } = rows;
        if caught_up {
            unwrapper.flush_due(self.partial_wait_ms, now_ms, |line| {
                joiner.push(line, now_ms, |event| collector.event(&event, now_ms));
            });
            joiner.flush_due(now_ms, |event| collector.event(&event, now_ms));
        }
        if collector.open.rows > 0 && is_due(collector.open.first_row_ms, collector.limits.wait_ms, now_ms) {
            collector.close();
        }
    }

    /// Closes events and the batch. With `partial`, the stream has ended, so that a last line without newline is a line
    /// too.
    pub(crate) fn finish(&mut self, partial: bool, now_ms: i64) {
        let Self { splitter, rows, .. } = self;
        if partial {
            splitter.finish(|line| rows.line(line, now_ms));
        }
        let Rows { unwrapper, joiner, collector, .. } = rows;
        // Without `partial`, pieces of a line wait in the file for the rest, as half a line does.
        if partial {
            unwrapper.flush(|line| joiner.push(line, now_ms, |event| collector.event(&event, now_ms)));
        }
        joiner.flush(|event| collector.event(&event, now_ms));
        collector.close();
    }

    /// The same, but a line without newline is forgotten: it is read again, whole, from somewhere else.
    pub(crate) fn finish_whole_lines(&mut self, now_ms: i64) {
        self.restart(self.line_start());
        self.finish(true, now_ms);
    }

    /// Goes on at another place of the stream, or of one that has replaced it. What was open before must have been
    /// finished.
    pub(crate) fn restart(&mut self, offset: u64) {
        self.splitter = LineSplitter::new(self.splitter.limit_bytes(), offset);
    }

    /// Hands the closed batches to `spool`, oldest first. At an error the batch and those behind it stay.
    pub(crate) fn drain_closed(
        &mut self,
        mut spool: impl FnMut(&Batch) -> Result<(), AgentError>,
    ) -> Result<(), AgentError> {
        let closed = &mut self.rows.collector.closed;
        while let Some(batch) = closed.front() {
            spool(batch)?;
            closed.pop_front();
        }
        Ok(())
    }

    /// Stream offset of the next byte to push.
    pub(crate) fn offset(&self) -> u64 {
        self.splitter.offset()
    }

    /// Stream offset of the line that has begun, or of the next one.
    pub(crate) fn line_start(&self) -> u64 {
        self.splitter.line_start()
    }
}

impl Rows {
    fn line(&mut self, line: Line<'_>, now_ms: i64) {
        let mut bytes = without_leading_rubbish(line.bytes);
        if bytes.trim_ascii().is_empty() {
            return self.counters.lines_blank(1);
        }
        self.counters.lines_read(1);
        if line.cut_size_bytes > 0 {
            self.counters.lines_truncated(1);
            bytes = whole_characters(bytes);
        }
        let text = String::from_utf8_lossy(bytes);
        if matches!(text, std::borrow::Cow::Owned(_)) {
            self.counters.lines_not_utf8(1);
        }
        let envelope = Envelope::default();
        let event = Event { text: &text, end: line.end, cut_size_bytes: line.cut_size_bytes, envelope };
        let Self { unwrapper, joiner, collector, .. } = self;
        unwrapper.push(event, now_ms, |line| {
            joiner.push(line, now_ms, |event| collector.event(&event, now_ms));
        });
    }
}

impl Collector {
    fn event(&mut self, event: &Event<'_>, now_ms: i64) {
        if let Err(left_out) = self.filters.admit(event.text, now_ms) {
            match left_out {
                LeftOut::Excluded => self.counters.rows_excluded(1),
                LeftOut::Sampled => self.counters.rows_sampled_out(1),
                LeftOut::Limited => self.counters.rows_rate_limited(1),
            }
            // It is read; with the next batch its place is, too.
            if self.open.rows > 0 {
                self.open.end = event.end;
            }
            return;
        }
        let redacted = self.filters.redact(event.text);
        let event = &Event { text: &redacted, ..*event };
        if self.open.rows == 0 {
            self.open.first_row_ms = now_ms;
        }
        let observed_us = now_ms * 1000;
        // A line that was cut is no JSON any more.
        let object = if event.cut_size_bytes == 0 { json::parse(event.text) } else { None };
        match object {
            Some(line) => {
                let event_us = self.time_of(line.timestamp_us.or(event.envelope.stamp_us), now_ms);
                let times = Times { event_us, observed_us };
                self.writer.object(&mut self.open.body, event.text, &line, times, event.envelope);
            }
            None => {
                let context = Context { now_us: observed_us, dates: self.dates };
                let found = self.detector.detect(event.text, &context);
                let event_us = self.time_of(found.timestamp_us.or(event.envelope.stamp_us), now_ms);
                self.writer.text(&mut self.open.body, event, &found, Times { event_us, observed_us });
            }
        }
        self.open.rows += 1;
        self.open.end = event.end;
        if self.open.rows >= self.limits.rows || self.open.body.len() >= self.limits.size_bytes {
            self.close();
        }
    }

    fn time_of(&mut self, stated_us: Option<i64>, now_ms: i64) -> i64 {
        if let Some(stated_us) = stated_us {
            self.last_stamp = Some((stated_us, now_ms));
            return stated_us;
        }
        match self.last_stamp {
            Some((last_us, read_ms)) if (read_ms..=read_ms + SAME_MOMENT_MS).contains(&now_ms) => last_us,
            _ => now_ms * 1000,
        }
    }

    fn close(&mut self) {
        if self.open.rows > 0 {
            self.closed.push_back(std::mem::take(&mut self.open));
        }
    }
}

/// A clock set back makes everything due rather than nothing.
fn is_due(since_ms: i64, wait_ms: i64, now_ms: i64) -> bool {
    !(since_ms..since_ms.saturating_add(wait_ms)).contains(&now_ms)
}

/// Without a byte order mark, and without the NULs that a truncated file begins with when its writer goes on at its old
/// place.
fn without_leading_rubbish(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    &bytes[start..]
}

/// Without the character that the cut at the cap may have gone through.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}
