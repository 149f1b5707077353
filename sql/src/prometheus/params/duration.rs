//! Durations: a number of seconds, or Prometheus's `1h30m`.

use highwater_promql::Quoted;

/// Nanoseconds in a millisecond.
pub(in crate::prometheus) const NANOS_PER_MS: i64 = 1_000_000;

/// Units from the largest, in nanoseconds. They have to come in this order, each at most once.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000_000_000),
    ("w", 7 * 24 * 3_600_000_000_000),
    ("d", 24 * 3_600_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// Nanoseconds of a duration parameter.
///
/// # Errors
/// What is wrong with it, in Prometheus's words.
pub(in crate::prometheus) fn parse_duration(text: &str) -> Result<i64, String> {
    if let Some(seconds) = super::time::parse_float(text) {
        let nanos = seconds * 1e9;
        // 2^63 is no i64, and a NaN is in no range.
        if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&nanos) {
            return Err(format!("cannot parse {} to a valid duration. It overflows int64", Quoted(text)));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is in range, and a part of a nanosecond is no matter"
        )]
        return Ok(nanos as i64);
    }
    parse_units(text).ok_or_else(|| format!("cannot parse {} to a valid duration", Quoted(text)))
}

/// Nanoseconds of a duration with units; `None` where it is none, or too long.
fn parse_units(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    if text.is_empty() {
        return None;
    }
    let (mut rest, mut total, mut next_unit) = (text, 0_u64, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let at = UNITS[next_unit..].iter().position(|(name, _)| *name == unit)? + next_unit;
        let nanos = number.parse::<u64>().ok()?.checked_mul(UNITS[at].1)?;
        total = total.checked_add(nanos)?;
        next_unit = at + 1;
        rest = after;
    }
    i64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_or_units() {
        for (text, ms) in [
            ("15", 15_000),
            ("0.5", 500),
            ("1e3", 1_000_000),
            ("15s", 15_000),
            ("1h30m", 5_400_000),
            ("1y2w3d4h5m6s7ms", ((365 + 14 + 3) * 24 * 3600 + 4 * 3600 + 5 * 60 + 6) * 1000 + 7),
            ("100ms", 100),
            ("-1", -1000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(ms * NANOS_PER_MS), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "abc", "5x", "1m1h", "1s1s", "m", "1.5h", "-5m", "1 m", "300y"] {
            assert_eq!(parse_duration(text), Err(format!("cannot parse \"{text}\" to a valid duration")), "{text}");
        }
        for text in ["NaN", "1e300", "-Inf"] {
            assert!(parse_duration(text).unwrap_err().ends_with("It overflows int64"), "{text}");
        }
    }
}
