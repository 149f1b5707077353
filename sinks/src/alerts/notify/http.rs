//! Requests to receivers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::NotifyError;

/// Longest that a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most of an answer that is shown.
const MAX_SHOWN: usize = 300;

/// A client of one receiver.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    login: Login,
    headers: BTreeMap<String, String>,
}

/// How it says who it is.
#[derive(Clone)]
pub(super) enum Login {
    None,
    Bearer(String),
    Basic(String, String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bearer(_) => "Bearer(..)",
            Self::Basic(..) => "Basic(..)",
        })
    }
}

impl Http {
    pub(super) fn new(login: Login, headers: BTreeMap<String, String>) -> Result<Self, String> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).connect_timeout(TIMEOUT / 2).build();
        Ok(Self { client: client.map_err(|e| format!("no HTTP client: {e}"))?, login, headers })
    }

    /// POSTs JSON. Codes that say "not now" or "not you" can be tried again; others refuse this message.
    pub(super) async fn post(
        &self,
        url: &str,
        body: Vec<u8>,
        more: &BTreeMap<&str, String>,
    ) -> Result<(), NotifyError> {
        let mut request = self.client.post(url).header("content-type", "application/json").body(body);
        request = match &self.login {
            Login::None => request,
            Login::Bearer(token) => request.bearer_auth(token),
            Login::Basic(username, password) => request.basic_auth(username, Some(password)),
        };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in more {
            request = request.header(*name, value);
        }
        let response = request.send().await.map_err(|error| {
            // The URL may hold a secret.
            let error = error.without_url();
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                text = format!("{text}: {next}");
                cause = next.source();
            }
            NotifyError::unavailable(text)
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let said = response.text().await.unwrap_or_default();
        let said: String = said.trim().chars().take(MAX_SHOWN).collect();
        let reason = format!("it answered {status}: {said}");
        match status.as_u16() {
            401 | 403 | 404 | 407 | 408 | 425 | 429 | 500.. => {
                Err(NotifyError::Unavailable { reason, retry_after_ms: retry_after.map(|s| s.saturating_mul(1_000)) })
            }
            _ => Err(NotifyError::Refused { reason }),
        }
    }
}
