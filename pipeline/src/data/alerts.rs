//! Alerts: one row is one transition of one alert. The topic holds one JSON object per record, a [`Transition`]; its key is the
//! fingerprint.
//!
//! ```json
//! {"timestamp":"2024-05-06T07:08:09.000000Z","fingerprint":"00c0ffee00c0ffee","alertname":"HighErrorRate","group_name":"web",
//!  "state":"firing","labels":{"service":"web"},"annotations":{"summary":"..."},"value":0.25,
//!  "starts_at":"2024-05-06T07:07:00.000000Z","ends_at":null,"rule":{...},"source":{...},"tenant":"default"}
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use highwater_broker::Record;
use serde::{Deserialize, Serialize};

use super::{columns, content_type, labels, time};

mod json;

/// The topic and the table.
pub const TOPIC: &str = "alerts";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    columns::table_schema(vec![
        columns::required_instant("timestamp"),
        columns::required_text("fingerprint"),
        columns::text("alertname"),
        columns::text("group_name"),
        columns::required_text("state"),
        columns::text("labels"),
        columns::text("annotations"),
        columns::nullable("value", DataType::Float64),
        columns::instant("starts_at"),
        columns::instant("ends_at"),
        columns::text("rule"),
        columns::text("source"),
    ])
});

/// The table schema, identity included.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// What an alert has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its condition holds, but not for long enough.
    Pending,
    /// Its condition has held for the rule's `for`.
    Firing,
    /// Its condition holds no longer.
    Resolved,
    /// Its condition holds no longer, and it had not fired yet.
    Inactive,
    /// Late rows have changed what is known of it: since when it fires, with what value, or that it is over.
    Corrected,
    /// Late rows have shown that it should not have fired.
    Retracted,
}

impl State {
    /// `pending`, `firing`, `resolved`, `inactive`, `corrected` or `retracted`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Inactive => "inactive",
            Self::Corrected => "corrected",
            Self::Retracted => "retracted",
        }
    }
}

/// One transition of one alert, as its record holds it. Instants are Unix microseconds here and RFC 3339 in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// The event time at which the rule was evaluated.
    #[serde(rename = "timestamp", with = "json::instant")]
    pub timestamp_us: i64,
    /// Which alert: see [`labels::fingerprint`].
    pub fingerprint: String,
    /// The rule's name.
    pub alertname: String,
    /// The rule group's name.
    pub group_name: String,
    /// What the alert has become.
    pub state: State,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The value that decided; in JSON a number, or `"NaN"`, `"+Inf"`, `"-Inf"`.
    #[serde(default, with = "json::value")]
    pub value: Option<f64>,
    /// Since when it has been pending or firing.
    #[serde(rename = "starts_at", with = "json::optional_instant")]
    pub starts_at_us: Option<i64>,
    /// Since when it fires, or had fired. No column of the table: it is the transition to `firing` there.
    #[serde(rename = "fired_at", default, with = "json::optional_instant", skip_serializing_if = "Option::is_none")]
    pub fired_at_us: Option<i64>,
    /// When it was resolved.
    #[serde(rename = "ends_at", default, with = "json::optional_instant")]
    pub ends_at_us: Option<i64>,
    /// The rule, as JSON.
    #[serde(default)]
    pub rule: serde_json::Value,
    /// The coordinate of the record that caused the transition, as JSON.
    #[serde(default)]
    pub source: serde_json::Value,
    /// Whose alert it is.
    pub tenant: String,
}

/// What late rows have made of an alert: `correction` in the source of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// What it was taken for.
    pub was: State,
    /// What it is.
    pub now: State,
}

impl Transition {
    /// What it was before and is now, where late rows have changed it.
    pub fn correction(&self) -> Option<Correction> {
        Correction::deserialize(&self.source["correction"]).ok()
    }

    /// What the alert is: pending, firing, resolved or inactive.
    pub fn is_now(&self) -> State {
        match (self.state, self.correction()) {
            (State::Corrected, Some(correction)) => correction.now,
            (State::Retracted, correction) => correction.map_or(State::Inactive, |c| c.now),
            (state, _) => state,
        }
    }

    /// The record that carries it, keyed by fingerprint.
    ///
    /// # Errors
    /// Where `rule` or `source` cannot be JSON text.
    pub fn to_record(&self) -> Result<Record, serde_json::Error> {
        Ok(Record {
            key: Some(Bytes::from(self.fingerprint.clone())),
            value: Some(Bytes::from(serde_json::to_vec(self)?)),
            headers: vec![content_type::header(content_type::JSON)],
            timestamp_ms: None,
        })
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Where the text is no transition.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Its payload columns, one row, in table order.
    pub(super) fn columns(&self) -> Vec<ArrayRef> {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let instant = |instant_us: Option<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(vec![instant_us]).with_timezone(time::ZONE))
        };
        let json = |value: &serde_json::Value| -> ArrayRef {
            Arc::new(StringArray::from(vec![(!value.is_null()).then(|| value.to_string())]))
        };
        vec![
            instant(Some(self.timestamp_us)),
            text(&self.fingerprint),
            text(&self.alertname),
            text(&self.group_name),
            text(self.state.as_str()),
            text(&canonical(&self.labels)),
            text(&canonical(&self.annotations)),
            Arc::new(Float64Array::from(vec![self.value])),
            instant(self.starts_at_us),
            instant(self.ends_at_us),
            json(&self.rule),
            json(&self.source),
            text(&self.tenant),
        ]
    }
}

fn canonical(map: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    labels::write_canonical(map.iter().map(|(key, value)| (key.as_str(), value.as_str())), &mut text);
    text
}
