//! From the config file to what runs: rollups and rules planned and checked, topics and tables named.

use highwater_pipeline::log::TopicConfig;
use highwater_pipeline::tables::{TableSpec, built_in_tables, rollup_table};
use highwater_processors::rollups;
use highwater_processors::rules::{RuleFile, slos};
use highwater_processors::{ProcessorsConfig, topology};

use crate::config::{Config, ConfigError, TablesSection};

/// Everything a config comes to.
pub(crate) struct Topology {
    inner: highwater_processors::Topology,
    tables: Vec<TableSpec>,
}

impl Topology {
    /// All tables: the built-in ones and one per rollup.
    pub(crate) fn tables(&self) -> &[TableSpec] {
        &self.tables
    }

    /// The same with columns for the attributes that are promoted.
    pub(crate) fn promoted(mut self, tables: &TablesSection) -> Result<Self, ConfigError> {
        tables.promote(&mut self.tables)?;
        Ok(self)
    }

    /// Number of rules in all files.
    pub(crate) fn rule_count(&self) -> usize {
        self.inner.rules.len() + self.inner.groups.iter().map(|group| group.rules.len()).sum::<usize>()
    }

    /// Topics that must exist.
    pub(crate) fn topics(&self) -> &[(String, TopicConfig)] {
        &self.inner.topics
    }

    /// Names of the topics that workers share: whoever owns a partition runs its task and writes its rows into tables.
    pub(crate) fn shared_topics(&self) -> Vec<String> {
        self.inner.topics.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// Plans and checks the rollups and rules of a config file. Reads the rule files; touches nothing else.
pub(crate) fn build(config: &Config) -> Result<Topology, ConfigError> {
    plan(&processors(config)?)
}

/// The rollups and rules of a config file, as they are written.
pub(crate) fn processors(config: &Config) -> Result<ProcessorsConfig, ConfigError> {
    let taken = |name: &str| config.rollups.iter().any(|rollup| rollup.name == name);
    let mut rollups = rollups::built_in(|name| config.built_in_rollups.has(name), taken);
    rollups.extend(config.rollups.iter().cloned());
    let mut rule_files = read_rule_files(&config.rule_files)?;
    let slos = slos::rule_file(&config.slos).map_err(|error| ConfigError::in_key("slos", said(&error)))?;
    rule_files.extend(slos);
    Ok(ProcessorsConfig {
        rollups,
        rule_files,
        partitions: config.log.partitions,
        rule_partitions: config.log.rule_partitions,
        external_labels: config.external_labels.clone(),
        // Not where this process listens: the same files elsewhere are the same definitions.
        external_url: config.external_url.clone().unwrap_or_default(),
        has_history: true,
    })
}

/// Plans and checks rollups and rules.
pub(crate) fn plan(processors: &ProcessorsConfig) -> Result<Topology, ConfigError> {
    let inner = topology(processors).map_err(|error| ConfigError::in_key("config", said(&error)))?;
    let mut tables = built_in_tables();
    for rollup in &inner.rollups {
        let table = rollup_table(rollup.name(), rollup.table_schema());
        let mut table =
            table.map_err(|error| ConfigError::in_key(format!("rollup {}", rollup.name()), error.to_string()))?;
        table.retention.age_ms = rollup.retention_ms().map(i64::unsigned_abs).or(table.retention.age_ms);
        tables.push(table);
    }
    Ok(Topology { inner, tables })
}

/// An error and what it says of its causes.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

/// The files the patterns match, in order of their names. A pattern without `*` that matches nothing is a mistake.
fn read_rule_files(patterns: &[String]) -> Result<Vec<RuleFile>, ConfigError> {
    let mut files = Vec::new();
    for pattern in patterns {
        let paths =
            glob::glob(pattern).map_err(|error| ConfigError::in_key("rule_files", format!("{pattern}: {error}")))?;
        let before = files.len();
        for path in paths {
            let path = path.map_err(|error| ConfigError::in_key("rule_files", error.to_string()))?;
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError::in_key(&name, format!("cannot read the rule file: {error}")))?;
            files.push(RuleFile::parse(&name, &text).map_err(|error| ConfigError::in_key("rule_files", said(&error)))?);
        }
        if files.len() == before && !pattern.contains(['*', '?', '[']) {
            return Err(ConfigError::in_key("rule_files", format!("no such file: {pattern}")));
        }
    }
    Ok(files)
}
