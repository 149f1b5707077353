//! What histories run: a few fixed definitions of rollups and rules, planned once, between which a history may change.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use highwater_pipeline::definitions::Version;
use highwater_pipeline::log::{TopicConfig, TopicPartition};
use highwater_pipeline::runtime::{Processor, ProcessorError};
use highwater_processors::definitions::to_definitions;
use highwater_processors::rollups::RollupConfig;
use highwater_processors::rules::RuleFile;
use highwater_processors::{ProcessorsConfig, Topology, topology};
use serde_json::Value;

/// Rollups and rules.
struct Sql {
    rollups: &'static [(&'static str, &'static str)],
    rules: &'static str,
}

const REQUESTS: (&str, &str) = (
    "requests",
    "SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, service, count(*) AS n,
            count(*) FILTER (WHERE level = 'ERROR') AS errors, avg(severity_number) AS severity
     FROM logs GROUP BY 1, 2",
);

const SQL: [Sql; 4] = [
    Sql {
        rollups: &[REQUESTS],
        rules: "groups:
  - name: web
    rules:
      - {alert: Errors, sql: 'SELECT service, errors FROM requests WHERE errors > 0', for: 10s}
",
    },
    // One rollup as before, one that is new; one rule as before, one that is new.
    Sql {
        rollups: &[
            REQUESTS,
            (
                "samples",
                "SELECT tumble(timestamp, INTERVAL '15 seconds') AS window_start, name, count(*) AS n,
                        sum(value) AS total, max(value) AS highest
                 FROM metrics GROUP BY 1, 2",
            ),
            // Over a rollup that was there before, and one that was not.
            (
                "halves",
                "SELECT tumble(window_start, INTERVAL '30 seconds') AS window_start, service, sum(n) AS n, max(errors) AS most
                 FROM requests GROUP BY 1, 2",
            ),
            (
                "minutes",
                "SELECT hop(window_start, INTERVAL '30 seconds', INTERVAL '1 minute') AS window_start, sum(total) AS total
                 FROM samples GROUP BY 1",
            ),
        ],
        rules: "groups:
  - name: web
    rules:
      - {alert: Errors, sql: 'SELECT service, errors FROM requests WHERE errors > 0', for: 10s}
      - {alert: Busy, sql: 'SELECT service, n FROM requests WHERE n >= 2', keep_firing_for: 15s}
      - {alert: Lines, window: 20s, sql: 'SELECT service, count(*) AS n FROM logs GROUP BY service HAVING count(*) > 1', for: 20s}
  - name: promql
    interval: 5s
    rules:
      - {record: 'all:values:count', expr: 'count by (name) ({__name__=~\".+\"})'}
      - {alert: Many, expr: 'count_over_time({__name__!=\"\"}[20s]) > 1', for: 10s, keep_firing_for: 10s}
  - {name: up, rules: [{alert: Up, expr: 'up > 0', keep_firing_for: 15s}]}
  - {name: load, rules: [{record: 'load:max', expr: 'max(load)'}, {alert: Load, expr: 'load > 0', keep_firing_for: 15s}]}
  - {name: level, rules: [{alert: Level, expr: 'load < 100', keep_firing_for: 15s}]}
",
    },
    // A rollup that was edited, and no rules.
    Sql {
        rollups: &[(
            "requests",
            "SELECT tumble(timestamp, INTERVAL '20 seconds') AS window_start, level, count(*) AS n,
                    min(message) AS first
             FROM logs GROUP BY 1, 2",
        )],
        rules: "",
    },
    Sql {
        rollups: &[
            (
                "everything",
                "SELECT tumble(timestamp, INTERVAL '5 seconds') AS window_start, count(*) AS n, max(timestamp) AS last
                 FROM logs GROUP BY 1",
            ),
            (
                "values",
                "SELECT tumble(timestamp, INTERVAL '30 seconds') AS window_start, service, count(value) AS n,
                        avg(value) AS mean
                 FROM metrics GROUP BY 1, 2",
            ),
            (
                "calls",
                "SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, service, count(*) AS n, max(duration_ns) AS slowest
                 FROM spans GROUP BY 1, 2",
            ),
        ],
        rules: "groups:
  - name: all
    rules:
      - {alert: Busy, sql: 'SELECT n FROM everything WHERE n >= 2', keep_firing_for: 15s}
  # Nobody looks at all of them here: they are elsewhere.
  - {name: up, rules: [{alert: Up, expr: 'up > 0', keep_firing_for: 15s}]}
  - {name: load, rules: [{record: 'load:max', expr: 'max(load)'}, {alert: Load, expr: 'load > 0', keep_firing_for: 15s}]}
  - {name: level, rules: [{alert: Level, expr: 'load < 100', keep_firing_for: 15s}]}
",
    },
];

/// How many different definitions there are.
pub const DEFINITIONS: usize = SQL.len();
/// Most partitions of a topic.
pub const MAX_PARTITIONS: i32 = 3;

/// All definitions for one number of partitions.
pub struct Setup {
    /// Partitions of `logs`, `metrics`, partials and rollups, and tasks that rules are spread over.
    pub partitions: i32,
    /// Every topic that any of the definitions reads or writes.
    pub topics: Vec<(String, TopicConfig)>,
    planned: Vec<(Value, Topology)>,
}

static SETUPS: LazyLock<Vec<Setup>> = LazyLock::new(|| (1..=MAX_PARTITIONS).map(Setup::new).collect());

impl Setup {
    /// For so many partitions.
    pub fn of(partitions: i32) -> &'static Self {
        &SETUPS[usize::try_from(partitions - 1).expect("there is at least one partition")]
    }

    fn new(partitions: i32) -> Self {
        let planned: Vec<_> = SQL.iter().map(|sql| plan(sql, partitions)).collect();
        let topics: BTreeMap<String, TopicConfig> =
            planned.iter().flat_map(|(_, topology)| topology.topics.iter().cloned()).collect();
        Self { partitions, topics: topics.into_iter().collect(), planned }
    }

    /// Definitions as they stand in the log.
    pub fn definitions(&self, which: usize) -> &Value {
        &self.planned[which % DEFINITIONS].0
    }

    /// A processor under a version of the definitions.
    ///
    /// # Errors
    /// Where nobody proposed such definitions.
    pub fn processor(&self, version: &Version, input: &TopicPartition) -> Result<Box<dyn Processor>, ProcessorError> {
        let planned = self.planned.iter().find(|(definitions, _)| *definitions == *version.definitions);
        let (_, topology) = planned.ok_or_else(|| ProcessorError::new("definitions that nobody proposed"))?;
        topology.processor(input)
    }

    /// How many partitions a topic has.
    pub fn partitions_of(&self, topic: &str) -> i32 {
        self.topics.iter().find(|(name, _)| name == topic).map_or(1, |(_, config)| config.partitions)
    }

    /// The topics that tasks read.
    pub fn inputs(&self) -> Vec<Arc<str>> {
        highwater_processors::input_topics(self.partitions, self.partitions)
            .into_iter()
            .map(|(name, _)| name.into())
            .collect()
    }
}

fn plan(sql: &Sql, partitions: i32) -> (Value, Topology) {
    // What is new, or edited, begins with the rows that are stored.
    let rollup = |(name, sql): &(&str, &str)| RollupConfig::new(*name, *sql);
    let rollups = sql.rollups.iter().map(rollup).collect();
    let rule_files = match sql.rules {
        "" => Vec::new(),
        rules => vec![RuleFile::parse("rules.yaml", rules).expect("the rules are fixed")],
    };
    let rule_partitions = partitions;
    let config = ProcessorsConfig { rollups, rule_files, partitions, rule_partitions, ..ProcessorsConfig::default() };
    let definitions = to_definitions(&config).expect("the definitions are fixed");
    (definitions, topology(&config).expect("the definitions are fixed"))
}
