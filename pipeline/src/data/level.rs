//! Severity: OpenTelemetry's number (1 to 24) and the level name of its range.

#[cfg(test)]
mod tests;

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

/// The severity number of a level as people and libraries spell it, case and surrounding space or brackets aside; a number as text is
/// read by [`from_number`]. `None` if unknown.
pub fn parse(text: &str) -> Option<i32> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || matches!(c, '[' | ']' | '<' | '>' | ':'));
    let mut buffer = [0; 16];
    let lower = buffer.get_mut(..text.len())?;
    lower.copy_from_slice(text.as_bytes());
    lower.make_ascii_lowercase();
    let severity_number = match &*lower {
        b"trace" | b"trc" | b"t" | b"verbose" | b"v" | b"finest" => 1,
        b"debug" | b"dbg" | b"d" | b"finer" => 5,
        b"fine" => 6,
        b"config" => 7,
        b"info" | b"inf" | b"i" | b"information" | b"informational" => 9,
        b"notice" | b"note" | b"success" => 10,
        b"warning" | b"warn" | b"wrn" | b"w" => 13,
        b"error" | b"err" | b"e" | b"eror" | b"severe" | b"failure" => 17,
        b"critical" | b"crit" | b"c" | b"fatal" | b"ftl" | b"f" => 21,
        b"alert" => 22,
        b"emergency" | b"emerg" | b"panic" => 23,
        digits => return from_number(std::str::from_utf8(digits).ok()?.parse().ok()?),
    };
    Some(severity_number)
}

/// The severity number of a `level` given as a number: 10, 20, .. 60 are bunyan's and pino's (TRACE to CRITICAL), other numbers
/// from 1 to 24 OpenTelemetry's; `None` for the rest.
pub fn from_number(number: i64) -> Option<i32> {
    match number {
        10 => Some(1),
        20 => Some(5),
        30 => Some(9),
        40 => Some(13),
        50 => Some(17),
        60 => Some(21),
        1..=24 => i32::try_from(number).ok(),
        _ => None,
    }
}
