//! The configuration: every key optional, every default here, unknown keys refused with their line.
//!
//! Precedence: command-line flag, then environment (`HIGHWATER_...`, through the flags), then the file, then the default.

mod built_in;
mod duration;
mod env;
mod error;
mod http;
mod kafka;
mod otlp;
mod pgwire;
mod roles;
mod state;
mod tables;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_broker::access::ApiKey;
use highwater_pipeline::access::{ApiKeysConfig, LimitsConfig};
use highwater_pipeline::log::kafka::KafkaConfig;
use highwater_pipeline::sources::IngestConfig;
use highwater_pipeline::sources::bridge::{self, BridgeError, KafkaSourceConfig};
use highwater_pipeline::sources::mapped::{MappingConfig, Mappings};
use highwater_pipeline::sources::scrape;
use highwater_pipeline::sources::scrape::config::{GlobalConfig, ScrapeConfig, ScrapeConfigs};
use highwater_processors::rollups::RollupConfig;
use highwater_processors::rules::slos::SloConfig;
use highwater_sinks::alerts::notify::{self, NotifyConfig};
use highwater_sql::SqlConfig;
use highwater_sql::prometheus::PromqlConfig;
use serde::Deserialize;

pub(crate) use built_in::BuiltInRollups;
pub(crate) use duration::parse as parse_duration;
pub(crate) use env::substitute;
pub(crate) use error::ConfigError;
pub(crate) use http::HttpConfig;
pub(crate) use kafka::{HostPort, KafkaSection, Listen};
pub(crate) use otlp::{OtlpPort, OtlpSection};
pub(crate) use pgwire::PgwireSection;
pub(crate) use roles::{Role, Roles};
pub(crate) use state::StateSection;
pub(crate) use tables::TablesSection;
pub(crate) use tls::TlsSection;

/// Where data goes when nothing is said.
pub(crate) const DEFAULT_DATA_DIR: &str = "./highwater-data";

/// The whole config file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Segments; tables and snapshots too unless `storage` says otherwise.
    pub(crate) data_dir: PathBuf,
    /// What this process does: all of it unless it is one of several.
    pub(crate) roles: Roles,
    /// Who may come in, at every door; with none, whoever reaches one.
    pub(crate) api_keys: ApiKeysConfig,
    /// How much each tenant may send.
    pub(crate) limits: LimitsConfig,
    /// The one HTTP port: ingest, query, health, metrics.
    pub(crate) http: HttpConfig,
    /// The Kafka port of the embedded log.
    pub(crate) kafka: KafkaSection,
    /// The ports of OTLP.
    pub(crate) otlp: OtlpSection,
    /// The Postgres port: queries.
    pub(crate) pgwire: PgwireSection,
    /// The durable log.
    pub(crate) log: LogConfig,
    /// Where tables and snapshots live.
    pub(crate) storage: StorageConfig,
    /// Whether an ack means synced.
    pub(crate) durability: Durability,
    /// What the doors take.
    pub(crate) ingest: IngestConfig,
    /// JSON of any shape, by name of the mapping that makes logs and metrics of it.
    pub(crate) mappings: BTreeMap<String, MappingConfig>,
    /// What comes in besides what is sent to the doors.
    pub(crate) sources: SourcesConfig,
    /// What holds for scrape jobs that say nothing else, as in prometheus.yml.
    pub(crate) global: GlobalConfig,
    /// Targets to scrape, as in prometheus.yml.
    pub(crate) scrape_configs: ScrapeConfigs,
    /// Files with more of them, which may be whole prometheus.yml files: glob patterns relative to the config file.
    pub(crate) scrape_config_files: Vec<String>,
    /// Where relative paths lead from.
    #[serde(skip)]
    folder: PathBuf,
    /// Rollups: windows in SQL.
    pub(crate) rollups: Vec<RollupConfig>,
    /// Which of the rollups that come with Highwater run.
    pub(crate) built_in_rollups: BuiltInRollups,
    /// Rule files, as glob patterns relative to the config file.
    pub(crate) rule_files: Vec<String>,
    /// Service level objectives: rules are made of them.
    pub(crate) slos: Vec<SloConfig>,
    /// Who is told of alerts.
    pub(crate) notify: NotifyConfig,
    /// The address under which people reach this server: templates and notifications link to it. `http://` and `http.listen` when absent.
    pub(crate) external_url: Option<String>,
    /// Labels that notifications add to every alert, and that templates see as `$externalLabels`.
    pub(crate) external_labels: BTreeMap<String, String>,
    /// How much memory windows take, and where the rest goes.
    pub(crate) state: StateSection,
    /// How tables are written.
    pub(crate) tables: TablesSection,
    /// Limits of SQL queries.
    pub(crate) sql: SqlConfig,
    /// Limits of PromQL queries.
    pub(crate) promql: PromqlConfig,
    /// Ship this process's own logs and this host's metrics into itself.
    pub(crate) self_monitoring: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(DEFAULT_DATA_DIR),
            roles: Roles::default(),
            api_keys: ApiKeysConfig::default(),
            limits: LimitsConfig::default(),
            http: HttpConfig::default(),
            kafka: KafkaSection::default(),
            otlp: OtlpSection::default(),
            pgwire: PgwireSection::default(),
            log: LogConfig::default(),
            storage: StorageConfig::default(),
            durability: Durability::Sync,
            ingest: IngestConfig::default(),
            mappings: BTreeMap::new(),
            sources: SourcesConfig::default(),
            global: GlobalConfig::default(),
            scrape_configs: ScrapeConfigs::default(),
            scrape_config_files: Vec::new(),
            folder: PathBuf::new(),
            rollups: Vec::new(),
            built_in_rollups: BuiltInRollups::default(),
            rule_files: Vec::new(),
            slos: Vec::new(),
            notify: NotifyConfig::default(),
            external_url: None,
            external_labels: BTreeMap::new(),
            state: StateSection::default(),
            tables: TablesSection::default(),
            sql: SqlConfig::default(),
            promql: PromqlConfig::default(),
            self_monitoring: true,
        }
    }
}

/// What Highwater fetches by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SourcesConfig {
    /// Topics of Kafka clusters.
    pub(crate) kafka: Vec<KafkaSourceConfig>,
}

/// Which log, and how much of it is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// Where the log is: in this process, or on a Kafka cluster that several processes share.
    pub(crate) kind: LogKind,
    /// How to reach that cluster.
    pub(crate) kafka: KafkaConfig,
    /// Partitions of `logs`, `metrics` and rollup topics, fixed when a topic is created.
    pub(crate) partitions: i32,
    /// Tasks over which groups of PromQL rules are spread, fixed when their topic is created.
    pub(crate) rule_partitions: i32,
    /// Records older than this leave the log once every table has passed them.
    #[serde(deserialize_with = "duration::deserialize")]
    pub(crate) retention: Duration,
    /// Size of one partition past which its oldest segments leave, once every table has passed them.
    pub(crate) retention_size_bytes: u64,
    /// Size at which a segment is closed and the next begun.
    pub(crate) segment_size_bytes: u64,
    /// Size of the whole log past which oldest segments leave even if a table still needs them (said loudly); none by default.
    pub(crate) disk_limit_bytes: Option<u64>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            kind: LogKind::Embedded,
            kafka: KafkaConfig::default(),
            partitions: 4,
            rule_partitions: 1,
            retention: Duration::from_secs(7 * 24 * 3600),
            retention_size_bytes: 8 << 30,
            segment_size_bytes: 128 << 20,
            disk_limit_bytes: None,
        }
    }
}

/// Which log is behind the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogKind {
    /// The broker in this process.
    Embedded,
    /// Apache Kafka, Redpanda, or what else speaks their protocol.
    Kafka,
}

/// Where tables and snapshots live.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StorageConfig {
    /// `file:///path` or `s3://bucket/prefix`; the data directory when absent.
    pub(crate) url: Option<String>,
    /// Settings of the object store: `endpoint`, `region`, `access_key_id`, ... What is not here comes from `AWS_*` in the environment.
    pub(crate) options: BTreeMap<String, String>,
}

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Synced to the disk.
    Sync,
    /// Handed to the operating system; a power cut may lose it.
    Relaxed,
}

impl Config {
    /// Reads a config file, or the defaults without one. Relative paths of other files are taken from the file's folder.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::in_key(&file, format!("cannot read the config file: {error}")))?;
        let mut config = Self::parse(&text, &file, |name| std::env::var(name).ok())?;
        if let Some(folder) = path.parent() {
            for pattern in &mut config.rule_files {
                *pattern = folder.join(&*pattern).display().to_string();
            }
            config.folder = folder.to_path_buf();
            config.api_keys.resolve(folder);
            config.http.resolve(folder);
            config.kafka.resolve(folder);
            config.otlp.resolve(folder);
            config.pgwire.resolve(folder);
            config.notify.resolve(folder);
            config.state.resolve(folder);
        }
        Ok(config)
    }

    fn parse(text: &str, file: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = env::substitute(text, file, lookup)?;
        // A file of comments only is a config with every default.
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text).map_err(|error| ConfigError::yaml(file, &error))
    }

    /// Where the Kafka port is, where there is one: it serves the embedded log.
    pub(crate) fn kafka_address(&self) -> Option<SocketAddr> {
        self.kafka.address().filter(|_| self.log.kind == LogKind::Embedded)
    }

    /// The keys that open the doors. Reads their file, if one is named.
    pub(crate) fn keys(&self) -> Result<Vec<ApiKey>, ConfigError> {
        let read = self.api_keys.read(|name| std::env::var(name).ok());
        read.map_err(|error| ConfigError::in_key(error.place, error.message))
    }

    /// The targets to scrape. Reads the files of jobs, if any are named.
    pub(crate) fn scrape(&self) -> Result<ScrapeConfig, ConfigError> {
        let refuse = |error: scrape::config::ConfigError| ConfigError::said(error.to_string());
        let mut written = self.scrape_configs.clone();
        written.add_files(&self.scrape_config_files, &self.folder).map_err(refuse)?;
        written.resolve(&self.global, &self.folder).map_err(refuse)
    }

    /// The address under which people reach this server.
    pub(crate) fn external_url(&self) -> String {
        self.external_url.clone().unwrap_or_else(|| format!("http://{}", self.http.listen))
    }

    /// What the types cannot say. Called once flags have had their say.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.roles.is_empty() {
            return Err(ConfigError::in_key("roles", "is empty; name some of gateway, worker and query"));
        }
        match self.log.kind {
            // Others reach the embedded log through its Kafka port; with no port, what this process does not do nobody does.
            LogKind::Embedded if !self.roles.are_all() && self.kafka_address().is_none() => {
                return Err(ConfigError::in_key(
                    "roles",
                    format!(
                        "{} alone cannot work on an embedded log that nobody else can reach; leave roles out, open the Kafka port \
                         (kafka.listen), or set log.kind: kafka",
                        self.roles
                    ),
                ));
            }
            LogKind::Embedded => {}
            LogKind::Kafka => {
                if let Some(Listen::At(address)) = self.kafka.listen {
                    return Err(ConfigError::in_key(
                        "kafka.listen",
                        format!(
                            "{address} would be the port of an embedded log, but the log is on {} (log.kind: kafka); leave kafka out",
                            self.log.kafka.brokers
                        ),
                    ));
                }
                self.log.kafka.validate().map_err(|error| ConfigError::in_key("log.kafka", error.to_string()))?;
            }
        }
        let has_keys = !self.keys()?.is_empty();
        self.limits.validate().map_err(|(key, what)| ConfigError::in_key(key, what))?;
        self.http.check(has_keys)?;
        if self.roles.has(Role::Gateway) {
            self.otlp.check(has_keys)?;
        }
        if self.log.kind == LogKind::Embedded {
            self.kafka.check(has_keys)?;
        }
        self.pgwire.check(has_keys)?;
        self.built_in_rollups.check()?;
        notify::receivers(&self.notify, "", &BTreeMap::new())
            .map_err(|error| ConfigError::in_key("config", error.to_string()))?;
        for (key, partitions) in
            [("log.partitions", self.log.partitions), ("log.rule_partitions", self.log.rule_partitions)]
        {
            if !(1..=1024).contains(&partitions) {
                return Err(ConfigError::in_key(key, format!("{partitions} is not within 1..=1024")));
            }
        }
        if self.log.segment_size_bytes < 1 << 20 {
            return Err(ConfigError::in_key("log.segment_size_bytes", "must be at least 1 MiB (1048576)"));
        }
        self.ingest.validate().map_err(|error| ConfigError::in_key("ingest", error.to_string()))?;
        if let Err(error) = bridge::validate_all(&self.sources.kafka) {
            return Err(match error {
                BridgeError::Config { key, reason } => ConfigError::in_key(key, reason),
                other => ConfigError::in_key("sources.kafka", other.to_string()),
            });
        }
        self.scrape()?;
        Mappings::new(&self.mappings).map_err(|error| ConfigError::said(error.to_string()))?;
        self.tables.check(self.sql.timeout)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let config = Config::parse(text, "hw.yaml", |_| None).map_err(|e| e.to_string())?;
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn an_empty_file_is_every_default() {
        for text in ["", "# nothing\n\n"] {
            let config = parse(text).unwrap();
            assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
            assert_eq!(config.log.partitions, 4);
            assert_eq!(config.tables.commit_interval, Duration::from_secs(10));
            assert!(config.self_monitoring);
        }
    }

    #[test]
    fn reads_the_outline_of_the_readme() {
        let config = parse(
            "data_dir: /tmp/x\nhttp: { listen: 127.0.0.1:0 }\ndurability: relaxed\nrollups:\n  - name: requests_1m\n    lateness: 2s\n    sql: |\n      SELECT 1\n",
        )
        .unwrap();
        assert_eq!(config.durability, Durability::Relaxed);
        assert_eq!(config.rollups[0].lateness_ms, 2_000);
        assert_eq!(config.rollups[0].sql, "SELECT 1\n");
    }

    #[test]
    fn some_roles_leave_the_rest_to_those_behind_the_kafka_port() {
        let config = parse("roles: [gateway, query]").unwrap();
        assert_eq!(config.kafka_address().unwrap().to_string(), "127.0.0.1:9092");
        assert_eq!(parse("log: { kind: kafka }").unwrap().kafka_address(), None);
        assert_eq!(parse("log: { kind: kafka }\nkafka: { listen: off }").unwrap().kafka_address(), None);
    }

    #[test]
    fn files_are_looked_for_beside_the_config_file() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "rule_files: [rules/*.yaml]\nkafka: { tls: { cert: a.pem, key: /etc/b.pem } }\napi_keys: keys.yaml\n";
        std::fs::write(dir.path().join("hw.yaml"), text).unwrap();
        let config = Config::load(Some(&dir.path().join("hw.yaml"))).unwrap();
        let tls = config.kafka.tls.clone().unwrap();
        assert_eq!((tls.cert, tls.key), (dir.path().join("a.pem"), PathBuf::from("/etc/b.pem")));
        let error = config.keys().unwrap_err().to_string();
        assert!(error.starts_with(&dir.path().join("keys.yaml").display().to_string()), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse("data_dir: x\nlog:\n  partitons: 4\n").unwrap_err();
        assert!(error.starts_with("hw.yaml:3:"), "{error}");
        assert!(error.contains("partitons"), "{error}");
    }

    #[test]
    fn topics_to_bridge_are_checked() {
        let config = parse(
            "sources:\n  kafka:\n    - brokers: k1:9092\n      topics: [app-logs]\n      format: json\n      security: { security.protocol: SSL }\n",
        )
        .unwrap();
        let source = &config.sources.kafka[0];
        assert_eq!((source.name.as_str(), source.tenant.as_str()), ("kafka", "default"));
        assert!(source.security.get("security.protocol") == Some(&"SSL".into()));
        let error = parse("sources: { kafka: [{ brokers: 'k:9092', topics: [] }] }").unwrap_err();
        assert!(error.contains("sources.kafka[kafka].topics: name at least one topic"), "{error}");
        let error = parse("sources:\n  kafka:\n    - brokers: k\n      topic: a\n").unwrap_err();
        assert!(error.contains("topic"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named() {
        let tables = "tables: { history: 7d, retention: [{ table: logs, age: 90d }, { table: logs, tenant: acme, size_bytes: 5 }] }";
        let settings = parse(tables).unwrap().tables.settings();
        assert_eq!((settings.history_ms, settings.retention.len()), (7 * 86_400_000, 2));
        assert_eq!(settings.retention[0].age_ms, Some(90 * 86_400_000));
        assert_eq!((settings.retention[1].age_ms, settings.retention[1].size_bytes), (None, Some(5)));
        assert!(parse("tables: { vacuum_after: 5s }").unwrap_err().contains("shorter than sql.timeout"));
        assert!(parse("tables: { history: 5s }").unwrap_err().contains("at least 3600000"));
        assert!(parse("tables: { retention: [{ table: logs, age: 0s }] }").unwrap_err().contains("nothing would stay"));
        let promote = |list: &str| parse(&format!("tables: {{ promote: [{list}] }}"));
        let config =
            promote("{ table: logs, attribute: http.route }, { table: spans, attribute: http.route }").unwrap();
        assert_eq!(config.tables.promote.len(), 2);
        let refused = |list: &str| promote(list).unwrap_err();
        assert!(refused("{ table: metrics, attribute: job }").contains("no map `attributes`"));
        assert!(refused("{ table: nothing, attribute: job }").contains("there are logs and spans"));
        assert!(refused("{ table: logs, attribute: User_Id }").contains("has a column `user_id`"));
        assert!(refused("{ table: logs, attribute: 'a b' }").contains("no blanks"));
        assert!(refused("{ table: logs, attribute: a }, { table: logs, attribute: A }").contains("has a column `a`"));
        assert!(parse("tables: { commit_interval: soon }").unwrap_err().contains("`soon` is not a duration"));
        assert!(parse("log: { partitions: 0 }").unwrap_err().contains("log.partitions"));
        assert!(parse("log: { rule_partitions: 2000 }").unwrap_err().contains("log.rule_partitions"));
        assert!(parse("roles: []").unwrap_err().contains("name some of"));
        let unreachable = parse("roles: [gateway]\nkafka: { listen: off }").unwrap_err();
        assert!(unreachable.contains("log.kind: kafka") && unreachable.contains("kafka.listen"), "{unreachable}");
        let two_logs = "log: { kind: kafka }\nkafka: { listen: \"127.0.0.1:9092\" }";
        assert!(parse(two_logs).unwrap_err().starts_with("kafka.listen: 127.0.0.1:9092 would be"));
        assert!(parse("roles: [worker]\nlog: { kind: kafka, kafka: { brokers: \"k:9092\" } }").is_ok());
        assert!(parse("durability: maybe").unwrap_err().contains("maybe"));
    }
}
