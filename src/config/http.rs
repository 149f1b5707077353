//! The HTTP door: where it listens, its certificate, how much it takes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use highwater_pipeline::server::ServerLimits;
use serde::Deserialize;

use super::{ConfigError, TlsSection};

/// Where the server listens when nothing is said.
const DEFAULT_HTTP_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The HTTP door.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpConfig {
    /// Address and port; port 0 takes a free one (written to `<data_dir>/server.json`).
    pub(crate) listen: SocketAddr,
    /// Certificate and key: with them the door speaks TLS and nothing else.
    pub(crate) tls: Option<TlsSection>,
    /// Let those beyond this machine in without keys.
    pub(crate) allow_insecure: bool,
    /// Bounds on what clients take of this process.
    pub(crate) limits: ServerLimits,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: DEFAULT_HTTP_LISTEN, tls: None, allow_insecure: false, limits: ServerLimits::default() }
    }
}

impl HttpConfig {
    /// Takes relative paths from this folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(tls) = &mut self.tls {
            tls.resolve(folder);
        }
    }

    /// What the types cannot say.
    pub(super) fn check(&self, has_keys: bool) -> Result<(), ConfigError> {
        self.limits.validate().map_err(|(name, what)| ConfigError::in_key(format!("http.limits.{name}"), what))?;
        if let Some(tls) = &self.tls {
            tls.check("http.tls")?;
        }
        not_open("http", self.listen, has_keys, self.allow_insecure)
    }
}

/// Refuses an HTTP door (`section`) that is reached from other machines and asks nobody who they are, unless it was asked for.
pub(super) fn not_open(
    section: &str,
    address: SocketAddr,
    has_keys: bool,
    allow_insecure: bool,
) -> Result<(), ConfigError> {
    if address.ip().is_loopback() || has_keys || allow_insecure {
        return Ok(());
    }
    Err(ConfigError::in_key(
        format!("{section}.listen"),
        format!(
            "{address} is reached from other machines, and the door has no keys (api_keys): whoever reaches it could read and write \
             everything. Set api_keys, listen on 127.0.0.1, or say {section}.allow_insecure: true (--allow-insecure)"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, has_keys: bool) -> Result<(), String> {
        let section: HttpConfig = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
        section.check(has_keys).map_err(|e| e.to_string())
    }

    #[test]
    fn beyond_loopback_it_takes_keys_or_a_word() {
        let open = "listen: 0.0.0.0:8080\n";
        let error = check(open, false).unwrap_err();
        assert!(error.starts_with("http.listen: 0.0.0.0:8080 is reached") && error.contains("api_keys"), "{error}");
        assert!(check(open, true).is_ok());
        assert!(check(&format!("{open}allow_insecure: true"), false).is_ok());
        assert!(check("{}", false).is_ok());
        assert!(check("listen: '[::1]:0'", false).is_ok());
    }

    #[test]
    fn files_and_limits_are_checked() {
        assert!(check("tls: { cert: /nowhere/a.pem, key: b.pem }", false).unwrap_err().starts_with("http.tls.cert: "));
        let zero = check("limits: { max_headers: 0 }", false).unwrap_err();
        assert!(zero.starts_with("http.limits.max_headers: is 0"), "{zero}");
    }
}
