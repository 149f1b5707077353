//! The rules task: closed windows in, alert transitions out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use highwater_pipeline::data::alerts::State;
use highwater_pipeline::data::{Control, alerts, time};
use highwater_pipeline::log::Record;
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::{At, Effects, Input, Processor, ProcessorError, StageRows};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::alert::{Active, Alerts, Change, Identity, abandon, advance};
use super::blind::{self, Sights, Turn};
use super::closed::{Closed, Evaluation};
use super::corrections::{Telling, corrections};
use super::evidence::{instant, quoted_name};
use super::health::{Health, Shows, timed};
use super::lines;
use super::plan::RulePlan;
use super::promql::moved::{self, Moved};
use super::promql::ticks::{ROWS, STORED_ROWS, Ticks};
use super::promql::{Environment, GroupPlan, Shards};
use super::tombstones::Tombstones;

/// Sections of rules in a snapshot begin with this.
const SECTION: &str = "rule/";
const TOMBSTONES_SECTION: &str = "tombstones";
const TOMBSTONES_VERSION: u64 = 1;
/// Most alerts that are kept of one rule to evaluate windows again.
const MAX_PAST_ALERTS: usize = 20_000;

/// Evaluates rules: those in PromQL whose groups are in this partition of the rules topic, and in the first one all in SQL.
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
    tombstones: Tombstones,
    shows: Shows,
    /// Groups may have left since the state was written.
    may_leave: bool,
}

/// The alerts of a rule in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    rule: Identity,
    alerts: Vec<((String, String), Active)>,
    #[serde(default)]
    past: Vec<SavedPast>,
    #[serde(default)]
    forgotten_us: Option<i64>,
    #[serde(default)]
    sights: Sights,
    #[serde(default)]
    errors: BTreeMap<String, (i64, String)>,
}

/// An evaluation of a window that may be done again, in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct SavedPast {
    window_end_us: i64,
    before: Vec<((String, String), Active)>,
    told: Vec<Change>,
}

struct Rule {
    plan: Arc<RulePlan>,
    alerts: Alerts,
    /// Evaluations that may be done again, by the end of their window.
    past: BTreeMap<i64, Past>,
    /// Those of windows that end here or before are not known any more.
    forgotten_us: i64,
    /// What it has seen, by tenant.
    sights: Sights,
    /// What is to be told of that.
    turns: Vec<Turn>,
    /// Failed evaluations, the last one of each tenant: its time, and why.
    errors: BTreeMap<String, (i64, String)>,
    /// How long the last evaluation took, in seconds. No part of the state.
    took_s: f64,
}

/// An evaluation.
struct Past {
    /// What was up before it.
    before: Alerts,
    /// What it has changed.
    told: Vec<Change>,
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
        let rules = plans.iter().map(Rule::new).collect();
        Self {
            topic: topic.into(),
            partition,
            alerts_topic: alerts::TOPIC.into(),
            rollups,
            rules,
            ticks: Ticks::new(topic, partition, partitions, &[], &Arc::default(), false),
            orphans: Vec::new(),
            tombstones: Tombstones::default(),
            shows: Shows::default(),
            may_leave: false,
        }
    }

    /// The same with rules in PromQL. `partitions` is the number of partitions of `metrics`; `has_history`: whether there are tables in which new rules
    /// look back.
    #[must_use]
    pub fn with_groups(
        mut self,
        partitions: i32,
        plans: &[Arc<GroupPlan>],
        environment: &Arc<Environment>,
        has_history: bool,
    ) -> Self {
        self.ticks = Ticks::new(&self.topic, self.partition, partitions, plans, environment, has_history);
        self
    }

    /// The same, where groups are spread over several tasks.
    #[must_use]
    pub(crate) fn among(mut self, shards: &Arc<Shards>) -> Self {
        if shards.partitions() > 1 {
            self.ticks = self.ticks.among(shards);
            self.tombstones.keep_groups();
            self.may_leave = true;
        }
        self
    }

    /// Another task's group is this one's now.
    fn moved(&mut self, at: At, rows: &StageRows, effects: &mut Effects) -> Result<(), ProcessorError> {
        let moved = Moved::parse(rows)?;
        if let Moved::Over { group, since_us } = &moved
            && self.ticks.elsewhere(group).is_none()
        {
            let active = self.ticks.active(group);
            let over = since_us.iter().filter(|(fingerprint, _)| !active.contains(*fingerprint));
            self.tombstones.take(group, over.map(|(fingerprint, since_us)| (fingerprint.clone(), *since_us)));
        }
        self.ticks.moved(at, moved, effects)
    }

    /// Hands over what is remembered of groups that are another task's now.
    fn leave(&mut self, effects: &mut Effects) -> Result<(), ProcessorError> {
        if !std::mem::take(&mut self.may_leave) {
            return Ok(());
        }
        let left = self.tombstones.leave(|group| self.ticks.elsewhere(group).is_some());
        for (group, over) in left {
            let Some(place) = self.ticks.elsewhere(&group) else { continue };
            let mut over = over.into_iter();
            loop {
                let since_us: BTreeMap<String, i64> = over.by_ref().take(MAX_PAST_ALERTS).collect();
                if since_us.is_empty() {
                    break;
                }
                let moved = Moved::Over { group: group.clone(), since_us };
                let rows = moved.to_rows(&format!("{}/{}", self.topic, self.partition))?;
                effects.push(&self.topic, place, rows.to_record()?);
            }
        }
        Ok(())
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
            self.abandon_orphans(at, closed_us, effects)?;
        }
        let Some(closed) = self.rollups.iter_mut().find(|c| c.plan.name() == name) else { return Ok(()) };
        let cause = Cause { topic: &self.topic, partition: self.partition, offset: at.position };
        let rules = || |rule: &&mut Rule| rule.plan.rollup.name() == name;
        if let Some((first_us, last_us)) = closed.take_dirty() {
            for rule in self.rules.iter_mut().filter(rules()) {
                for change in rule.evaluate_again(closed, first_us, last_us)? {
                    effects.push(&self.alerts_topic, 0, rule.record(&change, closed, cause)?);
                }
                rule.tell_turns(closed, cause, &self.alerts_topic, effects)?;
            }
        }
        loop {
            // Where no alert is up and absence means nothing, a window without rows changes nothing.
            let every = self.rules.iter().filter(|rule| rule.plan.rollup.name() == name).any(Rule::minds_silence);
            let Some(evaluation) = closed.next(every)? else { break };
            for rule in self.rules.iter_mut().filter(rules()) {
                for change in rule.evaluate(closed, &evaluation) {
                    effects.push(&self.alerts_topic, 0, rule.record(&change, closed, cause)?);
                }
                rule.tell_turns(closed, cause, &self.alerts_topic, effects)?;
            }
        }
        let settled_us = closed.settle();
        for rule in self.rules.iter_mut().filter(rules()) {
            rule.forget(settled_us);
            rule.look_back(closed);
            rule.tell_turns(closed, cause, &self.alerts_topic, effects)?;
            rule.show(closed, &mut self.shows);
        }
        Ok(())
    }

    /// Ends what removed and changed rules have left: nobody else will.
    fn abandon_orphans(&mut self, at: At, now_us: i64, effects: &mut Effects) -> Result<(), ProcessorError> {
        for Saved { rule, alerts, sights, .. } in std::mem::take(&mut self.orphans) {
            let source = json!({
                "topic": &*self.topic, "partition": self.partition, "offset": at.position, "rollup": rule.rollup,
                "evaluated_at": time::format(now_us), "reason": "the rule was changed or removed",
            });
            for change in abandon(Alerts::from_iter(alerts), now_us) {
                effects.push(&self.alerts_topic, 0, change.to_record(&rule, source.clone())?);
            }
            for turn in blind::abandon(sights, now_us) {
                effects.push(&self.alerts_topic, 0, turn.to_record(&rule, source.clone())?);
            }
        }
        Ok(())
    }

    fn write(&self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        for closed in &self.rollups {
            writer.put(closed.section(), closed.plan.definition(), closed.write()?);
        }
        for rule in &self.rules {
            writer.put(rule.section(), rule.plan.definition, rule.save().write()?);
        }
        for saved in &self.orphans {
            // Of no definition there is, so that it is an orphan again.
            writer.put(format!("{SECTION}{}/{}", saved.rule.group, saved.rule.name), 0, saved.write()?);
        }
        let tombstones = serde_json::to_vec(&self.tombstones)
            .map_err(|e| ProcessorError::caused("the alerts that are over cannot be written", e))?;
        writer.put(TOMBSTONES_SECTION, TOMBSTONES_VERSION, tombstones);
        Ok(())
    }

    fn take(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Stage(rows) if &*rows.name == ROWS => self.ticks.rows(&rows),
            Input::Stage(rows) if &*rows.name == STORED_ROWS => self.ticks.stored(&rows),
            Input::Stage(rows) if &*rows.name == moved::ROWS => self.moved(at, &rows, effects),
            Input::Stage(rows) => self.rows(rows),
            Input::Control(control @ Control::Progress { source, .. }) if self.ticks.knows(source) => {
                self.leave(effects)?;
                self.ticks.progress(at, control, effects)
            }
            Input::Control(Control::Progress { source, watermark_us, .. }) => {
                self.progress(at, source, *watermark_us, effects)
            }
            Input::Control(Control::Superseded { source, window_start_us, .. }) => {
                self.superseded(source, *window_start_us);
                Ok(())
            }
            Input::Control(Control::Filled { rollup, definition, source, done, .. }) => {
                if rollup == ROWS && *done {
                    self.ticks.answered(definition, source);
                }
                Ok(())
            }
            Input::Control(Control::Clock { .. }) | Input::Rows(_) | Input::Slice(..) => Ok(()),
            Input::Barrier(writer) => {
                self.write(writer)?;
                self.ticks.write(writer)
            }
        }
    }
}

impl Processor for RulesProcessor {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        if matches!(input, Input::Barrier(_)) {
            return self.take(at, input, effects);
        }
        self.ticks.begin(at.position);
        self.tombstones.bury(&self.alerts_topic, at.append_time_us, effects);
        let from = effects.as_slice().len();
        self.take(at, input, effects)?;
        let said = effects.as_slice().get(from..).unwrap_or_default();
        self.tombstones.see(said, &self.alerts_topic, at.append_time_us);
        Ok(())
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
                Some(rule) => rule.restore(saved),
                None => self.orphans.push(saved),
            }
        }
        if let Some(body) = state.get(TOMBSTONES_SECTION, TOMBSTONES_VERSION) {
            self.tombstones = serde_json::from_slice(body)
                .map_err(|e| ProcessorError::caused("section tombstones of the snapshot is unreadable", e))?;
            if self.may_leave {
                self.tombstones.keep_groups();
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

/// The record that brought the news.
#[derive(Debug, Clone, Copy)]
struct Cause<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

impl Rule {
    fn new(plan: &Arc<RulePlan>) -> Self {
        Self {
            plan: Arc::clone(plan),
            alerts: Alerts::new(),
            past: BTreeMap::new(),
            forgotten_us: i64::MIN,
            sights: Sights::new(),
            turns: Vec::new(),
            errors: BTreeMap::new(),
            took_s: 0.0,
        }
    }

    /// True where a window without rows can change something.
    fn minds_silence(&self) -> bool {
        !self.alerts.is_empty() || !self.plan.on_nothing.is_empty()
    }

    /// Evaluates every tenant, where the window ends at a time that the rule is evaluated at. A failed evaluation leaves its alerts as they were.
    fn evaluate(&mut self, closed: &Closed, evaluation: &Evaluation) -> Vec<Change> {
        if let Some(watch) = &self.plan.watch {
            self.turns.extend(watch.look(&mut self.sights, evaluation.window_end_us, &evaluation.rows));
        }
        let interval_us = self.plan.interval_us;
        if interval_us > 0 && evaluation.window_end_us.rem_euclid(interval_us) != 0 {
            return Vec::new();
        }
        let before = self.alerts.clone();
        let mut changes = Vec::new();
        let mut took_s = 0.0;
        for tenant in closed.tenants() {
            self.errors.remove(tenant);
            let evaluated;
            let candidates = match evaluation.rows.get(tenant) {
                None => &self.plan.on_nothing,
                Some(rows) => match timed(|| self.plan.evaluate(rows.clone()), &mut took_s) {
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
                        self.errors.insert(tenant.to_owned(), (evaluation.window_end_us, error));
                        continue;
                    }
                },
            };
            changes.extend(advance(&self.plan, &mut self.alerts, tenant, evaluation.window_end_us, candidates));
        }
        if took_s > 0.0 {
            self.took_s = took_s;
        }
        self.past.insert(evaluation.window_end_us, Past { before, told: changes.clone() });
        changes
    }

    /// Evaluates the windows that end from `first_us` to `last_us` once more, and says what is different.
    fn evaluate_again(&mut self, closed: &Closed, first_us: i64, last_us: i64) -> Result<Vec<Change>, ProcessorError> {
        if first_us <= self.forgotten_us {
            return Ok(Vec::new());
        }
        let undone = self.past.split_off(&first_us);
        // Where the window itself was passed over, nothing was up then, or what was up is what the next one began with.
        let before = undone.values().next().map_or_else(|| self.alerts.clone(), |past| past.before.clone());
        let was_told: Vec<Change> = undone.into_values().flat_map(|past| past.told).collect();
        let were = std::mem::replace(&mut self.alerts, before.clone());
        let mut told = Vec::new();
        let mut next = Some(first_us);
        while let Some(end_us) = next.filter(|end_us| *end_us <= last_us) {
            told.extend(self.evaluate(closed, &closed.evaluation(end_us)?));
            let kept = closed.kept_after(end_us);
            let every = end_us.saturating_add(closed.slide_us());
            next = if self.minds_silence() { Some(kept.map_or(every, |kept| kept.min(every))) } else { kept };
        }
        let was = Telling { told: &was_told, alerts: &were };
        let is = Telling { told: &told, alerts: &self.alerts };
        Ok(corrections(&before, &was, &is, last_us))
    }

    /// Forgets evaluations of windows that are settled, and the oldest of too many.
    fn forget(&mut self, settled_us: i64) {
        self.past = self.past.split_off(&settled_us.saturating_add(1));
        let weight = |past: &Past| 1 + past.before.len() + past.told.len();
        let mut left: usize = self.past.values().map(weight).sum();
        while left > MAX_PAST_ALERTS {
            let Some((end_us, past)) = self.past.pop_first() else { break };
            left -= weight(&past);
            self.forgotten_us = end_us;
        }
        self.forgotten_us = self.forgotten_us.max(settled_us);
    }

    /// Looks whether anything was there for it, up to where its rollup is closed.
    fn look_back(&mut self, closed: &Closed) {
        if let (Some(watch), Some(closed_us)) = (&self.plan.watch, closed.closed_us()) {
            self.turns.extend(watch.closed(&mut self.sights, closed_us));
        }
    }

    /// Tells whether it has gone blind, or sees again.
    fn tell_turns(
        &mut self,
        closed: &Closed,
        cause: Cause<'_>,
        topic: &Arc<str>,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        for turn in std::mem::take(&mut self.turns) {
            let rollup = &self.plan.identity.rollup;
            // Nothing, where it is told to be blind.
            let sql = format!(
                "SELECT * FROM {} WHERE window_start >= {} AND window_start < {}{}",
                quoted_name(rollup),
                instant(turn.seen_us - self.plan.rollup.width_us() + closed.slide_us()),
                instant(turn.at_us),
                self.plan.watch.as_ref().map(blind::Watch::conditions).unwrap_or_default()
            );
            let source = json!({
                "topic": cause.topic, "partition": cause.partition, "offset": cause.offset, "rollup": rollup,
                "evaluated_at": time::format(turn.at_us), "watermark": closed.closed_us().map(time::format),
                "last_window_end": time::format(turn.seen_us), "sql": sql,
            });
            effects.push(topic, 0, turn.to_record(&self.plan.identity, source)?);
        }
        Ok(())
    }

    /// Shows how it stands.
    fn show(&self, closed: &Closed, shows: &mut Shows) {
        let Some(evaluated_us) = closed.evaluated_us() else { return };
        let interval_us = self.plan.interval_us.max(1);
        let evaluated_us = evaluated_us.div_euclid(interval_us).saturating_mul(interval_us);
        for tenant in closed.tenants() {
            // Windows without rows that were passed over since went well.
            let error = self.errors.get(tenant).filter(|(at_us, _)| *at_us >= evaluated_us);
            let health = Health {
                last_evaluation_ms: Some(evaluated_us.div_euclid(1_000)),
                last_error: error.map(|(_, error)| error.clone()),
                evaluation_time_s: self.took_s,
            };
            shows.show((self.plan.group(), self.plan.name(), tenant), health);
        }
    }

    /// The record of a change, with its evidence.
    fn record(&self, change: &Change, closed: &Closed, cause: Cause<'_>) -> Result<Record, ProcessorError> {
        metrics::counter!("highwater_alert_transitions_total", "state" => change.state.as_str()).increment(1);
        let identity = &self.plan.identity;
        let evaluation = closed.evaluation(change.at_us)?;
        let window_us = (evaluation.window_start_us, evaluation.window_end_us);
        // An alert ends by a row that is not there.
        let is = change.correction.map_or(change.state, |correction| correction.now);
        let ended = matches!(is, State::Resolved | State::Inactive);
        let row = &change.alert.row;
        let mut source = json!({
            "topic": cause.topic, "partition": cause.partition, "offset": cause.offset,
            "rollup": identity.rollup,
            "window_start": time::format(window_us.0), "window_end": time::format(window_us.1),
            "evaluated_at": time::format(change.at_us),
            "watermark": closed.closed_us().map(time::format),
            "row": if ended { json!(null) } else { json!(row) },
            "sql": self.plan.statements.row_sql(window_us, row),
        });
        if ended {
            source["last_row"] = json!(row);
        }
        if let Some(sql) = self.plan.statements.input_sql(window_us, row) {
            source["input_sql"] = sql.into();
        }
        let lines = evaluation.rows.get(&change.key.0).map(|rows| lines::of_rows(rows, row)).unwrap_or_default();
        if !lines.is_empty() {
            source["lines"] = lines.into();
        }
        if let Some(correction) = change.correction {
            source["correction"] = json!(correction);
        }
        change.to_record(identity, source)
    }

    fn save(&self) -> Saved {
        let plain = |alerts: &Alerts| alerts.iter().map(|(key, alert)| (key.clone(), alert.clone())).collect();
        let past = self.past.iter().map(|(window_end_us, past)| SavedPast {
            window_end_us: *window_end_us,
            before: plain(&past.before),
            told: past.told.clone(),
        });
        Saved {
            rule: self.plan.identity.clone(),
            alerts: plain(&self.alerts),
            past: past.collect(),
            forgotten_us: Some(self.forgotten_us),
            sights: self.sights.clone(),
            errors: self.errors.clone(),
        }
    }

    fn restore(&mut self, saved: Saved) {
        self.alerts = Alerts::from_iter(saved.alerts);
        let past = saved
            .past
            .into_iter()
            .map(|past| (past.window_end_us, Past { before: Alerts::from_iter(past.before), told: past.told }));
        self.past = past.collect();
        self.forgotten_us = saved.forgotten_us.unwrap_or(i64::MIN);
        (self.sights, self.errors) = (saved.sights, saved.errors);
    }

    fn section(&self) -> String {
        format!("{SECTION}{}/{}", self.plan.group(), self.plan.name())
    }
}
