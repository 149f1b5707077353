//! Regular expressions as Prometheus has them: RE2 syntax, anchored at both ends, `.` matches newlines.

use regex::{Regex, RegexBuilder};

use crate::error::Error;

/// Compiled size that one expression may have.
const SIZE_LIMIT_BYTES: usize = 4 << 20;
/// Alternatives up to which an expression of plain words is compared word by word.
const MAX_LITERALS: usize = 128;

/// A compiled expression. Plain words and the match-all forms need no automaton.
#[derive(Debug, Clone)]
pub struct Pattern(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Anything,
    NotEmpty,
    Words(Vec<String>),
    Regex(Box<Regex>),
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// `bad_data` where it is no regular expression, or one too large.
    pub fn new(expression: &str) -> Result<Self, Error> {
        match expression {
            ".*" => return Ok(Pattern(Kind::Anything)),
            ".+" => return Ok(Pattern(Kind::NotEmpty)),
            _ => {}
        }
        if !expression.bytes().any(|b| b"\\.+*?()[]{}^$".contains(&b)) {
            let words: Vec<String> = expression.split('|').map(str::to_owned).collect();
            if words.len() <= MAX_LITERALS {
                return Ok(Pattern(Kind::Words(words)));
            }
        }
        Ok(Pattern(Kind::Regex(Box::new(compile(expression)?))))
    }

    /// Whether all of a text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match &self.0 {
            Kind::Anything => true,
            Kind::NotEmpty => !text.is_empty(),
            Kind::Words(words) => words.iter().any(|w| w == text),
            Kind::Regex(regex) => regex.is_match(text),
        }
    }

    /// All texts that match, where those are a short list.
    #[must_use]
    pub fn literals(&self) -> Option<Vec<&str>> {
        match &self.0 {
            Kind::Words(words) => Some(words.iter().map(String::as_str).collect()),
            _ => None,
        }
    }
}

/// Compiles an RE2 expression, anchored.
///
/// # Errors
/// `bad_data` where it is no regular expression, or one too large.
pub(crate) fn compile(expression: &str) -> Result<Regex, Error> {
    RegexBuilder::new(&format!("^(?s:{})$", translate(expression)))
        .size_limit(SIZE_LIMIT_BYTES)
        .dfa_size_limit(SIZE_LIMIT_BYTES)
        .build()
        .map_err(|e| {
            let why = match e {
                regex::Error::CompiledTooBig(limit) => format!("it compiles to more than {limit} bytes"),
                e => e.to_string().lines().last().unwrap_or("").trim_start_matches("error: ").to_owned(),
            };
            Error::BadParameter(format!("error parsing regexp: {why}: `{expression}`"))
        })
}

/// RE2's syntax in that of the `regex` crate: Perl classes are ASCII, a brace that repeats nothing is itself, inside a
/// class `[`, `&&`, `--` and `~~` are themselves, `\Q...\E` quotes, `\C` and octal escapes do not exist here.
fn translate(expression: &str) -> String {
    let chars: Vec<char> = expression.chars().collect();
    let mut out = String::with_capacity(expression.len() + 8);
    let mut in_class = false;
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '\\' {
            let Some(&escaped) = chars.get(i + 1) else {
                out.push('\\');
                break;
            };
            i += 2;
            match escaped {
                'd' => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
                'D' => out.push_str("[^0-9]"),
                'w' => out.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                'W' => out.push_str("[^0-9A-Za-z_]"),
                's' => out.push_str(if in_class { "\\t\\n\\x0C\\r " } else { "[\\t\\n\\x0C\\r ]" }),
                'S' => out.push_str("[^\\t\\n\\x0C\\r ]"),
                'b' if !in_class => out.push_str("(?-u:\\b)"),
                'Q' if !in_class => {
                    while i < chars.len() && !(chars[i] == '\\' && chars.get(i + 1) == Some(&'E')) {
                        out.push_str(&regex::escape(&chars[i].to_string()));
                        i += 1;
                    }
                    i += 2;
                }
                '0'..='7' => {
                    // Octal: up to three digits, the first of which is 0 or which are more than one.
                    let mut value = escaped.to_digit(8).unwrap_or(0);
                    let mut digits = 1;
                    while digits < 3
                        && let Some(digit) = chars.get(i).and_then(|c| c.to_digit(8))
                    {
                        value = value * 8 + digit;
                        digits += 1;
                        i += 1;
                    }
                    if digits == 1 && escaped != '0' {
                        // A back reference; refused by both.
                        out.push('\\');
                        out.push(escaped);
                    } else {
                        out.push_str(&format!("\\x{{{value:X}}}"));
                    }
                }
                _ => {
                    out.push('\\');
                    out.push(escaped);
                    // `\p{Greek}`, `\x{1F600}`.
                    if matches!(escaped, 'p' | 'P' | 'x') && chars.get(i) == Some(&'{') {
                        while i < chars.len() {
                            out.push(chars[i]);
                            i += 1;
                            if chars[i - 1] == '}' {
                                break;
                            }
                        }
                    }
                }
            }
            continue;
        }
        if in_class {
            match c {
                '[' if chars.get(i + 1) == Some(&':') => {
                    let end = (i + 2..chars.len()).find(|&j| chars[j] == ':' && chars.get(j + 1) == Some(&']'));
                    if let Some(end) = end {
                        out.extend(&chars[i..=end + 1]);
                        i = end + 2;
                        continue;
                    }
                    out.push_str("\\[");
                }
                '[' => out.push_str("\\["),
                '&' | '~' if chars.get(i + 1) == Some(&c) => {
                    out.push('\\');
                    out.push(c);
                }
                ']' => {
                    in_class = false;
                    out.push(c);
                }
                _ => out.push(c),
            }
            i += 1;
            continue;
        }
        match c {
            '[' => {
                in_class = true;
                out.push(c);
                if chars.get(i + 1) == Some(&'^') {
                    out.push('^');
                    i += 1;
                }
                if chars.get(i + 1) == Some(&']') {
                    out.push_str("\\]");
                    i += 1;
                }
            }
            '{' if !is_repetition(&chars[i + 1..]) => out.push_str("\\{"),
            '}' if !closes_repetition(&chars[..i]) => out.push_str("\\}"),
            _ => out.push(c),
        }
        i += 1;
    }
    out
}

/// Whether `{` is followed by `n}`, `n,}` or `n,m}`.
fn is_repetition(rest: &[char]) -> bool {
    let Some(end) = rest.iter().position(|c| *c == '}') else { return false };
    let inside: String = rest[..end].iter().collect();
    let mut parts = inside.splitn(2, ',');
    let first = parts.next().unwrap_or("");
    let second = parts.next().unwrap_or("");
    !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit()) && second.bytes().all(|b| b.is_ascii_digit())
}

fn closes_repetition(before: &[char]) -> bool {
    let Some(open) = before.iter().rposition(|c| *c == '{') else { return false };
    let mut rest: Vec<char> = before[open + 1..].to_vec();
    rest.push('}');
    (open == 0 || before[open - 1] != '\\') && is_repetition(&rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, text: &str) -> bool {
        Pattern::new(expression).unwrap().matches(text)
    }

    #[test]
    fn both_ends_are_anchored_and_a_dot_is_any_character() {
        assert!(matches("a.c", "a\nc"));
        assert!(!matches("b", "abc"));
        assert!(matches("a|b", "b"));
        assert!(!matches("a|b", "ab"));
        assert!(matches("foo.*|bar", "foobar"));
        assert!(matches("", ""));
        assert!(!matches(".+", ""));
        assert!(matches("(?i)HeLLo", "hello"));
        assert!(matches("(?i:a)b", "Ab"));
    }

    #[test]
    fn syntax_is_re2s() {
        assert!(matches("/api/{id}", "/api/{id}"));
        assert!(matches("a{2}", "aa"));
        assert!(matches("[[]x", "[x"));
        assert!(matches("[]a]+", "]a"));
        assert!(matches(r"\Qa.b\E+", "a.b"));
        assert!(matches(r"\d+", "12"));
        assert!(!matches(r"\d+", "१२"));
        assert!(matches(r"[\d&&]+", "1&"));
        assert!(matches(r"\p{Greek}", "λ"));
        assert!(matches(r"\x41", "A"));
        assert!(matches(r"[[:alpha:]]+", "abc"));
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused() {
        assert_eq!(Pattern::new("a(").unwrap_err().kind(), crate::ErrorKind::BadData);
        assert_eq!(Pattern::new("(((a{100}){100}){100})").unwrap_err().kind(), crate::ErrorKind::BadData);
    }
}
