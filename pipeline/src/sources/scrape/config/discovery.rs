//! Where targets are found: files, HTTP servers that list them, and names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::http_client::with_http_keys;
use super::units::PromDuration;
use super::{ConfigError, HttpClientConfig};

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

/// A server that is asked for targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerConfig {
    /// It lists them.
    Http(Box<HttpSdConfig>),
    /// It knows the addresses of names.
    Dns(DnsSdConfig),
}

impl ServerConfig {
    /// How often it is asked.
    pub fn refresh_interval(&self) -> Duration {
        match self {
            Self::Http(config) => config.refresh_interval.0,
            Self::Dns(config) => config.refresh_interval.0,
        }
    }
}

/// `dns_sd_configs`: names whose records are the targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSdConfig {
    /// Names.
    pub names: Vec<String>,
    /// Which records of them.
    pub kind: RecordKind,
    /// The port of all targets; records of servers have their own.
    pub port: u16,
    /// How often they are asked for.
    pub refresh_interval: PromDuration,
}

/// Records that lead to targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Addresses.
    A,
    /// Addresses of IPv6.
    Aaaa,
    /// Servers, with their ports.
    Srv,
    /// Servers that take mail.
    Mx,
    /// Servers of names.
    Ns,
}

/// As it is written down.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenDnsSd {
    names: Vec<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    port: u16,
    #[serde(default = "half_a_minute")]
    refresh_interval: PromDuration,
}

with_http_keys! {
/// As it is written down.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHttpSd {
    url: String,
    #[serde(default = "one_minute")]
    refresh_interval: PromDuration,
}
}

fn half_a_minute() -> PromDuration {
    PromDuration(Duration::from_secs(30))
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
        let http = self.http(folder);
        let http = http.map_err(|error| format!("http_sd_configs: {error}"))?;
        Ok(HttpSdConfig { url, refresh_interval: self.refresh_interval, http })
    }
}

impl WrittenDnsSd {
    /// Checks it.
    pub(super) fn resolve(&self) -> Result<DnsSdConfig, ConfigError> {
        if self.names.is_empty() || self.names.iter().any(String::is_empty) {
            return Err("dns_sd_configs: name at least one name, and none that is empty".into());
        }
        let kind = match self.kind.as_deref().unwrap_or("SRV").to_ascii_uppercase().as_str() {
            "A" => RecordKind::A,
            "AAAA" => RecordKind::Aaaa,
            "SRV" => RecordKind::Srv,
            "MX" => RecordKind::Mx,
            "NS" => RecordKind::Ns,
            other => return Err(format!("dns_sd_configs: type {other:?} is none of SRV, A, AAAA, MX and NS").into()),
        };
        if self.port == 0 && kind != RecordKind::Srv {
            return Err("dns_sd_configs: port is missing; only records of type SRV have one of their own".into());
        }
        if self.refresh_interval.0.is_zero() {
            return Err("dns_sd_configs: refresh_interval must be above 0".into());
        }
        Ok(DnsSdConfig { names: self.names.clone(), kind, port: self.port, refresh_interval: self.refresh_interval })
    }
}
