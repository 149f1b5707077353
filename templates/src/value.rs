//! What a template sees.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A span of time, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub i64);

/// A value in a template. Copies are cheap.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Go's nil, and what is not there.
    Nil,
    /// A `bool`.
    Bool(bool),
    /// An `int`.
    Int(i64),
    /// A `float64`.
    Float(f64),
    /// A `string`.
    Str(Arc<str>),
    /// A slice.
    List(Arc<Vec<Value>>),
    /// A `map[string]string`: what is missing is the empty string.
    Strings(Arc<BTreeMap<String, String>>),
    /// A `map[string]any`: what is missing is nil.
    Map(Arc<BTreeMap<String, Value>>),
    /// A struct: its fields in order. A field that is missing is an error.
    Struct(Arc<Vec<(&'static str, Value)>>),
    /// A `time.Time` in UTC, Unix milliseconds.
    Time(i64),
    /// A `time.Duration`.
    Duration(Duration),
}

impl Value {
    /// A string.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Str(text.as_ref().into())
    }

    /// A map of strings.
    pub fn strings(map: BTreeMap<String, String>) -> Self {
        Self::Strings(Arc::new(map))
    }

    /// A slice.
    pub fn list(values: Vec<Value>) -> Self {
        Self::List(Arc::new(values))
    }

    /// A struct.
    pub fn fields(fields: Vec<(&'static str, Value)>) -> Self {
        Self::Struct(Arc::new(fields))
    }

    /// The field of a struct.
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Struct(fields) => fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// What `if` makes of it.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(flag) => *flag,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Strings(map) => !map.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Struct(_) | Self::Time(_) => true,
            Self::Duration(span) => span.0 != 0,
        }
    }

    /// The name of its type in Go.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Strings(_) => "map[string]string",
            Self::Map(_) => "map[string]interface {}",
            Self::Struct(_) => "struct",
            Self::Time(_) => "time.Time",
            Self::Duration(_) => "time.Duration",
        }
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Nil => serde_json::Value::Null,
            Self::Bool(flag) => (*flag).into(),
            Self::Int(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::Str(text) => (**text).into(),
            Self::List(list) => list.iter().map(Value::to_json).collect(),
            Self::Strings(map) => map.iter().map(|(k, v)| (k.clone(), serde_json::Value::from(v.as_str()))).collect(),
            Self::Map(map) => map.iter().map(|(k, v)| (k.clone(), v.to_json())).collect(),
            Self::Struct(fields) => fields.iter().map(|(k, v)| ((*k).to_owned(), v.to_json())).collect(),
            Self::Time(ms) => crate::format::rfc3339(*ms).into(),
            Self::Duration(span) => span.0.into(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}
