//! Numbers and durations as they are written.

/// Parses a number: decimal, `0x`, `0b`, `0o` or a leading 0 for octal, underscores between digits, `Inf`, `NaN`.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "inf" => return Some(f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    let digits: String = lower.chars().filter(|c| *c != '_').collect();
    let based =
        |prefix: &str, radix| digits.strip_prefix(prefix).map(|d| i64::from_str_radix(d, radix).map(|n| n as f64));
    if let Some(number) = based("0x", 16) {
        return number.ok();
    }
    if let Some(Ok(number)) = based("0b", 2).or_else(|| based("0o", 8)) {
        return Some(number);
    }
    if digits.len() > 1
        && digits.starts_with('0')
        && let Ok(number) = i64::from_str_radix(&digits, 8)
    {
        return Some(number as f64);
    }
    digits.parse().ok()
}

/// Milliseconds of a duration such as `1h30m`: units in order, each once.
///
/// # Errors
/// Prometheus's message.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 24 * 3600 * 1000),
        ("w", 7 * 24 * 3600 * 1000),
        ("d", 24 * 3600 * 1000),
        ("h", 3600 * 1000),
        ("m", 60 * 1000),
        ("s", 1000),
        ("ms", 1),
    ];
    match text {
        "0" => return Ok(0),
        "" => return Err("empty duration string".to_owned()),
        _ => {}
    }
    let invalid = || format!("not a valid duration string: {}", crate::labels::Quoted(text));
    let mut rest = text;
    let mut next_unit = 0;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(invalid());
        }
        let number = &rest[..digits];
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = &rest[..letters];
        rest = &rest[letters..];
        let Some(index) = UNITS.iter().position(|(u, _)| *u == unit) else { return Err(invalid()) };
        if index < next_unit {
            return Err(invalid());
        }
        next_unit = index + 1;
        let out_of_range = || "duration out of range".to_owned();
        let part = number.parse::<i64>().ok().and_then(|n| n.checked_mul(UNITS[index].1)).ok_or_else(out_of_range)?;
        total = total.checked_add(part).filter(|t| *t <= i64::MAX / 1_000_000).ok_or_else(out_of_range)?;
    }
    Ok(total)
}

/// A duration as Prometheus writes it: `1h30m`, `1w`, `0s`.
#[must_use]
pub fn format_duration_ms(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = ms.unsigned_abs();
    let mut out = if ms < 0 { "-".to_owned() } else { String::new() };
    // Years, weeks and days only where they leave nothing over.
    for (unit, length, exact) in [
        ("y", 365 * 24 * 3600 * 1000, true),
        ("w", 7 * 24 * 3600 * 1000, true),
        ("d", 24 * 3600 * 1000, false),
        ("h", 3600 * 1000, false),
        ("m", 60 * 1000, false),
        ("s", 1000, false),
        ("ms", 1, false),
    ] {
        if exact && !rest.is_multiple_of(length) {
            continue;
        }
        let count = rest / length;
        if count > 0 {
            out.push_str(&format!("{count}{unit}"));
            rest -= count * length;
        }
    }
    out
}
