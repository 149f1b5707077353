//! OTLP's own ports: gRPC and HTTP. (OTLP over HTTP comes in at the main port, too.)

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use highwater_pipeline::server::ServerLimits;
use serde::Deserialize;

use super::http::not_open;
use super::{ConfigError, Listen, TlsSection};

/// Where the ports are when nothing is said: those that OpenTelemetry gives them.
const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;

/// Both ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OtlpSection {
    /// OTLP/gRPC.
    pub(crate) grpc: OtlpPort,
    /// OTLP/HTTP.
    pub(crate) http: OtlpPort,
}

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OtlpPort {
    /// Address and port, or `off`; port 0 takes a free one (written to `<data_dir>/server.json`).
    pub(crate) listen: Option<Listen>,
    /// Certificate and key: with them the port speaks TLS and nothing else.
    pub(crate) tls: Option<TlsSection>,
    /// Let those beyond this machine in without keys.
    pub(crate) allow_insecure: bool,
    /// Bounds on what clients take of this process.
    pub(crate) limits: ServerLimits,
}

impl OtlpSection {
    /// Where gRPC is, if anywhere.
    pub(crate) fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.address(GRPC_PORT)
    }

    /// Where HTTP is, if anywhere.
    pub(crate) fn http_address(&self) -> Option<SocketAddr> {
        self.http.address(HTTP_PORT)
    }

    /// Takes relative paths from this folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        for tls in [&mut self.grpc.tls, &mut self.http.tls].into_iter().flatten() {
            tls.resolve(folder);
        }
    }

    /// What the types cannot say.
    pub(super) fn check(&self, has_keys: bool) -> Result<(), ConfigError> {
        self.grpc.check("otlp.grpc", self.grpc_address(), has_keys)?;
        self.http.check("otlp.http", self.http_address(), has_keys)
    }
}

impl OtlpPort {
    fn address(&self, port: u16) -> Option<SocketAddr> {
        Listen::address(self.listen, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    fn check(&self, section: &str, address: Option<SocketAddr>, has_keys: bool) -> Result<(), ConfigError> {
        let Some(address) = address else { return Ok(()) };
        let limits = self.limits.validate();
        limits.map_err(|(name, what)| ConfigError::in_key(format!("{section}.limits.{name}"), what))?;
        if let Some(tls) = &self.tls {
            tls.check(&format!("{section}.tls"))?;
        }
        not_open(section, address, has_keys, self.allow_insecure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(yaml: &str) -> OtlpSection {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn its_ports_are_those_of_opentelemetry_unless_they_are_off() {
        let section_of = section("{ grpc: { listen: off }, http: { listen: 127.0.0.1:0 } }");
        assert_eq!((section_of.grpc_address(), section_of.http_address().unwrap().port()), (None, 0));
        let default = OtlpSection::default();
        assert_eq!(default.grpc_address().unwrap().to_string(), "127.0.0.1:4317");
        assert_eq!(default.http_address().unwrap().to_string(), "127.0.0.1:4318");
    }

    #[test]
    fn beyond_loopback_they_take_keys_or_a_word() {
        let open = section("{ grpc: { listen: 0.0.0.0:4317 } }");
        let error = open.check(false).unwrap_err().to_string();
        assert!(error.starts_with("otlp.grpc.listen: 0.0.0.0:4317 is reached"), "{error}");
        assert!(open.check(true).is_ok());
        assert!(section("{ grpc: { listen: 0.0.0.0:4317, allow_insecure: true } }").check(false).is_ok());
        let zero = section("{ http: { limits: { max_streams: 0 } } }").check(false).unwrap_err().to_string();
        assert!(zero.starts_with("otlp.http.limits.max_streams: is 0"), "{zero}");
    }
}
