//! Mappings as they stand in a config file.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

/// Something is wrong with a mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mappings.{place}: {message}")]
pub struct MappingError {
    /// Which, and where in it.
    pub place: String,
    /// What.
    pub message: String,
}

/// One mapping. Texts are templates: `{name}` is the member of that name, `{a.b}` that of an object in it, `{{` a brace.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MappingConfig {
    /// Fields of the log entry, by the names that `POST /logs` knows; others are attributes. What comes out empty is left out.
    pub log: BTreeMap<String, Field>,
    /// Members that are left out of the log entry.
    pub drop: Vec<String>,
    /// Samples.
    pub metrics: Vec<MetricConfig>,
}

/// A template, or one whose text is looked up.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// As it comes out.
    Text(String),
    /// By a table.
    Choice {
        /// The template.
        of: String,
        /// What each text stands for.
        when: BTreeMap<String, String>,
        /// What any other stands for; left out where nothing is said.
        otherwise: Option<String>,
    },
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Choice {
            of: String,
            when: BTreeMap<String, String>,
            #[serde(default, rename = "else")]
            otherwise: Option<String>,
        }
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Field;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text such as \"{member}\", or { of: \"{member}\", when: { text: text } }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Field, E> {
                Ok(Field::Text(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Field, A::Error> {
                let Choice { of, when, otherwise } = Choice::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Field::Choice { of, when, otherwise })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A metric of a mapping.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricConfig {
    /// Its name.
    pub name: String,
    /// counter, gauge, histogram or summary; `gauge` where nothing is said.
    #[serde(default = "default_kind")]
    pub kind: String,
    /// Its value; an object without it makes no sample.
    pub value: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn default_kind() -> String {
    "gauge".to_owned()
}
