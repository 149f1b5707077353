//! Targets out of HTTP servers that list them: each is asked at its interval, and what it said last holds while it cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::{self, Client};
use super::config::{HttpSdConfig, TargetGroup};
use super::runner::Shared;
use super::target::{FoundGroup, URL};

/// An answer beyond this is a mistake.
const MAX_SIZE_BYTES: usize = 256 << 20;

/// The servers of one job.
#[derive(Debug, Default)]
pub(super) struct Servers(Vec<Server>);

#[derive(Debug)]
struct Server {
    config: HttpSdConfig,
    found: Arc<Mutex<Found>>,
    /// Whoever asks it stops with this.
    _asking: DropGuard,
}

#[derive(Debug, Default)]
struct Found {
    groups: Vec<FoundGroup>,
    /// Not yet looked at.
    is_new: bool,
}

impl Servers {
    /// Asks these from now on; true where what they say has changed since the last time. `changed` is told when it does.
    pub(super) fn refresh(&mut self, configs: &[HttpSdConfig], shared: &Arc<Shared>, changed: &Arc<Notify>) -> bool {
        if !self.0.iter().map(|server| &server.config).eq(configs) {
            let mut before = std::mem::take(&mut self.0);
            self.0 = configs
                .iter()
                .map(|config| match before.iter().position(|server| server.config == *config) {
                    Some(at) => before.swap_remove(at),
                    None => Server::start(config.clone(), Arc::clone(shared), Arc::clone(changed)),
                })
                .collect();
        }
        // All of them are looked at, whatever the first one says.
        self.0.iter().filter(|server| std::mem::take(&mut server.found.lock().is_new)).count() > 0
    }

    /// All that they say.
    pub(super) fn groups(&self) -> Vec<FoundGroup> {
        self.0.iter().flat_map(|server| server.found.lock().groups.clone()).collect()
    }
}

impl Server {
    fn start(config: HttpSdConfig, shared: Arc<Shared>, changed: Arc<Notify>) -> Self {
        let (stop, found) = (CancellationToken::new(), Arc::<Mutex<Found>>::default());
        let asking = ask_for_ever(config.clone(), Arc::clone(&found), Arc::clone(&shared), changed);
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = shared.shutdown.cancelled() => {}
                () = stopped.cancelled() => {}
                () = asking => {}
            }
        });
        Self { config, found, _asking: stop.drop_guard() }
    }
}

async fn ask_for_ever(config: HttpSdConfig, found: Arc<Mutex<Found>>, shared: Arc<Shared>, changed: Arc<Notify>) {
    let client = Client::new(&config.http);
    loop {
        let asked = match &client {
            Ok(client) => ask(client, &config).await,
            Err(error) => Err(error.clone()),
        };
        match asked {
            Ok(groups) => {
                let mut found = found.lock();
                if found.groups != groups {
                    *found = Found { groups, is_new: true };
                    changed.notify_one();
                }
            }
            Err(error) => {
                metrics::counter!("highwater_scrape_discovery_errors_total").increment(1);
                tracing::warn!(url = %config.url, error, "a server does not say which targets there are; what it said before holds");
            }
        }
        shared.clock.sleep(config.refresh_interval.0).await;
    }
}

/// What the server says, within one interval.
async fn ask(client: &Client, config: &HttpSdConfig) -> Result<Vec<FoundGroup>, String> {
    let interval: Duration = config.refresh_interval.0;
    let asking = async {
        let request = client
            .get(config.url.clone())?
            .header(ACCEPT, "application/json")
            .header("X-Prometheus-Refresh-Interval-Seconds", interval.as_secs_f64().to_string());
        let response = client.send(request, &config.url).await?;
        let content_type = client::text(&response, CONTENT_TYPE).unwrap_or_default();
        if !is_json(&content_type) {
            return Err(format!("unsupported content type {content_type:?}"));
        }
        let body = client::body(response, MAX_SIZE_BYTES, &config.url).await?;
        body.ok_or_else(|| format!("it answers with more than {MAX_SIZE_BYTES} bytes"))
    };
    let body = tokio::time::timeout(interval, asking).await;
    let body = body.map_err(|_| format!("no answer came within {interval:?}"))??;
    let groups: Vec<TargetGroup> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let place = Some((URL, config.url.to_string()));
    Ok(groups.into_iter().map(|group| FoundGroup { place: place.clone(), group }).collect())
}

/// JSON, in UTF-8 where it says in what.
fn is_json(content_type: &str) -> bool {
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let charset = parameters.trim();
    media_type.trim().eq_ignore_ascii_case("application/json")
        && (charset.is_empty() || charset.to_ascii_lowercase().replace('"', "") == "charset=utf-8")
}
