//! Secrets: written out, in a file, or in the environment.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where a secret is. In YAML either the text itself, or `{file: PATH}`, or `{env: NAME}`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Secret {
    Text(String),
    File { file: PathBuf },
    Env { env: String },
}

/// Shows that there is one, and no more.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Secret(..)"),
            Self::File { file } => write!(f, "Secret(file {})", file.display()),
            Self::Env { env } => write!(f, "Secret(env {env})"),
        }
    }
}

impl Secret {
    /// The secret. Relative paths are taken from `folder`.
    pub(super) fn read(&self, folder: &Path) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File { file } => {
                let path = folder.join(file);
                let text = std::fs::read_to_string(&path);
                text.map(|text| text.trim().to_owned()).map_err(|e| format!("cannot read {}: {e}", path.display()))
            }
            Self::Env { env } => std::env::var(env).map_err(|_| format!("the environment has no {env}")),
        }
    }
}
