//! The Prometheus API: over the query engine, with what it says of this server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use highwater_broker::{Clock, SystemClock};
use highwater_sql::Engine;
use highwater_sql::prometheus::{Prometheus, ServerInfo};

use crate::config::Config;
use crate::error::Error;

/// Its routes.
pub(super) fn router(config: &Config, address: SocketAddr, engine: &Engine) -> Result<Router, Error> {
    let prometheus = Prometheus::new(engine.clone(), config.promql.clone(), Arc::new(SystemClock))
        .map_err(|error| Error::failed("starting the Prometheus API", error))?;
    Ok(prometheus.with_server(info(config, address)).router())
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
