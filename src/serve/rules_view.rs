//! Rules and alerts as the Prometheus API shows them: rules from the newest definitions in the log; alerts from the rules task where it runs in this
//! process, else from topic `alerts`.

use std::sync::Arc;

use async_trait::async_trait;
use highwater_pipeline::data::alerts::{State, Transition};
use highwater_pipeline::log::Log;
use highwater_processors::rules::promql::{self, GroupPlan, PromRule, Shown};
use highwater_processors::rules::{Rule as WrittenRule, RuleFile, RuleGroup as WrittenGroup};
use highwater_promql::Labels;
use highwater_sinks::alerts::current_alerts;
use highwater_sql::prometheus::{Alert, AlertState, Rule, RuleGroup, RuleHealth, RuleKind, RulesView, ViewError};

use super::definitions::LogDefinitions;

/// The rules of the definitions in the log.
pub(crate) struct LogRules {
    pub(crate) definitions: LogDefinitions,
    pub(crate) log: Arc<dyn Log>,
}

#[async_trait]
impl RulesView for LogRules {
    async fn groups(&self, tenant: &str) -> Result<Vec<RuleGroup>, ViewError> {
        let Some(config) = self.definitions.processors()? else { return Ok(Vec::new()) };
        let board = promql::board();
        let shown = |rule: &PromRule| board.as_ref()?.rules.get(tenant)?.get(rule.id()).cloned();
        let mut active: Vec<Transition> = Vec::new();
        for alert in current_alerts(self.log.as_ref()).await? {
            if alert.tenant == tenant && matches!(alert.state.as_str(), "pending" | "firing") {
                active.extend(Transition::parse(alert.json.get().as_bytes()).ok());
            }
        }
        let mut groups = Vec::new();
        for file in &config.rule_files {
            for group in &file.groups {
                groups.push(group_of(file, group, &shown, &mut active)?);
            }
        }
        groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
        Ok(groups)
    }
}

fn group_of(
    file: &RuleFile,
    group: &WrittenGroup,
    shown: &impl Fn(&PromRule) -> Option<Shown>,
    active: &mut Vec<Transition>,
) -> Result<RuleGroup, ViewError> {
    let plan = GroupPlan::new(&file.file, group)?;
    let mut planned = plan.iter().flat_map(|plan| &plan.rules);
    let mut rules = Vec::with_capacity(group.rules.len());
    for written in &group.rules {
        let plan = if written.is_promql() { planned.next() } else { None };
        let state = plan.and_then(shown);
        rules.push(rule_of(group, written, state, active));
    }
    Ok(RuleGroup {
        name: group.name.clone(),
        file: file.file.clone(),
        interval_s: seconds(plan.as_ref().map_or(group.interval_ms, |plan| plan.interval_ms)),
        limit: group.limit as u64,
        last_evaluation_ms: rules.iter().filter_map(|rule| rule.last_evaluation_ms).max(),
        rules,
        evaluation_time_s: 0.0,
    })
}

fn rule_of(group: &WrittenGroup, rule: &WrittenRule, state: Option<Shown>, active: &mut Vec<Transition>) -> Rule {
    let mut labels = group.labels.clone();
    labels.extend(rule.labels.clone());
    let kind = if rule.record.is_empty() {
        RuleKind::Alerting {
            duration_s: seconds(rule.for_ms),
            keep_firing_for_s: seconds(rule.keep_firing_for_ms),
            annotations: Labels::from_pairs(rule.annotations.iter()),
            alerts: match &state {
                Some(state) => state.alerts.iter().map(alert_of).collect(),
                None => {
                    // Labels that are written out tell rules of one name apart.
                    let fixed = |t: &Transition| {
                        labels.iter().all(|(name, text)| text.contains("{{") || t.labels.get(name) == Some(text))
                    };
                    let ours = |t: &mut Transition| t.group_name == group.name && t.alertname == rule.alert && fixed(t);
                    active.extract_if(.., ours).map(|t| transition_of(&t)).collect()
                }
            },
        }
    } else {
        RuleKind::Recording
    };
    let health = match &state {
        None => RuleHealth::Unknown,
        Some(state) if state.last_error.is_some() => RuleHealth::Err,
        Some(state) if state.last_evaluation_ms.is_some() => RuleHealth::Ok,
        Some(_) => RuleHealth::Unknown,
    };
    Rule {
        name: rule.name().to_owned(),
        query: if rule.is_promql() { rule.expr.clone() } else { rule.sql.trim().to_owned() },
        labels: Labels::from_pairs(labels.iter()),
        health,
        last_error: state.as_ref().and_then(|state| state.last_error.clone()),
        evaluation_time_s: 0.0,
        last_evaluation_ms: state.as_ref().and_then(|state| state.last_evaluation_ms),
        kind,
    }
}

fn alert_of(alert: &promql::Alert) -> Alert {
    Alert {
        labels: Labels::from_pairs(alert.labels.iter()),
        annotations: Labels::from_pairs(alert.annotations.iter()),
        state: if alert.state == State::Firing { AlertState::Firing } else { AlertState::Pending },
        active_at_ms: alert.active_at_ms,
        keep_firing_since_ms: alert.keep_firing_since_ms,
        value: alert.value(),
    }
}

fn transition_of(transition: &Transition) -> Alert {
    Alert {
        labels: Labels::from_pairs(transition.labels.iter()),
        annotations: Labels::from_pairs(transition.annotations.iter()),
        state: if transition.state == State::Firing { AlertState::Firing } else { AlertState::Pending },
        active_at_ms: transition.starts_at_us.unwrap_or(transition.timestamp_us).div_euclid(1_000),
        keep_firing_since_ms: None,
        value: transition.value.unwrap_or(f64::NAN),
    }
}

#[expect(clippy::cast_precision_loss, reason = "durations of this size fit")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
