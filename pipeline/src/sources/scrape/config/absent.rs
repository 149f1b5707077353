//! Keys of Prometheus that are not there: said in their place, where a key that nobody knows would be taken for a typing error.

use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The value of a key that Prometheus has and Highwater has not. What says nothing (`false`, 0, an empty list) is taken; anything else is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Absent;

/// The same, for other ways to find targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NoDiscovery;

const ABSENT: &str = "this key of Prometheus is not there in Highwater: leave it out";
const NO_DISCOVERY: &str = "this discovery of Prometheus is not there in Highwater: a list of the same targets can come from file_sd_configs, http_sd_configs or dns_sd_configs";

impl<'de> Deserialize<'de> for Absent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nothing(ABSENT)).map(|()| Self)
    }
}

impl<'de> Deserialize<'de> for NoDiscovery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nothing(NO_DISCOVERY)).map(|()| Self)
    }
}

/// Takes what says nothing.
struct Nothing(&'static str);

impl Nothing {
    fn only<E: de::Error>(&self, says_nothing: bool) -> Result<(), E> {
        if says_nothing { Ok(()) } else { Err(E::custom(self.0)) }
    }
}

impl<'de> Visitor<'de> for Nothing {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.only(!value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.only(value == 0)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.only(value == 0)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.only(value == 0.0)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.only(value.is_empty())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let first = values.next_element::<IgnoredAny>()?;
        self.only(first.is_none())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let first = entries.next_entry::<IgnoredAny, IgnoredAny>()?;
        self.only(first.is_none())
    }
}
