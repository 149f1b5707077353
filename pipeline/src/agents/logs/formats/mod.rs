//! When a line happened and how grave it is: the common formats of log lines, one per file.
//!
//! [`Detector::detect`] tries the format that the line before had, then those that can begin with the line's first
//! byte. Each format looks at a line's head only and gives up at the first byte that does not fit, so a wrong guess
//! costs a few nanoseconds.
//!
//! Rules for all formats:
//! - the message keeps the full original line; detection adds, it never cuts;
//! - a date without a year or zone is completed from [`Dates`];
//! - a level is what the line states. Where the format has a place for it that the writer left out, the format's own
//!   page says what is assumed (syslog: `INFO`, or by its words; access logs: by status). Everything else has none.

use super::options::Dates;

mod access;
mod apache_error;
mod hdfs;
mod iso;
pub(crate) mod json;
mod klog;
mod log4j;
mod logfmt;
mod nginx_error;
mod plain;
mod scan;
mod syslog_3164;
mod syslog_5424;
#[cfg(test)]
mod tests;
mod words;

/// What a line says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Found<'a> {
    /// Its time, Unix microseconds.
    pub(crate) timestamp_us: Option<i64>,
    /// Its level, as the line spells it where [`crate::data::level::parse`] knows the spelling.
    pub(crate) level: Option<&'a str>,
}

/// What completes a line's date.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    /// Now, Unix microseconds.
    pub(crate) now_us: i64,
    /// Year and zone, where the line has none.
    pub(crate) dates: Dates,
}

/// The formats, but for JSON, whose fields become columns ([`json`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Syslog5424,
    Syslog3164,
    ApacheError,
    NginxError,
    Access,
    Hdfs,
    Klog,
    Iso,
    Log4j,
    Logfmt,
    Plain,
}

impl Format {
    fn parse<'a>(self, line: &'a str, context: &Context) -> Option<Found<'a>> {
        match self {
            Self::Syslog5424 => syslog_5424::parse(line, context),
            Self::Syslog3164 => syslog_3164::parse(line, context),
            Self::ApacheError => apache_error::parse(line, context),
            Self::NginxError => nginx_error::parse(line, context),
            Self::Access => access::parse(line, context),
            Self::Hdfs => hdfs::parse(line, context),
            Self::Klog => klog::parse(line, context),
            Self::Iso => iso::parse(line, context),
            Self::Log4j => log4j::parse(line, context),
            Self::Logfmt => logfmt::parse(line, context),
            Self::Plain => plain::parse(line),
        }
    }

    /// The formats a line with this first byte can have, likeliest first.
    fn starting_with(byte: u8) -> &'static [Self] {
        match byte {
            b'<' => &[Self::Syslog5424, Self::Syslog3164, Self::Plain],
            b'[' => &[Self::ApacheError, Self::Iso, Self::Log4j, Self::Plain],
            b'0'..=b'9' => &[Self::Iso, Self::Hdfs, Self::NginxError, Self::Log4j, Self::Access, Self::Plain],
            b'A'..=b'Z' => &[Self::Syslog3164, Self::Klog, Self::Log4j, Self::Logfmt, Self::Access, Self::Plain],
            _ => &[Self::Logfmt, Self::Log4j, Self::Access, Self::Plain],
        }
    }
}

/// Finds time and level of the lines of one source.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    last: Option<Format>,
}

impl Detector {
    /// What `line` says. Nothing found is an answer too.
    pub(crate) fn detect<'a>(&mut self, line: &'a str, context: &Context) -> Found<'a> {
        let line = scan::after_colour(line.trim_start());
        let Some(first) = line.bytes().next() else { return Found::default() };
        if let Some(found) = self.last.and_then(|last| last.parse(line, context)) {
            return found;
        }
        for format in Format::starting_with(first) {
            if let Some(found) = format.parse(line, context) {
                // A format without a time fits too many lines to be tried first.
                self.last = found.timestamp_us.map(|_| *format).or(self.last);
                return found;
            }
        }
        Found::default()
    }
}
