//! Asking a target for its page.

use std::sync::Arc;

use bytes::Bytes;
use highwater_broker::Clock;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};

use super::client::{self, Client};
use super::config::JobConfig;
use super::exposition::accept;
use super::target::Target;

/// Where a page is larger than it may be.
pub(super) const TOO_LARGE: &str = "body size limit exceeded";

/// What a target answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// As it came, compressed or not.
    pub(super) body: Bytes,
    pub(super) encoding: Option<String>,
    pub(super) content_type: Option<String>,
}

/// Asks the targets of one job.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    accept: String,
    accept_encoding: &'static str,
}

impl Fetcher {
    pub(super) fn new(job: &JobConfig, clock: &Arc<dyn Clock>) -> Self {
        let accept_encoding = if job.enable_compression { "gzip" } else { "identity" };
        let accept = accept(&job.protocols, job.names.escaping);
        Self { client: Client::new(&job.http, clock), accept, accept_encoding }
    }

    /// Asks for a page of at most so many bytes, as it comes over the wire.
    pub(super) async fn fetch(&self, target: &Target, max_size_bytes: usize) -> Result<Answer, String> {
        match tokio::time::timeout(target.timeout, self.ask(target, max_size_bytes)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("Get \"{}\": context deadline exceeded ({:?})", target.url, target.timeout)),
        }
    }

    async fn ask(&self, target: &Target, max_size_bytes: usize) -> Result<Answer, String> {
        let request = self
            .client
            .get(target.url.clone())
            .await?
            .header(ACCEPT, &self.accept)
            .header(ACCEPT_ENCODING, self.accept_encoding)
            .header("X-Prometheus-Scrape-Timeout-Seconds", target.timeout.as_secs_f64().to_string());
        let response = self.client.send(request, &target.url).await?;
        let (encoding, content_type) =
            (client::text(&response, CONTENT_ENCODING), client::text(&response, CONTENT_TYPE));
        let body = client::body(response, max_size_bytes, &target.url).await?;
        let body = body.ok_or_else(|| format!("{TOO_LARGE}: more than {max_size_bytes} bytes"))?;
        Ok(Answer { body, encoding, content_type })
    }
}
