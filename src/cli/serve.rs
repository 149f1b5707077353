//! `highwater serve`, and `highwater` alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use highwater_pipeline::access::ApiKeysConfig;

use super::OutputArgs;
use crate::config::{Config, HostPort, Listen, Roles};
use crate::error::Error;

/// Flags of the server; each wins over the config file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArgs {
    /// Config file (YAML); without one every default holds.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where segments, tables and snapshots are kept [default: ./highwater-data].
    #[arg(long, value_name = "DIR", env = "HIGHWATER_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the HTTP port [default: 127.0.0.1:8080]; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", env = "HIGHWATER_HTTP_LISTEN")]
    pub(crate) http_listen: Option<SocketAddr>,
    /// Address of the Kafka port [default: 127.0.0.1:9092]; port 0 takes a free one, `off` closes it.
    #[arg(long, value_name = "HOST:PORT|off", env = "HIGHWATER_KAFKA_LISTEN")]
    pub(crate) kafka_listen: Option<Listen>,
    /// What Kafka clients are told to dial [default: the address they came in on].
    #[arg(long, value_name = "HOST:PORT", env = "HIGHWATER_KAFKA_ADVERTISED")]
    pub(crate) kafka_advertised: Option<HostPort>,
    /// Address of the OTLP/gRPC port [default: 127.0.0.1:4317]; port 0 takes a free one, `off` closes it.
    #[arg(long, value_name = "HOST:PORT|off", env = "HIGHWATER_OTLP_GRPC_LISTEN")]
    pub(crate) otlp_grpc_listen: Option<Listen>,
    /// Address of the OTLP/HTTP port [default: 127.0.0.1:4318]; port 0 takes a free one, `off` closes it.
    #[arg(long, value_name = "HOST:PORT|off", env = "HIGHWATER_OTLP_HTTP_LISTEN")]
    pub(crate) otlp_http_listen: Option<Listen>,
    /// API keys that open the doors: a YAML file, or the list itself as in the config file's `api_keys`.
    #[arg(long, value_name = "FILE|LIST", env = "HIGHWATER_API_KEYS", hide_env_values = true, value_parser = ApiKeysConfig::parse)]
    pub(crate) api_keys: Option<ApiKeysConfig>,
    /// Listen beyond this machine without keys (and, for Kafka, without TLS): for networks that are closed by other means.
    #[arg(long, env = "HIGHWATER_ALLOW_INSECURE")]
    pub(crate) allow_insecure: bool,
    /// Address of the Postgres port [default: 127.0.0.1:5433]; port 0 takes a free one, `off` closes it.
    #[arg(long, value_name = "HOST:PORT|off", env = "HIGHWATER_PGWIRE_LISTEN")]
    pub(crate) pgwire_listen: Option<Listen>,
    /// What this process does: any of gateway, worker, query, with commas between [default: all]. The rest is done by other
    /// processes on the same log: a Kafka cluster, or this one's Kafka port.
    #[arg(long, value_name = "ROLES", env = "HIGHWATER_ROLES")]
    pub(crate) roles: Option<Roles>,
    /// Do not ship this process's own logs and this host's metrics into itself.
    #[arg(long, env = "HIGHWATER_NO_SELF_MONITORING")]
    pub(crate) no_self_monitoring: bool,
}

impl ServeArgs {
    /// The configuration these flags and the file come to. Called at start and again at every reload.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(dir) = &self.data_dir {
            config.data_dir.clone_from(dir);
        }
        if let Some(listen) = self.http_listen {
            config.http.listen = listen;
        }
        if let Some(listen) = self.kafka_listen {
            config.kafka.listen = Some(listen);
        }
        if let Some(advertised) = &self.kafka_advertised {
            config.kafka.advertised = Some(advertised.clone());
        }
        if let Some(listen) = self.otlp_grpc_listen {
            config.otlp.grpc.listen = Some(listen);
        }
        if let Some(listen) = self.otlp_http_listen {
            config.otlp.http.listen = Some(listen);
        }
        if let Some(keys) = &self.api_keys {
            config.api_keys.clone_from(keys);
        }
        if self.allow_insecure {
            config.http.allow_insecure = true;
            config.kafka.allow_insecure = true;
            config.otlp.grpc.allow_insecure = true;
            config.otlp.http.allow_insecure = true;
            config.pgwire.allow_insecure = true;
        }
        if let Some(listen) = self.pgwire_listen {
            config.pgwire.listen = Some(listen);
        }
        if let Some(roles) = &self.roles {
            config.roles.clone_from(roles);
        }
        if self.no_self_monitoring {
            config.self_monitoring = false;
        }
        config.check()?;
        Ok(config)
    }
}

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(args: ServeArgs, output: &OutputArgs) -> Result<ExitCode, Error> {
    let config = args.config()?;
    let own_logs = config.self_monitoring.then(crate::serve::OwnLogs::new);
    let (layer, own_logs) = own_logs.unzip();
    crate::logging::init(output.log_format, &output.log_level, layer)?;
    super::runtime()?.block_on(crate::serve::run(args, config, own_logs))?;
    Ok(ExitCode::SUCCESS)
}
