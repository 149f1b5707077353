//! OTLP's values as text.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde_json::Value as Json;

/// A value as text: a string is itself, bytes are base64, lists and maps are JSON. `None` where there is none.
pub(super) fn text(value: Option<&AnyValue>) -> Option<Cow<'_, str>> {
    Some(match value?.value.as_ref()? {
        Value::StringValue(text) => Cow::Borrowed(text.as_str()),
        Value::BoolValue(true) => Cow::Borrowed("true"),
        Value::BoolValue(false) => Cow::Borrowed("false"),
        Value::IntValue(number) => Cow::Owned(number.to_string()),
        Value::DoubleValue(number) => Cow::Owned(number.to_string()),
        Value::BytesValue(bytes) => Cow::Owned(STANDARD.encode(bytes)),
        list @ (Value::ArrayValue(_) | Value::KvlistValue(_)) => Cow::Owned(json(list).to_string()),
        // A reference into a table that export requests of logs and metrics do not have.
        _ => return None,
    })
}

/// The text of the attribute with this key.
pub(super) fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<Cow<'a, str>> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    text(found.value.as_ref()).filter(|text| !text.is_empty())
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn json(value: &Value) -> Json {
    let inner = |value: Option<&AnyValue>| value.and_then(|v| v.value.as_ref()).map_or(Json::Null, json);
    match value {
        Value::StringValue(text) => Json::from(text.as_str()),
        Value::BoolValue(flag) => Json::from(*flag),
        Value::IntValue(number) => Json::from(*number),
        // JSON has no NaN and no infinities; as text they are not lost.
        Value::DoubleValue(number) if !number.is_finite() => Json::from(number.to_string()),
        Value::DoubleValue(number) => Json::from(*number),
        Value::BytesValue(bytes) => Json::from(STANDARD.encode(bytes)),
        Value::ArrayValue(list) => list.values.iter().map(|value| inner(Some(value))).collect(),
        Value::KvlistValue(map) => {
            Json::Object(map.values.iter().map(|member| (member.key.clone(), inner(member.value.as_ref()))).collect())
        }
        _ => Json::Null,
    }
}
