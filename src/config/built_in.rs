//! `built_in_rollups`: `true` (all, the default), `false` (none), or a list of names.

use highwater_processors::rollups::built_in_names;
use serde::Deserialize;

use super::ConfigError;

/// Which of the built-in rollups run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum BuiltInRollups {
    /// All, or none.
    All(bool),
    /// These.
    Named(Vec<String>),
}

impl Default for BuiltInRollups {
    fn default() -> Self {
        Self::All(true)
    }
}

impl BuiltInRollups {
    /// Whether the one of this name runs.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::All(all) => *all,
            Self::Named(names) => names.iter().any(|named| named == name),
        }
    }

    /// What the type cannot say.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Self::Named(names) = self else { return Ok(()) };
        match names.iter().find(|name| !built_in_names().any(|known| known == *name)) {
            None => Ok(()),
            Some(unknown) => Err(ConfigError::in_key(
                "built_in_rollups",
                format!("there is no `{unknown}`; there are {}", built_in_names().collect::<Vec<_>>().join(", ")),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(text: &str) -> BuiltInRollups {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn all_none_or_some() {
        assert!(BuiltInRollups::default().has("metrics_1m"));
        assert!(!parse("false").has("metrics_1m"));
        let some = parse("[log_volume_1m]");
        assert!(some.has("log_volume_1m") && !some.has("metrics_1m"));
        some.check().unwrap();
        assert!(parse("[log_volume]").check().unwrap_err().to_string().contains("there are log_volume_1m"));
    }
}
