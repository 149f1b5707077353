//! How a transition's instants and value stand in JSON.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

use crate::data::time;

/// An instant: RFC 3339 out, anything [`time::parse`] reads in.
pub(super) mod instant {
    use super::{Deserialize, Deserializer, Error, Serializer, time};

    pub(crate) fn serialize<S: Serializer>(instant_us: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time::format(*instant_us))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let text = String::deserialize(deserializer)?;
        time::parse(&text).ok_or_else(|| Error::custom(format!("{text:?} is not {}", time::WANTED)))
    }
}

/// An instant or null.
pub(super) mod optional_instant {
    use super::{Deserialize, Deserializer, Error, Serializer, time};

    pub(crate) fn serialize<S: Serializer>(instant_us: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
        match instant_us {
            Some(instant_us) => super::instant::serialize(instant_us, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let instant_us = time::parse(&text);
        instant_us.map(Some).ok_or_else(|| Error::custom(format!("{text:?} is not {}", time::WANTED)))
    }
}

/// A float: a number, or a string for what JSON numbers cannot say.
pub(super) mod value {
    use super::{Deserialize, Deserializer, Error, Serializer};
    use crate::data::metrics::special_value;

    pub(crate) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            None => serializer.serialize_none(),
            Some(value) if value.is_nan() => serializer.serialize_str("NaN"),
            Some(value) if value.is_infinite() => serializer.serialize_str(if *value > 0.0 { "+Inf" } else { "-Inf" }),
            Some(value) => serializer.serialize_f64(*value),
        }
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Number(f64),
        Text(String),
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        match Option::<Given>::deserialize(deserializer)? {
            None => Ok(None),
            Some(Given::Number(number)) => Ok(Some(number)),
            Some(Given::Text(text)) => special_value(&text)
                .map(Some)
                .ok_or_else(|| Error::custom(format!("{text:?} is no value: a number, or NaN, +Inf or -Inf"))),
        }
    }
}
