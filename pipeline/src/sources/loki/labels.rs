//! Labels to columns. Stream labels and a line's structured metadata are looked at alike; of the same name, the line's stands.
//!
//! | column | labels, the first that is there wins |
//! |---|---|
//! | `service` | `service`, `service.name`, `service_name`, `serviceName`, `app`, `application`; else `job` |
//! | `host` | `host`, `hostname`, `host.name`, `host_name`; else `node_name`, `node`, `instance` |
//! | `level` | `level`, `severity`, ... as in JSON entries; else `detected_level` |
//! | `trace_id`, `span_id`, `request_id`, `correlation_id`, `user_id` | as in JSON entries |
//! | `attributes` | all others, and what stands behind "else", which fills a column and stays what it is |

use std::borrow::Cow;

use crate::data::Refusal;
use crate::data::json::Limits;
use crate::data::level;
use crate::data::logs::{Field, Key, LogParts, key};

/// Ranks from here on are names that only help out.
const HELPS_OUT: u8 = 16;

/// What the labels of a line come to.
#[derive(Debug, Clone, Default)]
pub(super) struct LineLabels<'a> {
    /// Service, host, trace, span, request, correlation, user: [`slot`]; and how good the name was.
    texts: [Option<Given<'a>>; 7],
    level: Option<Given<'a>>,
    attributes: Vec<(&'a str, Cow<'a, str>)>,
}

#[derive(Debug, Clone, Copy)]
struct Given<'a> {
    rank: u8,
    name: &'a str,
    value: &'a str,
}

impl<'a> LineLabels<'a> {
    /// Takes a label; the line's own come after the stream's.
    pub(super) fn give(&mut self, name: &'a str, value: &'a str, limits: &Limits) -> Result<(), Refusal> {
        limits.attribute(name.len(), value.len(), || Refusal::excerpt(name))?;
        let (field, rank) = match (key(name), name) {
            (Key::Field(field, rank), _) => (field, rank),
            (_, "job") => (Field::Service, HELPS_OUT),
            (_, "node_name") => (Field::Host, HELPS_OUT),
            (_, "node") => (Field::Host, HELPS_OUT + 1),
            (_, "instance") => (Field::Host, HELPS_OUT + 2),
            (_, "detected_level") if level::parse(value).is_some() => (Field::Level, HELPS_OUT),
            _ => return self.attribute(name, value, limits),
        };
        let place = match field {
            Field::Level => Some(&mut self.level),
            field => slot(field).map(|slot| &mut self.texts[slot]),
        };
        let Some(place) = place.filter(|_| !value.is_empty()) else { return self.attribute(name, value, limits) };
        let given = Given { rank, name, value };
        let loser = match *place {
            Some(before) if before.rank < rank => Some(given),
            before => {
                *place = Some(given);
                // The same name again: what was said of the line stands.
                before.filter(|before| before.rank != rank)
            }
        };
        // One that only helps out is among the attributes whether it wins or not.
        if rank >= HELPS_OUT {
            self.attribute(name, value, limits)?;
        }
        match loser.filter(|loser| loser.rank < HELPS_OUT) {
            Some(loser) => self.attribute(loser.name, loser.value, limits),
            None => Ok(()),
        }
    }

    fn attribute(&mut self, name: &'a str, value: &'a str, limits: &Limits) -> Result<(), Refusal> {
        match self.attributes.iter().position(|(known, _)| *known == name) {
            Some(known) => self.attributes[known].1 = Cow::Borrowed(value),
            None if self.attributes.len() == limits.max_attributes => {
                return Err(Refusal::TooMany { what: "labels", limit: limits.max_attributes });
            }
            None => self.attributes.push((name, Cow::Borrowed(value))),
        }
        Ok(())
    }

    /// The row of a line with these labels.
    pub(super) fn parts<'p>(&'p self, timestamp_us: i64, line: &'p str) -> LogParts<'p> {
        let [service, host, trace_id, span_id, request_id, correlation_id, user_id] = self.texts.map(value);
        let severity_text = value(self.level);
        LogParts {
            timestamp_us: Some(timestamp_us),
            observed_timestamp_us: None,
            severity_number: severity_text.and_then(level::parse),
            severity_text,
            texts: [service, host, Some(line), trace_id, span_id, request_id, correlation_id, user_id],
            attributes: &self.attributes,
        }
    }

    /// Service and host, which choose the partition.
    pub(super) fn origin(&self) -> [&'a str; 2] {
        [0, 1].map(|slot| value(self.texts[slot]).unwrap_or_default())
    }
}

fn value(given: Option<Given<'_>>) -> Option<&str> {
    given.map(|given| given.value)
}

/// Where a field is among the texts; `None` for what a label cannot say.
fn slot(field: Field) -> Option<usize> {
    let fields = [
        Field::Service,
        Field::Host,
        Field::TraceId,
        Field::SpanId,
        Field::RequestId,
        Field::CorrelationId,
        Field::UserId,
    ];
    fields.into_iter().position(|known| known == field)
}
