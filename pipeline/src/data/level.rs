//! Severity: OpenTelemetry's number (1 to 24) and the level name of its range.

/// The level name of a severity number; `None` outside 1 to 24.
pub fn name(severity_number: i32) -> Option<&'static str> {
    match severity_number {
        1..=4 => Some("TRACE"),
        5..=8 => Some("DEBUG"),
        9..=12 => Some("INFO"),
        13..=16 => Some("WARNING"),
        17..=20 => Some("ERROR"),
        21..=24 => Some("CRITICAL"),
        _ => None,
    }
}

/// The severity number of a level as people and libraries spell it, case aside; `None` if unknown.
pub fn parse(text: &str) -> Option<i32> {
    let _ = text;
    None
}

/// The severity number of a `level` given as a number: multiples of ten are bunyan's and pino's (10 TRACE to 60 CRITICAL),
/// other numbers from 1 to 24 OpenTelemetry's; `None` for the rest.
pub fn from_number(number: i64) -> Option<i32> {
    let _ = number;
    None
}
