//! Durations as Prometheus writes them.

use highwater_templates::prometheus;

/// Reads `5s`, `1h30m`, `250ms`, `1d`, `0`: whole numbers with units from the longest to the shortest, each at most once. Milliseconds.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    prometheus::parse_duration_ms(text)
        .ok_or_else(|| format!("`{text}` is not a duration; write e.g. 30s, 5m, 1h30m (units y, w, d, h, m, s, ms)"))
}

/// A duration as it is read: `90s`, or `250ms` where it is not whole seconds.
pub(super) fn format_duration(duration_ms: i64) -> String {
    if duration_ms % 1_000 == 0 { format!("{}s", duration_ms / 1_000) } else { format!("{duration_ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_prometheus_does() {
        let cases = [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1d12h", 129_600_000),
            ("1w", 604_800_000),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (ms, text) in [(0, "0s"), (90_000, "90s"), (1_500, "1500ms")] {
            assert_eq!(format_duration(ms), text);
            assert_eq!(parse_duration_ms(text), Ok(ms));
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5h",
            "5 s",
            "30m1h",
            "5s5s",
            "5x",
            "99999999999999999999s",
            "9999999999999y",
            "5s ",
        ] {
            let error = parse_duration_ms(text).expect_err(text);
            assert!(error.contains("1h30m"), "{text}: {error}");
        }
    }
}
