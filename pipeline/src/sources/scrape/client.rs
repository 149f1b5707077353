//! HTTP as `scrape_configs` has it: certificates, logins, proxies, redirects.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use highwater_broker::Clock;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, StatusCode};
use url::Url;

use super::config::HttpClientConfig;
use super::tokens::Tokens;
use super::transport::{Transport, cause};

/// Asks as a job or a discovery is told to.
#[derive(Debug)]
pub(super) struct Client {
    transport: Transport,
    config: HttpClientConfig,
    tokens: Option<Tokens>,
}

impl Client {
    /// Reads nothing: files of certificates and logins are read at requests, so that one that is not there yet, or changes, is no matter.
    pub(super) fn new(config: &HttpClientConfig, clock: &Arc<dyn Clock>) -> Self {
        let transport = Transport::new(&config.tls_config, &config.proxy, config.follow_redirects, config.enable_http2);
        let tokens = config.oauth2.as_ref().map(|oauth2| Tokens::new(oauth2, Arc::clone(clock)));
        Self { transport, config: config.clone(), tokens }
    }

    /// A request with the login and the headers that are asked for.
    pub(super) async fn get(&self, url: Url) -> Result<RequestBuilder, String> {
        let mut request = self.transport.client()?.get(url);
        if let Some(basic) = &self.config.basic_auth {
            let name = basic.username.as_ref().map(|name| name.0.clone());
            let name = name.map_or_else(|| of_file(basic.username_file.as_deref()), Ok)?;
            let password = basic.password.as_ref().map(|password| password.0.clone());
            let password = password.map_or_else(|| of_file(basic.password_file.as_deref()), Ok)?;
            request = request.basic_auth(name, Some(password));
        }
        if let Some(authorization) = &self.config.authorization {
            let scheme = authorization.scheme.as_deref().map(str::trim).filter(|scheme| !scheme.is_empty());
            let scheme = scheme.unwrap_or("Bearer");
            let credentials = authorization.credentials.as_ref().map(|credentials| credentials.0.clone());
            let credentials = credentials.map_or_else(|| of_file(authorization.credentials_file.as_deref()), Ok)?;
            let mut value = HeaderValue::from_str(&format!("{scheme} {credentials}"))
                .map_err(|_| "authorization: the credentials have a character that a header cannot have".to_owned())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(tokens) = &self.tokens {
            request = request.header(AUTHORIZATION, tokens.authorization().await?);
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
        let response = request.send().await.map_err(|error| failed(url, &error))?;
        match (response.status(), &self.tokens) {
            (StatusCode::OK, _) => Ok(response),
            (status, tokens) => {
                if let (StatusCode::UNAUTHORIZED, Some(tokens)) = (status, tokens) {
                    // Taken back before its time: the next request asks for another.
                    tokens.forget().await;
                }
                Err(format!("server returned HTTP status {status}"))
            }
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
pub(super) fn of_file(file: Option<&Path>) -> Result<String, String> {
    let Some(file) = file else { return Ok(String::new()) };
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(text.trim().to_owned())
}
