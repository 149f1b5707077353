#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use super::*;

#[test]
fn knows_the_usual_spellings() {
    for (text, expected) in [
        ("TRACE", "TRACE"),
        ("verbose", "TRACE"),
        ("Debug", "DEBUG"),
        ("dbg", "DEBUG"),
        ("INFO", "INFO"),
        ("notice", "INFO"),
        ("information", "INFO"),
        ("warn", "WARNING"),
        ("WARNING", "WARNING"),
        ("W", "WARNING"),
        ("err", "ERROR"),
        ("Error", "ERROR"),
        ("severe", "ERROR"),
        ("fatal", "CRITICAL"),
        ("CRIT", "CRITICAL"),
        ("emerg", "CRITICAL"),
        ("alert", "CRITICAL"),
        ("panic", "CRITICAL"),
        (" [info] ", "INFO"),
        ("<err>", "ERROR"),
        ("9", "INFO"),
        ("17", "ERROR"),
        ("30", "INFO"),
    ] {
        assert_eq!(parse(text).and_then(name), Some(expected), "{text}");
    }
}

#[test]
fn leaves_the_unknown_unknown() {
    for text in ["", "banana", "infos", "a level name that is far too long", "0", "25", "-1", "wärn"] {
        assert_eq!(parse(text), None, "{text}");
    }
}

#[test]
fn orders_levels_within_their_range() {
    assert_eq!((parse("info"), parse("notice")), (Some(9), Some(10)));
    assert_eq!((parse("crit"), parse("alert"), parse("emerg")), (Some(21), Some(22), Some(23)));
}

#[test]
fn reads_tens_as_pino_and_the_rest_as_opentelemetry() {
    let names: Vec<_> = [10, 20, 30, 40, 50, 60].into_iter().map(|n| from_number(n).and_then(name).unwrap()).collect();
    assert_eq!(names, ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]);
    assert_eq!(from_number(24), Some(24));
    assert_eq!((from_number(0), from_number(25), from_number(100)), (None, None, None));
}
