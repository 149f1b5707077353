//! The rules task: closed windows in, alert transitions out.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use highwater_pipeline::data::{Control, alerts};
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::{At, Effects, Input, Processor, ProcessorError, StageRows};
use serde::{Deserialize, Serialize};

use super::alert::{Active, Alerts, Cause, Change, Identity, abandon, advance};
use super::closed::{Closed, Evaluation};
use super::plan::RulePlan;
use super::promql::ticks::{ROWS, Ticks};
use super::promql::{Environment, GroupPlan};

/// Sections of rules in a snapshot begin with this.
const SECTION: &str = "rule/";

/// Evaluates all rules. One task; its input is the rules topic.
pub struct RulesProcessor {
    topic: Arc<str>,
    partition: i32,
    alerts_topic: Arc<str>,
    rollups: Vec<Closed>,
    rules: Vec<Rule>,
    /// The rules in PromQL.
    ticks: Ticks,
    /// Alerts of rules that a restart has found removed or changed, to be resolved at the next progress.
    orphans: Vec<Saved>,
}

/// The alerts of a rule in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    rule: Identity,
    alerts: Vec<((String, String), Active)>,
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
        Self {
            topic: topic.into(),
            partition,
            alerts_topic: alerts::TOPIC.into(),
            rollups,
            rules,
            ticks: Ticks::new(topic, partition, partitions, &[], &Arc::default()),
            orphans: Vec::new(),
        }
    }

    /// The same with rules in PromQL. `partitions` is the number of partitions of `metrics`.
    #[must_use]
    pub fn with_groups(mut self, partitions: i32, plans: &[Arc<GroupPlan>], environment: &Arc<Environment>) -> Self {
        self.ticks = Ticks::new(&self.topic, self.partition, partitions, plans, environment);
        self
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
        match (starts.and_then(|starts| starts.values().first().copied()), partition_of(&source)) {
            (Some(window_start_us), Some((_, partition))) => closed.add(partition, window_start_us, batch),
            _ => Ok(()),
        }
    }

    /// A window is closed again. Definitions are not named here: the task of a changed rollup starts with revision 0.
    fn superseded(&mut self, source: &str, window_start_us: i64) {
        let Some((name, partition)) = partition_of(source) else { return };
        if let Some(closed) = self.rollups.iter_mut().find(|c| c.plan.name() == name) {
            closed.supersede(partition, window_start_us);
        }
    }

    fn progress(
        &mut self,
        at: At,
        source: &str,
        closed_us: Option<i64>,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        let (Some((name, partition)), Some(closed_us)) = (partition_of(source), closed_us) else { return Ok(()) };
        let Some(closed) = self.rollups.iter_mut().find(|c| c.plan.name() == name) else { return Ok(()) };
        closed.close(partition, closed_us);
        if !self.orphans.is_empty() {
            let topic = Arc::clone(&self.topic);
            let window_start_us = closed_us.saturating_sub(closed.plan.width_us());
            let (partition, offset) = (self.partition, at.position);
            let cause = Cause {
                topic: &topic,
                partition,
                offset,
                window_start_us,
                window_end_us: closed_us,
                watermark_us: closed_us,
            };
            self.abandon_orphans(cause, effects)?;
        }
        let Some(closed) = self.rollups.iter_mut().find(|c| c.plan.name() == name) else { return Ok(()) };
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
                    watermark_us: closed.closed_until_us().unwrap_or(closed_us),
                };
                for change in rule.evaluate(closed, &evaluation) {
                    metrics::counter!("highwater_alert_transitions_total", "state" => change.state().as_str())
                        .increment(1);
                    effects.push(
                        &self.alerts_topic,
                        0,
                        change.to_record(&rule.plan.identity, Some(&rule.plan.statements), cause)?,
                    );
                }
            }
        }
    }

    /// Resolves what removed and changed rules have left firing: nobody else will.
    fn abandon_orphans(&mut self, cause: Cause<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        for Saved { rule, alerts } in std::mem::take(&mut self.orphans) {
            for change in abandon(Alerts::from_iter(alerts)) {
                effects.push(&self.alerts_topic, 0, change.to_record(&rule, None, cause)?);
            }
        }
        Ok(())
    }

    fn write(&self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        for closed in &self.rollups {
            writer.put(closed.section(), closed.plan.definition(), closed.write()?);
        }
        for rule in &self.rules {
            let alerts = rule.alerts.iter().map(|(key, alert)| (key.clone(), alert.clone())).collect();
            let saved = Saved { rule: rule.plan.identity.clone(), alerts };
            writer.put(rule.section(), rule.plan.definition, saved.write()?);
        }
        for saved in &self.orphans {
            // Of no definition there is, so that it is an orphan again.
            writer.put(format!("{SECTION}{}/{}", saved.rule.group, saved.rule.name), 0, saved.write()?);
        }
        Ok(())
    }
}

impl Processor for RulesProcessor {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Stage(rows) if &*rows.name == ROWS => self.ticks.rows(&rows),
            Input::Stage(rows) => self.rows(rows),
            Input::Control(control @ Control::Progress { source, .. }) if self.ticks.knows(source) => {
                self.ticks.progress(at, control, effects)
            }
            Input::Control(Control::Progress { source, watermark_us, .. }) => {
                self.progress(at, source, *watermark_us, effects)
            }
            Input::Control(Control::Superseded { source, window_start_us, .. }) => {
                self.superseded(source, *window_start_us);
                Ok(())
            }
            Input::Control(Control::Clock { .. } | Control::Filled { .. }) | Input::Rows(_) | Input::Slice(..) => {
                Ok(())
            }
            Input::Barrier(writer) => {
                self.write(writer)?;
                self.ticks.write(writer)
            }
        }
    }

    fn merged_watermark_us(&self) -> Option<i64> {
        self.ticks.watermark_us()
    }

    fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        self.ticks.restore(state)?;
        for closed in &mut self.rollups {
            if let Some(body) = state.get(&closed.section(), closed.plan.definition()) {
                closed.restore(body)?;
            }
        }
        for section in state.sections().iter().filter(|s| s.name.starts_with(SECTION)) {
            let saved: Saved = serde_json::from_slice(&section.body).map_err(|e| {
                ProcessorError::caused(format!("section {} of the snapshot is unreadable", section.name), e)
            })?;
            let same = |rule: &&mut Rule| rule.section() == section.name && rule.plan.definition == section.definition;
            match self.rules.iter_mut().find(same) {
                Some(rule) => rule.alerts = Alerts::from_iter(saved.alerts),
                None => self.orphans.push(saved),
            }
        }
        Ok(())
    }
}

/// The name and the partition in `<name>/<partition>`.
fn partition_of(source: &str) -> Option<(&str, usize)> {
    let (name, partition) = source.rsplit_once('/')?;
    Some((name, partition.parse().ok()?))
}

impl Saved {
    fn write(&self) -> Result<Vec<u8>, ProcessorError> {
        serde_json::to_vec(self)
            .map_err(|e| ProcessorError::caused(format!("alerts of rule {} cannot be written", self.rule.name), e))
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
                        metrics::counter!("highwater_rule_failures_total", "rule" => self.plan.name().to_owned())
                            .increment(1);
                        tracing::error!(
                            group = self.plan.group(),
                            rule = self.plan.name(),
                            tenant,
                            error,
                            "evaluation failed; alerts stay as they are"
                        );
                        continue;
                    }
                },
            };
            changes.extend(advance(&self.plan, &mut self.alerts, tenant, evaluation.window_end_us, candidates));
        }
        changes
    }

    fn section(&self) -> String {
        format!("{SECTION}{}/{}", self.plan.group(), self.plan.name())
    }
}
