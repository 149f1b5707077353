//! `scrape_configs` as in prometheus.yml. Files written for Prometheus load unchanged; what is not known, or not there, is an error with its place.

mod absent;
mod discovery;
mod files;
mod global;
mod http_client;
mod names;
mod oauth2;
mod relabel;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use absent::{Absent, NoDiscovery};
pub use discovery::{DnsSdConfig, FileSdConfig, HttpSdConfig, RecordKind, ServerConfig};
use discovery::{WrittenDnsSd, WrittenHttpSd};
pub use global::GlobalConfig;
use http_client::with_http_keys;
pub use http_client::{Authorization, BasicAuth, HttpClientConfig, HttpHeader, ProxyConfig, TlsConfig};
pub use names::{Escaping, Names, Validation};
pub use oauth2::OAuth2;
pub use relabel::{Action, RelabelConfig};
pub use units::{Hidden, PromDuration, Size, Text};

use super::relabel::Relabelling;

/// What is wrong with a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl From<&str> for ConfigError {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for ConfigError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// An exposition that a target may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// Protobuf messages with their sizes.
    PrometheusProto,
    /// Text.
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText0_0_4,
    /// Text with names in UTF-8.
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText1_0_0,
    /// OpenMetrics, a draft.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText0_0_1,
    /// OpenMetrics.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText1_0_0,
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain.
    #[default]
    Http,
    /// Under TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Targets with labels of their own: an entry of `static_configs`, or of a file of targets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetGroup {
    /// Addresses, `host:port`.
    pub targets: Vec<Text>,
    /// Labels of all of them.
    pub labels: BTreeMap<String, Text>,
}

with_http_keys! {
/// One entry of `scrape_configs`, as it is written down.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    job_name: String,
    scrape_interval: Option<PromDuration>,
    scrape_timeout: Option<PromDuration>,
    scrape_protocols: Option<Vec<Protocol>>,
    fallback_scrape_protocol: Option<Protocol>,
    scrape_native_histograms: Option<bool>,
    always_scrape_classic_histograms: Option<bool>,
    metrics_path: Option<String>,
    scheme: Scheme,
    params: BTreeMap<String, Vec<Text>>,
    honor_labels: bool,
    honor_timestamps: Option<bool>,
    track_timestamps_staleness: bool,
    enable_compression: Option<bool>,
    body_size_limit: Option<Size>,
    sample_limit: Option<usize>,
    target_limit: Option<usize>,
    label_limit: Option<usize>,
    label_name_length_limit: Option<usize>,
    label_value_length_limit: Option<usize>,
    keep_dropped_targets: Option<usize>,
    extra_scrape_metrics: Option<bool>,
    metric_name_validation_scheme: Validation,
    metric_name_escaping_scheme: Option<Escaping>,
    static_configs: Vec<TargetGroup>,
    file_sd_configs: Vec<FileSdConfig>,
    http_sd_configs: Vec<WrittenHttpSd>,
    dns_sd_configs: Vec<WrittenDnsSd>,
    relabel_configs: Vec<RelabelConfig>,
    metric_relabel_configs: Vec<RelabelConfig>,
    #[serde(rename = "convert_classic_histograms_to_nhcb")]
    convert_classic: Absent,
    #[serde(rename = "native_histogram_bucket_limit", alias = "native_histogram_min_bucket_factor")]
    fewer_buckets: Absent,
    #[serde(rename = "scrape_failure_log_file")]
    failure_log: Absent,
    #[serde(
        rename = "kubernetes_sd_configs",
        alias = "aws_sd_configs",
        alias = "azure_sd_configs",
        alias = "consul_sd_configs",
        alias = "digitalocean_sd_configs",
        alias = "docker_sd_configs",
        alias = "dockerswarm_sd_configs",
        alias = "ec2_sd_configs",
        alias = "ecs_sd_configs",
        alias = "elasticache_sd_configs",
        alias = "eureka_sd_configs",
        alias = "gce_sd_configs",
        alias = "hetzner_sd_configs",
        alias = "ionos_sd_configs",
        alias = "kuma_sd_configs",
        alias = "lightsail_sd_configs",
        alias = "linode_sd_configs",
        alias = "marathon_sd_configs",
        alias = "msk_sd_configs",
        alias = "nerve_sd_configs",
        alias = "nomad_sd_configs",
        alias = "oci_sd_configs",
        alias = "openstack_sd_configs",
        alias = "outscale_sd_configs",
        alias = "ovhcloud_sd_configs",
        alias = "puppetdb_sd_configs",
        alias = "rds_sd_configs",
        alias = "scaleway_sd_configs",
        alias = "serverset_sd_configs",
        alias = "stackit_sd_configs",
        alias = "triton_sd_configs",
        alias = "uyuni_sd_configs",
        alias = "vultr_sd_configs"
    )]
    other_discovery: NoDiscovery,
    /// Not Prometheus's: whose samples they are.
    tenant: Option<String>,
    /// What its file says of timeouts: it yields to a short interval.
    #[serde(skip)]
    default_timeout: Option<PromDuration>,
    /// Where its relative paths lead from, where that is not the folder of the configuration.
    #[serde(skip)]
    folder: Option<PathBuf>,
}
}

/// One job, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct JobConfig {
    /// Its name, the label `job` of its targets.
    pub job_name: String,
    /// How often.
    pub scrape_interval: PromDuration,
    /// How long at most.
    pub scrape_timeout: PromDuration,
    /// What is asked for, best first.
    pub protocols: Vec<Protocol>,
    /// How to read what says nothing of itself.
    pub fallback_protocol: Option<Protocol>,
    /// Whether native histograms are taken.
    pub native_histograms: bool,
    /// Whether classic buckets are taken beside native ones.
    pub classic_histograms: bool,
    /// Whether the report has `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` too.
    pub extra_metrics: bool,
    /// Which names samples may have, and how targets are asked to write them.
    pub names: Names,
    /// Where on the target.
    pub metrics_path: String,
    /// How to get there.
    pub scheme: Scheme,
    /// Parameters of the URL.
    pub params: BTreeMap<String, Vec<String>>,
    /// Labels of the target yield to those of its samples; otherwise those are renamed to `exported_...`.
    pub honor_labels: bool,
    /// Times that samples have are theirs; otherwise they have the scrape's.
    pub honor_timestamps: bool,
    /// Series whose samples have times go stale too.
    pub track_timestamps_staleness: bool,
    /// Whether gzip may be used.
    pub enable_compression: bool,
    /// Bytes of an exposition, decompressed; 0 is no limit. Past it the scrape fails.
    pub body_size_limit: usize,
    /// Samples after relabelling; 0 is no limit. Past it the scrape fails.
    pub sample_limit: usize,
    /// Targets after relabelling; 0 is no limit. Past it all of the job's scrapes fail.
    pub target_limit: usize,
    /// Labels of a sample; 0 is no limit. Past it the scrape fails.
    pub label_limit: usize,
    /// Bytes of a label's name; 0 is no limit.
    pub label_name_length_limit: usize,
    /// Bytes of a label's value; 0 is no limit.
    pub label_value_length_limit: usize,
    /// Dropped targets that are remembered; 0 is no limit.
    pub keep_dropped_targets: usize,
    /// Targets that are written down.
    pub static_configs: Vec<TargetGroup>,
    /// Files of targets.
    pub file_sd_configs: Vec<FileSdConfig>,
    /// Servers that are asked for targets.
    pub servers: Vec<ServerConfig>,
    /// What is done to targets.
    pub relabel: Relabelling,
    /// What is done to samples.
    pub metric_relabel: Relabelling,
    /// How targets are asked.
    pub http: HttpClientConfig,
    /// Whose samples they are.
    pub tenant: crate::data::Tenant,
}

/// All jobs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScrapeConfig {
    /// In the order in which they are written.
    pub jobs: Vec<JobConfig>,
}

/// Jobs as they are written down; [`ScrapeConfigs::resolve`] fills in the rest.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct ScrapeConfigs(Vec<Written>);

impl ScrapeConfigs {
    /// Fills in defaults, checks, and takes relative paths from this folder.
    ///
    /// # Errors
    /// What is wrong, with the name of the job.
    pub fn resolve(&self, global: &GlobalConfig, folder: &Path) -> Result<ScrapeConfig, ConfigError> {
        global.check()?;
        let mut names = BTreeSet::new();
        let mut jobs = Vec::with_capacity(self.0.len());
        for (index, written) in self.0.iter().enumerate() {
            if written.job_name.is_empty() {
                return Err(format!("scrape_configs[{index}]: job_name is missing or empty").into());
            }
            let in_job = |error: ConfigError| format!("scrape_configs: job {:?}: {error}", written.job_name);
            if !names.insert(written.job_name.as_str()) {
                return Err(in_job("there are two jobs of this name".into()).into());
            }
            let mut whole = written.clone();
            whole.inherit(global);
            jobs.push(whole.resolve(written.folder.as_deref().unwrap_or(folder)).map_err(in_job)?);
        }
        Ok(ScrapeConfig { jobs })
    }
}

impl Written {
    /// What the job does not say is as `global` says: that of its file, and then that of the configuration.
    fn inherit(&mut self, global: &GlobalConfig) {
        fn fill<T: Clone>(own: &mut Option<T>, global: Option<&T>) {
            if own.is_none() {
                *own = global.cloned();
            }
        }
        fill(&mut self.scrape_interval, global.scrape_interval.as_ref());
        fill(&mut self.default_timeout, global.scrape_timeout.as_ref());
        fill(&mut self.scrape_protocols, global.scrape_protocols.as_ref());
        fill(&mut self.scrape_native_histograms, global.scrape_native_histograms.as_ref());
        fill(&mut self.always_scrape_classic_histograms, global.always_scrape_classic_histograms.as_ref());
        fill(&mut self.body_size_limit, global.body_size_limit.as_ref());
        fill(&mut self.sample_limit, global.sample_limit.as_ref());
        fill(&mut self.target_limit, global.target_limit.as_ref());
        fill(&mut self.label_limit, global.label_limit.as_ref());
        fill(&mut self.label_name_length_limit, global.label_name_length_limit.as_ref());
        fill(&mut self.label_value_length_limit, global.label_value_length_limit.as_ref());
        fill(&mut self.keep_dropped_targets, global.keep_dropped_targets.as_ref());
        fill(&mut self.extra_scrape_metrics, global.extra_scrape_metrics.as_ref());
        (self.metric_name_validation_scheme, self.metric_name_escaping_scheme) = names::inherit(
            (self.metric_name_validation_scheme, self.metric_name_escaping_scheme),
            (global.metric_name_validation_scheme, global.metric_name_escaping_scheme),
        );
    }

    /// When nothing more is inherited.
    fn resolve(&self, folder: &Path) -> Result<JobConfig, ConfigError> {
        let scrape_interval = self.scrape_interval.unwrap_or(PromDuration(Duration::from_secs(60)));
        if scrape_interval.0.is_zero() {
            return Err("scrape_interval must be above 0".into());
        }
        let scrape_timeout = match self.scrape_timeout {
            Some(timeout) if timeout > scrape_interval => {
                return Err("scrape_timeout is longer than scrape_interval".into());
            }
            Some(timeout) => timeout,
            // The default yields to a short interval.
            None => self.default_timeout.unwrap_or(PromDuration(Duration::from_secs(10))).min(scrape_interval),
        };
        if scrape_timeout.0.is_zero() {
            return Err("scrape_timeout must be above 0".into());
        }
        let names = Names::new(self.metric_name_validation_scheme, self.metric_name_escaping_scheme)?;
        let native_histograms = self.scrape_native_histograms.unwrap_or(false);
        let protocols = protocols(self.scrape_protocols.as_deref(), native_histograms)?;
        let http = self.http(folder)?;
        let file_sd_configs = self.file_sd_configs.iter().map(|sd| sd.resolve(folder)).collect::<Result<_, _>>()?;
        let listing =
            self.http_sd_configs.iter().map(|sd| sd.resolve(folder).map(|sd| ServerConfig::Http(Box::new(sd))));
        let naming = self.dns_sd_configs.iter().map(|sd| sd.resolve().map(ServerConfig::Dns));
        let servers = listing.chain(naming).collect::<Result<_, _>>()?;
        for group in &self.static_configs {
            for target in &group.targets {
                if target.0.contains("://") || target.0.contains('/') {
                    return Err(format!("{:?} is not a valid hostname: a target is host:port", target.0).into());
                }
            }
            for name in group.labels.keys() {
                if name.is_empty() {
                    return Err("static_configs: a label without a name".into());
                }
            }
        }
        let text = |texts: &[Text]| texts.iter().map(|text| text.0.clone()).collect::<Vec<_>>();
        let tenant = self.tenant.as_deref().unwrap_or(crate::data::Tenant::DEFAULT);
        Ok(JobConfig {
            job_name: self.job_name.clone(),
            scrape_interval,
            scrape_timeout,
            protocols,
            fallback_protocol: self.fallback_scrape_protocol,
            native_histograms,
            classic_histograms: self.always_scrape_classic_histograms.unwrap_or(false),
            extra_metrics: self.extra_scrape_metrics.unwrap_or(false),
            names,
            metrics_path: self.metrics_path.clone().unwrap_or_else(|| "/metrics".into()),
            scheme: self.scheme,
            params: self.params.iter().map(|(name, values)| (name.clone(), text(values))).collect(),
            honor_labels: self.honor_labels,
            honor_timestamps: self.honor_timestamps.unwrap_or(true),
            track_timestamps_staleness: self.track_timestamps_staleness,
            enable_compression: self.enable_compression.unwrap_or(true),
            body_size_limit: self.body_size_limit.unwrap_or_default().0,
            sample_limit: self.sample_limit.unwrap_or(0),
            target_limit: self.target_limit.unwrap_or(0),
            label_limit: self.label_limit.unwrap_or(0),
            label_name_length_limit: self.label_name_length_limit.unwrap_or(0),
            label_value_length_limit: self.label_value_length_limit.unwrap_or(0),
            keep_dropped_targets: self.keep_dropped_targets.unwrap_or(0),
            static_configs: self.static_configs.clone(),
            file_sd_configs,
            servers,
            relabel: Relabelling::new(&self.relabel_configs).map_err(|error| format!("relabel_configs{error}"))?,
            metric_relabel: Relabelling::new(&self.metric_relabel_configs)
                .map_err(|error| format!("metric_relabel_configs{error}"))?,
            http,
            tenant: crate::data::Tenant::new(tenant).map_err(|error| error.to_string())?,
        })
    }
}

/// What is asked for, best first.
fn protocols(named: Option<&[Protocol]>, native_histograms: bool) -> Result<Vec<Protocol>, ConfigError> {
    use Protocol::{
        OpenMetricsText0_0_1, OpenMetricsText1_0_0, PrometheusProto, PrometheusText0_0_4, PrometheusText1_0_0,
    };
    let Some(named) = named else {
        let text = [OpenMetricsText1_0_0, OpenMetricsText0_0_1, PrometheusText1_0_0, PrometheusText0_0_4];
        // Only protobuf has native histograms.
        return Ok(native_histograms.then_some(PrometheusProto).into_iter().chain(text).collect());
    };
    if named.is_empty() {
        return Err("scrape_protocols: name at least one, or leave the key out".into());
    }
    if let Some(double) = named.iter().enumerate().find(|(at, protocol)| named[..*at].contains(protocol)) {
        return Err(format!("scrape_protocols: {:?} is there twice", double.1).into());
    }
    Ok(named.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<ScrapeConfig, String> {
        let written: ScrapeConfigs = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        written.resolve(&GlobalConfig::default(), Path::new("/etc/hw")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_job_of_prometheus_loads_unchanged() {
        let yaml = r#"
- job_name: node
  scrape_interval: 15s
  scrape_timeout: 5s
  metrics_path: /probe
  scheme: https
  honor_labels: true
  honor_timestamps: false
  sample_limit: 100
  body_size_limit: 10MB
  params: { module: [http_2xx], n: [1] }
  basic_auth: { username: me, password_file: secret }
  tls_config: { ca_file: ca.pem, insecure_skip_verify: true, server_name: node }
  static_configs:
    - targets: ['a:9100', "b:9100"]
      labels: { env: prod, shard: 1 }
  file_sd_configs:
    - files: ['targets/*.json']
      refresh_interval: 30s
  relabel_configs:
    - source_labels: [__address__]
      regex: '(.*):\d+'
      target_label: host
  metric_relabel_configs:
    - { source_labels: [__name__], regex: 'go_.*', action: drop }
"#;
        let config = read(yaml).unwrap();
        let job = &config.jobs[0];
        assert_eq!((job.scrape_interval.as_ms(), job.scrape_timeout.as_ms()), (15_000, 5_000));
        assert_eq!((job.sample_limit, job.body_size_limit), (100, 10 << 20));
        assert_eq!(job.params["n"], ["1"]);
        assert_eq!(job.static_configs[0].labels["shard"], Text("1".into()));
        assert_eq!(job.file_sd_configs[0].files, [PathBuf::from("/etc/hw/targets/*.json")]);
        assert_eq!(job.http.tls_config.ca_file, Some("/etc/hw/ca.pem".into()));
        assert_eq!(job.http.basic_auth.as_ref().unwrap().password_file, Some("/etc/hw/secret".into()));
        assert_eq!(job.protocols.len(), 4);
        assert!(job.honor_labels && !job.honor_timestamps && job.http.follow_redirects);
    }

    #[test]
    fn defaults_are_prometheus_defaults() {
        let config = read("[{ job_name: a }, { job_name: b, scrape_interval: 5s }]").unwrap();
        let of = |at: usize| (config.jobs[at].scrape_interval.as_ms(), config.jobs[at].scrape_timeout.as_ms());
        assert_eq!((of(0), of(1)), ((60_000, 10_000), (5_000, 5_000)));
        assert_eq!((config.jobs[0].metrics_path.as_str(), config.jobs[0].scheme), ("/metrics", Scheme::Http));
    }

    #[test]
    fn keys_that_say_nothing_are_taken() {
        let yaml = "[{ job_name: a, kubernetes_sd_configs: [], convert_classic_histograms_to_nhcb: false, \
                     native_histogram_bucket_limit: 0, scrape_failure_log_file: '' }]";
        assert_eq!(read(yaml).unwrap().jobs.len(), 1);
        let global: GlobalConfig = serde_saphyr::from_str("evaluation_interval: 15s").unwrap();
        let error = ScrapeConfigs::default().resolve(&global, Path::new("/")).unwrap_err().to_string();
        assert_eq!(error, "global: evaluation_interval is not there in Highwater: give rule groups an interval each");
    }

    #[test]
    fn names_are_looked_up_as_prometheus_does() {
        let yaml =
            "[{ job_name: a, dns_sd_configs: [{ names: [_m._tcp.example] }, { names: [b], type: aaaa, port: 80 }] }]";
        let servers = read(yaml).unwrap().jobs.swap_remove(0).servers;
        let dns = |names: &str, kind, port| {
            ServerConfig::Dns(DnsSdConfig {
                names: vec![names.into()],
                kind,
                port,
                refresh_interval: PromDuration(Duration::from_secs(30)),
            })
        };
        assert_eq!(servers, [dns("_m._tcp.example", RecordKind::Srv, 0), dns("b", RecordKind::Aaaa, 80)]);
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, said) in [
            ("[{ job_name: a, scrape_intervall: 5s }]", "scrape_intervall"),
            ("[{ scrape_interval: 5s }]", "job_name is missing"),
            ("[{ job_name: a }, { job_name: a }]", "two jobs of this name"),
            ("[{ job_name: a, scrape_interval: 5s, scrape_timeout: 6s }]", "longer than scrape_interval"),
            (
                "[{ job_name: a, consul_sd_configs: [{ server: a }] }]",
                "this discovery of Prometheus is not there in Highwater",
            ),
            ("[{ job_name: a, convert_classic_histograms_to_nhcb: true }]", "this key of Prometheus is not there"),
            ("[{ job_name: a, dns_sd_configs: [{ names: [] }] }]", "name at least one name"),
            ("[{ job_name: a, dns_sd_configs: [{ names: [a], type: A }] }]", "port is missing"),
            ("[{ job_name: a, dns_sd_configs: [{ names: [a], type: TXT }] }]", "none of SRV, A, AAAA, MX and NS"),
            ("[{ job_name: a, oauth2: { token_url: 'http://a/' } }]", "oauth2: client_id is missing"),
            ("[{ job_name: a, oauth2: { client_id: a, token_url: a } }]", "oauth2: token_url \"a\""),
            (
                "[{ job_name: a, oauth2: { client_id: a, token_url: 'http://a/', grant_type: password } }]",
                "only client_credentials is",
            ),
            (
                "[{ job_name: a, oauth2: { client_id: a, token_url: 'http://a/', iss: b } }]",
                "this key of Prometheus is not there",
            ),
            (
                "[{ job_name: a, bearer_token: x, oauth2: { client_id: a, token_url: 'http://a/' } }]",
                "at most one of basic_auth, authorization, oauth2",
            ),
            ("[{ job_name: a, no_proxy: b }]", "no_proxy needs a proxy_url"),
            ("[{ job_name: a, proxy_url: 'socks5://a:1' }]", "write http://host:port"),
            ("[{ job_name: a, http_headers: { Authorization: { values: [x] } } }]", "is set otherwise"),
            ("[{ job_name: a, scrape_protocols: [] }]", "name at least one"),
            (
                "[{ job_name: a, scrape_protocols: [PrometheusProto, PrometheusProto] }]",
                "PrometheusProto is there twice",
            ),
            ("[{ job_name: a, static_configs: [{ targets: ['http://a:1'] }] }]", "not a valid hostname"),
            ("[{ job_name: a, file_sd_configs: [{ files: [a.txt] }] }]", ".json, .yml or .yaml"),
            ("[{ job_name: a, http_sd_configs: [{ url: 'ftp://a/b' }] }]", "the scheme must be http or https"),
            ("[{ job_name: a, http_sd_configs: [{ refresh_interval: 5s }] }]", "url"),
            (
                "[{ job_name: a, http_sd_configs: [{ url: 'http://a', bearer_token: x, bearer_token_file: y }] }]",
                "at most one",
            ),
            ("[{ job_name: a, metric_name_validation_scheme: ascii }]", "ascii"),
            (
                "[{ job_name: a, metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8 }]",
                "metric_name_escaping_scheme",
            ),
            ("[{ job_name: a, bearer_token: x, authorization: { credentials: y } }]", "at most one of"),
            ("[{ job_name: a, relabel_configs: [{ action: fly }] }]", "unknown relabel action"),
            ("[{ job_name: a, relabel_configs: [{ regex: '(' }] }]", "relabel_configs[0]"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(said), "{yaml}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = read("[{ job_name: a, basic_auth: { username: u, password: hunter2 } }]").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let yaml = "[{ job_name: a, oauth2: { client_id: u, client_secret: hunter2, token_url: 'http://a/t' }, \
                     proxy_url: 'http://p:1', proxy_connect_header: { Proxy-Authorization: [hunter2] } }]";
        assert!(!format!("{:?}", read(yaml).unwrap()).contains("hunter2"));
    }
}
