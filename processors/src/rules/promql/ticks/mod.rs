//! The PromQL rules of a rules task: samples in, ticks by event time, transitions and recorded samples out.
//!
//! Time is the watermark merged over the partitions of `metrics`. A tick, a multiple of a group's interval, is evaluated once the watermark is
//! [`LATENESS_US`] past it; what comes later for it is seen by the ticks after it. Of a group all rules see the same tick; what other groups record
//! at a tick they see from the next on, so it does not matter in which order, or in which task, groups are evaluated.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use highwater_pipeline::data::alerts::{State, Transition};
use highwater_pipeline::data::{Control, alerts, identity, labels as series_labels, time};
use highwater_pipeline::runtime::watermark::MergedWatermark;
use highwater_pipeline::runtime::{At, Effects, ProcessorError};
use highwater_promql::{Labels, METRIC_NAME, Options, SeriesSource};
use serde_json::json;

use super::alerts::{Alert, Change};
use super::board::{self, Board, Shown, ShownGroup};
use super::group::{GroupState, evidence as series_behind, looked_at};
use super::head::{Head, View};
use super::look_back::{Asks, LookBack};
use super::plan::{Environment, GroupPlan, Kind, PromRule};
use super::recorded::Recorded;
use super::shards::Shards;
use super::silent::{ALERTNAME, Selects};
use super::statement::{looks_at_ranges, of_series};
use super::watch::{Watch, Watched};

use crate::topology::BACKFILL_TOPIC;

mod incoming;
mod left_over;
mod snapshot;

pub(super) use incoming::series_of;
pub(super) use snapshot::SavedRule;

/// How far behind the watermark a tick is evaluated.
pub(crate) const LATENESS_US: i64 = 5_000_000;
/// Most ticks that one report of progress may cause. Where there are more (a year of data at once), the oldest are passed over, counted and reported.
const MAX_TICKS: i64 = 20_000;
/// Where more time than this is to be caught up with, ticks at which nothing can change are passed over.
const LONG_GAP_MS: i64 = 60_000;
/// Most samples of one tenant's head; beyond, the oldest half of the time it covers goes.
const MAX_SAMPLES: usize = 20_000_000;
/// Series shown with an alert.
const MAX_EVIDENCE: usize = 10;
/// Name of the rows of samples in the rules topic, and the version of their meaning.
pub(crate) const ROWS: &str = "__metrics";
pub(crate) const ROWS_VERSION: u64 = 1;
/// Name of the rows of stored samples there; their definition is what was asked for.
pub(crate) const STORED_ROWS: &str = "__metrics/stored";
/// The columns of them that are read.
pub(crate) const READ: [&str; 10] = [
    time::COLUMN,
    "name",
    "value",
    "stale",
    "histogram",
    "labels",
    "series_id",
    "tenant",
    identity::PARTITION,
    identity::OFFSET,
];
const SECTION: &str = "promql";
const SECTION_VERSION: u64 = 1;
const HEADS_SECTION: &str = "promql/heads";
const LOOK_BACK_SECTION: &str = "promql/look_back";
/// Sections of rules begin with this.
const RULE_SECTION: &str = "promql/rule/";

/// PromQL rules and their state.
pub(crate) struct Ticks {
    topic: Arc<str>,
    partition: i32,
    alerts_topic: Arc<str>,
    plans: Vec<Arc<GroupPlan>>,
    environment: Arc<Environment>,
    merged: MergedWatermark,
    reach_ms: i64,
    /// The last tick that was evaluated, or passed over.
    reached_ms: Option<i64>,
    /// Time of the last tick at which old samples were dropped.
    pruned_ms: i64,
    /// Time of the newest sample of a record that is dropped.
    gone_ms: Option<i64>,
    tenants: BTreeMap<String, Tenant>,
    /// Rules that wait for stored samples.
    look_back: LookBack,
    most_samples: usize,
    recorded: Recorded,
    orphans: Vec<SavedRule>,
    /// Where all groups are.
    shards: Arc<Shards>,
    watched: Arc<Watched>,
    /// Every rule is evaluated at each tick, for tests.
    each_tick: bool,
    /// Before this, things can change without anything coming; what comes only makes it later.
    quiet_after_ms: i64,
    /// There has been a tick since it was shown how the rules stand.
    has_ticked: bool,
    /// What is shown of it.
    board: Option<Arc<Board>>,
    places: Arc<HashMap<String, (usize, usize)>>,
}

struct Tenant {
    head: Head,
    watch: Watch,
    /// In the order of the plans.
    groups: Vec<GroupState>,
    /// Time of the newest sample that was dropped because there were too many, Unix milliseconds.
    dropped_ms: Option<i64>,
    /// As they were last shown.
    shown: Vec<ShownGroup>,
}

impl Tenant {
    fn new(head: Head, plans: &[Arc<GroupPlan>], watched: &Arc<Watched>) -> Self {
        let mut watch = Watch::new(watched);
        watch.find_all(&head);
        let groups = plans.iter().map(|plan| GroupState::new(plan)).collect();
        Self { head, watch, groups, dropped_ms: None, shown: Vec::new() }
    }

    /// Tells the rules which of them wait, and since when there are samples.
    fn tell(&mut self, plans: &[Arc<GroupPlan>], look_back: &LookBack) {
        for (plan, group) in plans.iter().zip(&mut self.groups) {
            group.since_ms = self.dropped_ms.map_or(i64::MIN, |dropped_ms| dropped_ms.saturating_add(1));
            group.note_news();
            for (rule, state) in plan.rules.iter().zip(&mut group.rules) {
                state.waits = look_back.waits(rule);
            }
        }
        self.watch.forget();
    }

    fn push(&mut self, labels: &Labels, timestamp_ms: i64, value: f64) {
        let pushed = self.head.put(labels, timestamp_ms, value, None);
        self.watch.pushed(&self.head, pushed, timestamp_ms);
    }

    /// Drops what is at or before this time; the newest that came from a record.
    fn prune(&mut self, until_ms: i64) -> Option<i64> {
        let (gone, newest_ms) = self.head.prune(until_ms);
        self.watch.gone(&gone);
        newest_ms
    }
}

impl Ticks {
    pub(crate) fn new(
        topic: &str,
        partition: i32,
        partitions: i32,
        plans: &[Arc<GroupPlan>],
        environment: &Arc<Environment>,
        has_history: bool,
    ) -> Self {
        let reach_ms = plans.iter().map(|plan| plan.reach_ms()).max().unwrap_or(0);
        let sources = usize::try_from(partitions).unwrap_or(0);
        let places = plans.iter().enumerate().flat_map(|(group, plan)| {
            plan.rules.iter().enumerate().map(move |(at, rule)| (rule.id.clone(), (group, at)))
        });
        Self {
            topic: topic.into(),
            partition,
            alerts_topic: alerts::TOPIC.into(),
            plans: plans.to_vec(),
            environment: Arc::clone(environment),
            merged: MergedWatermark::new((0..partitions).map(|p| format!("metrics/{p}"))),
            reach_ms,
            reached_ms: None,
            pruned_ms: i64::MIN,
            gone_ms: None,
            tenants: BTreeMap::new(),
            look_back: LookBack::new(plans, sources, reach_ms, has_history),
            most_samples: MAX_SAMPLES,
            recorded: Recorded::new(partitions),
            orphans: Vec::new(),
            shards: Arc::default(),
            watched: Arc::new(Watched::new(plans)),
            each_tick: false,
            quiet_after_ms: i64::MIN,
            has_ticked: true,
            board: None,
            places: Arc::new(places.collect()),
        }
    }

    /// The same, knowing where other groups are.
    #[must_use]
    pub(crate) fn among(mut self, shards: &Arc<Shards>) -> Self {
        self.shards = Arc::clone(shards);
        self
    }

    /// Evaluates every rule at each tick.
    #[cfg(test)]
    pub(super) fn at_each_tick(mut self) -> Self {
        self.each_tick = true;
        self
    }

    /// With few samples, for tests.
    #[cfg(test)]
    pub(super) fn keeping_at_most(mut self, most_samples: usize) -> Self {
        self.most_samples = most_samples;
        self
    }

    #[cfg(test)]
    pub(super) fn noting_at_most(mut self, most: Option<usize>) -> Self {
        if let Some(most) = most {
            self.watched = Arc::new(Watched::new(&self.plans).with_most_noted(most));
        }
        self
    }

    pub(crate) fn watermark_us(&self) -> Option<i64> {
        self.merged.watermark_us()
    }

    /// True where this is a report of how far a partition of `metrics` has come.
    pub(crate) fn knows(&self, source: &str) -> bool {
        self.merged.index(source).is_some()
    }

    /// To be told where the first record is that it reads, before it.
    pub(crate) fn begin(&mut self, position: i64) {
        if !self.look_back.is_begun() {
            self.look_back.begin(position);
        }
    }

    /// Tells all rules which of them wait.
    fn tell(&mut self) {
        for tenant in self.tenants.values_mut() {
            tenant.tell(&self.plans, &self.look_back);
        }
    }

    /// A partition of `metrics` has come this far.
    pub(crate) fn progress(&mut self, at: At, control: &Control, effects: &mut Effects) -> Result<(), ProcessorError> {
        let Control::Progress { source, position, watermark_us, idle, rules } = control else { return Ok(()) };
        let Some(index) = self.merged.index(source) else { return Ok(()) };
        self.merged.report(index, *watermark_us, *idle);
        self.look_back.cut(index, rules.as_deref(), *position);
        let Some(merged_us) = self.merged.watermark_us() else { return Ok(()) };
        let until_ms = merged_us.saturating_sub(LATENESS_US).div_euclid(1_000);
        self.abandon_orphans(at, until_ms, effects)?;
        if self.plans.is_empty() {
            return self.recorded.flush(effects);
        }
        self.look_back(at, until_ms, effects)?;
        if self.look_back.all_wait(&self.plans) {
            // What was before they began is over.
            self.reached_ms = self.reached_ms.max(Some(until_ms));
            return self.recorded.flush(effects);
        }
        if self.tenants.is_empty() {
            return self.recorded.flush(effects);
        }
        let oldest = || self.tenants.values().filter_map(|tenant| tenant.head.next_ms(i64::MIN)).min();
        // Before the first sample there was nothing to be absent.
        let Some(reached_ms) = self.reached_ms.or_else(|| Some(oldest()? - 1)) else { return Ok(()) };
        self.reached_ms = Some(reached_ms);
        self.run_until(at, until_ms, effects)?;
        self.show();
        self.recorded.flush(effects)
    }

    /// Asks for what new rules look back to, once it is known where they begin.
    fn look_back(&mut self, at: At, until_ms: i64, effects: &mut Effects) -> Result<(), ProcessorError> {
        let behind_ms = self.plans.iter().map(|plan| plan.query_offset_ms).max().unwrap_or(0);
        let now_ms = self.reached_ms.map_or(until_ms, |reached_ms| reached_ms.max(until_ms));
        let asks = Asks { topic: &self.topic, partition: self.partition, position: at.position, now_ms, behind_ms };
        let (requests, is_done) = self.look_back.ask(&self.plans, &asks);
        for request in requests {
            effects.push(&Arc::from(BACKFILL_TOPIC), request.partition, request.to_record()?);
        }
        if is_done {
            self.tell();
        }
        Ok(())
    }

    /// Shows how the rules stand.
    fn show(&mut self) {
        if !std::mem::take(&mut self.has_ticked) {
            return;
        }
        let mut shown = Board { places: Arc::clone(&self.places), ..Board::default() };
        for (name, tenant) in &mut self.tenants {
            let is_new = tenant.shown.is_empty();
            for (at, group) in tenant.groups.iter_mut().enumerate() {
                let last_evaluation_ms = group.evaluated_ms();
                if !group.take_news() && !is_new {
                    tenant.shown[at].last_evaluation_ms = last_evaluation_ms;
                    continue;
                }
                let rules = group.rules().iter().enumerate().map(|(rule, state)| Shown {
                    last_evaluation_ms: group.last_evaluation_ms(rule),
                    last_error: state.last_error.clone(),
                    waits: state.waits,
                    evaluation_time_s: state.took_s,
                    alerts: state.active().cloned().collect(),
                });
                let group = ShownGroup { last_evaluation_ms, rules: Arc::new(rules.collect()) };
                match tenant.shown.get_mut(at) {
                    Some(shown) => *shown = group,
                    None => tenant.shown.push(group),
                }
            }
            shown.tenants.insert(name.clone(), tenant.shown.clone());
        }
        self.board = Some(board::publish(self.partition, shown));
    }

    fn run_until(&mut self, at: At, until_ms: i64, effects: &mut Effects) -> Result<(), ProcessorError> {
        let mut ticks = 0;
        loop {
            let Some(reached_ms) = self.reached_ms else { return Ok(()) };
            let next = |plans: &[Arc<GroupPlan>], after_ms: i64| {
                let tick = |plan: &Arc<GroupPlan>| (after_ms.div_euclid(plan.interval_ms) + 1) * plan.interval_ms;
                plans.iter().map(tick).min()
            };
            let Some(mut tick_ms) = next(&self.plans, reached_ms).filter(|tick| *tick <= until_ms) else {
                return Ok(());
            };
            if until_ms - tick_ms > LONG_GAP_MS && tick_ms > self.quiet_after_ms(tick_ms) {
                // Nothing that was written can change a verdict any more, until something comes.
                let wake_ms = self.tenants.values().filter_map(|tenant| tenant.head.next_ms(tick_ms)).min();
                let last = self.plans.iter().map(|plan| until_ms.div_euclid(plan.interval_ms) * plan.interval_ms).max();
                let jump = wake_ms.map_or(i64::MAX, |wake| wake - 1).min(last.unwrap_or(tick_ms) - 1);
                if let Some(later) = next(&self.plans, jump.max(reached_ms)).filter(|later| *later <= until_ms) {
                    tick_ms = later;
                }
            }
            ticks += 1;
            if ticks > MAX_TICKS {
                let skipped = until_ms - tick_ms;
                metrics::counter!("highwater_rules_skipped_ms_total").increment(skipped.unsigned_abs());
                tracing::error!(
                    from = time::format(tick_ms * 1_000),
                    to = time::format(until_ms * 1_000),
                    "too many ticks at once; rules are not evaluated for this time"
                );
                self.reached_ms = Some(until_ms);
                return Ok(());
            }
            self.tick(at, tick_ms, effects)?;
            self.has_ticked = true;
            self.reached_ms = Some(tick_ms);
        }
    }

    /// From when on, given what is known before `tick_ms`, nothing changes any more. At a later tick it is no earlier.
    fn quiet_after_ms(&mut self, tick_ms: i64) -> i64 {
        if tick_ms <= self.quiet_after_ms {
            return self.quiet_after_ms;
        }
        // Alerts are held for longer than the samples that raised them.
        let newest = self.tenants.values().filter_map(|tenant| tenant.head.newest_ms(tick_ms)).max().max(self.gone_ms);
        let holds = self.plans.iter().flat_map(|plan| &plan.rules).map(|rule| match &rule.kind {
            Kind::Recording => 0,
            Kind::Alerting { for_ms, keep_firing_for_ms, .. } => for_ms.saturating_add(*keep_firing_for_ms),
        });
        let interval = self.plans.iter().map(|plan| plan.interval_ms).max().unwrap_or(0);
        let lookback_ms = Options::default().lookback_ms;
        let settle_ms =
            (2 * self.reach_ms.max(lookback_ms)).saturating_add(holds.max().unwrap_or(0)).saturating_add(2 * interval);
        self.quiet_after_ms = newest.map_or(i64::MIN, |newest| newest.saturating_add(settle_ms));
        self.quiet_after_ms
    }

    fn tick(&mut self, at: At, tick_ms: i64, effects: &mut Effects) -> Result<(), ProcessorError> {
        let plans = self.plans.clone();
        let environment = Arc::clone(&self.environment);
        let names: Vec<String> = self.tenants.keys().cloned().collect();
        for name in names {
            let Some(mut tenant) = self.tenants.remove(&name) else { continue };
            let mut written = Vec::new();
            tenant.watch.settle(&tenant.head);
            for (index, (plan, state)) in plans.iter().zip(&mut tenant.groups).enumerate() {
                if tick_ms.rem_euclid(plan.interval_ms) != 0 {
                    continue;
                }
                let (head, watch) = (&tenant.head, &mut tenant.watch);
                let caused = if self.each_tick {
                    state.evaluate(plan, tick_ms, head, &environment)
                } else {
                    state.evaluate_due(plan, tick_ms, head, &environment, watch, index)
                };
                for (rule, error) in &caused.errors {
                    let rule = &plan.rules[*rule];
                    metrics::counter!("highwater_rule_failures_total", "rule" => rule.name.clone()).increment(1);
                    tracing::warn!(group = plan.name, rule = rule.name, tenant = name, error, "evaluation failed");
                }
                for transitioned in &caused.transitions {
                    let rule = &plan.rules[transitioned.rule];
                    let view = View { head: &tenant.head, fresh: &Head::new() };
                    let as_of_ms = tick_ms - plan.query_offset_ms;
                    let sample = transitioned.change.sample.as_ref();
                    let series = series_behind(rule, &view, as_of_ms, sample, MAX_EVIDENCE);
                    let sql = evidence_sql(rule, &series, as_of_ms);
                    let series: Vec<_> = series.iter().map(|one| shown(one, &tenant.head)).collect();
                    let mut source = self.source(at, tick_ms);
                    (source["series"], source["sql"]) = (series.into(), json!(sql));
                    let (change, shown) = (&transitioned.change, &rule.shown);
                    self.transition(&name, &rule.group, &rule.name, shown, change, tick_ms, source, effects)?;
                }
                written.extend(caused.samples);
                if Selects::is_due(tick_ms, plan.interval_ms) {
                    let as_of_ms = tick_ms - plan.query_offset_ms;
                    for (place, (rule, state)) in plan.rules.iter().zip(&mut state.rules).enumerate() {
                        if state.waits {
                            continue;
                        }
                        let known = tenant.watch.known((index, place), rule, &tenant.head, as_of_ms);
                        let head: &dyn SeriesSource = if self.each_tick { &tenant.head } else { &known };
                        let Some(change) = state.selects.look(rule, head, as_of_ms, tick_ms) else { continue };
                        let mut source = self.source(at, tick_ms);
                        (source["series"], source["sql"]) = (json!([]), json!(evidence_sql(rule, &[], as_of_ms)));
                        self.transition(&name, &rule.group, ALERTNAME, &rule.shown, &change, tick_ms, source, effects)?;
                    }
                }
            }
            for (labels, timestamp_ms, value) in written {
                self.recorded.push(&name, &labels, timestamp_ms, value);
                tenant.push(&labels, timestamp_ms, value);
            }
            if tick_ms - self.pruned_ms.max(tick_ms - 3_600_000) >= 10_000 || self.pruned_ms == i64::MIN {
                self.gone_ms = self.gone_ms.max(tenant.prune(tick_ms - self.reach_ms - 1_000));
            }
            self.tenants.insert(name, tenant);
        }
        if tick_ms - self.pruned_ms.max(tick_ms - 3_600_000) >= 10_000 {
            self.pruned_ms = tick_ms;
        }
        Ok(())
    }

    /// Which record brought the news, and how far time had come.
    fn source(&self, at: At, now_ms: i64) -> serde_json::Value {
        json!({
            "topic": &*self.topic, "partition": self.partition, "offset": at.position,
            "evaluated_at": time::format(now_ms.saturating_mul(1_000)),
            "watermark": self.merged.watermark_us().map(time::format),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "all of them are in the record")]
    fn transition(
        &self,
        tenant: &str,
        group: &str,
        name: &str,
        shown: &serde_json::Value,
        change: &Change,
        now_ms: i64,
        source: serde_json::Value,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        let alert = &change.alert;
        let ended = matches!(change.state, State::Resolved | State::Inactive);
        let us = |ms: i64| ms.saturating_mul(1_000);
        let transition = Transition {
            timestamp_us: us(now_ms),
            fingerprint: fingerprint(tenant, group, name, alert),
            alertname: name.to_owned(),
            group_name: group.to_owned(),
            state: change.state,
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            value: Some(alert.value()),
            starts_at_us: Some(us(alert.active_at_ms)),
            fired_at_us: alert.fired_at_ms.map(us),
            ends_at_us: ended.then_some(us(now_ms)),
            rule: shown.clone(),
            source,
            tenant: tenant.to_owned(),
        };
        metrics::counter!("highwater_alert_transitions_total", "state" => change.state.as_str()).increment(1);
        let record = transition
            .to_record()
            .map_err(|e| ProcessorError::caused(format!("an alert of rule {name} cannot be written"), e))?;
        effects.push(&self.alerts_topic, 0, record);
        Ok(())
    }

    /// The fingerprints of what a group has up.
    pub(crate) fn active(&self, group: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (name, tenant) in &self.tenants {
            for (plan, state) in self.plans.iter().zip(&tenant.groups).filter(|(plan, _)| plan.name == group) {
                for (rule, state) in plan.rules.iter().zip(&state.rules) {
                    found.extend(state.active().map(|alert| fingerprint(name, group, &rule.name, alert)));
                    found.extend(state.selects.alert().map(|alert| fingerprint(name, group, ALERTNAME, alert)));
                }
            }
        }
        found
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        if let Some(board) = &self.board {
            board::withdraw(self.partition, board);
        }
    }
}

fn fingerprint(tenant: &str, group: &str, name: &str, alert: &Alert) -> String {
    let mut canonical = String::new();
    series_labels::write_canonical(alert.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())), &mut canonical);
    series_labels::fingerprint(tenant, group, name, &canonical)
}

fn shown((labels, timestamp_ms, value): &(Labels, i64, f64), head: &Head) -> serde_json::Value {
    let plain: BTreeMap<&str, &str> = labels.iter().collect();
    let value = if value.is_finite() { json!(value) } else { json!(highwater_promql::format_float(*value)) };
    let mut one = json!({
        "labels": plain, "value": value, "timestamp": time::format(timestamp_ms.saturating_mul(1_000)),
    });
    if let Some(from) = head.record_of(labels, *timestamp_ms) {
        one["record"] = json!({"topic": "metrics", "partition": from.partition, "offset": from.offset});
    }
    one
}

/// The statement that shows the samples of these series; where there are none, all of the metrics that the rule names.
fn evidence_sql(rule: &PromRule, series: &[(Labels, i64, f64)], as_of_ms: i64) -> Option<String> {
    let (from_ms, mut names) = looked_at(rule, as_of_ms);
    if !series.is_empty() {
        names = series.iter().map(|(labels, ..)| labels.name().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
    }
    let ids: Vec<i64> = series.iter().map(|(labels, ..)| series_id(labels)).collect();
    let all = looks_at_ranges(rule.query.expr());
    of_series(&names, &ids, from_ms.saturating_mul(1_000), as_of_ms.saturating_mul(1_000), all)
}

fn series_id(labels: &Labels) -> i64 {
    let others: Vec<(&str, &str)> = labels.iter().filter(|(key, _)| *key != METRIC_NAME).collect();
    let mut series = String::new();
    series_labels::write_series(labels.name(), &others, &mut series);
    series_labels::series_id(&series)
}
