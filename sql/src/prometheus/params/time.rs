//! Instants: Unix seconds with a fraction, or RFC 3339.

use chrono::DateTime;
use highwater_promql::Quoted;

const NANOS_PER_S: i128 = 1_000_000_000;

/// An instant, in nanoseconds of Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::prometheus) struct Instant(i128);

/// The earliest time there is for Prometheus, as its clients write it.
pub(in crate::prometheus) const MIN_TIME: Instant = Instant(((i64::MIN / 1000 + 62_135_596_801) as i128) * NANOS_PER_S);
/// The latest one.
pub(in crate::prometheus) const MAX_TIME: Instant =
    Instant(((i64::MAX / 1000 - 62_135_596_801) as i128) * NANOS_PER_S + 999_999_999);
/// How these two are written: their years have more digits than RFC 3339 allows.
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

impl Instant {
    /// From Unix milliseconds.
    pub(in crate::prometheus) fn from_ms(unix_ms: i64) -> Self {
        Self(i128::from(unix_ms) * 1_000_000)
    }

    /// Reads a time parameter.
    ///
    /// # Errors
    /// What is wrong with it, in Prometheus's words.
    pub(in crate::prometheus) fn parse(text: &str) -> Result<Self, String> {
        if let Some(seconds) = parse_float(text) {
            return Self::from_seconds(seconds).ok_or_else(|| unreadable(text));
        }
        match text {
            MIN_TIME_TEXT => Ok(MIN_TIME),
            MAX_TIME_TEXT => Ok(MAX_TIME),
            _ => Self::from_rfc3339(text).ok_or_else(|| unreadable(text)),
        }
    }

    fn from_seconds(seconds: f64) -> Option<Self> {
        // Beyond this a whole number of seconds is no i64.
        if !(-9.2e18..9.2e18).contains(&seconds) {
            return None;
        }
        let whole = seconds.trunc();
        let fraction = ((seconds - whole) * 1000.0).round() / 1000.0;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole seconds in range, and below one second of nanoseconds"
        )]
        let (whole, nanos) = (whole as i64, (fraction * 1e9) as i64);
        Some(Self(i128::from(whole) * NANOS_PER_S + i128::from(nanos)))
    }

    fn from_rfc3339(text: &str) -> Option<Self> {
        // chrono also takes a blank for the T and small letters; RFC 3339 as Go reads it does not.
        let strict = text.as_bytes().get(10) == Some(&b'T') && !text.ends_with('z');
        let time = strict.then(|| DateTime::parse_from_rfc3339(text).ok()).flatten()?;
        Some(Self(i128::from(time.timestamp()) * NANOS_PER_S + i128::from(time.timestamp_subsec_nanos())))
    }

    /// Unix milliseconds, rounded down.
    pub(in crate::prometheus) fn ms(self) -> i64 {
        let ms = self.0.div_euclid(1_000_000);
        i64::try_from(ms).unwrap_or(if ms < 0 { i64::MIN } else { i64::MAX })
    }

    /// Nanoseconds since an earlier instant, as far as they go.
    pub(in crate::prometheus) fn nanos_since(self, earlier: Self) -> i64 {
        i64::try_from(self.0 - earlier.0).unwrap_or(i64::MAX)
    }
}

fn unreadable(text: &str) -> String {
    format!("cannot parse {} to a valid timestamp", Quoted(text))
}

/// A number as Go's `strconv.ParseFloat` takes it, which is as Rust does.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    text.parse::<f64>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_rfc_3339() {
        for (text, ms) in [
            ("1767322800", 1_767_322_800_000),
            ("1767322800.123", 1_767_322_800_123),
            ("1767322800.1239", 1_767_322_800_124),
            ("-1.5", -1500),
            ("1.7673228e9", 1_767_322_800_000),
            ("2026-01-02T03:00:00Z", 1_767_322_800_000),
            ("2026-01-02T03:00:00.123456789Z", 1_767_322_800_123),
            ("2026-01-02T05:00:00+02:00", 1_767_322_800_000),
            ("0", 0),
        ] {
            assert_eq!(Instant::parse(text).map(Instant::ms), Ok(ms), "{text}");
        }
        assert_eq!(Instant::parse(MIN_TIME_TEXT), Ok(MIN_TIME));
        assert_eq!(Instant::parse(MAX_TIME_TEXT), Ok(MAX_TIME));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "abc", "2026-01-02", "2026-01-02 03:00:00Z", "2026-01-02T03:00:00", "NaN", "Inf", "1e30"] {
            assert_eq!(Instant::parse(text), Err(format!("cannot parse \"{text}\" to a valid timestamp")), "{text}");
        }
    }
}
