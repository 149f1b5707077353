//! `EXPLAIN (ANALYZE, FORMAT JSON) SELECT ...`: the options in parentheses, which only Postgres's grammar knows.

use crate::error::SqlError;

/// What stands in the parentheses.
const OPTIONS: [&str; 12] = [
    "analyze",
    "buffers",
    "costs",
    "format",
    "generic_plan",
    "memory",
    "serialize",
    "settings",
    "summary",
    "timing",
    "verbose",
    "wal",
];

/// The statement with its options as the engine reads them, and whether it asks for JSON; `None` where it has none of these.
///
/// # Errors
/// [`SqlError::Invalid`] for a format that there is not.
pub(super) fn options(text: &str) -> Result<Option<(String, bool)>, SqlError> {
    let Some((head, rest)) = text.split_at_checked("explain".len()) else { return Ok(None) };
    let Some(inside) = rest.trim_start().strip_prefix('(') else { return Ok(None) };
    let (true, Some((inside, query))) = (head.eq_ignore_ascii_case("explain"), inside.split_once(')')) else {
        return Ok(None);
    };
    let (mut analyze, mut verbose, mut json) = (false, false, false);
    for option in inside.split(',') {
        let mut words = option.split_whitespace().map(str::to_lowercase);
        let (Some(name), value) = (words.next(), words.next()) else { return Ok(None) };
        if !OPTIONS.contains(&name.as_str()) {
            // A query in parentheses.
            return Ok(None);
        }
        let is_on = !matches!(value.as_deref(), Some("off" | "false" | "0"));
        match (name.as_str(), value.as_deref().map(|value| value.trim_matches('\''))) {
            ("analyze", _) => analyze = is_on,
            ("verbose", _) => verbose = is_on,
            ("format", Some("json")) => json = true,
            ("format", Some("text")) => json = false,
            ("format", other) => {
                let message = format!("EXPLAIN has the formats TEXT and JSON, not {}", other.unwrap_or("nothing"));
                return Err(SqlError::Invalid { message, at: None });
            }
            // What the engine shows, it shows anyway.
            _ => {}
        }
    }
    let mut head = "EXPLAIN".to_string();
    for (is_on, word) in [(analyze, " ANALYZE"), (verbose && !json, " VERBOSE"), (json, " FORMAT PGJSON")] {
        head.push_str(if is_on { word } else { "" });
    }
    // So that places in errors are places in what the client sent.
    let width = text.len() - query.len();
    Ok(Some((format!("{head:<width$}{query}"), json)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn options_are_words_of_the_engine() {
        let read = |text: &str| options(text).unwrap();
        let some = |text: &str, json| Some((text.to_string(), json));
        assert_eq!(read("EXPLAIN (FORMAT JSON) SELECT 1"), some("EXPLAIN FORMAT PGJSON SELECT 1", true));
        assert_eq!(read("explain (costs off) SELECT 1"), some("EXPLAIN             SELECT 1", false));
        assert_eq!(
            read("EXPLAIN (ANALYZE, VERBOSE true, BUFFERS) SELECT 1"),
            some("EXPLAIN ANALYZE VERBOSE                  SELECT 1", false)
        );
        assert_eq!(read("EXPLAIN (ANALYZE off, FORMAT 'text') SELECT 1").unwrap().0.split_whitespace().count(), 3);
        for other in ["EXPLAIN SELECT (1)", "EXPLAIN (SELECT 1)", "SELECT (1)", "EXPLAIN ANALYZE SELECT 1", "explain"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert!(options("EXPLAIN (FORMAT YAML) SELECT 1").unwrap_err().to_string().contains("not yaml"));
    }
}
