//! Names with characters that a classic one cannot have, for scrapers that take none.

use std::borrow::Cow;
use std::fmt::Write as _;

use highwater_promql::is_classic_metric_name;

/// How names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// As they are.
    Any,
    /// An underscore for each character that does not fit.
    Underscores,
    /// `_dot_` for a dot, two underscores for an underscore and for what else does not fit.
    Dots,
    /// `U__` in front, and the numbers of the characters that do not fit: nothing is lost.
    Values,
}

impl Names {
    /// By the name that clients use.
    pub(super) fn called(name: &str) -> Option<Self> {
        [Self::Any, Self::Underscores, Self::Dots, Self::Values].into_iter().find(|names| names.name() == name)
    }

    /// What clients call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// A name as it is written.
    pub(super) fn write(self, name: &str) -> Cow<'_, str> {
        let is_plain = is_classic_metric_name(name);
        let mut out = String::with_capacity(name.len() + 8);
        match self {
            Self::Any => return Cow::Borrowed(name),
            Self::Underscores | Self::Values if is_plain => return Cow::Borrowed(name),
            Self::Underscores => out.extend(name.char_indices().map(|(i, c)| if fits(i, c) { c } else { '_' })),
            Self::Dots => {
                for (i, c) in name.char_indices() {
                    match c {
                        '.' => out.push_str("_dot_"),
                        c if c != '_' && fits(i, c) => out.push(c),
                        _ => out.push_str("__"),
                    }
                }
            }
            Self::Values => {
                out.push_str("U__");
                for (i, c) in name.char_indices() {
                    match c {
                        '_' => out.push_str("__"),
                        c if fits(i, c) => out.push(c),
                        c => {
                            // Writing to a string does not fail.
                            let _written = write!(out, "_{:x}_", u32::from(c));
                        }
                    }
                }
            }
        }
        Cow::Owned(out)
    }
}

fn fits(at: usize, c: char) -> bool {
    matches!(c, '_' | ':') || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_clients_ask() {
        for (name, underscores, dots, values) in [
            ("up_total", "up_total", "up__total", "up_total"),
            ("http.status_code", "http_status_code", "http_dot_status__code", "U__http_2e_status__code"),
            ("1a:b", "_a:b", "__a:b", "U___31_a:b"),
            ("a\u{1f631}", "a_", "a__", "U__a_1f631_"),
        ] {
            assert_eq!(Names::Any.write(name), name);
            assert_eq!(Names::Underscores.write(name), underscores);
            assert_eq!(Names::Dots.write(name), dots);
            assert_eq!(Names::Values.write(name), values);
        }
    }
}
