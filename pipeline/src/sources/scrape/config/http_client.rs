//! How targets are asked: logins, TLS, proxies, redirects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use super::oauth2::OAuth2;
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
    /// Or a token that a server gives out.
    pub oauth2: Option<OAuth2>,
    /// Certificates.
    pub tls_config: TlsConfig,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 may be spoken.
    pub enable_http2: bool,
    /// Headers to add.
    pub http_headers: BTreeMap<String, HttpHeader>,
    /// Through whom.
    pub proxy: ProxyConfig,
}

/// Headers that requests have anyway, or that say who asks: they are not for `http_headers`.
const RESERVED_HEADERS: [&str; 18] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "user-agent",
    "www-authenticate",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-prometheus-remote-read-version",
    "x-prometheus-remote-write-version",
    "x-prometheus-scrape-timeout-seconds",
];

/// Through whom targets are asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyConfig {
    /// A proxy.
    pub url: Option<String>,
    /// Addresses that are reached without it.
    pub except: Option<String>,
    /// Whether the environment says which proxy.
    pub from_environment: bool,
    /// Headers of the proxy's own.
    pub connect_header: BTreeMap<String, Vec<Hidden>>,
}

/// Adds the keys of an HTTP client to those of a job or a discovery: YAML has them side by side.
macro_rules! with_http_keys {
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident { $($(#[$about_key:meta])* $key:ident: $kind:ty,)* }
    ) => {
        $(#[$about])*
        $vis struct $name {
            $($(#[$about_key])* $key: $kind,)*
            #[serde(default)]
            basic_auth: Option<$crate::sources::scrape::config::BasicAuth>,
            #[serde(default)]
            authorization: Option<$crate::sources::scrape::config::Authorization>,
            #[serde(default)]
            oauth2: Option<$crate::sources::scrape::config::OAuth2>,
            #[serde(default)]
            bearer_token: Option<$crate::sources::scrape::config::Hidden>,
            #[serde(default)]
            bearer_token_file: Option<std::path::PathBuf>,
            #[serde(default)]
            tls_config: $crate::sources::scrape::config::TlsConfig,
            #[serde(default)]
            follow_redirects: Option<bool>,
            #[serde(default)]
            enable_http2: Option<bool>,
            #[serde(default)]
            http_headers: std::collections::BTreeMap<String, $crate::sources::scrape::config::HttpHeader>,
            #[serde(default)]
            proxy_url: Option<String>,
            #[serde(default)]
            no_proxy: Option<String>,
            #[serde(default)]
            proxy_from_environment: bool,
            #[serde(default)]
            proxy_connect_header: std::collections::BTreeMap<String, Vec<$crate::sources::scrape::config::Hidden>>,
        }

        impl $name {
            fn http(
                &self,
                folder: &std::path::Path,
            ) -> Result<$crate::sources::scrape::config::HttpClientConfig, $crate::sources::scrape::config::ConfigError>
            {
                let keys = $crate::sources::scrape::config::http_client::HttpKeys {
                    basic_auth: self.basic_auth.as_ref(),
                    authorization: self.authorization.as_ref(),
                    oauth2: self.oauth2.as_ref(),
                    bearer_token: self.bearer_token.as_ref(),
                    bearer_token_file: self.bearer_token_file.as_ref(),
                    tls_config: &self.tls_config,
                    follow_redirects: self.follow_redirects,
                    enable_http2: self.enable_http2,
                    http_headers: &self.http_headers,
                    proxy: $crate::sources::scrape::config::ProxyConfig {
                        url: self.proxy_url.clone(),
                        except: self.no_proxy.clone(),
                        from_environment: self.proxy_from_environment,
                        connect_header: self.proxy_connect_header.clone(),
                    },
                };
                $crate::sources::scrape::config::HttpClientConfig::new(keys, folder)
            }
        }
    };
}
pub(super) use with_http_keys;

/// The keys of it, as they stand among the others of a job or a discovery.
pub(super) struct HttpKeys<'a> {
    pub(super) basic_auth: Option<&'a BasicAuth>,
    pub(super) authorization: Option<&'a Authorization>,
    pub(super) oauth2: Option<&'a OAuth2>,
    pub(super) bearer_token: Option<&'a Hidden>,
    pub(super) bearer_token_file: Option<&'a PathBuf>,
    pub(super) tls_config: &'a TlsConfig,
    pub(super) follow_redirects: Option<bool>,
    pub(super) enable_http2: Option<bool>,
    pub(super) http_headers: &'a BTreeMap<String, HttpHeader>,
    pub(super) proxy: ProxyConfig,
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
            return Err("at most one of basic_auth, authorization, oauth2, bearer_token and bearer_token_file".into());
        }
        let mut config = Self {
            basic_auth: keys.basic_auth.cloned(),
            authorization: keys.authorization.cloned().or(bearer),
            oauth2: keys.oauth2.map(|oauth2| oauth2.resolve(folder)).transpose()?,
            tls_config: keys.tls_config.clone(),
            follow_redirects: keys.follow_redirects.unwrap_or(true),
            enable_http2: keys.enable_http2.unwrap_or(true),
            http_headers: keys.http_headers.clone(),
            proxy: keys.proxy.check()?,
        };
        config.check()?;
        config.resolve(folder);
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let logins = [self.basic_auth.is_some(), self.authorization.is_some(), self.oauth2.is_some()];
        if logins.into_iter().filter(|there| *there).count() > 1 {
            return Err("at most one of basic_auth, authorization, oauth2, bearer_token and bearer_token_file".into());
        }
        if let Some(basic) = &self.basic_auth {
            if basic.username.is_some() && basic.username_file.is_some() {
                return Err("basic_auth: at most one of username and username_file".into());
            }
            if basic.password.is_some() && basic.password_file.is_some() {
                return Err("basic_auth: at most one of password and password_file".into());
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
        self.tls_config.check()?;
        for name in self.http_headers.keys() {
            check_header("http_headers", name)?;
            if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(format!("http_headers: {name} is set otherwise, and cannot be set here").into());
            }
        }
        Ok(())
    }

    /// Takes relative paths from this folder.
    fn resolve(&mut self, folder: &Path) {
        let basic = self.basic_auth.iter_mut().flat_map(|basic| [&mut basic.username_file, &mut basic.password_file]);
        let authorization = self.authorization.iter_mut().map(|authorization| &mut authorization.credentials_file);
        for file in basic.chain(authorization).flatten() {
            *file = folder.join(&*file);
        }
        self.tls_config.resolve(folder);
        for file in self.http_headers.values_mut().flat_map(|header| &mut header.files) {
            *file = folder.join(&*file);
        }
    }
}

impl TlsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (one, other, names) in [
            (self.ca.is_some(), self.ca_file.is_some(), "ca and ca_file"),
            (self.cert.is_some(), self.cert_file.is_some(), "cert and cert_file"),
            (self.key.is_some(), self.key_file.is_some(), "key and key_file"),
        ] {
            if one && other {
                return Err(format!("tls_config: at most one of {names}").into());
            }
        }
        let (has_cert, has_key) =
            (self.cert.is_some() || self.cert_file.is_some(), self.key.is_some() || self.key_file.is_some());
        if has_cert != has_key {
            return Err("tls_config: a client's certificate and its key come together".into());
        }
        for version in [&self.min_version, &self.max_version].into_iter().flatten() {
            if !["TLS10", "TLS11", "TLS12", "TLS13"].contains(&version.as_str()) {
                return Err(format!("tls_config: unknown TLS version {version:?}").into());
            }
        }
        Ok(())
    }

    /// Takes relative paths from this folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        for file in [&mut self.ca_file, &mut self.cert_file, &mut self.key_file].into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
}

impl ProxyConfig {
    /// The same, where it makes sense.
    pub(super) fn check(mut self) -> Result<Self, ConfigError> {
        self.url = self.url.filter(|url| !url.is_empty());
        self.except = self.except.filter(|except| !except.is_empty());
        if self.from_environment && self.url.is_some() {
            return Err("at most one of proxy_url and proxy_from_environment".into());
        }
        if self.from_environment && self.except.is_some() {
            return Err("no_proxy goes with proxy_url; with proxy_from_environment the environment says it".into());
        }
        if self.url.is_none() && !self.from_environment {
            if self.except.is_some() {
                return Err("no_proxy needs a proxy_url".into());
            }
            if !self.connect_header.is_empty() {
                return Err("proxy_connect_header needs a proxy_url".into());
            }
        }
        if self.from_environment && !self.connect_header.is_empty() {
            return Err("proxy_connect_header goes with proxy_url, and not with proxy_from_environment".into());
        }
        for name in self.connect_header.keys() {
            check_header("proxy_connect_header", name)?;
        }
        if let Some(url) = &self.url {
            let parsed = url::Url::parse(url).map_err(|error| format!("proxy_url {url:?}: {error}"))?;
            if !["http", "https"].contains(&parsed.scheme()) || !parsed.has_host() {
                return Err(format!("proxy_url {url:?}: write http://host:port or https://host:port").into());
            }
        }
        Ok(self)
    }
}

fn check_header(key: &str, name: &str) -> Result<(), ConfigError> {
    let good = reqwest::header::HeaderName::from_bytes(name.as_bytes());
    good.map(drop).map_err(|_| format!("{key}: {name:?} is not the name of a header").into())
}
