//! A stream's labels as protobuf has them: the text of a selector, `{app="web", env="prod"}`.

use std::borrow::Cow;

use super::lines::Pairs;
use crate::data::Refusal;

/// Reads the labels.
pub(super) fn parse(text: &str) -> Result<Pairs<'_>, Refusal> {
    let refuse = |reason| Refusal::Labels { reason };
    let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let mut rest = inner.ok_or(refuse("stream labels are not written as {name=\"value\", ...}"))?.trim_start();
    let mut labels: Pairs<'_> = Vec::new();
    while !rest.is_empty() {
        let name = match rest.as_bytes().first() {
            Some(b'"' | b'`') => {
                quoted(&mut rest).ok_or(refuse("a label name in quotes does not end, or has a bad escape"))?
            }
            _ => {
                let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
                let (name, behind) = rest.split_at(end);
                rest = behind;
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':');
                if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(refuse("a label name is not one"));
                }
                Cow::Borrowed(name)
            }
        };
        rest = rest.trim_start().strip_prefix('=').ok_or(refuse("a label has no `=` behind its name"))?.trim_start();
        let value = quoted(&mut rest).ok_or(refuse("a label value is not in quotes, or has a bad escape"))?;
        if labels.iter().any(|(known, _)| *known == name) {
            return Err(Refusal::Repeated { label: Refusal::excerpt(&name) });
        }
        labels.push((name, value));
        rest = rest.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(rest) => rest.trim_start(),
            None if rest.is_empty() => rest,
            None => return Err(refuse("labels are not separated by commas")),
        };
    }
    Ok(labels)
}

/// Takes a string off the front of `rest`, in quotes or backquotes, as Go writes it.
fn quoted<'a>(rest: &mut &'a str) -> Option<Cow<'a, str>> {
    if let Some(raw) = rest.strip_prefix('`') {
        let (value, behind) = raw.split_once('`')?;
        *rest = behind;
        return Some(Cow::Borrowed(value));
    }
    let text = rest.strip_prefix('"')?;
    let end = text.find(['"', '\\'])?;
    if text.as_bytes()[end] == b'"' {
        *rest = &text[end + 1..];
        return Some(Cow::Borrowed(&text[..end]));
    }
    let mut bytes = Vec::with_capacity(text.len().min(256));
    let mut left = text;
    loop {
        let at = left.find(['"', '\\'])?;
        bytes.extend_from_slice(&left.as_bytes()[..at]);
        left = &left[at..];
        if let Some(behind) = left.strip_prefix('"') {
            *rest = behind;
            return String::from_utf8(bytes).ok().map(Cow::Owned);
        }
        let escape = *left.as_bytes().get(1)?;
        let hex = |from: usize, to: usize| left.get(from..to).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let character = |code: u32| char::from_u32(code).map(|c| c.to_string().into_bytes());
        let (written, size) = match escape {
            b'a' => (vec![7], 2),
            b'b' => (vec![8], 2),
            b'f' => (vec![12], 2),
            b'n' => (vec![b'\n'], 2),
            b'r' => (vec![b'\r'], 2),
            b't' => (vec![b'\t'], 2),
            b'v' => (vec![11], 2),
            b'\\' | b'"' => (vec![escape], 2),
            b'x' => (vec![u8::try_from(hex(2, 4)?).ok()?], 4),
            b'u' => (character(hex(2, 6)?)?, 6),
            b'U' => (character(hex(2, 10)?)?, 10),
            b'0'..=b'7' => (vec![u8::from_str_radix(left.get(1..4)?, 8).ok()?], 4),
            _ => return None,
        };
        bytes.extend(written);
        left = left.get(size..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let owned = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
        parse(text).map(|labels| labels.into_iter().map(owned).collect()).map_err(|refusal| refusal.to_string())
    }

    fn pairs(expected: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn labels_are_read_as_go_writes_them() {
        assert_eq!(read(r#"{app="web", env="prod"}"#), pairs(&[("app", "web"), ("env", "prod")]));
        assert_eq!(
            read(r#" { app = "a\"b\\c\n\u00e9\x41\101" ,b=`raw\n`, } "#),
            pairs(&[("app", "a\"b\\c\né\u{41}A"), ("b", "raw\\n")])
        );
        assert_eq!(read(r#"{"a.b"="c", d_1=""}"#), pairs(&[("a.b", "c"), ("d_1", "")]));
        assert_eq!(read("{}"), pairs(&[]));
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "",
            "app",
            "{app}",
            "{app=web}",
            r#"{app="web"#,
            r#"{app="web" env="x"}"#,
            r#"{a="\q"}"#,
            r#"{1a="b"}"#,
            r#"{a="\xff"}"#,
            r#"{a!="b"}"#,
            r#"{a="b", a="c"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
