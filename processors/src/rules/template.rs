//! Labels and annotations with places to fill in: `{{ $labels.service }}`, `{{ $value }}`.
//!
//! The small part of Prometheus's templates that most rules use. Anything else is refused when the rule is read,
//! because text that cannot be rendered is of no use when the alert fires.

use std::collections::BTreeMap;

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Label(String),
    Value,
}

impl Template {
    /// Reads a text; the error says which action cannot be rendered.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once("{{") {
            let Some((action, after)) = from.split_once("}}") else {
                return Err(format!("`{{{{{from}` has no closing `}}}}`"));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match action.trim() {
                "$value" => Part::Value,
                other => match other.strip_prefix("$labels.") {
                    Some(name) if is_label(name) => Part::Label(name.to_owned()),
                    _ => return Err(format!("`{{{{{action}}}}}` cannot be rendered yet; these can: {{{{ $labels.name }}}}, {{{{ $value }}}}")),
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The labels it names.
    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Label(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// True where it shows the value.
    pub(super) fn uses_value(&self) -> bool {
        self.parts.contains(&Part::Value)
    }

    /// The text with everything filled in. A label that the alert does not have is empty.
    pub(super) fn render(&self, labels: &BTreeMap<String, String>, value: f64) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Label(name) => out.push_str(labels.get(name).map_or("", String::as_str)),
                Part::Value => out.push_str(&format_value(value)),
            }
        }
        out
    }
}

/// A value as Prometheus prints it.
fn format_value(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// True for a label's name: letters, digits, `_`, not beginning with a digit.
pub(super) fn is_label(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, value: f64) -> String {
        let labels = BTreeMap::from([("service".to_owned(), "web".to_owned())]);
        Template::parse(text).expect(text).render(&labels, value)
    }

    #[test]
    fn places_are_filled_in() {
        assert_eq!(render("{{ $labels.service }}: {{$value}} errors", 12.0), "web: 12 errors");
        assert_eq!(render("{{$labels.missing}}{{ $value }}", 0.25), "0.25");
        assert_eq!(render("{{ $value }}", f64::INFINITY), "+Inf");
        assert_eq!(render("{{ $value }}", f64::NAN), "NaN");
        assert_eq!(render("a } b {", 1.0), "a } b {");
    }

    #[test]
    fn what_cannot_be_rendered_is_refused() {
        for text in [
            "{{ $value | humanize }}",
            "{{ .Labels.service }}",
            "{{ $labels.a-b }}",
            "{{ range query \"up\" }}",
            "{{",
            "{{ $value }",
        ] {
            let error = Template::parse(text).expect_err(text);
            assert!(error.contains("{{"), "{text}: {error}");
        }
    }
}
