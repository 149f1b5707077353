//! The Postgres door: where it listens, and for how many.

use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;

use super::kafka::Listen;
use super::{ConfigError, TlsSection};

/// Where the door listens when nothing is said.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5433);

/// SQL over Postgres's wire protocol.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PgwireSection {
    /// Address and port, or `off`; port 0 takes a free one (written to `<data_dir>/server.json`). Where nothing is said: 127.0.0.1:5433.
    pub(crate) listen: Option<Listen>,
    /// Certificate and key: with them clients may speak TLS, and beyond this machine they have to.
    pub(crate) tls: Option<TlsSection>,
    /// Let clients beyond this machine in without TLS or without keys.
    pub(crate) allow_insecure: bool,
    /// Connections at once.
    pub(crate) max_connections: usize,
}

impl Default for PgwireSection {
    fn default() -> Self {
        Self { listen: None, tls: None, allow_insecure: false, max_connections: 100 }
    }
}

impl PgwireSection {
    /// Where the door is, where there is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        Listen::address(self.listen, DEFAULT_LISTEN)
    }

    /// Takes relative paths from this folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(tls) = &mut self.tls {
            tls.resolve(folder);
        }
    }

    /// What the types cannot say.
    pub(super) fn check(&self, has_keys: bool) -> Result<(), ConfigError> {
        let refuse = |key: &str, what: String| Err(ConfigError::in_key(format!("pgwire.{key}"), what));
        let Some(address) = self.address() else { return Ok(()) };
        if self.max_connections == 0 {
            return refuse("max_connections", "is 0: nobody could come in; pgwire.listen: off closes the door".into());
        }
        if let Some(tls) = &self.tls {
            tls.check("pgwire.tls")?;
        }
        if address.ip().is_loopback() || self.allow_insecure || (self.tls.is_some() && has_keys) {
            return Ok(());
        }
        let missing = if self.tls.is_some() { "keys (api_keys)" } else { "TLS (pgwire.tls)" };
        refuse(
            "listen",
            format!(
                "{address} is reached from other machines, and the door has no {missing}: whoever reaches it could read everything. \
                 Set both pgwire.tls and api_keys, listen on 127.0.0.1, or say pgwire.allow_insecure: true (--allow-insecure)"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str, has_keys: bool) -> Result<PgwireSection, String> {
        let section: PgwireSection = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
        section.check(has_keys).map_err(|e| e.to_string())?;
        Ok(section)
    }

    #[test]
    fn the_door_is_open_on_loopback_unless_told_otherwise() {
        assert_eq!(parse("{}", false).unwrap().address(), Some(DEFAULT_LISTEN));
        assert_eq!(parse("listen: off", false).unwrap().address(), None);
        assert_eq!(parse("listen: 127.0.0.1:0", false).unwrap().address(), Some(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert!(parse("max_connections: 0", false).unwrap_err().contains("pgwire.max_connections"));
        assert!(parse("tls: { cert: /nowhere/a, key: /nowhere/b }", false).unwrap_err().contains("pgwire.tls.cert"));
    }

    #[test]
    fn beyond_loopback_it_takes_tls_and_keys_or_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("pem");
        std::fs::write(&pem, "").unwrap();
        let tls = format!("tls: {{ cert: {0}, key: {0} }}", pem.display());
        let open = "listen: 0.0.0.0:5433\n";
        assert!(parse(open, true).unwrap_err().contains("no TLS (pgwire.tls)"));
        assert!(parse(&format!("{open}{tls}"), false).unwrap_err().contains("no keys (api_keys)"));
        assert!(parse(&format!("{open}{tls}"), true).is_ok());
        assert!(parse(&format!("{open}allow_insecure: true"), false).is_ok());
    }
}
