//! Objects to entries: what a mapping sets, and what it leaves as it is. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::config::{Field, MappingConfig, MappingError};
use crate::sources::IngestError;

/// A mapping, its templates taken apart.
#[derive(Debug)]
pub(super) struct Mapping {
    log: Vec<(String, Rule)>,
    /// Members that do not go into the log entry as they are: those that are dropped, and those that it sets.
    left_out: BTreeSet<String>,
    metrics: Vec<Metric>,
    /// Where the time of a log comes from; samples have it too.
    timestamp: Option<Rule>,
}

#[derive(Debug)]
struct Metric {
    name: String,
    kind: String,
    value: Template,
    labels: Vec<(String, Template)>,
}

#[derive(Debug, Clone)]
enum Rule {
    Text(Template),
    Choice { of: Template, when: BTreeMap<String, String>, otherwise: Option<String> },
}

/// Texts and members by turns.
#[derive(Debug, Clone)]
struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Member(Vec<String>),
}

/// Bodies for the doors of logs and metrics, one entry per line.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    pub(super) logs: Vec<u8>,
    pub(super) metrics: Vec<u8>,
}

/// The members of an object in their order, values as written.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    members.push((name.0, map.next_value::<&RawValue>()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A key, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl Mapping {
    pub(super) fn new(name: &str, config: &MappingConfig) -> Result<Self, MappingError> {
        let wrong = |place: String, message: String| MappingError { place: format!("{name}{place}"), message };
        if config.log.is_empty() && config.metrics.is_empty() {
            return Err(wrong(String::new(), "it maps nothing: set fields under log, or name metrics".into()));
        }
        let template = |place: String, text: &str| Template::parse(text).map_err(|message| wrong(place, message));
        let mut log = Vec::new();
        for (field, value) in &config.log {
            let place = format!(".log.{field}");
            let rule = match value {
                Field::Text(text) => Rule::Text(template(place, text)?),
                Field::Choice { of, when, otherwise } => {
                    Rule::Choice { of: template(place, of)?, when: when.clone(), otherwise: otherwise.clone() }
                }
            };
            log.push((field.clone(), rule));
        }
        let mut metrics = Vec::new();
        for (at, metric) in config.metrics.iter().enumerate() {
            let place = format!(".metrics[{at}]");
            if metric.name.is_empty() {
                return Err(wrong(place, "a metric needs a name".into()));
            }
            if !["counter", "gauge", "histogram", "summary"].contains(&metric.kind.as_str()) {
                return Err(wrong(
                    place,
                    format!("kind {:?} is none of counter, gauge, histogram, summary", metric.kind),
                ));
            }
            let labels = metric.labels.iter().map(|(label, text)| Ok((label.clone(), template(place.clone(), text)?)));
            metrics.push(Metric {
                name: metric.name.clone(),
                kind: metric.kind.clone(),
                value: template(place.clone(), &metric.value)?,
                labels: labels.collect::<Result<_, MappingError>>()?,
            });
        }
        let timestamp = log.iter().find(|(field, _)| field == "timestamp").map(|(_, rule)| rule.clone());
        let left_out = config.drop.iter().chain(config.log.keys()).cloned().collect();
        Ok(Self { log, left_out, metrics, timestamp })
    }

    /// Maps all objects of a body. What is no object goes to the log door as it is, which says so by its number.
    pub(super) fn apply(&self, body: &[u8]) -> Result<Mapped, IngestError> {
        let mut mapped = Mapped::default();
        let trimmed = body.trim_ascii();
        if trimmed.starts_with(b"[") {
            let entries: Vec<&RawValue> = serde_json::from_slice(trimmed).map_err(|error| IngestError::Message {
                message: "body",
                reason: format!("it is no array of JSON: {error}"),
            })?;
            for entry in entries {
                self.entry(entry.get(), &mut mapped);
            }
            return Ok(mapped);
        }
        // One object may stand on several lines.
        if let Ok(single) = serde_json::from_slice::<&RawValue>(trimmed) {
            self.entry(single.get(), &mut mapped);
            return Ok(mapped);
        }
        for line in body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
            match std::str::from_utf8(line) {
                Ok(line) => self.entry(line, &mut mapped),
                Err(_) => {
                    mapped.logs.extend_from_slice(line);
                    mapped.logs.push(b'\n');
                }
            }
        }
        Ok(mapped)
    }

    fn entry(&self, text: &str, mapped: &mut Mapped) {
        let Ok(members) = serde_json::from_str::<Members<'_>>(text) else {
            // On one line, so that it stays one entry.
            mapped.logs.extend(text.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
            return mapped.logs.push(b'\n');
        };
        self.log(&members, &mut mapped.logs);
        let timestamp = self.timestamp.as_ref().and_then(|rule| rule.text(&members));
        for metric in &self.metrics {
            metric.sample(&members, timestamp.as_deref(), &mut mapped.metrics);
        }
    }

    fn log(&self, members: &Members<'_>, out: &mut Vec<u8>) {
        out.push(b'{');
        let from = out.len();
        for (name, value) in &members.0 {
            if !self.left_out.contains(&**name) {
                comma(out, from);
                string(out, name);
                out.push(b':');
                // Between tokens a line feed may stand for a blank; inside a string it cannot be.
                out.extend(value.get().bytes().map(|byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }));
            }
        }
        for (field, rule) in &self.log {
            if let Some(text) = rule.text(members) {
                comma(out, from);
                string(out, field);
                out.push(b':');
                string(out, &text);
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

impl Metric {
    fn sample(&self, members: &Members<'_>, timestamp: Option<&str>, out: &mut Vec<u8>) {
        let value = self.value.render(members);
        // A number, or what JSON writes as a text; booleans count as 1 and 0.
        let value = match value.trim() {
            "" => return,
            "true" => "1".to_owned(),
            "false" => "0".to_owned(),
            number if number.parse::<f64>().is_ok_and(f64::is_finite) => json_number(number),
            other => serde_json::Value::from(other).to_string(),
        };
        out.extend_from_slice(b"{\"name\":");
        string(out, &self.name);
        out.extend_from_slice(b",\"kind\":");
        string(out, &self.kind);
        out.extend_from_slice(b",\"value\":");
        out.extend_from_slice(value.as_bytes());
        if let Some(timestamp) = timestamp {
            out.extend_from_slice(b",\"timestamp\":");
            string(out, timestamp);
        }
        out.extend_from_slice(b",\"labels\":{");
        let from = out.len();
        for (label, template) in &self.labels {
            let text = template.render(members);
            if !text.is_empty() {
                comma(out, from);
                string(out, label);
                out.push(b':');
                string(out, &text);
            }
        }
        out.extend_from_slice(b"}}\n");
    }
}

/// A number as JSON writes it: without a plus, and with a digit before its point.
fn json_number(text: &str) -> String {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => raw.get().to_owned(),
        Err(_) => text.parse::<f64>().unwrap_or_default().to_string(),
    }
}

impl Rule {
    /// What comes out; `None` where that is nothing.
    fn text<'r>(&'r self, members: &Members<'_>) -> Option<Cow<'r, str>> {
        let text = match self {
            Self::Text(template) => Cow::Owned(template.render(members)),
            Self::Choice { of, when, otherwise } => {
                let found = when.get(of.render(members).trim()).or(otherwise.as_ref())?;
                Cow::Borrowed(found.as_str())
            }
        };
        let trimmed = text.trim();
        match trimmed.len() {
            0 => None,
            whole if whole == text.len() => Some(text),
            _ => Some(Cow::Owned(trimmed.to_owned())),
        }
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let end = rest.find('}').filter(|_| brace == "{");
            let end =
                end.ok_or_else(|| format!("{text:?} has a brace without its other; a brace itself is {{{{ or }}}}"))?;
            let path: Vec<String> = rest[..end].split('.').map(str::to_owned).collect();
            if path.iter().any(String::is_empty) {
                return Err(format!("{text:?} names no member between its braces"));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Member(path));
            rest = &rest[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// Members that are not there, or null, are nothing.
    fn render(&self, members: &Members<'_>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Member(path) => member(members, path, &mut out),
            }
        }
        out
    }
}

fn member(members: &Members<'_>, path: &[String], out: &mut String) {
    let whole = path.join(".");
    let find = |name: &str| members.0.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.get());
    // A name may have dots of its own.
    let (value, deeper) = match (find(&whole), path.split_first()) {
        (Some(value), _) => (value, &[][..]),
        (None, Some((first, deeper))) if !deeper.is_empty() => match find(first) {
            Some(value) => (value, deeper),
            None => return,
        },
        _ => return,
    };
    if !deeper.is_empty() {
        if let Ok(inner) = serde_json::from_str::<Members<'_>>(value) {
            member(&inner, deeper, out);
        }
        return;
    }
    if value == "null" {
        return;
    }
    match serde_json::from_str::<Cow<'_, str>>(value) {
        Ok(text) => out.push_str(&text),
        Err(_) => out.push_str(value),
    }
}

fn comma(out: &mut Vec<u8>, from: usize) {
    if out.len() > from {
        out.push(b',');
    }
}

/// A JSON string.
fn string(out: &mut Vec<u8>, text: &str) {
    // Writing text to memory does not fail.
    drop(serde_json::to_writer(out, text));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TELEMETRY: &str = r#"
log:
  timestamp: "{ts}"
  message: "{action} {error}"
  level: { of: "{success}", when: { "true": INFO, "false": ERROR }, else: WARN }
  service: checkout
drop: [secret]
metrics:
  - { name: action_latency_ms, value: "{latency_ms}", labels: { action: "{action}", success: "{success}", user: "{payload.user.id}" } }
  - { name: action_ok, kind: gauge, value: "{success}" }
"#;

    fn mapping(yaml: &str) -> Result<Mapping, String> {
        let config: MappingConfig = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        Mapping::new("telemetry", &config).map_err(|error| error.to_string())
    }

    fn apply(yaml: &str, body: &str) -> (String, String) {
        let mapped = mapping(yaml).unwrap().apply(body.as_bytes()).unwrap();
        (String::from_utf8(mapped.logs).unwrap(), String::from_utf8(mapped.metrics).unwrap())
    }

    #[test]
    fn an_object_becomes_a_log_and_samples() {
        let body = r#"{"ts": 1700000000.5, "action": "pay", "success": false, "latency_ms": 12.5, "payload": {"user": {"id": 7}}, "error": "no \"funds\"", "secret": "x"}"#;
        let (logs, metrics) = apply(TELEMETRY, body);
        assert_eq!(
            logs,
            concat!(
                r#"{"ts":1700000000.5,"action":"pay","success":false,"latency_ms":12.5,"payload":{"user": {"id": 7}},"error":"no \"funds\"","#,
                r#""level":"ERROR","message":"pay no \"funds\"","service":"checkout","timestamp":"1700000000.5"}"#,
                "\n"
            )
        );
        assert_eq!(
            metrics,
            concat!(
                r#"{"name":"action_latency_ms","kind":"gauge","value":12.5,"timestamp":"1700000000.5","labels":{"action":"pay","success":"false","user":"7"}}"#,
                "\n",
                r#"{"name":"action_ok","kind":"gauge","value":0,"timestamp":"1700000000.5","labels":{}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let (logs, metrics) = apply(TELEMETRY, r#"{"action": "look", "error": null}"#);
        assert_eq!(
            logs,
            "{\"action\":\"look\",\"error\":null,\"level\":\"WARN\",\"message\":\"look\",\"service\":\"checkout\"}\n"
        );
        assert_eq!(metrics, "");
    }

    #[test]
    fn bodies_come_in_the_usual_forms() {
        let (a, b) = (r#"{"action":"a"}"#, "{\n\"action\":\n\"b\"}");
        let count = |body: &str| apply(TELEMETRY, body).0.lines().count();
        assert_eq!(count(&format!("[{a}, {b}]")), 2);
        assert_eq!(count(b), 1);
        assert_eq!(count(&format!("{a}\n\n{a}\n")), 2);
        assert_eq!(
            apply(TELEMETRY, &format!("{a}\nnonsense\n[1]")).0.lines().skip(1).collect::<Vec<_>>(),
            ["nonsense", "[1]"]
        );
        assert!(mapping(TELEMETRY).unwrap().apply(b"[1, ").is_err());
        assert_eq!(count(""), 0);
    }

    #[test]
    fn templates_have_texts_members_and_braces() {
        let render = |template: &str, body: &str| {
            let members: Members<'_> = serde_json::from_str(body).unwrap();
            Template::parse(template).unwrap().render(&members)
        };
        assert_eq!(render("a{{b}}{x}", r#"{"x": 1}"#), "a{b}1");
        assert_eq!(render("{a.b}", r#"{"a.b": "dotted", "a": {"b": "deep"}}"#), "dotted");
        assert_eq!(render("{a.b}", r#"{"a": {"b": [1]}}"#), "[1]");
        assert_eq!(render("{a.b.c}", r#"{"a": {"b": 1}}"#), "");
        assert_eq!(render("{x}", r#"{"x": 1, "x": "last"}"#), "last");
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, said) in [
            ("{}", "maps nothing"),
            ("log: { message: '{a' }", "mappings.telemetry.log.message: \"{a\" has a brace"),
            ("log: { message: 'a}' }", "a brace without its other"),
            ("log: { message: '{}' }", "names no member"),
            ("metrics: [{ name: a, kind: fish, value: '1' }]", "mappings.telemetry.metrics[0]: kind \"fish\""),
            ("metrics: [{ name: a, vaule: '1' }]", "vaule"),
            ("log: { level: { off: a } }", "off"),
        ] {
            let error = mapping(yaml).unwrap_err();
            assert!(error.contains(said), "{yaml}: {error}");
        }
    }
}
