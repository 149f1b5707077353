//! An agent with several sources, from a file.
//!
//! ```yaml
//! server: https://gateway:8080              # or kafka://k1:9092,k2:9092
//! api_key: ${HIGHWATER_API_KEY}
//! state_dir: /var/lib/highwater-agent
//! logs:
//!   - { service: nginx, files: [/var/log/nginx/*.log], exclude_files: ['*.gz'] }
//!   - service: kubernetes
//!     files: [/var/log/pods/*/*/*.log]
//!     multiline: traces
//!     redact: [{ pattern: email }]
//! metrics: [{ service: host }]
//! ```
//!
//! Each source has a spool of its own in the state directory, so that one that is full takes nothing from the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::logs::{Dates, FilterOptions, Input, LogsOptions, Multiline, MultilineLimits, Redaction, StartAt, Wrapping};
use super::metrics::MetricsOptions;
use super::{AgentError, ShippingOptions, WhenFull, host_name};

/// What one agent does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Where rows go: `http://HOST:PORT`, `https://HOST:PORT` or `kafka://HOST:PORT,...`.
    #[serde(default = "default_server")]
    server: String,
    #[serde(default)]
    api_key: Option<String>,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    /// Properties of librdkafka.
    #[serde(default)]
    kafka: BTreeMap<String, String>,
    /// Where positions and undelivered batches are kept.
    #[serde(default = "default_state_dir")]
    state_dir: PathBuf,
    #[serde(default)]
    host: Option<String>,
    /// Of every row of every source.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    spool: SpoolConfig,
    #[serde(default)]
    batch: BatchConfig,
    /// Where this agent's own metrics are, for Prometheus; nowhere by default.
    #[serde(default)]
    pub metrics_listen: Option<std::net::SocketAddr>,
    #[serde(default)]
    logs: Vec<LogSource>,
    #[serde(default)]
    metrics: Vec<MetricSource>,
}

/// One log source, or one metrics source.
#[derive(Debug, Clone)]
pub enum Source {
    /// Files.
    Logs(Box<LogsOptions>),
    /// This host.
    Metrics(Box<MetricsOptions>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SpoolConfig {
    /// Of each source.
    size_bytes: u64,
    when_full: Full,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Full {
    DropOldest,
    Wait,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { size_bytes: 1 << 30, when_full: Full::DropOldest }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BatchConfig {
    rows: usize,
    wait: Pause,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { rows: 1000, wait: Pause(Duration::from_secs(5)) }
    }
}

/// A duration such as `500ms` or `5s`.
#[derive(Debug, Clone, Copy)]
struct Pause(Duration);

impl<'de> Deserialize<'de> for Pause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map(Self)
            .map_err(|error| de::Error::custom(format!("`{text}` is not a duration ({error}); write 500ms or 5s")))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSource {
    /// Tells sources apart; the service where nothing is said.
    #[serde(default)]
    name: Option<String>,
    service: String,
    files: Vec<String>,
    #[serde(default)]
    exclude_files: Vec<String>,
    #[serde(default)]
    start: Start,
    /// What lines come in.
    #[serde(default)]
    format: Wrapping,
    #[serde(default)]
    multiline: MultilineConfig,
    #[serde(default)]
    max_line_bytes: Option<usize>,
    #[serde(default)]
    year: Option<i32>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    sample: Option<f64>,
    #[serde(default)]
    rows_per_s: Option<f64>,
    #[serde(default)]
    redact: Vec<Redaction>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Start {
    #[default]
    Beginning,
    End,
}

/// `off`, `traces`, or `{ start: REGEX }`.
#[derive(Debug, Clone, Default)]
struct MultilineConfig(Multiline);

impl<'de> Deserialize<'de> for MultilineConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Rule {
            #[serde(default)]
            start: Option<String>,
            #[serde(default)]
            wait: Option<Pause>,
            #[serde(default)]
            lines: Option<usize>,
        }
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = MultilineConfig;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("off, traces, or { start: REGEX, wait: 2s, lines: 1000 }")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<MultilineConfig, E> {
                match word {
                    "off" => Ok(MultilineConfig(Multiline::Off)),
                    "traces" => Ok(MultilineConfig(Multiline::Traces(MultilineLimits::default()))),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }

            // `off` is a boolean to some readers of YAML.
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<MultilineConfig, E> {
                self.visit_str(if on { "traces" } else { "off" })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<MultilineConfig, A::Error> {
                let rule = Rule::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let default = MultilineLimits::default();
                let limits = MultilineLimits {
                    wait: rule.wait.map_or(default.wait, |wait| wait.0),
                    lines: rule.lines.unwrap_or(default.lines),
                };
                Ok(MultilineConfig(match rule.start {
                    Some(pattern) => Multiline::Start(pattern, limits),
                    None => Multiline::Traces(limits),
                }))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricSource {
    #[serde(default)]
    name: Option<String>,
    service: String,
    #[serde(default)]
    interval: Option<Pause>,
    #[serde(default)]
    per_core: bool,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn default_server() -> String {
    "http://127.0.0.1:8080".to_owned()
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("highwater-agent")
}

impl AgentConfig {
    /// Reads a file's text. `file` is what errors call it.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn parse(text: &str, file: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| {
            let plain = error.without_snippet();
            let line = plain.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
            format!("{file}{line}: {plain}")
        })
    }

    /// All sources by name, checked as far as that goes without looking at files.
    ///
    /// # Errors
    /// Two sources of one name, or none at all.
    pub fn sources(&self) -> Result<Vec<(String, Source)>, AgentError> {
        let wrong = |option, reason: String| AgentError::Option { option, reason };
        let mut names = BTreeSet::new();
        let mut sources = Vec::new();
        for source in &self.logs {
            let name = source.name.as_ref().unwrap_or(&source.service).clone();
            if !names.insert(("logs", name.clone())) {
                return Err(wrong(
                    "logs",
                    format!("there are two sources named `{name}`; give each a name of its own"),
                ));
            }
            let options = self.logs(source, &name);
            options.check()?;
            sources.push((name, Source::Logs(Box::new(options))));
        }
        for source in &self.metrics {
            let name = source.name.as_ref().unwrap_or(&source.service).clone();
            if !names.insert(("metrics", name.clone())) {
                return Err(wrong(
                    "metrics",
                    format!("there are two sources named `{name}`; give each a name of its own"),
                ));
            }
            let options = self.metrics(source, &name);
            options.check()?;
            sources.push((name, Source::Metrics(Box::new(options))));
        }
        if sources.is_empty() {
            return Err(wrong("logs", "there is no source: name some under logs or metrics".to_owned()));
        }
        Ok(sources)
    }

    fn shipping(&self, kind: &str, name: &str) -> ShippingOptions {
        let below = super::default_state_dir(kind, name);
        // Without the folder that it begins with by default.
        let below: PathBuf = below.components().skip(1).collect();
        ShippingOptions {
            api_key: self.api_key.clone().filter(|key| !key.is_empty()),
            tenant: self.tenant.clone(),
            ca_file: self.ca_file.clone(),
            kafka: self.kafka.clone(),
            batch_rows: self.batch.rows,
            batch_wait: self.batch.wait.0,
            spool_size_bytes: self.spool.size_bytes,
            when_full: match self.spool.when_full {
                Full::DropOldest => WhenFull::DropOldest,
                Full::Wait => WhenFull::Wait,
            },
            ..ShippingOptions::new(self.server.clone(), self.state_dir.join(below))
        }
    }

    fn host(&self) -> String {
        self.host.clone().unwrap_or_else(host_name)
    }

    fn labels(&self, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        self.labels.iter().chain(own).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn logs(&self, source: &LogSource, name: &str) -> LogsOptions {
        let input = Input::Files {
            patterns: source.files.clone(),
            exclude: source.exclude_files.clone(),
            start: match source.start {
                Start::Beginning => StartAt::Beginning,
                Start::End => StartAt::End,
            },
            follow: true,
        };
        let options = LogsOptions::new(self.shipping("logs", name), &source.service, self.host(), input);
        LogsOptions {
            labels: self.labels(&source.labels),
            wrapping: source.format,
            filters: FilterOptions {
                include: source.include.clone(),
                exclude: source.exclude.clone(),
                sample: source.sample,
                rows_per_s: source.rows_per_s,
                redact: source.redact.clone(),
            },
            multiline: source.multiline.0.clone(),
            dates: Dates { year: source.year, ..Dates::default() },
            line_size_bytes: source.max_line_bytes.unwrap_or(options.line_size_bytes),
            ..options
        }
    }

    fn metrics(&self, source: &MetricSource, name: &str) -> MetricsOptions {
        let mut options = MetricsOptions::new(self.shipping("metrics", name), &source.service, self.host());
        options.collect.labels = self.labels(&source.labels);
        options.collect.per_core = source.per_core;
        options.interval = source.interval.map_or(options.interval, |interval| interval.0);
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(yaml: &str) -> Result<Vec<(String, Source)>, String> {
        AgentConfig::parse(yaml, "agent.yaml")?.sources().map_err(|error| error.to_string())
    }

    #[test]
    fn each_source_has_its_own_settings_and_spool() {
        let all = sources(
            "server: kafka://k1:9092\nstate_dir: /var/lib/hw\nlabels: { env: prod }\nkafka: { security.protocol: SSL }\n\
             spool: { size_bytes: 1000, when_full: wait }\nlogs:\n\
             - { service: web, files: ['/var/log/*.log'], exclude_files: ['*.gz'], labels: { zone: a }, format: plain }\n\
             - { name: traces, service: web, files: [/b.log], start: end, multiline: { start: '^\\d', wait: 3s, lines: 9 } }\n\
             - { service: pods, files: [/c.log], multiline: traces, sample: 0.5, redact: [{ pattern: email }] }\n\
             metrics: [{ service: host, interval: 30s, per_core: true }]\n",
        )
        .unwrap();
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["web", "traces", "pods", "host"]);
        let [(_, Source::Logs(web)), (_, Source::Logs(traces)), (_, Source::Logs(pods)), (_, Source::Metrics(host))] =
            all.as_slice()
        else {
            panic!("{all:?}");
        };
        assert_eq!(web.shipping.state_dir, PathBuf::from("/var/lib/hw/logs/web"));
        assert_eq!(host.shipping.state_dir, PathBuf::from("/var/lib/hw/metrics/host"));
        assert_eq!((web.shipping.spool_size_bytes, web.shipping.when_full), (1_000, WhenFull::Wait));
        assert_eq!(web.labels, BTreeMap::from([("env".into(), "prod".into()), ("zone".into(), "a".into())]));
        assert_eq!(web.wrapping, Wrapping::Plain);
        let limits = MultilineLimits { wait: Duration::from_secs(3), lines: 9 };
        assert_eq!(traces.multiline, Multiline::Start(r"^\d".into(), limits));
        assert!(matches!(traces.input, Input::Files { start: StartAt::End, .. }));
        assert_eq!(pods.multiline, Multiline::Traces(MultilineLimits::default()));
        assert_eq!((pods.filters.sample, pods.filters.redact[0].replacement.as_str()), (Some(0.5), "[REDACTED]"));
        assert_eq!((host.interval, host.collect.per_core), (Duration::from_secs(30), true));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (yaml, said) in [
            ("logs:\n  - { service: a, fils: [x] }\n", "agent.yaml:2"),
            ("logs: [{ service: a, files: [x], multiline: sometimes }]", "off, traces"),
            ("metrics: [{ service: a, interval: soon }]", "is not a duration"),
            ("server: http://a", "there is no source"),
            ("logs: [{ service: a, files: [x] }, { service: a, files: [y] }]", "two sources named `a`"),
            ("logs: [{ service: '', files: [x] }]", "--service"),
        ] {
            let error = sources(yaml).unwrap_err();
            assert!(error.contains(said), "{yaml}: {error}");
        }
    }
}
