//! The configuration of everything in this crate.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::rollups::RollupConfig;
use crate::rules::RuleFile;

/// Rollups and rules, as the configuration file and the rule files have them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessorsConfig {
    /// The rollups, in order.
    pub rollups: Vec<RollupConfig>,
    /// The rule files, read. Not part of the YAML file: it names paths, and whoever reads it reads those.
    #[serde(skip)]
    pub rule_files: Vec<RuleFile>,
    /// Labels that templates of PromQL rules see as `$externalLabels`.
    #[serde(skip)]
    pub external_labels: BTreeMap<String, String>,
    /// The address of this server that templates of PromQL rules see as `$externalURL`.
    #[serde(skip)]
    pub external_url: String,
    /// Number of partitions of `logs`, `metrics`, rollups and partials (`log.partitions`).
    #[serde(skip)]
    pub partitions: i32,
    /// Whether tasks can read tables: rules that are new look back in them. Not part of the definitions.
    #[serde(skip)]
    pub has_history: bool,
    /// Number of tasks over which groups of PromQL rules are spread (`log.rule_partitions`).
    #[serde(skip)]
    pub rule_partitions: i32,
}

impl Default for ProcessorsConfig {
    fn default() -> Self {
        Self {
            rollups: Vec::new(),
            rule_files: Vec::new(),
            external_labels: BTreeMap::new(),
            external_url: String::new(),
            partitions: 4,
            has_history: true,
            rule_partitions: 1,
        }
    }
}
