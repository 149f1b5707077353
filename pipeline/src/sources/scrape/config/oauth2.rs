//! `oauth2`: a token that a server gives out for the name and secret of a client.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use super::http_client::{ProxyConfig, TlsConfig};
use super::units::{Hidden, Text};
use super::{Absent, ConfigError};

/// What is asked for where nothing else is said.
const CLIENT_CREDENTIALS: &str = "client_credentials";

/// `oauth2`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OAuth2 {
    /// The client's name.
    pub client_id: Text,
    /// Its secret.
    pub client_secret: Option<Hidden>,
    /// Or the file that has it, read for every token.
    pub client_secret_file: Option<PathBuf>,
    /// What the token is to be good for.
    pub scopes: Vec<Text>,
    /// Who gives it out.
    pub token_url: String,
    /// More that is said to them.
    pub endpoint_params: BTreeMap<String, Text>,
    /// How they are believed.
    pub tls_config: TlsConfig,
    grant_type: Option<String>,
    proxy_url: Option<String>,
    no_proxy: Option<String>,
    proxy_from_environment: bool,
    proxy_connect_header: BTreeMap<String, Vec<Hidden>>,
    /// Keys of the other way to ask, with a signed statement.
    #[serde(
        rename = "client_certificate_key",
        alias = "client_certificate_key_id",
        alias = "client_certificate_key_file",
        alias = "signature_algorithm",
        alias = "iss",
        alias = "audience",
        alias = "claims"
    )]
    signed: Absent,
    /// Through whom they are asked.
    #[serde(skip)]
    pub proxy: ProxyConfig,
}

impl OAuth2 {
    /// Checks it, and takes relative paths from this folder.
    pub(super) fn resolve(&self, folder: &Path) -> Result<Self, ConfigError> {
        if self.client_id.0.is_empty() {
            return Err("oauth2: client_id is missing".into());
        }
        if self.client_secret.is_some() && self.client_secret_file.is_some() {
            return Err("oauth2: at most one of client_secret and client_secret_file".into());
        }
        if let Some(other) = self.grant_type.as_deref().filter(|kind| !["", CLIENT_CREDENTIALS].contains(kind)) {
            return Err(format!("oauth2: grant_type {other:?} is not there, only {CLIENT_CREDENTIALS} is").into());
        }
        let wrong = |what: &str| ConfigError::from(format!("oauth2: token_url {:?}: {what}", self.token_url));
        let url = Url::parse(&self.token_url).map_err(|error| wrong(&error.to_string()))?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            return Err(wrong("write http://host/path or https://host/path"));
        }
        if self.endpoint_params.contains_key("scope") && !self.scopes.is_empty() {
            return Err("oauth2: scopes and a scope in endpoint_params say the same".into());
        }
        self.tls_config.check().map_err(|error| format!("oauth2: {error}"))?;
        let mut resolved = self.clone();
        if let Some(file) = &mut resolved.client_secret_file {
            *file = folder.join(&*file);
        }
        resolved.tls_config.resolve(folder);
        let proxy = ProxyConfig {
            url: self.proxy_url.clone(),
            except: self.no_proxy.clone(),
            from_environment: self.proxy_from_environment,
            connect_header: self.proxy_connect_header.clone(),
        };
        resolved.proxy = proxy.check().map_err(|error| format!("oauth2: {error}"))?;
        Ok(resolved)
    }
}
