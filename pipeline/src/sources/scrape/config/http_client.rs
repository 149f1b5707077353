//! How targets are asked: logins, TLS, proxies, redirects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use super::units::{Hidden, Text};

/// `basic_auth`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuth {
    /// The name.
    pub username: Option<Text>,
    /// Or the file that has it.
    pub username_file: Option<PathBuf>,
    /// The password.
    pub password: Option<Hidden>,
    /// Or the file that has it, read at every request.
    pub password_file: Option<PathBuf>,
}

/// `authorization`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// `Bearer` where nothing is said.
    #[serde(rename = "type")]
    pub scheme: Option<String>,
    /// What follows it.
    pub credentials: Option<Hidden>,
    /// Or the file that has it, read at every request.
    pub credentials_file: Option<PathBuf>,
}

/// `tls_config`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Authorities in place of the system's, PEM.
    pub ca: Option<String>,
    /// Or the file that has them.
    pub ca_file: Option<PathBuf>,
    /// A certificate to show, PEM.
    pub cert: Option<String>,
    /// Or the file that has it.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<Hidden>,
    /// Or the file that has it.
    pub key_file: Option<PathBuf>,
    /// The name that the target's certificate has, where it is not that of its address.
    pub server_name: Option<String>,
    /// Believes any certificate.
    pub insecure_skip_verify: bool,
    /// `TLS12` or `TLS13`.
    pub min_version: Option<String>,
    /// `TLS12` or `TLS13`.
    pub max_version: Option<String>,
}

/// A header that is added: its values are all of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpHeader {
    /// Values.
    pub values: Vec<Text>,
    /// Values that are secret.
    pub secrets: Vec<Hidden>,
    /// Files that have one value each.
    pub files: Vec<PathBuf>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpClientConfig {
    /// Name and password.
    pub basic_auth: Option<BasicAuth>,
    /// Something else in `Authorization`.
    pub authorization: Option<Authorization>,
    /// Certificates.
    pub tls_config: TlsConfig,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 may be spoken.
    pub enable_http2: bool,
    /// Headers to add.
    pub http_headers: BTreeMap<String, HttpHeader>,
    /// A proxy.
    pub proxy_url: Option<String>,
    /// Addresses that are reached without it.
    pub no_proxy: Option<String>,
    /// Whether the environment says which proxy.
    pub proxy_from_environment: bool,
}

/// The keys of it, as they stand among the others of a job or a discovery.
pub(super) struct HttpKeys<'a> {
    pub(super) basic_auth: Option<&'a BasicAuth>,
    pub(super) authorization: Option<&'a Authorization>,
    pub(super) bearer_token: Option<&'a Hidden>,
    pub(super) bearer_token_file: Option<&'a PathBuf>,
    pub(super) tls_config: &'a TlsConfig,
    pub(super) follow_redirects: Option<bool>,
    pub(super) enable_http2: Option<bool>,
    pub(super) http_headers: &'a BTreeMap<String, HttpHeader>,
    pub(super) proxy_url: Option<&'a String>,
    pub(super) no_proxy: Option<&'a String>,
    pub(super) proxy_from_environment: bool,
}

impl HttpClientConfig {
    /// Fills in defaults, checks, and takes relative paths from this folder.
    pub(super) fn new(keys: HttpKeys<'_>, folder: &Path) -> Result<Self, ConfigError> {
        let bearer = match (keys.bearer_token, keys.bearer_token_file) {
            (None, None) => None,
            (Some(_), Some(_)) => return Err("at most one of bearer_token and bearer_token_file".into()),
            (token, file) => {
                Some(Authorization { scheme: None, credentials: token.cloned(), credentials_file: file.cloned() })
            }
        };
        if bearer.is_some() && keys.authorization.is_some() {
            return Err("at most one of authorization, bearer_token and bearer_token_file".into());
        }
        let mut config = Self {
            basic_auth: keys.basic_auth.cloned(),
            authorization: keys.authorization.cloned().or(bearer),
            tls_config: keys.tls_config.clone(),
            follow_redirects: keys.follow_redirects.unwrap_or(true),
            enable_http2: keys.enable_http2.unwrap_or(true),
            http_headers: keys.http_headers.clone(),
            proxy_url: keys.proxy_url.cloned().filter(|url| !url.is_empty()),
            no_proxy: keys.no_proxy.cloned(),
            proxy_from_environment: keys.proxy_from_environment,
        };
        config.check()?;
        config.resolve(folder);
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if let Some(basic) = &self.basic_auth {
            if basic.username.is_some() && basic.username_file.is_some() {
                return Err("basic_auth: at most one of username and username_file".into());
            }
            if basic.password.is_some() && basic.password_file.is_some() {
                return Err("basic_auth: at most one of password and password_file".into());
            }
            if self.authorization.is_some() {
                return Err("at most one of basic_auth, authorization, bearer_token and bearer_token_file".into());
            }
        }
        if let Some(authorization) = &self.authorization {
            if authorization.credentials.is_some() && authorization.credentials_file.is_some() {
                return Err("authorization: at most one of credentials and credentials_file".into());
            }
            if authorization.scheme.as_deref().is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("basic")) {
                return Err("authorization: type cannot be basic; use basic_auth".into());
            }
        }
        let tls = &self.tls_config;
        for (one, other, names) in [
            (tls.ca.is_some(), tls.ca_file.is_some(), "ca and ca_file"),
            (tls.cert.is_some(), tls.cert_file.is_some(), "cert and cert_file"),
            (tls.key.is_some(), tls.key_file.is_some(), "key and key_file"),
        ] {
            if one && other {
                return Err(format!("tls_config: at most one of {names}").into());
            }
        }
        let (has_cert, has_key) =
            (tls.cert.is_some() || tls.cert_file.is_some(), tls.key.is_some() || tls.key_file.is_some());
        if has_cert != has_key {
            return Err("tls_config: a client's certificate and its key come together".into());
        }
        for version in [&tls.min_version, &tls.max_version].into_iter().flatten() {
            if !["TLS10", "TLS11", "TLS12", "TLS13"].contains(&version.as_str()) {
                return Err(format!("tls_config: unknown TLS version {version:?}").into());
            }
        }
        if self.proxy_from_environment && self.proxy_url.is_some() {
            return Err("at most one of proxy_url and proxy_from_environment".into());
        }
        Ok(())
    }

    /// Takes relative paths from this folder.
    fn resolve(&mut self, folder: &Path) {
        let tls = &mut self.tls_config;
        let basic = self.basic_auth.iter_mut().flat_map(|basic| [&mut basic.username_file, &mut basic.password_file]);
        let authorization = self.authorization.iter_mut().map(|authorization| &mut authorization.credentials_file);
        let files = [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file];
        for file in files.into_iter().chain(basic).chain(authorization).flatten() {
            *file = folder.join(&*file);
        }
        for file in self.http_headers.values_mut().flat_map(|header| &mut header.files) {
            *file = folder.join(&*file);
        }
    }
}
