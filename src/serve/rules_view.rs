//! Rules and alerts as the Prometheus API shows them: rules from the newest definitions in the log; alerts from the rules tasks that run in this
//! process, those of others from topic `alerts`.

use std::sync::Arc;

use async_trait::async_trait;
use highwater_pipeline::data::alerts::{State, Transition};
use highwater_pipeline::log::Log;
use highwater_processors::rules::promql::{self, GroupPlan, PromRule, Shown};
use highwater_processors::rules::{Health, Rule as WrittenRule, RuleFile, RuleGroup as WrittenGroup, health};
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
        let boards = promql::boards();
        let shown = |rule: &PromRule| boards.rule(tenant, rule.id());
        let mut active: Vec<Transition> = Vec::new();
        for alert in current_alerts(self.log.as_ref()).await? {
            if alert.tenant == tenant {
                active.extend(Transition::parse(alert.json.get().as_bytes()).ok());
            }
        }
        // What late rows have corrected may fire as well.
        active.retain(|transition| matches!(transition.is_now(), State::Pending | State::Firing));
        let mut groups = Vec::new();
        for file in &config.rule_files {
            for group in &file.groups {
                groups.push(group_of(tenant, file, group, &shown, &mut active)?);
            }
        }
        groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
        groups.extend(of_highwater(active));
        Ok(groups)
    }
}

/// What Highwater says of the rules themselves, as a group of its own behind all others; `None` while it has nothing to say.
fn of_highwater(active: Vec<Transition>) -> Option<RuleGroup> {
    let of_rules = |transition: &Transition| transition.alertname == promql::SELECTS_NOTHING;
    let said: Vec<Transition> = active.into_iter().filter(of_rules).collect();
    let last_evaluation_ms = said.iter().map(|transition| transition.timestamp_us.div_euclid(1_000)).max()?;
    let rule = Rule {
        name: promql::SELECTS_NOTHING.to_owned(),
        query: String::new(),
        labels: Labels::from_pairs([("severity", "warning")]),
        health: RuleHealth::Ok,
        last_error: None,
        evaluation_time_s: 0.0,
        last_evaluation_ms: Some(last_evaluation_ms),
        kind: RuleKind::Alerting {
            duration_s: 0.0,
            keep_firing_for_s: 0.0,
            annotations: Labels::empty(),
            alerts: said.iter().map(transition_of).collect(),
        },
    };
    Some(RuleGroup {
        name: "highwater".to_owned(),
        file: "highwater".to_owned(),
        interval_s: 60.0,
        limit: 0,
        rules: vec![rule],
        evaluation_time_s: 0.0,
        last_evaluation_ms: Some(last_evaluation_ms),
    })
}

fn group_of(
    tenant: &str,
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
        let health = match (&state, written.is_promql()) {
            (Some(state), _) => Some(Health {
                last_evaluation_ms: state.last_evaluation_ms,
                last_error: state.last_error.clone(),
                evaluation_time_s: state.evaluation_time_s,
            }),
            (None, true) => None,
            (None, false) => health(&group.name, written.name(), tenant),
        };
        rules.push(rule_of(group, written, state, health.unwrap_or_default(), active));
    }
    let evaluation_time_s = rules.iter().map(|rule| rule.evaluation_time_s).sum();
    Ok(RuleGroup {
        name: group.name.clone(),
        file: file.file.clone(),
        interval_s: seconds(plan.as_ref().map_or(group.interval_ms, |plan| plan.interval_ms)),
        limit: group.limit as u64,
        last_evaluation_ms: rules.iter().filter_map(|rule| rule.last_evaluation_ms).max(),
        rules,
        evaluation_time_s,
    })
}

fn rule_of(
    group: &WrittenGroup,
    rule: &WrittenRule,
    state: Option<Shown>,
    health: Health,
    active: &mut Vec<Transition>,
) -> Rule {
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
    let is_well = match &health {
        Health { last_error: Some(_), .. } => RuleHealth::Err,
        Health { last_evaluation_ms: Some(_), .. } => RuleHealth::Ok,
        _ => RuleHealth::Unknown,
    };
    Rule {
        name: rule.name().to_owned(),
        query: if rule.is_promql() { rule.expr.clone() } else { rule.sql.trim().to_owned() },
        labels: Labels::from_pairs(labels.iter()),
        health: is_well,
        last_error: health.last_error,
        evaluation_time_s: health.evaluation_time_s,
        last_evaluation_ms: health.last_evaluation_ms,
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
        state: if transition.is_now() == State::Firing { AlertState::Firing } else { AlertState::Pending },
        active_at_ms: transition.starts_at_us.unwrap_or(transition.timestamp_us).div_euclid(1_000),
        keep_firing_since_ms: None,
        value: transition.value.unwrap_or(f64::NAN),
    }
}

#[expect(clippy::cast_precision_loss, reason = "durations of this size fit")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
