//! Lines to events: joins what belongs together.

use regex::Regex;

use super::containers::Envelope;
use super::options::{Multiline, MultilineLimits};
use crate::agents::AgentError;

/// An event: one line, or several joined by newlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// Its text.
    pub(crate) text: &'a str,
    /// Stream offset behind its last line.
    pub(crate) end: u64,
    /// Bytes cut off its lines.
    pub(crate) cut_size_bytes: u64,
    /// What its first line came in.
    pub(crate) envelope: Envelope,
}

/// Joins lines by a rule.
#[derive(Debug)]
pub(crate) struct Joiner {
    rule: Rule,
    limits: MultilineLimits,
    limit_bytes: usize,
    pending: String,
    lines: usize,
    end: u64,
    cut_size_bytes: u64,
    envelope: Envelope,
    last_line_ms: i64,
    in_traceback: bool,
}

#[derive(Debug, Clone)]
enum Rule {
    Off,
    Traces,
    Start(Regex),
}

impl Joiner {
    /// A joiner whose events have at most `limit_bytes` bytes, unless a single line has more.
    pub(crate) fn new(multiline: &Multiline, limit_bytes: usize) -> Result<Self, AgentError> {
        let (rule, limits) = match multiline {
            Multiline::Off => (Rule::Off, MultilineLimits::default()),
            Multiline::Traces(limits) => (Rule::Traces, *limits),
            Multiline::Start(pattern, limits) => {
                let regex = Regex::new(pattern)
                    .map_err(|error| AgentError::Option { option: "--multiline-start", reason: error.to_string() })?;
                (Rule::Start(regex), *limits)
            }
        };
        Ok(Self {
            rule,
            limits,
            limit_bytes,
            pending: String::new(),
            lines: 0,
            end: 0,
            cut_size_bytes: 0,
            envelope: Envelope::default(),
            last_line_ms: 0,
            in_traceback: false,
        })
    }

    /// Takes a line and hands out the event it shows to be complete, if any.
    pub(crate) fn push(&mut self, line: Event<'_>, now_ms: i64, mut each: impl FnMut(Event<'_>)) {
        if matches!(self.rule, Rule::Off) {
            return each(line);
        }
        // Lines of two streams stand between each other by chance.
        let joins = self.lines > 0 && self.envelope.stream == line.envelope.stream && self.continues(line.text);
        let fits = self.lines < self.limits.lines && self.pending.len() + 1 + line.text.len() <= self.limit_bytes;
        if !(joins && fits) {
            self.flush(&mut each);
        }
        if self.lines > 0 {
            self.pending.push('\n');
        } else {
            self.envelope = line.envelope;
        }
        self.pending.push_str(line.text);
        self.lines += 1;
        self.end = line.end;
        self.cut_size_bytes += line.cut_size_bytes;
        self.last_line_ms = now_ms;
    }

    /// Hands out the pending event where no line has come for the time set.
    pub(crate) fn flush_due(&mut self, now_ms: i64, each: impl FnMut(Event<'_>)) {
        let wait_ms = self.limits.wait.as_millis() as i64;
        if !(self.last_line_ms..self.last_line_ms.saturating_add(wait_ms)).contains(&now_ms) {
            self.flush(each);
        }
    }

    /// Hands out the pending event.
    pub(crate) fn flush(&mut self, mut each: impl FnMut(Event<'_>)) {
        if self.lines > 0 {
            each(Event {
                text: &self.pending,
                end: self.end,
                cut_size_bytes: self.cut_size_bytes,
                envelope: self.envelope,
            });
            self.pending.clear();
            (self.lines, self.cut_size_bytes, self.in_traceback) = (0, 0, false);
        }
    }

    fn continues(&mut self, line: &str) -> bool {
        match &self.rule {
            Rule::Off => false,
            Rule::Start(start) => !start.is_match(line),
            Rule::Traces => {
                let indented = line.starts_with([' ', '\t']);
                // The line that ends a Python traceback names the exception and is not indented.
                let ends_traceback = self.in_traceback && !indented;
                self.in_traceback =
                    line.starts_with("Traceback (most recent call last)") || (self.in_traceback && indented);
                indented || ends_traceback || self.in_traceback || is_trace_line(line)
            }
        }
    }
}

fn is_trace_line(line: &str) -> bool {
    names_throwable(line)
        || line.starts_with("at ")
        || line.starts_with("Caused by")
        || line.starts_with("Suppressed:")
        || (line.starts_with("... ") && line.ends_with("more"))
}

/// `java.lang.IllegalStateException: text`: the line between a Java log line and its frames.
fn names_throwable(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    name.contains('.')
        && ["Exception", "Error", "Throwable"].iter().any(|ending| name.ends_with(ending))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn join(multiline: &Multiline, limit_bytes: usize, lines: &[&str]) -> Vec<String> {
        let mut joiner = Joiner::new(multiline, limit_bytes).unwrap();
        let mut events = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let line = Event { text: line, end: at as u64 + 1, cut_size_bytes: 0, envelope: Envelope::default() };
            joiner.push(line, 0, |event| events.push(event.text.to_owned()));
        }
        joiner.flush(|event| events.push(event.text.to_owned()));
        events
    }

    #[test]
    fn java_traces() {
        let events = join(
            &Multiline::Traces(MultilineLimits::default()),
            1000,
            &[
                "ERROR boom",
                "a.b.IoError: y",
                "\tat a.b(C.java:1)",
                "Caused by: z",
                "at q",
                "... 3 more",
                "INFO a.b: next",
            ],
        );
        assert_eq!(
            events,
            ["ERROR boom\na.b.IoError: y\n\tat a.b(C.java:1)\nCaused by: z\nat q\n... 3 more", "INFO a.b: next"]
        );
    }

    #[test]
    fn python_tracebacks_keep_their_last_line() {
        let events = join(
            &Multiline::Traces(MultilineLimits::default()),
            1000,
            &["ERROR boom", "Traceback (most recent call last):", "  File \"x\"", "ValueError: no", "INFO next"],
        );
        assert_eq!(
            events,
            ["ERROR boom\nTraceback (most recent call last):\n  File \"x\"\nValueError: no", "INFO next"]
        );
    }

    #[test]
    fn a_start_pattern_and_both_caps() {
        let rule = Multiline::Start(r"^\d".into(), MultilineLimits { lines: 3, ..MultilineLimits::default() });
        assert_eq!(join(&rule, 1000, &["x", "1", "a", "b", "c", "2"]), ["x", "1\na\nb", "c", "2"]);
        assert_eq!(join(&rule, 5, &["1", "aaa", "bbb", "2"]), ["1\naaa", "bbb", "2"]);
    }

    #[test]
    fn silence_ends_an_event_and_so_does_a_clock_set_back() {
        let limits = MultilineLimits { wait: Duration::from_secs(2), ..MultilineLimits::default() };
        let mut joiner = Joiner::new(&Multiline::Traces(limits), 1000).unwrap();
        let line = Event { text: "a", end: 7, cut_size_bytes: 0, envelope: Envelope::default() };
        joiner.push(line, 10_000, |_| unreachable!("nothing is complete"));
        joiner.flush_due(11_999, |_| unreachable!("it is not due"));
        let mut events = Vec::new();
        joiner.flush_due(12_000, |event| events.push((event.text.to_owned(), event.end)));
        joiner.push(line, 10_000, |_| unreachable!("nothing is pending"));
        joiner.flush_due(9_000, |event| events.push((event.text.to_owned(), event.end)));
        assert_eq!(events, [("a".to_owned(), 7), ("a".to_owned(), 7)]);
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Joiner::new(&Multiline::Start("(".into(), MultilineLimits::default()), 10).unwrap_err();
        assert!(error.to_string().starts_with("--multiline-start: "), "{error}");
    }
}
