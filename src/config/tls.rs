//! The certificate of a port.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    /// The certificate and those that vouch for it, PEM.
    pub(crate) cert: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
    /// Authorities whose certificates clients must show, PEM; none by default.
    #[serde(default)]
    pub(crate) client_ca: Option<PathBuf>,
}

impl TlsSection {
    /// The files.
    pub(crate) fn files(&self) -> highwater_broker::tls::TlsFiles {
        highwater_broker::tls::TlsFiles {
            cert: self.cert.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
        }
    }

    /// Takes relative paths from this folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        for file in [&mut self.cert, &mut self.key].into_iter().chain(&mut self.client_ca) {
            *file = folder.join(&*file);
        }
    }

    /// Sees whether the files can be read. `section` is where they are named, such as `kafka.tls`.
    pub(super) fn check(&self, section: &str) -> Result<(), ConfigError> {
        for (name, file) in self.files().named() {
            if let Err(error) = std::fs::File::open(file) {
                return Err(ConfigError::in_key(
                    format!("{section}.{name}"),
                    format!("cannot read {}: {error}", file.display()),
                ));
            }
        }
        Ok(())
    }
}
