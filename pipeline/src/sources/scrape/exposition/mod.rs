//! Expositions: what a target says, in text, OpenMetrics or protobuf, as events of one kind.
//!
//! A reader checks all of what it reads and stops at the first mistake, so that a page is taken whole or not at all. Series come as the text that names
//! them (`name{label="value"}`), which a scrape after the first knows by heart; [`series::parse`] takes it apart.

mod content_type;
mod openmetrics;
mod protobuf;
pub(super) mod series;
#[cfg(test)]
mod tests;
mod text;
mod tokens;

pub(super) use content_type::{Format, accept};

/// What a metric family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    Unknown,
}

/// One thing that a page says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Event<'a> {
    /// What a family is.
    Type(&'a str, Kind),
    /// What it is for, escapes still in it.
    Help(&'a str, &'a str),
    /// What it is measured in.
    Unit(&'a str, &'a str),
    /// A sample of a series, and its time in Unix milliseconds if it says one.
    Sample { series: &'a str, value: f64, timestamp_ms: Option<i64> },
    /// A native histogram, as remote write has it, without its time.
    Histogram { series: &'a str, message: &'a [u8], timestamp_ms: Option<i64> },
}

/// Why a page was not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    /// A mistake of the page, in a line of text or at a byte of protobuf.
    #[error("{what} at {place}")]
    Malformed { what: &'static str, place: Place },
    /// Whoever takes the events wants no more.
    #[error("{0}")]
    Stopped(String),
}

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In this line, from 1.
    Line(usize),
    /// At this byte, from 0.
    Byte(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Byte(byte) => write!(f, "byte {byte}"),
        }
    }
}

/// What a reader is told besides the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Options {
    /// Whether native histograms are wanted.
    pub(super) native_histograms: bool,
    /// Whether classic buckets are wanted beside native ones.
    pub(super) classic_histograms: bool,
}

/// Reads a page to its end.
pub(super) fn read(
    page: &[u8],
    format: Format,
    options: Options,
    mut each: impl FnMut(Event<'_>) -> Result<(), String>,
) -> Result<(), ReadError> {
    match format {
        Format::Text => text::read(page, &mut each),
        Format::OpenMetrics => openmetrics::read(page, &mut each),
        Format::Protobuf => protobuf::read(page, options, &mut each),
    }
}

/// Reads a page of any format as a scrape does, and says whether it was one. For fuzzing: whatever the bytes are, this does not panic.
pub(super) fn probe(page: &[u8]) -> bool {
    let options = Options { native_histograms: true, classic_histograms: true };
    let mut good = false;
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        good |= read(page, format, options, |event| match event {
            Event::Sample { series, .. } | Event::Histogram { series, .. } => {
                series::parse(series).map(drop).ok_or_else(|| "a series that was read cannot be taken apart".to_owned())
            }
            _ => Ok(()),
        })
        .is_ok();
    }
    good
}
