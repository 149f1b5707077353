//! `global` of a prometheus.yml.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::absent::Absent;
use super::{ConfigError, Escaping, PromDuration, Protocol, Size, Validation};

/// What holds for jobs that say nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GlobalConfig {
    /// How often targets are scraped; 1 minute where nothing is said.
    pub scrape_interval: Option<PromDuration>,
    /// How long a scrape may take; 10 seconds where nothing is said.
    pub scrape_timeout: Option<PromDuration>,
    /// Expositions that are understood, best first.
    pub scrape_protocols: Option<Vec<Protocol>>,
    /// Limits of each scrape.
    pub body_size_limit: Option<Size>,
    /// See [`JobConfig::sample_limit`](super::JobConfig::sample_limit).
    pub sample_limit: Option<usize>,
    /// See [`JobConfig::target_limit`](super::JobConfig::target_limit).
    pub target_limit: Option<usize>,
    /// See [`JobConfig::label_limit`](super::JobConfig::label_limit).
    pub label_limit: Option<usize>,
    /// See [`JobConfig::label_name_length_limit`](super::JobConfig::label_name_length_limit).
    pub label_name_length_limit: Option<usize>,
    /// See [`JobConfig::label_value_length_limit`](super::JobConfig::label_value_length_limit).
    pub label_value_length_limit: Option<usize>,
    /// Dropped targets that are remembered, for people.
    pub keep_dropped_targets: Option<usize>,
    /// See [`JobConfig::native_histograms`](super::JobConfig::native_histograms).
    pub scrape_native_histograms: Option<bool>,
    /// See [`JobConfig::classic_histograms`](super::JobConfig::classic_histograms).
    pub always_scrape_classic_histograms: Option<bool>,
    /// See [`JobConfig::extra_metrics`](super::JobConfig::extra_metrics).
    pub extra_scrape_metrics: Option<bool>,
    /// Which names samples may have.
    pub metric_name_validation_scheme: Validation,
    /// How targets are to write names that are not plain.
    pub metric_name_escaping_scheme: Option<Escaping>,
    #[serde(rename = "convert_classic_histograms_to_nhcb")]
    convert_classic: Absent,
    #[serde(rename = "scrape_failure_log_file")]
    failure_log: Absent,
    evaluation_interval: Said,
    rule_query_offset: Said,
    external_labels: Said,
    query_log_file: Said,
}

/// A key that is no business of scraping: whether it was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Said(pub(super) bool);

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

impl GlobalConfig {
    /// Keys that are there and are no business of scraping, and what to do instead.
    fn others(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let all = [
            (self.evaluation_interval, "evaluation_interval", "give rule groups an interval each"),
            (self.rule_query_offset, "rule_query_offset", "rules wait for data by event time: leave it out"),
            (self.external_labels, "external_labels", "external_labels is a key of the file itself, beside global"),
            (self.query_log_file, "query_log_file", "leave it out"),
        ];
        all.into_iter().filter(|(said, ..)| said.0).map(|(_, key, instead)| (key, instead))
    }

    /// What a file of Prometheus says to others than its scrapes.
    pub(super) fn not_taken(&self) -> impl Iterator<Item = String> {
        self.others().map(|(key, _)| format!("global.{key}"))
    }

    /// Refuses, in a configuration of Highwater, what would mean nothing.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some((key, instead)) = self.others().next() {
            return Err(format!("global: {key} is not there in Highwater: {instead}").into());
        }
        self.check_times()
    }

    /// What of it contradicts itself.
    pub(super) fn check_times(&self) -> Result<(), ConfigError> {
        if let (Some(interval), Some(timeout)) = (self.scrape_interval, self.scrape_timeout)
            && timeout > interval
        {
            return Err("global: scrape_timeout is longer than scrape_interval".into());
        }
        Ok(())
    }
}
