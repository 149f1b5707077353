//! From configuration to tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_pipeline::data::RowKind;
use highwater_pipeline::log::{TopicConfig, TopicPartition};
use highwater_pipeline::runtime::{InputKind, Processor, ProcessorFactory, TaskSpec};

use crate::config::ProcessorsConfig;
use crate::error::ProcessorsError;
use crate::rollups::{FoldProcessor, PartialsProcessor, RollupPlan, Source};
use crate::rules::{RulePlan, RulesProcessor};

/// Topic of partials and progress, from stage 1 to stage 2.
pub const PARTIALS_TOPIC: &str = "__highwater.partials";
/// Topic of closed windows that a rule reads, from stage 2 to the rules.
pub const RULES_TOPIC: &str = "__highwater.rules";
/// How long records of these two are kept; retention waits for the task that reads them.
const STAGE_RETENTION_MS: i64 = 60 * 60 * 1_000;
const MAX_PARTITIONS: i32 = 1_024;

/// Everything that runs.
#[derive(Clone)]
pub struct Topology {
    /// The tasks, stage by stage.
    pub tasks: Vec<TaskSpec>,
    /// The topics they read and write, to be made sure of before they start.
    pub topics: Vec<(String, TopicConfig)>,
    /// The rollups, planned: their tables and topics.
    pub rollups: Vec<Arc<RollupPlan>>,
    /// The rules, planned.
    pub rules: Vec<Arc<RulePlan>>,
}

/// Plans and checks all rollups and rules and lays out the tasks. `logs` and `metrics` have a task for each partition even where no rollup
/// reads them: it writes their dead letters and clock records.
pub fn topology(config: &ProcessorsConfig) -> Result<Topology, ProcessorsError> {
    let partitions = config.partitions;
    if !(1..=MAX_PARTITIONS).contains(&partitions) {
        return Err(ProcessorsError::Partitions { partitions });
    }
    let rollups = plan_rollups(config)?;
    let rules = plan_rules(config, &rollups)?;
    let read_by_rules: BTreeSet<String> = rules.iter().map(|rule| rule.rollup().name().to_owned()).collect();

    let mut topics = vec![
        ("logs".to_owned(), topic(partitions)),
        ("metrics".to_owned(), topic(partitions)),
        ("alerts".to_owned(), topic(1)),
        ("dead-letter".to_owned(), topic(1)),
    ];
    let mut tasks = Vec::new();
    for source in Source::ALL {
        let kind = match source {
            Source::Logs => RowKind::Logs,
            Source::Metrics => RowKind::Metrics,
        };
        let plans: Arc<[Arc<RollupPlan>]> = rollups.iter().filter(|r| r.source() == source).map(Arc::clone).collect();
        for partition in 0..partitions {
            let plans = Arc::clone(&plans);
            let name = format!("{}/{partition}", source.topic());
            tasks.push(task(source.topic(), partition, InputKind::Table(kind.clone()), move || {
                PartialsProcessor::new(&name, PARTIALS_TOPIC, partitions, plans.iter().map(Arc::clone))
            }));
        }
    }
    if !rollups.is_empty() {
        topics.push((
            PARTIALS_TOPIC.to_owned(),
            TopicConfig { retention_ms: Some(STAGE_RETENTION_MS), ..topic(partitions) },
        ));
        topics.extend(rollups.iter().map(|rollup| (rollup.topic().to_owned(), topic(partitions))));
        let plans: Arc<[Arc<RollupPlan>]> = rollups.iter().map(Arc::clone).collect();
        let read_by_rules = Arc::new(read_by_rules);
        for partition in 0..partitions {
            let (plans, read_by_rules) = (Arc::clone(&plans), Arc::clone(&read_by_rules));
            tasks.push(task(PARTIALS_TOPIC, partition, InputKind::Stage, move || {
                let name = format!("{PARTIALS_TOPIC}/{partition}");
                FoldProcessor::new(&name, partition, partitions, RULES_TOPIC, &plans, |rollup| {
                    read_by_rules.contains(rollup)
                })
            }));
        }
    }
    if !rules.is_empty() {
        topics.push((RULES_TOPIC.to_owned(), TopicConfig { retention_ms: Some(STAGE_RETENTION_MS), ..topic(1) }));
        let plans: Arc<[Arc<RulePlan>]> = rules.iter().map(Arc::clone).collect();
        tasks.push(task(RULES_TOPIC, 0, InputKind::Stage, move || {
            RulesProcessor::new(RULES_TOPIC, 0, partitions, &plans)
        }));
    }
    Ok(Topology { tasks, topics, rollups, rules })
}

fn plan_rollups(config: &ProcessorsConfig) -> Result<Vec<Arc<RollupPlan>>, ProcessorsError> {
    let mut names = BTreeSet::new();
    let mut rollups = Vec::with_capacity(config.rollups.len());
    for rollup in &config.rollups {
        if !names.insert(&rollup.name) {
            return Err(ProcessorsError::rollup(&rollup.name, "there are two rollups of this name"));
        }
        rollups.push(Arc::new(RollupPlan::new(rollup)?));
    }
    Ok(rollups)
}

fn plan_rules(config: &ProcessorsConfig, rollups: &[Arc<RollupPlan>]) -> Result<Vec<Arc<RulePlan>>, ProcessorsError> {
    let mut names = BTreeSet::new();
    let mut rules = Vec::new();
    for file in &config.rule_files {
        for group in &file.groups {
            for rule in &group.rules {
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

fn task<P, F>(topic: &str, partition: i32, kind: InputKind, make: F) -> TaskSpec
where
    P: Processor + 'static,
    F: Fn() -> P + Send + Sync + 'static,
{
    let input = TopicPartition { topic: Arc::from(topic), partition };
    let processor: ProcessorFactory = Arc::new(move || Ok(Box::new(make())));
    TaskSpec::new(input, kind, processor)
}
