//! Decimals: digits and a scale.

use bytes::{BufMut, BytesMut};

/// Digits of one group of the binary format.
const GROUP: usize = 4;
/// The sign of a negative number.
const NEGATIVE: u16 = 0x4000;

/// Sign, digits before the point, digits after it.
fn parts(unscaled: &str, scale: i8) -> (bool, String, String) {
    let (negative, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, unscaled),
    };
    match usize::try_from(scale) {
        Ok(scale) => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            (negative, whole.to_string(), fraction.to_string())
        }
        Err(_) => (negative, format!("{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))), String::new()),
    }
}

/// As Postgres prints it.
pub(super) fn put_text(unscaled: &str, scale: i8, out: &mut BytesMut) {
    let (negative, whole, fraction) = parts(unscaled, scale);
    if negative {
        out.put_u8(b'-');
    }
    out.put_slice(whole.as_bytes());
    if !fraction.is_empty() {
        out.put_u8(b'.');
        out.put_slice(fraction.as_bytes());
    }
}

/// Groups of four decimal digits: how many, the weight of the first, the sign, the scale, and the groups.
pub(super) fn put_binary(unscaled: &str, scale: i8, out: &mut BytesMut) {
    let (negative, whole, fraction) = parts(unscaled, scale);
    let whole = whole.trim_start_matches('0');
    let before = whole.len().div_ceil(GROUP);
    let after = fraction.len().div_ceil(GROUP);
    let text = format!("{whole:0>before$}{fraction:0<after$}", before = before * GROUP, after = after * GROUP);
    let groups: Vec<u16> =
        text.as_bytes().chunks(GROUP).map(|c| c.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'))).collect();
    let leading = groups.iter().take_while(|g| **g == 0).count();
    let kept = groups.len() - groups.iter().rev().take_while(|g| **g == 0).count().min(groups.len() - leading);
    let groups = groups.get(leading..kept).unwrap_or_default();
    let weight = if groups.is_empty() { 0 } else { before as i16 - 1 - leading as i16 };
    out.put_u16(groups.len() as u16);
    out.put_i16(weight);
    out.put_u16(if negative && !groups.is_empty() { NEGATIVE } else { 0 });
    out.put_u16(fraction.len() as u16);
    for group in groups {
        out.put_u16(*group);
    }
}

/// What [`put_binary`] wrote, as text; `NaN` and the infinities too.
pub(crate) fn from_binary(bytes: &[u8]) -> Option<String> {
    let word = |i: usize| Some(u16::from_be_bytes([*bytes.get(i * 2)?, *bytes.get(i * 2 + 1)?]));
    let (count, weight, sign, scale) = (word(0)?, word(1)?.cast_signed(), word(2)?, usize::from(word(3)?));
    if bytes.len() != 8 + usize::from(count) * 2 {
        return None;
    }
    match sign {
        0 | NEGATIVE => {}
        0xC000 => return Some("NaN".to_string()),
        0xD000 => return Some("Infinity".to_string()),
        0xF000 => return Some("-Infinity".to_string()),
        _ => return None,
    }
    let mut text = if sign == NEGATIVE { "-".to_string() } else { String::new() };
    let group = |place: i32| {
        let index = i32::from(weight) - place;
        usize::try_from(index).ok().filter(|i| *i < usize::from(count)).and_then(|i| word(4 + i)).unwrap_or(0)
    };
    match i32::from(weight) {
        weight if weight < 0 => text.push('0'),
        weight => {
            let whole: String = (0..=weight).rev().map(|place| format!("{:04}", group(place))).collect();
            let whole = whole.trim_start_matches('0');
            text.push_str(if whole.is_empty() { "0" } else { whole });
        }
    }
    if scale > 0 {
        let groups = scale.div_ceil(GROUP) as i32;
        let fraction: String = (1..=groups).map(|place| format!("{:04}", group(-place))).collect();
        text.push('.');
        text.push_str(&fraction[..scale]);
    }
    Some(text)
}
