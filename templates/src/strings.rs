//! Escaping, and the regular expressions of templates.

use std::fmt::Write as _;

/// Largest program that a regular expression may compile to.
const MAX_REGEX_SIZE_BYTES: usize = 1 << 20;

/// `url.QueryEscape`.
pub fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => {
                let _infallible = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

/// `template.HTMLEscaper`.
pub(crate) fn html_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

/// `template.JSEscaper`.
pub(crate) fn js_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => {
                let _infallible = write!(out, "\\u{:04X}", u32::from(c));
            }
            c if u32::from(c) < 0x20 => {
                let _infallible = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// A regular expression of bounded size.
pub(crate) fn regex(pattern: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_SIZE_BYTES)
        .build()
        .map_err(|error| format!("error parsing regexp {pattern:?}: {error}"))
}

/// True where the whole of a label's value matches, as in Prometheus's and Alertmanager's matchers.
///
/// # Errors
/// Where the pattern is no regular expression.
pub fn match_label(pattern: &str, value: &str) -> Result<bool, String> {
    Ok(regex(&format!("^(?s:{pattern})$"))?.is_match(value))
}

/// `strings.Title`: the first letter of each word in upper case.
pub(crate) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}
