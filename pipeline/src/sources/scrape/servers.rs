//! Servers that are asked for targets: each at its interval, and what it said last holds while it cannot be reached.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::Client;
use super::config::{HttpSdConfig, ServerConfig};
use super::dns_discovery::Names;
use super::http_discovery;
use super::runner::Shared;
use super::target::FoundGroup;

/// The servers of one job.
#[derive(Debug, Default)]
pub(super) struct Servers(Vec<Server>);

#[derive(Debug)]
struct Server {
    config: ServerConfig,
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
    pub(super) fn refresh(&mut self, configs: &[ServerConfig], shared: &Arc<Shared>, changed: &Arc<Notify>) -> bool {
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
    fn start(config: ServerConfig, shared: Arc<Shared>, changed: Arc<Notify>) -> Self {
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

async fn ask_for_ever(config: ServerConfig, found: Arc<Mutex<Found>>, shared: Arc<Shared>, changed: Arc<Notify>) {
    let mut asker = match &config {
        ServerConfig::Http(config) => Asker::Http(Box::new(Client::new(&config.http, &shared.clock)), config),
        ServerConfig::Dns(config) => Asker::Dns(Names::new(config)),
    };
    loop {
        let (groups, errors) = match &mut asker {
            Asker::Http(client, config) => match http_discovery::ask(client, config).await {
                Ok(groups) => (Some(groups), Vec::new()),
                Err(error) => (None, vec![(config.url.to_string(), error)]),
            },
            Asker::Dns(names) => {
                let errors = names.ask().await;
                (Some(names.groups()), errors)
            }
        };
        if let Some(groups) = groups {
            let mut found = found.lock();
            if found.groups != groups {
                *found = Found { groups, is_new: true };
                changed.notify_one();
            }
        }
        for (asked, error) in errors {
            metrics::counter!("highwater_scrape_discovery_errors_total").increment(1);
            tracing::warn!(asked, error, "it cannot be learned which targets there are; what was said before holds");
        }
        shared.clock.sleep(config.refresh_interval()).await;
    }
}

enum Asker<'a> {
    Http(Box<Client>, &'a HttpSdConfig),
    Dns(Names),
}
