//! Tokens of `oauth2`: asked for with the name and secret of a client (RFC 6749, section 4.4), and kept as long as they are good.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::Clock;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::{Url, form_urlencoded};

use super::client::{self, of_file};
use super::config::OAuth2;
use super::transport::{Transport, cause};

/// A token is asked for anew so long before it ends.
const EARLY_MS: i64 = 10_000;
/// An answer beyond this is a mistake.
const MAX_SIZE_BYTES: usize = 1 << 20;
/// Longest that the server may take. A scrape waits for it within its own time.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most of an answer that is shown.
const MAX_SHOWN: usize = 300;

/// The tokens of one client. Whoever needs one while it is asked for waits for that answer.
pub(super) struct Tokens {
    config: OAuth2,
    transport: Transport,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("config", &self.config).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// Where the server wants name and secret, once that is known: servers need to take them in the header, and many do not.
    place: Option<Place>,
}

#[derive(Clone)]
struct Token {
    authorization: HeaderValue,
    /// It is good until then; for ever where the server says nothing.
    until_ms: Option<i64>,
    /// The secret it was given out for: with another one, another is asked for.
    secret: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Body,
}

/// Why there is no token.
enum Failure {
    /// The server refused, and might not if asked otherwise.
    Refused(String),
    Other(String),
}

impl Tokens {
    pub(super) fn new(config: &OAuth2, clock: Arc<dyn Clock>) -> Self {
        let transport = Transport::new(&config.tls_config, &config.proxy, true, true);
        Self { config: config.clone(), transport, clock, held: Mutex::default() }
    }

    /// What to say in `Authorization`.
    pub(super) async fn authorization(&self) -> Result<HeaderValue, String> {
        let secret = match &self.config.client_secret {
            Some(secret) => secret.0.clone(),
            None => of_file(self.config.client_secret_file.as_deref()).map_err(|error| format!("oauth2: {error}"))?,
        };
        let mut held = self.held.lock().await;
        let now_ms = self.clock.now_ms();
        if let Some(token) = &held.token
            && token.secret == secret
            && token.until_ms.is_none_or(|until_ms| now_ms < until_ms - EARLY_MS)
        {
            return Ok(token.authorization.clone());
        }
        held.token = None;
        let places: &[Place] = match held.place {
            Some(Place::Header) => &[Place::Header],
            Some(Place::Body) => &[Place::Body],
            None => &[Place::Header, Place::Body],
        };
        let mut refusal = String::new();
        for place in places {
            match self.ask(*place, &secret, now_ms).await {
                Ok(token) => {
                    let authorization = token.authorization.clone();
                    *held = Held { token: Some(token), place: Some(*place) };
                    return Ok(authorization);
                }
                Err(Failure::Refused(why)) => refusal = why,
                Err(Failure::Other(why)) => return Err(why),
            }
        }
        Err(refusal)
    }

    /// The token is not good any more, whatever was said of it.
    pub(super) async fn forget(&self) {
        self.held.lock().await.token = None;
    }

    async fn ask(&self, place: Place, secret: &str, now_ms: i64) -> Result<Token, Failure> {
        let failed = |why: String| Failure::Other(format!("oauth2: cannot fetch token: {why}"));
        let url = Url::parse(&self.config.token_url).map_err(|error| failed(error.to_string()))?;
        let client = self.transport.client().map_err(failed)?;
        let mut request = client
            .post(url.clone())
            .timeout(TIMEOUT)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(self.form((place == Place::Body).then_some(secret)));
        if place == Place::Header {
            request = request.basic_auth(encoded(&self.config.client_id.0), Some(encoded(secret)));
        }
        let response = request.send().await.map_err(|error| failed(format!("{url}: {}", cause(&error))))?;
        let status = response.status();
        let content_type = client::text(&response, CONTENT_TYPE).unwrap_or_default();
        let body = client::body(response, MAX_SIZE_BYTES, &url).await.map_err(failed)?;
        let body = body.ok_or_else(|| failed(format!("{url} answers with more than {MAX_SIZE_BYTES} bytes")))?;
        let answer = Answer::read(&content_type, &body);
        if !status.is_success() {
            let said = match answer.ok().filter(|answer| !answer.error.is_empty()) {
                Some(answer) => format!("{} {}", answer.error, answer.error_description),
                None => String::from_utf8_lossy(&body).into_owned(),
            };
            let said: String = said.trim().chars().take(MAX_SHOWN).collect();
            return Err(Failure::Refused(format!("oauth2: cannot fetch token: {url} answered {status}: {said}")));
        }
        let answer = answer.map_err(failed)?;
        answer.token(secret, now_ms).map_err(failed)
    }

    fn form(&self, secret_in_body: Option<&str>) -> String {
        let mut pairs: BTreeMap<&str, String> = BTreeMap::from([("grant_type", "client_credentials".to_owned())]);
        let scopes: Vec<&str> = self.config.scopes.iter().map(|scope| scope.0.as_str()).collect();
        if !scopes.is_empty() {
            pairs.insert("scope", scopes.join(" "));
        }
        for (name, value) in &self.config.endpoint_params {
            pairs.insert(name, value.0.clone());
        }
        if let Some(secret) = secret_in_body {
            pairs.insert("client_id", self.config.client_id.0.clone());
            if !secret.is_empty() {
                pairs.insert("client_secret", secret.to_owned());
            }
        }
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }
}

/// As name and secret stand in the header.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// What the server says.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    /// A number of seconds; some write it as text.
    expires_in: serde_json::Value,
    error: String,
    error_description: String,
}

impl Answer {
    /// JSON, as the specification has it; some old servers answer with a form.
    fn read(content_type: &str, body: &[u8]) -> Result<Self, String> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !matches!(media_type.as_str(), "application/x-www-form-urlencoded" | "text/plain") {
            return serde_json::from_slice(body).map_err(|error| format!("the answer cannot be read: {error}"));
        }
        let mut pairs: BTreeMap<_, _> = form_urlencoded::parse(body).into_owned().collect();
        let mut take = |name: &str| pairs.remove(name);
        Ok(Self {
            access_token: take("access_token").unwrap_or_default(),
            token_type: take("token_type"),
            expires_in: take("expires_in").into(),
            error: take("error").unwrap_or_default(),
            error_description: take("error_description").unwrap_or_default(),
        })
    }

    fn token(self, secret: &str, now_ms: i64) -> Result<Token, String> {
        if self.access_token.is_empty() {
            return Err(match self.error.as_str() {
                "" => "the answer has no access_token".to_owned(),
                error => format!("{error} {}", self.error_description).trim().to_owned(),
            });
        }
        let seconds = match &self.expires_in {
            serde_json::Value::Null => 0.0,
            serde_json::Value::Number(number) => number.as_f64().unwrap_or(0.0),
            serde_json::Value::String(text) if text.is_empty() => 0.0,
            other => {
                let text = other.as_str().and_then(|text| text.parse::<f64>().ok());
                text.ok_or_else(|| format!("expires_in of the answer is {other}, and not a number of seconds"))?
            }
        };
        let until_ms = (seconds > 0.0).then(|| now_ms.saturating_add((seconds * 1e3) as i64));
        let kind = match self.token_type.as_deref().unwrap_or_default() {
            kind if kind.is_empty() || kind.eq_ignore_ascii_case("bearer") => "Bearer",
            other => other,
        };
        let mut authorization = HeaderValue::from_str(&format!("{kind} {}", self.access_token))
            .map_err(|_| "the token has a character that a header cannot have".to_owned())?;
        authorization.set_sensitive(true);
        Ok(Token { authorization, until_ms, secret: secret.to_owned() })
    }
}

#[cfg(test)]
mod tests;
