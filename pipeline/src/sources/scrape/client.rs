//! HTTP as `scrape_configs` has it: certificates, logins, proxies, redirects.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use url::Url;

use super::config::{HttpClientConfig, TlsConfig};
use super::server_name;

/// Asks as a job or a discovery is told to.
#[derive(Debug)]
pub(super) struct Client {
    client: reqwest::Client,
    config: HttpClientConfig,
}

impl Client {
    /// Reads certificates; the files of logins are read at every request.
    pub(super) fn new(config: &HttpClientConfig) -> Result<Self, String> {
        let config = config.clone();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("Highwater/", env!("CARGO_PKG_VERSION")))
            .redirect(match config.follow_redirects {
                true => reqwest::redirect::Policy::limited(10),
                false => reqwest::redirect::Policy::none(),
            });
        if !config.enable_http2 {
            builder = builder.http1_only();
        }
        if !config.proxy_from_environment {
            builder = builder.no_proxy();
        }
        if let Some(url) = &config.proxy_url {
            let proxy = reqwest::Proxy::all(url).map_err(|error| format!("proxy_url: {error}"))?;
            let except = config.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
            builder = builder.proxy(proxy.no_proxy(except));
        }
        let client = tls(builder, &config.tls_config, config.enable_http2)?.build().map_err(|error| cause(&error))?;
        Ok(Self { client, config })
    }

    /// A request with the login and the headers that are asked for.
    pub(super) fn get(&self, url: Url) -> Result<RequestBuilder, String> {
        let mut request = self.client.get(url);
        if let Some(basic) = &self.config.basic_auth {
            let name = basic.username.as_ref().map(|name| name.0.clone());
            let name = name.map_or_else(|| of_file(basic.username_file.as_deref()), Ok)?;
            let password = basic.password.as_ref().map(|password| password.0.clone());
            let password = password.map_or_else(|| of_file(basic.password_file.as_deref()), Ok)?;
            request = request.basic_auth(name, Some(password));
        }
        if let Some(authorization) = &self.config.authorization {
            let scheme = authorization.scheme.as_deref().map_or("Bearer", str::trim);
            let credentials = authorization.credentials.as_ref().map(|credentials| credentials.0.clone());
            let credentials = credentials.map_or_else(|| of_file(authorization.credentials_file.as_deref()), Ok)?;
            let mut value = HeaderValue::from_str(&format!("{scheme} {credentials}"))
                .map_err(|_| "authorization: the credentials have a character that a header cannot have".to_owned())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        for (name, header) in &self.config.http_headers {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|error| format!("http_headers: {name:?}: {error}"))?;
            let files = header.files.iter().map(|file| of_file(Some(file))).collect::<Result<Vec<_>, _>>()?;
            let texts = header.values.iter().map(|value| value.0.clone());
            for value in texts.chain(header.secrets.iter().map(|secret| secret.0.clone())).chain(files) {
                request = request.header(&name, value);
            }
        }
        Ok(request)
    }

    /// The answer to a request, where it is 200.
    pub(super) async fn send(&self, request: RequestBuilder, url: &Url) -> Result<reqwest::Response, String> {
        let request = request.build().map_err(|error| cause(&error))?;
        let response = self.client.execute(request).await.map_err(|error| failed(url, &error))?;
        match response.status() {
            reqwest::StatusCode::OK => Ok(response),
            status => Err(format!("server returned HTTP status {status}")),
        }
    }
}

/// The body of an answer, `None` past so many bytes.
pub(super) async fn body(
    response: reqwest::Response,
    max_size_bytes: usize,
    url: &Url,
) -> Result<Option<Bytes>, String> {
    let mut body = BytesMut::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| failed(url, &error))?;
        if body.len() + chunk.len() > max_size_bytes {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// A header of an answer, as text.
pub(super) fn text(response: &reqwest::Response, name: HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn failed(url: &Url, error: &reqwest::Error) -> String {
    format!("Get \"{url}\": {}", cause(error))
}

/// What a file has, without the line feed at its end; nothing where no file is named.
fn of_file(file: Option<&Path>) -> Result<String, String> {
    let Some(file) = file else { return Ok(String::new()) };
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(text.trim().to_owned())
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
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
