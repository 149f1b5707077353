//! Which names metrics and labels may have, and how targets are asked to write those that are not plain.

use serde::Deserialize;

use super::ConfigError;

/// Which names are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Validation {
    /// As a level above says; any UTF-8 where none does.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// Any UTF-8.
    #[serde(rename = "utf8")]
    Utf8,
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*` for metrics, the same without colons for labels.
    #[serde(rename = "legacy")]
    Legacy,
}

/// How a target is asked to write names that are not plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Escaping {
    /// As they are.
    #[serde(rename = "allow-utf-8")]
    AllowUtf8,
    /// `_` in place of what is not plain.
    Underscores,
    /// `_dot_` in place of a dot, and so on.
    Dots,
    /// `U__`, and code points in place of what is not plain.
    Values,
}

impl Escaping {
    /// As in the header `Accept`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}

/// Both, with defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// Only plain names are taken.
    pub legacy: bool,
    /// What is asked for.
    pub escaping: Escaping,
}

/// What a job, or the level above it, says.
type Written = (Validation, Option<Escaping>);

/// What holds where the level above says this. An escaping from above is of use only to those who validate as it does.
pub(super) fn inherit(own: Written, above: Written) -> Written {
    let validation = if own.0 == Validation::Unset { above.0 } else { own.0 };
    let escaping = own.1.or(above.1.filter(|_| validation == above.0));
    (validation, escaping)
}

impl Names {
    pub(super) fn new(validation: Validation, escaping: Option<Escaping>) -> Result<Self, ConfigError> {
        let legacy = validation == Validation::Legacy;
        let default = if legacy { Escaping::Underscores } else { Escaping::AllowUtf8 };
        let escaping = escaping.unwrap_or(default);
        if legacy && escaping == Escaping::AllowUtf8 {
            return Err(
                "metric_name_escaping_scheme: allow-utf-8 needs metric_name_validation_scheme utf8, not legacy".into(),
            );
        }
        Ok(Self { legacy, escaping })
    }

    /// True for a name that a metric may have.
    pub fn allow_metric(self, name: &str) -> bool {
        !self.legacy || is_plain(name, true)
    }

    /// True for a name that a label may have.
    pub fn allow_label(self, name: &str) -> bool {
        !self.legacy || is_plain(name, false)
    }
}

fn is_plain(name: &str, colons: bool) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && name.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_validates_as_it_says_or_as_the_level_above() {
        let (unset, utf8, legacy) = (Validation::Unset, Validation::Utf8, Validation::Legacy);
        for (own, above, expected) in [
            ((unset, None), (unset, None), (false, Escaping::AllowUtf8)),
            ((unset, None), (legacy, None), (true, Escaping::Underscores)),
            ((unset, None), (legacy, Some(Escaping::Values)), (true, Escaping::Values)),
            ((utf8, None), (legacy, Some(Escaping::Values)), (false, Escaping::AllowUtf8)),
            ((legacy, Some(Escaping::Dots)), (utf8, None), (true, Escaping::Dots)),
        ] {
            let (validation, escaping) = inherit(own, above);
            let names = Names::new(validation, escaping).unwrap();
            assert_eq!((names.legacy, names.escaping), expected, "{own:?} {above:?}");
        }
        assert!(Names::new(legacy, Some(Escaping::AllowUtf8)).is_err());
    }

    #[test]
    fn plain_names_are_those_of_old() {
        let legacy = Names::new(Validation::Legacy, None).unwrap();
        for (name, metric, label) in [
            ("a:b_9", true, false),
            ("a_b", true, true),
            ("9a", false, false),
            ("a.b", false, false),
            ("", false, false),
        ] {
            assert_eq!((legacy.allow_metric(name), legacy.allow_label(name)), (metric, label), "{name}");
        }
        assert!(Names::new(Validation::Utf8, None).unwrap().allow_metric("a.b ü"));
    }
}
