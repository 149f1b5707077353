//! The Prometheus API: over the query engine, with what it says of this server and of what is scraped here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use axum::Router;
use highwater_broker::{Clock, SystemClock};
use highwater_pipeline::sources::scrape::{Scraper, Targets as _};
use highwater_promql::Labels;
use highwater_sql::Engine;
use highwater_sql::prometheus::{Prometheus, ServerInfo, Target, TargetMetadata, Targets, TargetsView, ViewError};

use super::rules_view::LogRules;
use crate::config::Config;
use crate::error::Error;

/// What scrapes, once it does.
pub(super) type LateScraper = Arc<OnceLock<Scraper>>;

/// Its routes.
pub(super) fn router(
    config: &Config,
    address: SocketAddr,
    engine: &Engine,
    scraper: &LateScraper,
    rules: LogRules,
) -> Result<Router, Error> {
    let prometheus = Prometheus::new(engine.clone(), config.promql.clone(), Arc::new(SystemClock))
        .map_err(|error| Error::failed("starting the Prometheus API", error))?;
    let targets = Arc::new(Scraped(Arc::clone(scraper)));
    Ok(prometheus.with_server(info(config, address)).with_targets(targets).with_rules(Arc::new(rules)).router())
}

/// The targets of this process.
struct Scraped(LateScraper);

#[async_trait]
impl TargetsView for Scraped {
    async fn targets(&self, tenant: &str) -> Result<Targets, ViewError> {
        let Some(scraper) = self.0.get() else { return Ok(Targets::default()) };
        let active = scraper.active().into_iter().filter(|target| target.tenant == tenant);
        let active = active.map(|target| Target {
            discovered_labels: Labels::from_pairs(target.discovered_labels),
            labels: Labels::from_pairs(target.labels),
            scrape_pool: target.scrape_pool,
            scrape_url: target.scrape_url,
            last_error: Some(target.last_error).filter(|error| !error.is_empty()),
            last_scrape_ms: target.last_scrape_ms,
            last_scrape_duration_s: target.last_scrape_duration_s,
            scrape_interval_s: target.scrape_interval_ms as f64 / 1000.0,
            scrape_timeout_s: target.scrape_timeout_ms as f64 / 1000.0,
        });
        let dropped = scraper.dropped().into_iter().filter(|target| target.tenant == tenant);
        let dropped = dropped.map(|target| (target.scrape_pool, Labels::from_pairs(target.discovered_labels)));
        let dropped_counts = scraper.dropped_counts(tenant);
        Ok(Targets { active: active.collect(), dropped: dropped.collect(), dropped_counts })
    }

    async fn metadata(&self, tenant: &str) -> Result<Vec<TargetMetadata>, ViewError> {
        let Some(scraper) = self.0.get() else { return Ok(Vec::new()) };
        let told = scraper.metadata().into_iter().filter(|told| told.tenant == tenant);
        let mut told: Vec<TargetMetadata> = told
            .map(|told| TargetMetadata {
                target: Labels::from_pairs(told.target),
                metric: told.metric,
                kind: told.kind.to_owned(),
                help: told.help,
                unit: told.unit,
            })
            .collect();
        told.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(told)
    }
}

fn info(config: &Config, address: SocketAddr) -> ServerInfo {
    let retention = humantime::format_duration(config.log.retention).to_string();
    let flags = [
        ("data-dir", config.data_dir.display().to_string()),
        ("web.listen-address", address.to_string()),
        ("log.retention", retention.clone()),
        ("log.partitions", config.log.partitions.to_string()),
    ];
    let rule_files = serde_json::json!(config.rule_files);
    ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map(|name| name.trim().to_owned())
            .unwrap_or_default(),
        // What may be shown to whoever can query: no key, no password.
        config_yaml: format!(
            "data_dir: {}\nhttp: {{ listen: {address} }}\nrule_files: {rule_files}\n",
            serde_json::json!(config.data_dir.display().to_string()),
        ),
        flags: flags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        started_ms: SystemClock.now_ms(),
        retention,
    }
}
