//! TLS of a listening port, by rustls. Certificate, key and the authorities of clients are PEM files; where they change they are read
//! again, so that a renewed certificate needs no restart.
//!
//! The cryptography is ring's, named explicitly: other providers are in the tree, and a process has no default one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that vouch for it, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Authorities, PEM. Where they are named, a client comes in with a certificate that one of them has signed, and not without (mutual TLS).
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// A certificate and its key; clients need none.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { cert: cert.into(), key: key.into(), client_ca: None }
    }

    /// All files, each with what it is called in settings.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let files = [("cert", Some(&self.cert)), ("key", Some(&self.key)), ("client_ca", self.client_ca.as_ref())];
        files.into_iter().filter_map(|(name, file)| Some((name, file?.as_path())))
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the certificate {} with the key {}: {reason}", files.cert.display(), files.key.display())]
pub struct TlsError {
    files: TlsFiles,
    reason: String,
}

/// The certificate of a port, as it is now.
pub struct Tls {
    /// What the port is called in log lines.
    door: &'static str,
    files: TlsFiles,
    /// Protocols inside, in the order of preference; empty for ports that speak one.
    alpn: Vec<Vec<u8>>,
    current: Mutex<Current>,
}

struct Current {
    stamp: Stamp,
    config: Arc<ServerConfig>,
}

/// When the files were written.
type Stamp = [Option<SystemTime>; 3];

impl Tls {
    /// Reads the files. Blocks. `door` is what log lines call the port, `alpn` what is spoken inside.
    ///
    /// # Errors
    /// Where a file cannot be read, or is not what it should be.
    pub fn open(door: &'static str, files: TlsFiles, alpn: &[&str]) -> Result<Self, TlsError> {
        let alpn: Vec<_> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stamp = stamp(&files);
        let config = load(&files, &alpn)?;
        Ok(Self { door, files, alpn, current: Mutex::new(Current { stamp, config }) })
    }

    /// What takes the next connection in. Looks whether the files have changed; where the new ones cannot be used, the old
    /// certificate stays.
    pub fn acceptor(&self) -> TlsAcceptor {
        let stamp = stamp(&self.files);
        let mut current = self.current.lock();
        if current.stamp != stamp {
            // Looked at once per change: a broken file is not read again for every connection.
            current.stamp = stamp;
            if let Err(error) = self.load_into(&mut current) {
                tracing::warn!(door = self.door, %error, "the old certificate stays");
            }
        }
        TlsAcceptor::from(Arc::clone(&current.config))
    }

    /// Reads the files again, changed or not.
    ///
    /// # Errors
    /// Where they cannot be used; the old certificate stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let stamp = stamp(&self.files);
        let mut current = self.current.lock();
        current.stamp = stamp;
        self.load_into(&mut current)
    }

    fn load_into(&self, current: &mut Current) -> Result<(), TlsError> {
        current.config = load(&self.files, &self.alpn)?;
        tracing::info!(door = self.door, cert = %self.files.cert.display(), "certificate read");
        Ok(())
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("door", &self.door).field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let written = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    [written(&files.cert), written(&files.key), files.client_ca.as_deref().and_then(written)]
}

fn load(files: &TlsFiles, alpn: &[Vec<u8>]) -> Result<Arc<ServerConfig>, TlsError> {
    let refuse = |reason: String| TlsError { files: files.clone(), reason };
    let chain = certificates(&files.cert).map_err(refuse)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| refuse(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let in_file = |reason: String| refuse(format!("client_ca {}: {reason}", file.display()));
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file).map_err(in_file)? {
                roots.add(certificate).map_err(|error| in_file(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| in_file(error.to_string()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| refuse(error.to_string()))?;
    config.alpn_protocols = alpn.to_vec();
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err(format!("there is no certificate in {}", file.display()));
    }
    Ok(chain)
}
