//! Names that are no classic identifiers, as clients write them in a path: `U__http_2e_status`.

/// The name meant. What does not decode, or is not escaped, is itself.
pub(super) fn unescape(name: &str) -> String {
    name.strip_prefix("U__").and_then(decode).unwrap_or_else(|| name.to_owned())
}

/// `__` is an underscore, `_2e_` the character of that number; everything else is itself.
fn decode(escaped: &str) -> Option<String> {
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let (digits, after) = rest.split_once('_')?;
        // Five or six digits reach the last character there is.
        if digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escaped_names_are_decoded() {
        for (escaped, name) in [
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U___1F631_", "\u{1f631}"),
            ("U__no_2e_", "no."),
            ("job", "job"),
            ("U__", ""),
            ("U__bad_zz_", "U__bad_zz_"),
            ("U__open_2e", "U__open_2e"),
            ("U__open_", "U__open_"),
            ("U__long_1234567_", "U__long_1234567_"),
            ("U__surrogate_d800_", "U__surrogate_d800_"),
            ("a_2e_b", "a_2e_b"),
        ] {
            assert_eq!(unescape(escaped), name, "{escaped}");
        }
    }
}
