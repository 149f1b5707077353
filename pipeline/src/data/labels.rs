//! Label sets: their canonical text, a series' id, an alert's fingerprint.
//!
//! Canonical text is a JSON object, keys sorted by bytes, no spaces, strings escaped as `serde_json` does: `\"`, `\\`, `\b`, `\f`,
//! `\n`, `\r`, `\t`, other control characters as `\u00xx`, everything else as it is. A label with an empty value is no label,
//! as in Prometheus.

use twox_hash::XxHash64;

#[cfg(test)]
mod tests;

/// The label that holds the metric's name.
pub const NAME: &str = "__name__";

/// Sorts labels by key; of a key that repeats, the last stays; empty values go.
pub fn normalise<K: AsRef<str>, V: AsRef<str>>(labels: &mut Vec<(K, V)>) {
    // Stable, so that the last of equal keys is the last given.
    labels.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
    let mut kept = 0;
    for i in 0..labels.len() {
        let repeats = labels.get(i + 1).is_some_and(|next| next.0.as_ref() == labels[i].0.as_ref());
        if !repeats && !labels[i].1.as_ref().is_empty() {
            labels.swap(kept, i);
            kept += 1;
        }
    }
    labels.truncate(kept);
}

/// Appends the canonical text of sorted labels (see [`normalise`]) to `out`.
pub fn write_canonical<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>, out: &mut String) {
    out.push('{');
    let mut first = true;
    for (key, value) in labels {
        if !first {
            out.push(',');
        }
        first = false;
        write_string(key, out);
        out.push(':');
        write_string(value, out);
    }
    out.push('}');
}

/// Appends the canonical text of a series: sorted labels (without [`NAME`]) with the name at its place.
pub fn write_series<K: AsRef<str>, V: AsRef<str>>(name: &str, labels: &[(K, V)], out: &mut String) {
    let at = labels.partition_point(|(key, _)| key.as_ref() < NAME);
    let (before, after) = labels.split_at(at);
    let pairs = before.iter().map(pair).chain([(NAME, name)]).chain(after.iter().map(pair));
    write_canonical(pairs, out);
}

/// A series' id: xxh64, seed 0, of the canonical text with the name (see [`write_series`]).
pub fn series_id(canonical_series: &str) -> i64 {
    XxHash64::oneshot(0, canonical_series.as_bytes()).cast_signed()
}

/// An alert's fingerprint, 16 hex digits: xxh64, seed 0, of tenant, group name, rule name and canonical labels, NUL between.
pub fn fingerprint(tenant: &str, group: &str, rule: &str, canonical_labels: &str) -> String {
    let text = [tenant, group, rule, canonical_labels].join("\0");
    format!("{:016x}", XxHash64::oneshot(0, text.as_bytes()))
}

fn pair<K: AsRef<str>, V: AsRef<str>>((key, value): &(K, V)) -> (&str, &str) {
    (key.as_ref(), value.as_ref())
}

/// Appends a JSON string literal.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    // Every escaped byte is ASCII, so both ends are character boundaries.
    while let Some(at) = next_escaped(rest.as_bytes()) {
        out.push_str(&rest[..at]);
        out.extend(escape(rest.as_bytes()[at]).iter().map(|&byte| char::from(byte)).filter(|&c| c != '\0'));
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// Appends a JSON string literal of bytes that are yet to be seen to be UTF-8: the literal is UTF-8 where they are.
pub(crate) fn write_bytes(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = next_escaped(rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend(escape(rest[at]).into_iter().filter(|&byte| byte != 0));
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// The first byte that a JSON string cannot hold as it is. Eight at a time: most texts have none.
fn next_escaped(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    // A high bit for each byte that is zero (and maybe for bytes above one that is, which then are looked at in vain).
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, _) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let found =
            (controls | zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')))) & HIGHS;
        if found != 0 {
            break;
        }
        at += 8;
    }
    let found = bytes[at..].iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
    found.map(|found| at + found)
}

/// How a byte is written that cannot stand as it is; NULs behind it count for nothing.
fn escape(byte: u8) -> [u8; 6] {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => return [b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), b"0123456789abcdef"[usize::from(byte & 15)]],
    };
    [b'\\', short, 0, 0, 0, 0]
}
