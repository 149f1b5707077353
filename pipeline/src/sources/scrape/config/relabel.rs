//! One rule of `relabel_configs` or `metric_relabel_configs`, as it is written down.

use serde::Deserialize;

use super::units::Text;

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Sets the target label to the replacement, where the regex matches.
    #[default]
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops what is not equal to the target label.
    KeepEqual,
    /// Drops what is equal to the target label.
    DropEqual,
    /// Sets the target label to a hash of the source modulo a number.
    HashMod,
    /// Copies labels whose names match to the names that the replacement makes.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets the target label to the source in lower case.
    Lowercase,
    /// Sets the target label to the source in upper case.
    Uppercase,
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(match name.to_lowercase().as_str() {
            "replace" => Self::Replace,
            "keep" => Self::Keep,
            "drop" => Self::Drop,
            "keepequal" => Self::KeepEqual,
            "dropequal" => Self::DropEqual,
            "hashmod" => Self::HashMod,
            "labelmap" => Self::LabelMap,
            "labeldrop" => Self::LabelDrop,
            "labelkeep" => Self::LabelKeep,
            "lowercase" => Self::Lowercase,
            "uppercase" => Self::Uppercase,
            _ => return Err(serde::de::Error::custom(format!("unknown relabel action {name:?}"))),
        })
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelabelConfig {
    /// Whose values are joined to what the regex is matched with.
    pub source_labels: Option<Vec<String>>,
    /// What stands between them; `;` where nothing is said.
    pub separator: Option<Text>,
    /// Whole values match it, or do not; `(.*)` where nothing is said.
    pub regex: Option<Text>,
    /// For `hashmod`.
    pub modulus: Option<u64>,
    /// What is set, or compared with.
    pub target_label: Option<String>,
    /// With `$1` and `${name}` for groups; `$1` where nothing is said.
    pub replacement: Option<Text>,
    /// What is done.
    pub action: Action,
}
