//! Scraping, by the gateways: each the targets that are its own.

use std::sync::Arc;
use std::time::Duration;

use highwater_broker::SystemClock;
use highwater_pipeline::log::Log;
use highwater_pipeline::sources::Ingest;
use highwater_pipeline::sources::scrape::{Everything, Scraper, Share};
use parking_lot::RwLock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::members::Members;
use crate::config::{Config, Role};
use crate::error::Error;

/// How often it is looked which gateways there are.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Begins to scrape what the configuration names. What is given back ends with `shutdown`.
pub(super) fn start(
    config: &Config,
    ingest: &Arc<Ingest>,
    members: &Members,
    log: &Arc<dyn Log>,
    shutdown: &CancellationToken,
) -> Result<(Scraper, Vec<JoinHandle<()>>), Error> {
    let mut tasks = Vec::new();
    let share: Arc<dyn Share> = if members.is_alone() {
        Arc::new(Everything)
    } else {
        let gateways = Arc::new(Gateways { me: members.name().to_owned(), others: RwLock::default() });
        let look = look(Arc::clone(&gateways), members.clone(), Arc::clone(log), shutdown.clone());
        tasks.push(tokio::spawn(look));
        gateways
    };
    let (ingest, clock) = (Arc::clone(ingest), Arc::new(SystemClock));
    let (scraper, scraping) = Scraper::start(config.scrape()?, ingest, clock, share, shutdown.clone());
    tasks.push(scraping);
    Ok((scraper, tasks))
}

/// The gateways on this log.
struct Gateways {
    me: String,
    others: RwLock<Vec<String>>,
}

impl Share for Gateways {
    /// The gateway with the highest hash has the target: where one comes or goes, only its own targets move.
    fn has(&self, target: u64) -> bool {
        let weight = |name: &str| highwater_pipeline::sources::scrape::weight(target, name);
        let mine = (weight(&self.me), self.me.as_str());
        self.others.read().iter().all(|other| (weight(other), other.as_str()) < mine)
    }
}

async fn look(gateways: Arc<Gateways>, members: Members, log: Arc<dyn Log>, shutdown: CancellationToken) {
    loop {
        match members.others(log.as_ref()).await {
            Ok(others) => {
                let is_gateway = |roles: &str| roles.split(',').any(|role| role.trim() == Role::Gateway.name());
                let all = others.into_iter().flat_map(|other| other.members);
                let names = all.filter(|member| is_gateway(&member.roles)).map(|member| member.name);
                *gateways.others.write() = names.collect();
            }
            Err(error) => {
                tracing::warn!(%error, "which gateways there are cannot be read; targets stay where they are")
            }
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(me: &str, others: &[&str]) -> Gateways {
        let others = others.iter().map(|name| (*name).to_owned()).collect();
        Gateways { me: me.to_owned(), others: RwLock::new(others) }
    }

    #[test]
    fn each_target_is_scraped_by_one_gateway() {
        let three = [gateway("a", &["b", "c"]), gateway("b", &["a", "c"]), gateway("c", &["a", "b"])];
        let two = [gateway("a", &["b"]), gateway("b", &["a"])];
        let mut counts = [0; 3];
        for target in 0..3_000 {
            let here: Vec<_> = (0..3).filter(|at| three[*at].has(target)).collect();
            assert_eq!(here.len(), 1, "{target}");
            counts[here[0]] += 1;
            // Without c, only what it had moves.
            assert!(here[0] == 2 || two[here[0]].has(target));
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
