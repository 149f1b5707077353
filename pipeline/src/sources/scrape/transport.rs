//! Connections as `tls_config` and `proxy_url` have them.

use std::path::Path;
use std::time::SystemTime;

use parking_lot::Mutex;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::config::{ProxyConfig, TlsConfig};
use super::server_name;

/// Makes connections; those to come use certificates as their files are by then.
#[derive(Debug)]
pub(super) struct Transport {
    tls: TlsConfig,
    proxy: ProxyConfig,
    follow_redirects: bool,
    http2: bool,
    made: Mutex<Option<Made>>,
}

/// Made of files that were like this.
#[derive(Debug)]
struct Made {
    stamps: Vec<Stamp>,
    client: reqwest::Client,
}

/// When a file was written, and how large it is.
pub(super) type Stamp = Option<(SystemTime, u64)>;

impl Transport {
    pub(super) fn new(tls: &TlsConfig, proxy: &ProxyConfig, follow_redirects: bool, http2: bool) -> Self {
        Self { tls: tls.clone(), proxy: proxy.clone(), follow_redirects, http2, made: Mutex::default() }
    }

    /// A client, whose connections are kept as long as no file of a certificate changes.
    pub(super) fn client(&self) -> Result<reqwest::Client, String> {
        let files = [&self.tls.ca_file, &self.tls.cert_file, &self.tls.key_file];
        let stamps: Vec<Stamp> = files.into_iter().flatten().map(|file| stamp(file)).collect();
        let mut made = self.made.lock();
        if let Some(made) = made.as_ref().filter(|made| made.stamps == stamps) {
            return Ok(made.client.clone());
        }
        let client = self.make()?;
        *made = Some(Made { stamps, client: client.clone() });
        Ok(client)
    }

    fn make(&self) -> Result<reqwest::Client, String> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("Highwater/", env!("CARGO_PKG_VERSION")))
            .redirect(match self.follow_redirects {
                true => reqwest::redirect::Policy::limited(10),
                false => reqwest::redirect::Policy::none(),
            });
        if !self.http2 {
            builder = builder.http1_only();
        }
        if !self.proxy.from_environment {
            builder = builder.no_proxy();
        }
        if let Some(url) = &self.proxy.url {
            let proxy = reqwest::Proxy::all(url).map_err(|error| format!("proxy_url: {error}"))?;
            let except = self.proxy.except.as_deref().and_then(reqwest::NoProxy::from_string);
            builder = builder.proxy(proxy.no_proxy(except).headers(self.connect_header()?));
        }
        tls(builder, &self.tls, self.http2)?.build().map_err(|error| cause(&error))
    }

    fn connect_header(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, values) in &self.proxy.connect_header {
            let key =
                HeaderName::from_bytes(name.as_bytes()).map_err(|error| format!("proxy_connect_header: {error}"))?;
            for value in values {
                let mut value = HeaderValue::from_str(&value.0)
                    .map_err(|_| format!("proxy_connect_header: {name} has a character that a header cannot have"))?;
                value.set_sensitive(true);
                headers.append(key.clone(), value);
            }
        }
        Ok(headers)
    }
}

/// How a file is now.
pub(super) fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn tls(mut builder: reqwest::ClientBuilder, config: &TlsConfig, http2: bool) -> Result<reqwest::ClientBuilder, String> {
    let pem = |inline: Option<&str>, file: Option<&Path>| match (inline, file) {
        (Some(text), _) => Ok(Some(text.as_bytes().to_vec())),
        (None, Some(file)) => {
            let read = std::fs::read(file).map(Some);
            read.map_err(|error| format!("tls_config: cannot read {}: {error}", file.display()))
        }
        (None, None) => Ok(None),
    };
    let authorities = pem(config.ca.as_deref(), config.ca_file.as_deref())?;
    let mut identity = pem(config.cert.as_deref(), config.cert_file.as_deref())?;
    if let Some(identity) = &mut identity {
        let key = config.key.as_ref().map(|key| key.0.as_str());
        identity.push(b'\n');
        identity.extend(pem(key, config.key_file.as_deref())?.unwrap_or_default());
    }
    if let Some(name) = config.server_name.as_deref().filter(|_| !config.insecure_skip_verify) {
        let config = server_name::config(name, authorities.as_deref(), identity.as_deref(), http2)?;
        return Ok(builder.use_preconfigured_tls(config));
    }
    if let Some(authorities) = authorities {
        let authorities = reqwest::Certificate::from_pem_bundle(&authorities)
            .map_err(|error| format!("tls_config: ca: {}", cause(&error)))?;
        // In place of the system's, as in Prometheus.
        builder = builder.tls_built_in_root_certs(false);
        builder = authorities.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    if let Some(identity) = identity {
        let identity =
            reqwest::Identity::from_pem(&identity).map_err(|error| format!("tls_config: {}", cause(&error)))?;
        builder = builder.identity(identity);
    }
    if config.insecure_skip_verify {
        builder = builder.danger_accept_invalid_certs(true);
    }
    let version = |name: &str| match name {
        "TLS13" => reqwest::tls::Version::TLS_1_3,
        // There is nothing older here.
        _ => reqwest::tls::Version::TLS_1_2,
    };
    if let Some(least) = &config.min_version {
        builder = builder.min_tls_version(version(least));
    }
    if let Some(most) = &config.max_version {
        builder = builder.max_tls_version(version(most));
    }
    Ok(builder.use_rustls_tls())
}

/// The innermost cause says what happened; reqwest's own words only repeat the URL.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
