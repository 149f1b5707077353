//! Which alerts a receiver is told of: Alertmanager's matchers.

use std::collections::BTreeMap;

use highwater_templates::match_label;

/// Conditions that must all hold; none: every alert.
#[derive(Debug, Clone, Default)]
pub(super) struct Matchers(Vec<Matcher>);

#[derive(Debug, Clone)]
struct Matcher {
    label: String,
    negative: bool,
    regex: bool,
    value: String,
}

impl Matchers {
    /// Reads `severity="page"`, `team=~"a|b"`, `env!=dev`, `{a="b", c="d"}`.
    pub(super) fn parse(texts: &[String]) -> Result<Self, String> {
        let mut matchers = Vec::new();
        for text in texts {
            let inner = text.trim();
            let inner = inner.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(inner);
            for one in split(inner) {
                matchers.push(Matcher::parse(one.trim())?);
            }
        }
        Ok(Self(matchers))
    }

    /// True where an alert with these labels is wanted. A label that is absent has the value `""`.
    pub(super) fn want(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|m| {
            let value = labels.get(&m.label).map_or("", String::as_str);
            let same = if m.regex { match_label(&m.value, value).unwrap_or(false) } else { value == m.value };
            same != m.negative
        })
    }
}

impl Matcher {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no matcher; write e.g. severity=\"page\", team=~\"a|b\", env!=\"dev\"");
        let at = text.find(['=', '!']).ok_or_else(bad)?;
        let (label, rest) = (text[..at].trim(), &text[at..]);
        let operators = [("=~", false, true), ("!~", true, true), ("!=", true, false), ("=", false, false)];
        let found = operators.iter().find(|(operator, ..)| rest.starts_with(operator));
        let &(operator, negative, regex) = found.ok_or_else(bad)?;
        let value = rest[operator.len()..].trim();
        let value = match value.strip_prefix('"') {
            Some(_) => serde_json::from_str::<String>(value).map_err(|_| bad())?,
            None => value.to_owned(),
        };
        if label.is_empty() {
            return Err(bad());
        }
        if regex {
            match_label(&value, "").map_err(|e| format!("`{text}`: {e}"))?;
        }
        Ok(Self { label: label.to_owned(), negative, regex, value })
    }
}

/// Splits at commas outside of quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_choose_as_alertmanagers_do() {
        let labels =
            BTreeMap::from([("severity".to_owned(), "page".to_owned()), ("team".to_owned(), "a,b".to_owned())]);
        let want = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
            Matchers::parse(&texts).map(|m| m.want(&labels))
        };
        for yes in [
            &[][..],
            &["severity=\"page\""],
            &["severity=page", "team!=x"],
            &["{severity=~\"p.*\", team=\"a,b\"}"],
            &["nothing=\"\""],
            &["severity!~\"pag\""],
        ] {
            assert_eq!(want(yes), Ok(true), "{yes:?}");
        }
        for no in [&["severity=~\"pag\""][..], &["severity!=page"], &["severity=page", "team=x"]] {
            assert_eq!(want(no), Ok(false), "{no:?}");
        }
        for bad in ["severity", "=a", "a=~\"(\"", "a=\"b"] {
            assert!(want(&[bad]).is_err(), "{bad}");
        }
    }
}
