//! From configuration to tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_pipeline::data::metrics::RECORDED_TOPIC;
use highwater_pipeline::data::{RowKind, metric_metadata};
use highwater_pipeline::log::{CleanupPolicy, TopicConfig, TopicPartition};
use highwater_pipeline::runtime::{InputKind, Processor, ProcessorError, ProcessorFactory, TaskSpec, Versions};

use crate::config::ProcessorsConfig;
use crate::error::ProcessorsError;
use crate::rollups::{
    self, BackfillProcessor, FoldProcessor, FoldTopics, PartialsProcessor, RollupConfig, RollupPlan, Source,
};
use crate::rules::promql::router::{Router, Routes};
use crate::rules::promql::{Environment, GroupPlan, Shards, hash_of};
use crate::rules::{RulePlan, RulesProcessor};

/// Topic of partials and progress, from stage 1 to stage 2.
pub const PARTIALS_TOPIC: &str = "__highwater.partials";
/// Topic of closed windows that a rule reads, from stage 2 to the rules.
pub const RULES_TOPIC: &str = "__highwater.rules";
/// Topic of requests for stored rows, from stage 1 to the task that reads them.
pub const BACKFILL_TOPIC: &str = "__highwater.backfill";
/// How long records of these are kept; retention waits for the task that reads them.
const STAGE_RETENTION_MS: i64 = 60 * 60 * 1_000;
const MAX_PARTITIONS: i32 = 1_024;

/// Everything that runs under one version of the configuration. Which tasks there are does not depend on it, only what they do: with no rollup over
/// `logs` its tasks still write dead letters and clock records, and with no rules their task reads and says nothing. So a new version
/// starts and stops no task.
#[derive(Clone)]
pub struct Topology {
    /// The tasks, stage by stage, with this version for ever.
    pub tasks: Vec<TaskSpec>,
    /// The topics they read and write, to be made sure of before they start.
    pub topics: Vec<(String, TopicConfig)>,
    /// The rollups, planned: their tables and topics. Behind those of the configuration, those of rules that read topics.
    pub rollups: Vec<Arc<RollupPlan>>,
    /// The rules in SQL, planned.
    pub rules: Vec<Arc<RulePlan>>,
    /// The groups that have rules in PromQL, planned.
    pub groups: Vec<Arc<GroupPlan>>,
    plans: Arc<Plans>,
}

impl Topology {
    /// The processor of the task that owns this input partition, with no state.
    pub fn processor(&self, input: &TopicPartition) -> Result<Box<dyn Processor>, ProcessorError> {
        self.plans.processor(input)
    }
}

/// What processors are made of.
struct Plans {
    partitions: i32,
    rollups: Vec<Arc<RollupPlan>>,
    rules: Vec<Arc<RulePlan>>,
    groups: Vec<Arc<GroupPlan>>,
    shards: Arc<Shards>,
    routes: Option<Arc<Routes>>,
    environment: Arc<Environment>,
    read_by_rules: BTreeSet<String>,
    has_history: bool,
}

/// Plans and checks all rollups and rules and lays out the tasks.
pub fn topology(config: &ProcessorsConfig) -> Result<Topology, ProcessorsError> {
    let (partitions, rule_partitions) = (config.partitions, config.rule_partitions);
    for partitions in [partitions, rule_partitions] {
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(ProcessorsError::Partitions { partitions });
        }
    }
    let mut rollups = plan_rollups(config)?;
    let rules = plan_rules(config, &rollups)?;
    rollups.extend(rules.iter().filter(|rule| rule.is_over_topic()).map(|rule| Arc::clone(rule.rollup())));
    let read_by_rules = rules.iter().map(|rule| rule.rollup().name().to_owned()).collect();
    let mut topics = input_topics(partitions, rule_partitions);
    topics.push(("alerts".to_owned(), TopicConfig { cleanup: CleanupPolicy::Compact, ..topic(1) }));
    topics.push((RECORDED_TOPIC.to_owned(), topic(partitions)));
    topics.push(("dead-letter".to_owned(), topic(1)));
    topics.push((metric_metadata::TOPIC.to_owned(), topic(1)));
    topics.extend(rollups.iter().map(|rollup| (rollup.topic().to_owned(), topic(partitions))));
    let groups = GroupPlan::of_files(&config.rule_files)?;
    let shards = Arc::new(Shards::of(&groups, rule_partitions)?);
    let routes = Routes::of(&groups, &shards)?.map(Arc::new);
    let environment = Arc::new(Environment {
        external_labels: config.external_labels.clone(),
        external_url: config.external_url.clone(),
    });
    let plans = Arc::new(Plans {
        partitions,
        rollups: rollups.clone(),
        rules: rules.clone(),
        groups: groups.clone(),
        shards,
        routes,
        environment,
        read_by_rules,
        has_history: config.has_history,
    });
    let made = Arc::clone(&plans);
    let factory = move |input: &TopicPartition| -> ProcessorFactory {
        let (plans, input) = (Arc::clone(&made), input.clone());
        Arc::new(move || plans.processor(&input))
    };
    let tasks = inputs(partitions, rule_partitions).map(|(input, kind)| {
        let factory = factory(&input);
        TaskSpec::new(input, kind, factory)
    });
    Ok(Topology { tasks: tasks.collect(), topics, rollups, rules, groups, plans })
}

/// The tasks, stage by stage, each with the versions of its processor ([`crate::definitions::versions`]).
pub fn tasks(partitions: i32, rule_partitions: i32, versions: &Arc<dyn Versions>) -> Vec<TaskSpec> {
    inputs(partitions, rule_partitions)
        .map(|(input, kind)| TaskSpec::versioned(input, kind, Arc::clone(versions)))
        .collect()
}

/// The topics that tasks read.
pub fn input_topics(partitions: i32, rule_partitions: i32) -> Vec<(String, TopicConfig)> {
    let stage = |partitions| TopicConfig { retention_ms: Some(STAGE_RETENTION_MS), ..topic(partitions) };
    let mut topics: Vec<_> =
        Source::ALL.into_iter().map(|source| (source.topic().to_owned(), topic(partitions))).collect();
    topics.push((PARTIALS_TOPIC.to_owned(), stage(partitions)));
    topics.push((RULES_TOPIC.to_owned(), stage(rule_partitions)));
    topics.push((BACKFILL_TOPIC.to_owned(), stage(partitions)));
    topics
}

/// What each task reads, and what that holds.
fn inputs(partitions: i32, rule_partitions: i32) -> impl Iterator<Item = (TopicPartition, InputKind)> {
    input_topics(partitions, rule_partitions).into_iter().flat_map(|(name, config)| {
        let kind = match Source::ALL.into_iter().find(|source| source.topic() == name) {
            Some(Source::Logs) => InputKind::Table(RowKind::Logs),
            Some(Source::Metrics) => InputKind::Table(RowKind::Metrics),
            Some(Source::Spans) => InputKind::Table(RowKind::Spans),
            None if name == BACKFILL_TOPIC => InputKind::Slices,
            None => InputKind::Stage,
        };
        let topic: Arc<str> = name.into();
        (0..config.partitions)
            .map(move |partition| (TopicPartition { topic: Arc::clone(&topic), partition }, kind.clone()))
    })
}

impl Plans {
    fn processor(&self, input: &TopicPartition) -> Result<Box<dyn Processor>, ProcessorError> {
        let (topic, partition, partitions) = (&*input.topic, input.partition, self.partitions);
        let name = format!("{topic}/{partition}");
        let (key, most) = match topic {
            RULES_TOPIC => ("log.rule_partitions", self.shards.partitions()),
            _ => ("log.partitions", partitions),
        };
        if !(0..most).contains(&partition) {
            let reason = format!("there is no task {name}: the configuration has {most} partitions ({key})");
            return Err(ProcessorError::new(reason));
        }
        Ok(match (topic, Source::ALL.into_iter().find(|source| source.topic() == topic)) {
            (_, Some(source)) => {
                let reads = |rollup: &&Arc<RollupPlan>| rollup.upstream().is_none() && rollup.source() == source;
                let plans = self.rollups.iter().filter(reads).map(Arc::clone);
                let partials =
                    Box::new(PartialsProcessor::new(&name, PARTIALS_TOPIC, BACKFILL_TOPIC, partitions, plans));
                match source {
                    Source::Logs | Source::Spans => partials,
                    Source::Metrics => {
                        let routes = self.routes.as_ref().map(Arc::clone);
                        Box::new(Router::new(partials, &name, RULES_TOPIC, self.shards.partitions(), routes))
                    }
                }
            }
            (PARTIALS_TOPIC, None) => {
                let to_rules = |rollup: &str| self.read_by_rules.contains(rollup);
                let topics = FoldTopics { rules: RULES_TOPIC, partials: PARTIALS_TOPIC };
                Box::new(FoldProcessor::new(&name, partition, partitions, topics, &self.rollups, to_rules))
            }
            (BACKFILL_TOPIC, None) => {
                let plans = self.rollups.iter().map(Arc::clone);
                let places = 0..self.shards.partitions();
                let rules = places.map(|place| hash_of(&self.shards.groups(&self.groups, place)));
                Box::new(BackfillProcessor::new(
                    BACKFILL_TOPIC,
                    partition,
                    PARTIALS_TOPIC,
                    partitions,
                    plans,
                    rules.collect(),
                ))
            }
            (RULES_TOPIC, None) => {
                // Closed windows go to the first partition.
                let sql = if partition == 0 { self.rules.as_slice() } else { &[] };
                let sql = RulesProcessor::new(RULES_TOPIC, partition, partitions, sql);
                let groups = self.shards.groups(&self.groups, partition);
                let sql = sql.with_groups(partitions, &groups, &self.environment, self.has_history);
                Box::new(sql.among(&self.shards))
            }
            _ => return Err(ProcessorError::new(format!("no task reads topic {topic}"))),
        })
    }
}

fn plan_rollups(config: &ProcessorsConfig) -> Result<Vec<Arc<RollupPlan>>, ProcessorsError> {
    let mut names = BTreeSet::new();
    for rollup in &config.rollups {
        if !names.insert(rollup.name.as_str()) {
            return Err(ProcessorsError::rollup(&rollup.name, "there are two rollups of this name"));
        }
    }
    // Each behind the one it reads, in whatever order they are written.
    let mut planned: BTreeMap<&str, Arc<RollupPlan>> = BTreeMap::new();
    let mut left: Vec<&RollupConfig> = config.rollups.iter().collect();
    while !left.is_empty() {
        let waits = |rollup: &RollupConfig| left.iter().any(|other| rollups::reads(&rollup.sql, &other.name));
        let (waiting, ready): (Vec<&RollupConfig>, Vec<&RollupConfig>) =
            left.iter().copied().partition(|rollup| waits(rollup));
        if let (Some(first), []) = (waiting.first(), ready.as_slice()) {
            let names: Vec<&str> = waiting.iter().map(|rollup| rollup.name.as_str()).collect();
            let reason = match names.as_slice() {
                [_] => "it reads itself; read logs, metrics or another rollup".to_owned(),
                _ => format!("{} read each other in a circle; one of them has to read a topic", names.join(" and ")),
            };
            return Err(ProcessorsError::rollup(&first.name, reason));
        }
        let known: Vec<Arc<RollupPlan>> = planned.values().map(Arc::clone).collect();
        for rollup in ready {
            planned.insert(&rollup.name, Arc::new(RollupPlan::over(rollup, &known)?));
        }
        left = waiting;
    }
    Ok(config.rollups.iter().filter_map(|rollup| planned.get(rollup.name.as_str())).map(Arc::clone).collect())
}

fn plan_rules(config: &ProcessorsConfig, rollups: &[Arc<RollupPlan>]) -> Result<Vec<Arc<RulePlan>>, ProcessorsError> {
    let mut names = BTreeSet::new();
    let mut rules = Vec::new();
    for file in &config.rule_files {
        for group in &file.groups {
            for rule in group.rules.iter().filter(|rule| !rule.is_promql()) {
                let plan = if names.insert((group.name.as_str(), rule.alert.as_str())) {
                    RulePlan::new(group, rule, rollups)
                } else {
                    Err(ProcessorsError::Rule {
                        group: group.name.clone(),
                        rule: rule.alert.clone(),
                        reason:
                            "there is another rule of this name in a group of this name; alerts are told apart by both"
                                .to_owned(),
                    })
                };
                rules.push(Arc::new(plan.map_err(|error| error.in_file(&file.file))?));
            }
        }
    }
    Ok(rules)
}

fn topic(partitions: i32) -> TopicConfig {
    TopicConfig { partitions, ..TopicConfig::default() }
}
