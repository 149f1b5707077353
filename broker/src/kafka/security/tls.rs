//! TLS, by rustls. Certificate and key are PEM files; where they change they are read again, so that a renewed certificate needs no restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that vouch for it, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the certificate {} with the key {}: {reason}", files.cert.display(), files.key.display())]
pub struct TlsError {
    files: TlsFiles,
    reason: String,
}

/// The certificate in use.
pub(in crate::kafka) struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    stamp: Stamp,
    config: Arc<ServerConfig>,
}

/// When the files were written: certificate, key.
type Stamp = (Option<SystemTime>, Option<SystemTime>);

impl Tls {
    /// Reads the files. Blocks.
    pub(in crate::kafka) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let stamp = stamp(&files);
        let config = load(&files)?;
        Ok(Self { files, current: Mutex::new(Current { stamp, config }) })
    }

    /// What takes the next connection in. Looks whether the files have changed; where the new ones cannot be used, the old
    /// certificate stays.
    pub(in crate::kafka) fn acceptor(&self) -> TlsAcceptor {
        let stamp = stamp(&self.files);
        let mut current = self.current.lock();
        if current.stamp != stamp {
            // Looked at once per change: a broken file is not read again for every connection.
            current.stamp = stamp;
            match load(&self.files) {
                Ok(config) => {
                    current.config = config;
                    tracing::info!(cert = %self.files.cert.display(), "the Kafka door has a new certificate");
                }
                Err(error) => tracing::warn!(%error, "the Kafka door keeps its old certificate"),
            }
        }
        TlsAcceptor::from(Arc::clone(&current.config))
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let written = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    (written(&files.cert), written(&files.key))
}

fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let refuse = |reason: String| TlsError { files: files.clone(), reason };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refuse(error.to_string()))?;
    if chain.is_empty() {
        return Err(refuse("there is no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| refuse(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| refuse(error.to_string()))?;
    Ok(Arc::new(config))
}
