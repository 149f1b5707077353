//! Attributes of logs and spans: those of the thing itself, of its resource and of its scope, in one map.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};

use super::value;
use crate::data::json::Limits;
use crate::data::refusal::Refusal;

pub(super) const SERVICE: &str = "service.name";
pub(super) const HOST: &str = "host.name";
/// Most attributes that have a column, twice.
const MAX_IN_COLUMNS: usize = 16;
const SCOPE: &str = "otel.scope.name";
const SCOPE_VERSION: &str = "otel.scope.version";

/// Attributes by key, each once.
pub(super) struct Attributes<'a> {
    pub(super) pairs: Vec<(&'a str, Cow<'a, str>)>,
    limits: Limits,
}

impl<'a> Attributes<'a> {
    /// Of the resource, then of the scope, then of the thing itself: of the same key the last stands. What `in_column` names has a column.
    pub(super) fn of(
        resource: &'a [KeyValue],
        scope: Option<&'a InstrumentationScope>,
        own: &'a [KeyValue],
        in_column: impl Fn(&str, bool) -> bool,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        let scoped_count = scope.map_or(0, |scope| scope.attributes.len());
        // Not looked through one by one for each of the many that share them. Those in columns do not count.
        if resource.len() + scoped_count + own.len() > limits.max_attributes + MAX_IN_COLUMNS {
            return Err(Refusal::TooMany { what: "attributes", limit: limits.max_attributes });
        }
        let mut attributes = Self { pairs: Vec::new(), limits: *limits };
        let scoped = scope.map_or(&[][..], |scope| &scope.attributes);
        for (is_own, given) in [(false, resource), (false, scoped), (true, own)] {
            for KeyValue { key, value, .. } in given {
                if let Some(text) = value::text(value.as_ref()).filter(|_| !in_column(key, is_own)) {
                    attributes.put(key, text)?;
                }
            }
        }
        if let Some(scope) = scope {
            for (key, text) in [(SCOPE, &scope.name), (SCOPE_VERSION, &scope.version)] {
                if !text.is_empty() {
                    attributes.put(key, Cow::Borrowed(text))?;
                }
            }
        }
        Ok(attributes)
    }

    /// Adds one, or replaces the one of this key.
    pub(super) fn put(&mut self, key: &'a str, text: Cow<'a, str>) -> Result<(), Refusal> {
        self.limits.attribute(key.len(), text.len(), || Refusal::excerpt(key))?;
        match self.pairs.iter().position(|(known, _)| *known == key) {
            Some(known) => self.pairs[known].1 = text,
            None if self.pairs.len() == self.limits.max_attributes => {
                return Err(Refusal::TooMany { what: "attributes", limit: self.limits.max_attributes });
            }
            None => self.pairs.push((key, text)),
        }
        Ok(())
    }
}

/// A trace's or span's id in hex; all zeros is none.
pub(super) fn id(bytes: &[u8]) -> Option<String> {
    bytes.iter().any(|byte| *byte != 0).then(|| value::hex(bytes))
}

pub(super) fn within(field: &str, text: &str, limits: &Limits) -> Result<(), Refusal> {
    let (size_bytes, limit_bytes) = (text.len(), limits.max_value_size_bytes);
    if size_bytes <= limit_bytes {
        return Ok(());
    }
    Err(Refusal::TooLong { field: Refusal::excerpt(field), size_bytes, limit_bytes })
}
