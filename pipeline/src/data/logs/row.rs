//! One log entry on its way into columns: borrowed from the body, reused for the next.

use super::fields::{Field, Key, key};
use crate::data::json::{Limits, Reader, Str, SyntaxError, Value};
use crate::data::refusal::Refusal;
use crate::data::{level, time};

/// The values of one log entry.
#[derive(Debug, Default)]
pub(crate) struct LogRow<'a> {
    fields: [Option<Given<'a>>; Field::COUNT],
    /// Event time, Unix microseconds.
    pub(crate) timestamp_us: Option<i64>,
    /// When a collector saw it, Unix microseconds.
    pub(crate) observed_timestamp_us: Option<i64>,
    /// OpenTelemetry's severity, 1 to 24.
    pub(crate) severity_number: Option<i32>,
    /// Everything else; keys are unique.
    pub(crate) attributes: Vec<(Str<'a>, Str<'a>)>,
    /// Why it is not a row after all.
    pub(crate) refusal: Option<Refusal>,
    /// What the keys of earlier entries were, by position: entries of one sender have the same keys in the same order.
    shape: Vec<(Str<'a>, Key)>,
}

/// A value for a column, with the name it came under.
#[derive(Debug, Clone, Copy)]
struct Given<'a> {
    rank: u8,
    key: Str<'a>,
    value: Value<'a>,
    /// Of a time, what it says.
    instant_us: Option<i64>,
}

impl<'a> LogRow<'a> {
    pub(crate) fn clear(&mut self) {
        self.fields = [None; Field::COUNT];
        self.timestamp_us = None;
        self.observed_timestamp_us = None;
        self.severity_number = None;
        self.attributes.clear();
        self.refusal = None;
    }

    /// The level as received.
    pub(crate) fn severity_text(&self) -> Option<Str<'a>> {
        self.text(Field::Level)
    }

    /// The service.
    pub(crate) fn service(&self) -> Option<Str<'a>> {
        self.text(Field::Service)
    }

    /// The host.
    pub(crate) fn host(&self) -> Option<Str<'a>> {
        self.text(Field::Host)
    }

    /// A field as text; `None` where it is missing or empty.
    pub(crate) fn text(&self, field: Field) -> Option<Str<'a>> {
        self.given(field).map(|given| given.value.as_text()).filter(|text| !text.is_empty())
    }

    fn given(&self, field: Field) -> Option<Given<'a>> {
        self.fields[field as usize]
    }

    /// Reads the members of one entry.
    pub(crate) fn parse(&mut self, reader: &mut Reader<'a>, limits: &Limits) -> Result<(), SyntaxError> {
        let mut walk = reader.begin_object()?;
        let mut position = 0;
        while let Some(name) = reader.next_key(&mut walk)? {
            let key = self.recognise(position, name);
            position += 1;
            if key == Key::Attributes && reader.peek() == Some(b'{') {
                let mut members = reader.begin_object()?;
                while let Some(name) = reader.next_key(&mut members)? {
                    let value = reader.value()?;
                    self.attribute(name, value, limits);
                }
                continue;
            }
            let value = reader.value()?;
            match key {
                Key::Field(field, rank) => self.give(field, Given { rank, key: name, value, instant_us: None }, limits),
                Key::Attributes | Key::Other => self.attribute(name, value, limits),
            }
        }
        self.check();
        Ok(())
    }

    /// What the key is; usually what the key at the same place in the entry before was.
    fn recognise(&mut self, position: usize, name: Str<'a>) -> Key {
        match self.shape.get(position) {
            Some((known, key)) if *known == name => *key,
            _ => {
                let key = key(&name.text());
                match self.shape.get_mut(position) {
                    Some(known) => *known = (name, key),
                    // An entry with thousands of keys is refused anyway.
                    None if position < 64 => self.shape.push((name, key)),
                    None => {}
                }
                key
            }
        }
    }

    /// Takes a value for a column. Under another name than the column's own, a value that does not fit is an attribute; so is
    /// a value under a name that loses to another.
    fn give(&mut self, field: Field, mut given: Given<'a>, limits: &Limits) {
        if given.value == Value::Null || !self.within(given.key, given.value, limits) {
            return;
        }
        match self.fit(field, given) {
            Ok(instant_us) => given.instant_us = instant_us,
            Err(Some(refusal)) if given.rank == 0 => return self.refuse(refusal),
            Err(_) => return self.attribute(given.key, given.value, limits),
        }
        match self.given(field) {
            Some(before) if before.rank < given.rank => return self.attribute(given.key, given.value, limits),
            // The same name again: the last one stands.
            Some(before) if before.rank > given.rank => self.demote(before, limits),
            _ => {}
        }
        self.fields[field as usize] = Some(given);
    }

    /// Whether the value can fill the column, and which instant it is, if one. The error is the refusal where it came under the column's own name; `None`
    /// where even then it is just an attribute.
    fn fit(&self, field: Field, given: Given<'a>) -> Result<Option<i64>, Option<Refusal>> {
        let wrong_type = |wanted| {
            Err(Some(Refusal::WrongType {
                field: Refusal::excerpt(&given.key.text()),
                wanted,
                found: given.value.kind(),
            }))
        };
        match (field, given.value) {
            (Field::Message | Field::Level, Value::String(_)) | (Field::Level, Value::Number(_)) => Ok(None),
            (Field::Message, _) => wrong_type("a string"),
            (Field::Level, _) => wrong_type("a string or a number"),
            (Field::SeverityNumber, Value::Number(_) | Value::String(_)) => Ok(None),
            (Field::SeverityNumber, _) => wrong_type("a number from 1 to 24"),
            (Field::Timestamp | Field::ObservedTimestamp, Value::Number(_) | Value::String(_)) => {
                let text = given.value.as_text();
                let instant_us = time::parse(&text.text());
                if instant_us.is_some() || text.is_empty() {
                    return Ok(instant_us);
                }
                Err(Some(Refusal::BadValue {
                    field: if field == Field::Timestamp { "timestamp" } else { "observed_timestamp" },
                    value: Refusal::excerpt(&text.text()),
                    wanted: time::WANTED,
                }))
            }
            (Field::Timestamp | Field::ObservedTimestamp, _) => wrong_type("a time"),
            // Services, hosts and ids: an object such as {"host": {"name": ...}} is kept whole.
            (_, Value::String(_) | Value::Number(_)) => Ok(None),
            _ => Err(None),
        }
    }

    /// Adds an attribute; of a repeated key the last value stands.
    fn attribute(&mut self, key: Str<'a>, value: Value<'a>, limits: &Limits) {
        if value == Value::Null || !self.within(key, value, limits) {
            return;
        }
        if let Some(known) = self.attributes.iter_mut().find(|(known, _)| known.same_as(key)) {
            known.1 = value.as_text();
        } else if self.attributes.len() == limits.max_attributes {
            self.refuse(Refusal::TooMany { what: "attributes", limit: limits.max_attributes });
        } else {
            self.attributes.push((key, value.as_text()));
        }
    }

    /// Makes a value that lost its column an attribute, unless a later one has taken its key.
    fn demote(&mut self, before: Given<'a>, limits: &Limits) {
        if !self.attributes.iter().any(|(known, _)| known.same_as(before.key)) {
            self.attribute(before.key, before.value, limits);
        }
    }

    /// Refuses what is too long to be stored.
    fn within(&mut self, key: Str<'a>, value: Value<'a>, limits: &Limits) -> bool {
        let name = || Refusal::excerpt(&key.text());
        match limits.attribute(key.raw_size_bytes(), value.as_text().raw_size_bytes(), name) {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse(refusal);
                false
            }
        }
    }

    /// Works out what depends on which name won, and whether anything required is missing.
    fn check(&mut self) {
        match self.given(Field::Message) {
            None => self.refuse(Refusal::Missing { field: "message" }),
            Some(given) if given.value.as_text().is_empty() => self.refuse(Refusal::Empty { field: "message" }),
            Some(_) => {}
        }
        self.timestamp_us = self.given(Field::Timestamp).and_then(|given| given.instant_us);
        self.observed_timestamp_us = self.given(Field::ObservedTimestamp).and_then(|given| given.instant_us);
        let explicit = self.text(Field::SeverityNumber).and_then(|text| text.text().parse().ok());
        self.severity_number = explicit
            .filter(|&number| level::name(number).is_some())
            .or_else(|| self.text(Field::Level).and_then(|text| level::parse(&text.text())));
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
    }
}

impl<'a> LogRow<'a> {
    /// A row that is one line of text.
    pub(crate) fn from_line(line: &'a str, limits: &Limits) -> Self {
        let mut row = Self::default();
        let value = Value::String(Str::plain(line));
        row.give(Field::Message, Given { rank: 0, key: Str::plain("message"), value, instant_us: None }, limits);
        row.check();
        row
    }
}
