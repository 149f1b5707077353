//! Where targets are found: files, and HTTP servers that list them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::http_client::{HttpKeys, TlsConfig};
use super::units::{Hidden, PromDuration};
use super::{Authorization, BasicAuth, ConfigError, HttpClientConfig, HttpHeader};

/// `file_sd_configs`: files of targets, read again where they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSdConfig {
    /// Paths; the last part may have one `*`.
    pub files: Vec<PathBuf>,
    /// They are read again so often, changed or not.
    #[serde(default = "five_minutes")]
    pub refresh_interval: PromDuration,
}

/// `http_sd_configs`: a server that answers with the targets, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSdConfig {
    /// Where.
    pub url: Url,
    /// How often it is asked.
    pub refresh_interval: PromDuration,
    /// How it is asked.
    pub http: HttpClientConfig,
}

/// As it is written down.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHttpSd {
    url: String,
    #[serde(default = "one_minute")]
    refresh_interval: PromDuration,
    #[serde(default)]
    basic_auth: Option<BasicAuth>,
    #[serde(default)]
    authorization: Option<Authorization>,
    #[serde(default)]
    bearer_token: Option<Hidden>,
    #[serde(default)]
    bearer_token_file: Option<PathBuf>,
    #[serde(default)]
    tls_config: TlsConfig,
    #[serde(default)]
    follow_redirects: Option<bool>,
    #[serde(default)]
    enable_http2: Option<bool>,
    #[serde(default)]
    http_headers: BTreeMap<String, HttpHeader>,
    #[serde(default)]
    proxy_url: Option<String>,
    #[serde(default)]
    no_proxy: Option<String>,
    #[serde(default)]
    proxy_from_environment: bool,
}

fn five_minutes() -> PromDuration {
    PromDuration(Duration::from_secs(5 * 60))
}

fn one_minute() -> PromDuration {
    PromDuration(Duration::from_secs(60))
}

impl FileSdConfig {
    /// Checks it, and takes relative paths from this folder.
    pub(super) fn resolve(&self, folder: &Path) -> Result<Self, ConfigError> {
        if self.files.is_empty() {
            return Err("file_sd_configs: name at least one file".into());
        }
        let mut resolved = self.clone();
        for file in &mut resolved.files {
            let good = ["json", "yml", "yaml"].iter().any(|ext| file.extension().is_some_and(|e| e == *ext));
            let stars = file.display().to_string().matches('*').count();
            let in_name = file.file_name().map(|name| name.to_string_lossy().matches('*').count()).unwrap_or(0);
            if !good || stars > 1 || stars != in_name {
                return Err(format!(
                    "file_sd_configs: {:?} must end in .json, .yml or .yaml, with at most one * in its last part",
                    file.display().to_string()
                )
                .into());
            }
            *file = folder.join(&*file);
        }
        Ok(resolved)
    }
}

impl WrittenHttpSd {
    /// Checks it, and takes relative paths from this folder.
    pub(super) fn resolve(&self, folder: &Path) -> Result<HttpSdConfig, ConfigError> {
        let wrong = |what: &str| ConfigError::from(format!("http_sd_configs: url {:?}: {what}", self.url));
        let url = Url::parse(&self.url).map_err(|error| wrong(&error.to_string()))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(wrong("the scheme must be http or https"));
        }
        if !url.has_host() {
            return Err(wrong("it names no host"));
        }
        if self.refresh_interval.0.is_zero() {
            return Err("http_sd_configs: refresh_interval must be above 0".into());
        }
        let http = HttpClientConfig::new(
            HttpKeys {
                basic_auth: self.basic_auth.as_ref(),
                authorization: self.authorization.as_ref(),
                bearer_token: self.bearer_token.as_ref(),
                bearer_token_file: self.bearer_token_file.as_ref(),
                tls_config: &self.tls_config,
                follow_redirects: self.follow_redirects,
                enable_http2: self.enable_http2,
                http_headers: &self.http_headers,
                proxy_url: self.proxy_url.as_ref(),
                no_proxy: self.no_proxy.as_ref(),
                proxy_from_environment: self.proxy_from_environment,
            },
            folder,
        );
        let http = http.map_err(|error| format!("http_sd_configs: {error}"))?;
        Ok(HttpSdConfig { url, refresh_interval: self.refresh_interval, http })
    }
}
