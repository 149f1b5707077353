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
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        // Every escaped byte is ASCII, so both ends are character boundaries.
        out.push_str(&text[written..at]);
        written = at + 1;
        if escape.is_empty() {
            out.push_str("\\u00");
            out.push(char::from(b'0' + (byte >> 4)));
            out.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[written..]);
    out.push('"');
}
