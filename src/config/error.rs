//! Errors of the configuration: always with the place a person must look at.

/// Something in the configuration is wrong; nothing was started or changed.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub(crate) struct ConfigError {
    place: String,
    message: String,
}

impl ConfigError {
    /// A mistake on a known line of a file.
    pub(crate) fn at(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { place: format!("{file}:{line}"), message: message.into() }
    }

    /// A mistake in a setting whose line is not known, named by its key (`rollups[0].sql`) or flag.
    pub(crate) fn in_key(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: key.into(), message: message.into() }
    }

    /// A mistake that names its place itself.
    pub(crate) fn said(message: impl Into<String>) -> Self {
        let message = message.into();
        match message.split_once(": ") {
            Some((place, rest)) => Self { place: place.to_owned(), message: rest.to_owned() },
            None => Self { place: "config".to_owned(), message },
        }
    }

    /// What the YAML parser says, with file, line and column in front.
    pub(crate) fn yaml(file: &str, error: &serde_saphyr::Error) -> Self {
        let plain = error.without_snippet();
        let place = match plain.location() {
            Some(at) if at.line() > 0 => format!("{file}:{}:{}", at.line(), at.column()),
            _ => file.to_owned(),
        };
        Self { place, message: plain.to_string() }
    }
}
