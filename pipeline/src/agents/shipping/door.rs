//! The server's door: one POST, and what its answer means for the batch.

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::Deserialize;

use super::kafka::{self, KafkaDoor};
use super::options::ShippingOptions;
use super::refused::RefusedRow;
use crate::agents::AgentError;

/// No `Retry-After` is honoured beyond this: a wrong header must not silence an agent for a day.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(300);
/// How much of an error page is worth logging.
const REASON_LIMIT_BYTES: usize = 300;

/// Where batches of one kind go.
pub(crate) enum Door {
    /// To a path of a server.
    Http(HttpDoor),
    /// To a topic of a cluster.
    Kafka(Box<KafkaDoor>),
}

/// Posts batches to one path of one server.
pub(crate) struct HttpDoor {
    client: reqwest::Client,
    url: String,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Durable on the server, but for some rows, which it will never take. It names the first thousand.
    Taken { refused_rows: u64, refused: Vec<RefusedRow> },
    /// The server will never take this batch, whoever sends it.
    Refused { reason: String },
}

/// Why a batch has to be sent again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Later {
    /// In words.
    pub(crate) reason: String,
    /// Not before this, says the server.
    pub(crate) wait: Option<Duration>,
    /// False where the server is well but busy (429): then waiting is right, and leaving it alone altogether is not.
    pub(crate) away: bool,
}

/// The answer's body: which entries were refused. Everything else in it is for people.
#[derive(Default, Deserialize)]
struct Body {
    #[serde(default)]
    rejected: u64,
    /// Of the first thousand.
    #[serde(default)]
    errors: Vec<Rejected>,
}

#[derive(Deserialize)]
struct Rejected {
    index: usize,
    reason: String,
}

impl Door {
    /// `path` is `/logs` or `/metrics`; of a cluster, it names the topic.
    pub(crate) fn new(options: &ShippingOptions, path: &str) -> Result<Self, AgentError> {
        match options.server.strip_prefix(kafka::SCHEME) {
            Some(brokers) => {
                let topic = path.trim_start_matches('/');
                Ok(Self::Kafka(Box::new(KafkaDoor::new(options, brokers.trim_end_matches('/'), topic)?)))
            }
            None => HttpDoor::new(options, path).map(Self::Http),
        }
    }

    /// Sends a compressed body of a lane under its key.
    pub(crate) async fn post(&self, key: &str, lane: &str, body: Bytes) -> Result<Answer, Later> {
        match self {
            Self::Http(door) => door.post(key, body).await,
            Self::Kafka(door) => door.post(lane, body).await,
        }
    }
}

impl HttpDoor {
    fn new(options: &ShippingOptions, path: &str) -> Result<Self, AgentError> {
        let wrong = |reason: String| AgentError::Option { option: "--server", reason };
        let url = format!("{}{path}", options.server.trim_end_matches('/'));
        let parsed = reqwest::Url::parse(&url).map_err(|error| wrong(format!("{:?}: {error}", options.server)))?;
        if !["http", "https"].contains(&parsed.scheme()) {
            return Err(wrong(format!(
                "{:?}: expected http://HOST:PORT, https://HOST:PORT or kafka://HOST:PORT,...",
                options.server
            )));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        if let Some(key) = &options.api_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|error| AgentError::Option { option: "--api-key", reason: error.to_string() })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(tenant) = &options.tenant {
            let value = HeaderValue::from_str(tenant)
                .map_err(|error| AgentError::Option { option: "--tenant", reason: error.to_string() })?;
            headers.insert("x-scope-orgid", value);
        }
        let mut client = reqwest::Client::builder();
        if let Some(file) = &options.ca_file {
            let refused = |reason: String| AgentError::Option {
                option: "--ca-file",
                reason: format!("{}: {reason}", file.display()),
            };
            let pem = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
            let authorities =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| refused(error.to_string()))?;
            client = authorities.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = client
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(5))
            .timeout(options.request_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self { client, url })
    }

    /// Sends a compressed body under its key.
    async fn post(&self, key: &str, body: Bytes) -> Result<Answer, Later> {
        let later = |error: reqwest::Error| Later {
            reason: format!("{}: {}", self.url, cause(&error)),
            wait: None,
            away: true,
        };
        let sent = self.client.post(&self.url).header("idempotency-key", key).body(body).send().await;
        let response = sent.map_err(later)?;
        let status = response.status();
        let wait = retry_after(response.headers());
        let text = response.bytes().await.map_err(later)?;
        let body: Body = serde_json::from_slice(&text).unwrap_or_default();
        let reason = format!("{}: {status}: {}", self.url, shortened(&text));
        match status {
            // A report under 400 says that every row was refused, each for its own reason.
            _ if status.is_success() || (status == StatusCode::BAD_REQUEST && body.rejected > 0) => {
                let rows = body.errors.into_iter().map(|entry| RefusedRow { index: entry.index, reason: entry.reason });
                Ok(Answer::Taken { refused_rows: body.rejected, refused: rows.collect() })
            }
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY => Ok(Answer::Refused { reason }),
            // Everything else may pass: overload, a restart, but also a wrong key or path, which people mend while rows
            // wait.
            _ => Err(Later { reason, wait, away: status != StatusCode::TOO_MANY_REQUESTS }),
        }
    }
}

/// Seconds; the form with a date is rare, and needs a clock that agrees with the server's.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_LIMIT))
}

/// The innermost cause says what happened; reqwest's own words only repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn shortened(text: &[u8]) -> String {
    let cut = text.get(..REASON_LIMIT_BYTES).unwrap_or(text);
    String::from_utf8_lossy(cut).trim().to_owned()
}
