//! The HTTP client of the commands that talk to a running server.

use std::time::Duration;

use futures::StreamExt;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;

use crate::cli::ServerArg;
use crate::error::Error;

/// A server, by its URL.
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    /// A client of the server at this URL; nothing is sent yet.
    pub(crate) fn new(server: &ServerArg) -> Result<Self, Error> {
        let base = server.url();
        let mut http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5));
        let mut headers = HeaderMap::new();
        if let Some(key) = &server.api_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|error| Error::Usage(format!("--api-key: {error}")))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(tenant) = &server.tenant {
            let value = HeaderValue::from_str(tenant).map_err(|error| Error::Usage(format!("--tenant: {error}")))?;
            headers.insert("x-scope-orgid", value);
        }
        for authority in server.authorities()? {
            http = http.add_root_certificate(authority);
        }
        let http =
            http.default_headers(headers).build().map_err(|error| Error::failed("starting the HTTP client", error))?;
        Ok(Self { base, http })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        Error::Failed(format!(
            "cannot reach the server at {} ({}); start one with `highwater`, or name it with --server URL",
            self.base,
            root_cause(error)
        ))
    }

    async fn checked(&self, response: Result<reqwest::Response, reqwest::Error>) -> Result<reqwest::Response, Error> {
        let response = response.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        let said = serde_json::from_str::<serde_json::Value>(&body)
            .ok()
            .and_then(|v| v.get("error").and_then(|e| e.as_str().map(str::to_owned)))
            .unwrap_or(body);
        Err(Error::Failed(format!("the server answered {status}: {}", said.trim())))
    }

    /// GET, and the JSON that comes back.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.checked(self.http.get(format!("{}{path}", self.base)).send().await).await?;
        response.json().await.map_err(|error| Error::failed(&format!("reading the answer of {path}"), error))
    }

    /// POST of JSON, and the raw response.
    pub(crate) async fn post(&self, path: &str, body: &serde_json::Value) -> Result<reqwest::Response, Error> {
        self.checked(self.http.post(format!("{}{path}", self.base)).json(body).send().await).await
    }

    /// POST of a form, and the raw response.
    pub(crate) async fn post_form(&self, path: &str, form: &[(&str, String)]) -> Result<reqwest::Response, Error> {
        self.checked(self.http.post(format!("{}{path}", self.base)).form(form).send().await).await
    }

    /// Reads a server-sent event stream until it ends, calling `each` with (id, data) of every event.
    ///
    /// `each` answers false to stop. Returns the last id seen.
    pub(crate) async fn events(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &str) -> Result<bool, Error>,
    ) -> Result<Option<String>, Error> {
        let request = self.http.get(format!("{}{path}", self.base)).header("accept", "text/event-stream");
        let mut bytes = self.checked(request.send().await).await?.bytes_stream();
        let mut buffer = Vec::new();
        let (mut id, mut data) = (None::<String>, String::new());
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|error| Error::failed("reading the event stream", root_cause(&error)))?;
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let line = line.trim_end_matches(['\r', '\n']);
                if line.is_empty() {
                    if !data.is_empty() && !each(id.as_deref().unwrap_or(""), data.trim_end_matches('\n'))? {
                        return Ok(id);
                    }
                    data.clear();
                } else if let Some(value) = line.strip_prefix("id:") {
                    id = Some(value.trim().to_owned());
                } else if let Some(value) = line.strip_prefix("data:") {
                    data.push_str(value.strip_prefix(' ').unwrap_or(value));
                    data.push('\n');
                }
            }
        }
        Ok(id)
    }
}

/// The innermost message of an error: `Connection refused` says more than `error sending request`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
