//! The rules task: closed windows in, alert transitions out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use highwater_pipeline::data::{Control, alerts};
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::{At, Effects, Input, Processor, ProcessorError, StageRows};

use super::alert::{Alerts, Cause, Change, advance};
use super::closed::{Closed, Evaluation};
use super::plan::RulePlan;

/// Evaluates all rules. One task; its input is the rules topic.
pub struct RulesProcessor {
    topic: Arc<str>,
    partition: i32,
    alerts_topic: Arc<str>,
    rollups: Vec<Closed>,
    rules: Vec<Rule>,
}

struct Rule {
    plan: Arc<RulePlan>,
    alerts: Alerts,
}

impl RulesProcessor {
    /// For one partition of the rules topic. `partitions` is the number of stage-2 tasks.
    pub fn new(topic: &str, partition: i32, partitions: i32, plans: &[Arc<RulePlan>]) -> Self {
        let mut rollups: Vec<Closed> = Vec::new();
        for plan in plans {
            if !rollups.iter().any(|closed| closed.plan.name() == plan.rollup.name()) {
                rollups.push(Closed::new(Arc::clone(&plan.rollup), partitions));
            }
        }
        let rules = plans.iter().map(|plan| Rule { plan: Arc::clone(plan), alerts: Alerts::new() }).collect();
        Self { topic: topic.into(), partition, alerts_topic: alerts::TOPIC.into(), rollups, rules }
    }

    fn rows(&mut self, rows: StageRows) -> Result<(), ProcessorError> {
        let StageRows { name, definition, source, batch } = rows;
        let Some(closed) =
            self.rollups.iter_mut().find(|c| c.plan.name() == &*name && c.plan.definition() == definition)
        else {
            metrics::counter!("highwater_rules_stale_rows_total", "rollup" => name.to_string())
                .increment(batch.num_rows() as u64);
            return Ok(());
        };
        let starts =
            batch.column_by_name("window_start").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        match starts.and_then(|starts| starts.values().first().copied()) {
            Some(window_start_us) => closed.add(&source, window_start_us, batch),
            None => Ok(()),
        }
    }

    fn progress(
        &mut self,
        at: At,
        source: &str,
        closed_us: Option<i64>,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        let (Some((name, partition)), Some(closed_us)) = (source.rsplit_once('/'), closed_us) else { return Ok(()) };
        let Some(closed) = self.rollups.iter_mut().find(|c| c.plan.name() == name) else { return Ok(()) };
        let Ok(partition) = partition.parse::<usize>() else { return Ok(()) };
        closed.close(partition, closed_us);
        loop {
            // Where no alert is up and absence means nothing, a window without rows changes nothing.
            let every = self.rules.iter().filter(|rule| rule.plan.rollup.name() == name).any(Rule::minds_silence);
            let Some(evaluation) = closed.next(every)? else { return Ok(()) };
            for rule in self.rules.iter_mut().filter(|rule| rule.plan.rollup.name() == name) {
                let interval_us = rule.plan.interval_us;
                if interval_us > 0 && evaluation.window_end_us.rem_euclid(interval_us) != 0 {
                    continue;
                }
                let cause = Cause {
                    topic: &self.topic,
                    partition: self.partition,
                    offset: at.position,
                    window_start_us: evaluation.window_start_us,
                    window_end_us: evaluation.window_end_us,
                };
                for change in rule.evaluate(closed, &evaluation) {
                    metrics::counter!("highwater_alert_transitions_total", "state" => change.state().as_str())
                        .increment(1);
                    effects.push(&self.alerts_topic, 0, change.to_record(&rule.plan, cause)?);
                }
            }
        }
    }

    fn write(&self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        for closed in &self.rollups {
            writer.put(closed.section(), closed.plan.definition(), closed.write()?);
        }
        for rule in &self.rules {
            let alerts: Vec<_> = rule.alerts.iter().collect();
            let body = serde_json::to_vec(&alerts).map_err(|e| {
                ProcessorError::caused(format!("alerts of rule {} cannot be written", rule.plan.name), e)
            })?;
            writer.put(rule.section(), rule.plan.definition, body);
        }
        Ok(())
    }
}

impl Processor for RulesProcessor {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Stage(rows) => self.rows(rows),
            Input::Control(Control::Progress { source, watermark_us, .. }) => {
                self.progress(at, source, *watermark_us, effects)
            }
            Input::Control(Control::Clock { .. }) | Input::Rows(_) => Ok(()),
            Input::Barrier(writer) => self.write(writer),
        }
    }

    fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        for closed in &mut self.rollups {
            if let Some(body) = state.get(&closed.section(), closed.plan.definition()) {
                closed.restore(body)?;
            }
        }
        for rule in &mut self.rules {
            let Some(body) = state.get(&rule.section(), rule.plan.definition) else { continue };
            let alerts: Vec<_> = serde_json::from_slice(body)
                .map_err(|e| ProcessorError::caused(format!("alerts of rule {} are unreadable", rule.plan.name), e))?;
            rule.alerts = BTreeMap::from_iter(alerts);
        }
        Ok(())
    }
}

impl Rule {
    /// True where a window without rows can change something.
    fn minds_silence(&self) -> bool {
        !self.alerts.is_empty() || !self.plan.on_nothing.is_empty()
    }

    /// Evaluates every tenant. A failed evaluation leaves its alerts as they were.
    fn evaluate(&mut self, closed: &Closed, evaluation: &Evaluation) -> Vec<Change> {
        let mut changes = Vec::new();
        for tenant in closed.tenants() {
            let evaluated;
            let candidates = match evaluation.rows.get(tenant) {
                None => &self.plan.on_nothing,
                Some(rows) => match self.plan.evaluate(rows.clone()) {
                    Ok(candidates) => {
                        evaluated = candidates;
                        &evaluated
                    }
                    Err(error) => {
                        metrics::counter!("highwater_rule_failures_total", "rule" => self.plan.name.to_string())
                            .increment(1);
                        tracing::error!(group = %self.plan.group, rule = %self.plan.name, tenant, error, "evaluation failed; alerts stay as they are");
                        continue;
                    }
                },
            };
            changes.extend(advance(&self.plan, &mut self.alerts, tenant, evaluation.window_end_us, candidates));
        }
        changes
    }

    fn section(&self) -> String {
        format!("rule/{}/{}", self.plan.group, self.plan.name)
    }
}
