//! One metric entry on its way into columns: borrowed from the body, reused for the next.

use std::borrow::Cow;

use super::fields::{Key, is_valid_name, key, kind, special_value};
use crate::data::json::{Limits, Reader, Str, SyntaxError, Value};
use crate::data::refusal::Refusal;
use crate::data::{labels, time};

/// The values of one metric entry.
#[derive(Debug, Default)]
pub(crate) struct MetricRow<'a> {
    /// Event time, Unix microseconds.
    pub(crate) timestamp_us: Option<i64>,
    /// When the series began to count, Unix microseconds.
    pub(crate) start_timestamp_us: Option<i64>,
    /// The name; not empty unless the row is refused.
    pub(crate) name: Cow<'a, str>,
    /// Counter, gauge, histogram or summary.
    pub(crate) kind: Option<&'static str>,
    /// The sample.
    pub(crate) value: Option<f64>,
    /// Labels without the name, sorted, none empty, none twice.
    pub(crate) labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Canonical text of the labels.
    pub(crate) labels_json: String,
    /// Canonical text of labels and name.
    pub(crate) series: String,
    /// As received.
    pub(crate) temporality: Option<Str<'a>>,
    /// The service, where it is not a label.
    pub(crate) service: Option<Cow<'a, str>>,
    /// A staleness marker; it has no value.
    pub(crate) stale: bool,
    /// A native histogram, in place of a value.
    pub(crate) histogram: Option<Vec<u8>>,
    /// Why it is not a row after all.
    pub(crate) refusal: Option<Refusal>,
}

impl<'a> MetricRow<'a> {
    pub(crate) fn clear(&mut self) {
        self.timestamp_us = None;
        self.name = Cow::Borrowed("");
        self.kind = None;
        self.value = None;
        self.labels.clear();
        self.labels_json.clear();
        self.series.clear();
        self.temporality = None;
        self.service = None;
        self.stale = false;
        self.histogram = None;
        self.start_timestamp_us = None;
        self.refusal = None;
    }

    /// The series' id.
    pub(crate) fn series_id(&self) -> i64 {
        labels::series_id(&self.series)
    }

    /// The value of the first of these labels that is there.
    pub(crate) fn label(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| {
            let at = self.labels.binary_search_by(|(key, _)| key.as_ref().cmp(name)).ok()?;
            Some(self.labels[at].1.as_ref())
        })
    }

    /// Reads the members of one entry.
    pub(crate) fn parse(&mut self, reader: &mut Reader<'a>, limits: &Limits) -> Result<(), SyntaxError> {
        let mut walk = reader.begin_object()?;
        while let Some(name) = reader.next_key(&mut walk)? {
            let key = key(&name.text());
            if key == Key::Labels && reader.peek() == Some(b'{') {
                let mut members = reader.begin_object()?;
                while let Some(name) = reader.next_key(&mut members)? {
                    let value = reader.value()?;
                    self.label_member(name, value, limits);
                }
                continue;
            }
            let value = reader.value()?;
            if self.within(name, value, limits) {
                self.member(key, name, value, limits);
            }
        }
        self.seal();
        Ok(())
    }

    fn member(&mut self, key: Key, name: Str<'a>, value: Value<'a>, limits: &Limits) {
        match (key, value) {
            (Key::Value, Value::Null) => self.wrong_type(name, WANTED_VALUE, value),
            (_, Value::Null) => {}
            (Key::Name, Value::String(text)) => self.name = text.text(),
            (Key::Name, _) => self.wrong_type(name, "a string", value),
            (Key::Value, Value::Number(raw)) => match raw.parse::<f64>() {
                Ok(number) if number.is_finite() => self.value = Some(number),
                _ => self.bad_value("value", raw, "within the range of a 64-bit float"),
            },
            (Key::Value, Value::String(text)) => match special_value(&text.text()) {
                Some(number) => self.value = Some(number),
                None => self.wrong_type(name, WANTED_VALUE, value),
            },
            (Key::Value, _) => self.wrong_type(name, WANTED_VALUE, value),
            (Key::Kind, Value::String(text)) => match kind(&text.text()) {
                Some(kind) => self.kind = kind,
                None => self.bad_value("type", &text.text(), "one of counter, gauge, histogram, summary"),
            },
            (Key::Kind, _) => self.wrong_type(name, "a string", value),
            (Key::Timestamp, Value::String(_) | Value::Number(_)) => {
                let text = value.as_text().text();
                match time::parse(&text) {
                    Some(instant_us) => self.timestamp_us = Some(instant_us),
                    None if text.is_empty() => {}
                    None => self.bad_value("timestamp", &text, time::WANTED),
                }
            }
            (Key::Timestamp, _) => self.wrong_type(name, "a time", value),
            (Key::Temporality, Value::String(text)) => self.temporality = Some(text).filter(|text| !text.is_empty()),
            (Key::Temporality, _) => self.wrong_type(name, "a string", value),
            (Key::Labels, _) => self.wrong_type(name, "an object of strings", value),
            (Key::Other, _) => self.label_member(name, value, limits),
        }
    }

    /// A label: text, or a number or boolean as written.
    fn label_member(&mut self, name: Str<'a>, value: Value<'a>, limits: &Limits) {
        if !self.within(name, value, limits) {
            return;
        }
        match value {
            Value::Null => {}
            Value::Array(_) | Value::Object(_) => self.wrong_type(name, "a string, a number or a boolean", value),
            _ if self.labels.len() == limits.max_attributes => {
                self.refuse(Refusal::TooMany { what: "labels", limit: limits.max_attributes });
            }
            _ => self.labels.push((name.text(), value.as_text().text())),
        }
    }

    /// Sorts the labels, writes the canonical texts, and sees whether anything required is missing.
    pub(crate) fn seal(&mut self) {
        labels::normalise(&mut self.labels);
        // The name may have come as a label.
        if let Ok(at) = self.labels.binary_search_by(|(key, _)| key.as_ref().cmp(labels::NAME)) {
            let (_, name) = self.labels.remove(at);
            if self.name.is_empty() {
                self.name = name;
            }
        }
        if self.name.is_empty() {
            self.refuse(Refusal::Missing { field: "name" });
        } else if !is_valid_name(&self.name) {
            let name = self.name.clone();
            self.bad_value("name", &name, "a metric name (1 to 255 bytes, a letter, `_` or `:` first, no white space)");
        }
        if self.value.is_none() && !self.stale && self.histogram.is_none() {
            self.refuse(Refusal::Missing { field: "value" });
        }
        let pairs = self.labels.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        labels::write_canonical(pairs, &mut self.labels_json);
        labels::write_series(&self.name, &self.labels, &mut self.series);
    }

    fn within(&mut self, key: Str<'a>, value: Value<'a>, limits: &Limits) -> bool {
        let name = || Refusal::excerpt(&key.text());
        match limits.label(key.raw_size_bytes(), value.as_text().raw_size_bytes(), name) {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse(refusal);
                false
            }
        }
    }

    fn wrong_type(&mut self, name: Str<'_>, wanted: &'static str, value: Value<'_>) {
        let field = Refusal::excerpt(&name.text());
        self.refuse(Refusal::WrongType { field, wanted, found: value.kind() });
    }

    fn bad_value(&mut self, field: &'static str, value: &str, wanted: &'static str) {
        self.refuse(Refusal::BadValue { field, value: Refusal::excerpt(value), wanted });
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
    }
}

const WANTED_VALUE: &str = "a number, or one of the strings NaN, +Inf and -Inf";
