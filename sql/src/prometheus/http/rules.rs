//! `/api/v1/rules` and `/api/v1/alerts`.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::response::Response;
use highwater_promql::{CompiledMatcher, Labels};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Request, match_sets};
use crate::prometheus::Prometheus;
use crate::prometheus::encode::success;
use crate::prometheus::error::{ApiError, ApiErrorKind};
use crate::prometheus::params::parse_int;
use crate::prometheus::views::{Alert, AlertState, Rule, RuleGroup, RuleHealth, RuleKind};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupsData {
    groups: Vec<GroupData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupData {
    name: String,
    file: String,
    rules: Vec<RuleData>,
    interval: f64,
    limit: u64,
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleData {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    name: String,
    query: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_for: Option<f64>,
    labels: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Labels>,
    /// `null` inside where alerts were asked to be left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    alerts: Option<Option<Vec<AlertData>>>,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    evaluation_time: f64,
    last_evaluation: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertData {
    labels: Labels,
    annotations: Labels,
    state: &'static str,
    active_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_since: Option<String>,
    value: String,
}

/// `GET /api/v1/alerts`.
pub(super) async fn alerts(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct AlertsData {
        alerts: Vec<AlertData>,
    }
    let mut alerts = Vec::new();
    for rule in groups(server, request).await?.into_iter().flat_map(|group| group.rules) {
        if let RuleKind::Alerting { alerts: active, .. } = rule.kind {
            alerts.extend(active.iter().map(alert_data));
        }
    }
    Ok(success(&AlertsData { alerts }))
}

/// `GET /api/v1/rules`.
pub(super) async fn rules(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let form = &request.form;
    let sets = match_sets(form)?;
    let sets = sets.iter().map(|set| set.iter().map(highwater_promql::Matcher::compile).collect::<Result<Vec<_>, _>>());
    let sets: Vec<Vec<CompiledMatcher>> = sets.collect::<Result<_, _>>()?;
    let kind = form.url_value("type").to_lowercase();
    if !["", "alert", "record"].contains(&kind.as_str()) {
        let why = format!("not supported value {}", highwater_promql::Quoted(&kind));
        return Err(ApiError::invalid_parameter("type", &why));
    }
    let exclude_alerts = match form.url_value("exclude_alerts").to_lowercase().as_str() {
        "" | "0" | "f" | "false" => false,
        "1" | "t" | "true" => true,
        other => {
            let text = highwater_promql::Quoted(other);
            let why = format!("error converting exclude_alerts: strconv.ParseBool: parsing {text}: invalid syntax");
            return Err(ApiError::invalid_parameter("exclude_alerts", &why));
        }
    };
    let page = Page::of(request)?;
    let listed = |name: &str, value: &str| form.all(name).next().is_none() || form.all(name).any(|v| v == value);
    let mut shown = Vec::new();
    let mut next_token = None;
    let mut found = page.after.is_none();
    for group in groups(server, request).await? {
        let token = token(&group);
        found |= page.after.as_ref() == Some(&token);
        if !found || !listed("rule_group[]", &group.name) || !listed("file[]", &group.file) {
            continue;
        }
        let of_kind = |rule: &&Rule| match rule.kind {
            RuleKind::Recording => kind != "alert",
            RuleKind::Alerting { .. } => kind != "record",
        };
        let matches = |rule: &&Rule| {
            let all = |set: &Vec<CompiledMatcher>| set.iter().all(|matcher| matcher.matches_labels(&rule.labels));
            sets.is_empty() || sets.iter().any(all)
        };
        let rules: Vec<RuleData> = group
            .rules
            .iter()
            .filter(of_kind)
            .filter(matches)
            .filter(|rule| listed("rule_name[]", &rule.name))
            .map(|rule| rule_data(rule, exclude_alerts))
            .collect();
        if rules.is_empty() {
            continue;
        }
        if page.groups == Some(shown.len()) {
            next_token = Some(token);
            break;
        }
        shown.push(GroupData {
            name: group.name,
            file: group.file,
            rules,
            interval: group.interval_s,
            limit: group.limit,
            evaluation_time: group.evaluation_time_s,
            last_evaluation: time(group.last_evaluation_ms),
        });
    }
    if let Some(after) = page.after.filter(|_| !found) {
        let why = format!("invalid group_next_token '{after}'. were rule groups changed?");
        return Err(ApiError::invalid_parameter("group_next_token", &why));
    }
    Ok(success(&GroupsData { groups: shown, group_next_token: next_token }))
}

/// Which part of the groups is asked for.
struct Page {
    groups: Option<usize>,
    after: Option<String>,
}

impl Page {
    fn of(request: &Request) -> Result<Self, ApiError> {
        let (limit, token) = (request.form.url_value("group_limit"), request.form.url_value("group_next_token"));
        if limit.is_empty() {
            if !token.is_empty() {
                let why = "group_limit needs to be present in order to paginate over the groups";
                return Err(ApiError::invalid_parameter("group_next_token", why));
            }
            return Ok(Self { groups: None, after: None });
        }
        let refused = |why: &str| ApiError::invalid_parameter("group_limit", why);
        let number = parse_int(limit).map_err(|why| {
            refused(&format!(
                "group_limit needs to be a valid number: {}",
                why.replace("strconv.Atoi", "strconv.ParseInt")
            ))
        })?;
        let groups = usize::try_from(number).ok().filter(|groups| *groups > 0);
        let groups = groups.ok_or_else(|| refused("group_limit needs to be greater than 0"))?;
        Ok(Self { groups: Some(groups), after: (!token.is_empty()).then(|| token.to_owned()) })
    }
}

/// By what a group is named between two pages.
fn token(group: &RuleGroup) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(format!("{};{}", group.file, group.name)) {
        let _written = write!(text, "{byte:02x}");
    }
    text
}

async fn groups(server: &Prometheus, request: &Request) -> Result<Vec<RuleGroup>, ApiError> {
    let Some(view) = server.rules.as_ref().map(Arc::clone) else { return Ok(Vec::new()) };
    view.groups(request.tenant.as_str()).await.map_err(|e| ApiError::new(ApiErrorKind::Unavailable, e.to_string()))
}

fn rule_data(rule: &Rule, exclude_alerts: bool) -> RuleData {
    let mut data = RuleData {
        state: None,
        name: rule.name.clone(),
        query: rule.query.clone(),
        duration: None,
        keep_firing_for: None,
        labels: rule.labels.clone(),
        annotations: None,
        alerts: None,
        health: match rule.health {
            RuleHealth::Unknown => "unknown",
            RuleHealth::Ok => "ok",
            RuleHealth::Err => "err",
        },
        last_error: rule.last_error.clone(),
        evaluation_time: rule.evaluation_time_s,
        last_evaluation: time(rule.last_evaluation_ms),
        kind: "recording",
    };
    if let RuleKind::Alerting { duration_s, keep_firing_for_s, annotations, alerts } = &rule.kind {
        data.kind = "alerting";
        data.state = Some(alerts.iter().map(|alert| alert.state).max().map_or("inactive", state));
        data.duration = Some(*duration_s);
        data.keep_firing_for = Some(*keep_firing_for_s);
        data.annotations = Some(annotations.clone());
        data.alerts = Some((!exclude_alerts).then(|| alerts.iter().map(alert_data).collect()));
    }
    data
}

fn alert_data(alert: &Alert) -> AlertData {
    AlertData {
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        state: state(alert.state),
        active_at: time(Some(alert.active_at_ms)),
        keep_firing_since: alert.keep_firing_since_ms.map(|ms| time(Some(ms))),
        value: exponent(alert.value),
    }
}

fn state(state: AlertState) -> &'static str {
    match state {
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
    }
}

/// RFC 3339; what never was is Go's year 1.
pub(super) fn time(unix_ms: Option<i64>) -> String {
    let time = unix_ms.and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(
        || "0001-01-01T00:00:00Z".to_owned(),
        |time| {
            let text = time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
            // Go leaves trailing zeros of a fraction out.
            match text.strip_suffix('Z') {
                Some(digits) if digits.contains('.') => format!("{}Z", digits.trim_end_matches('0')),
                _ => text,
            }
        },
    )
}

/// A number with an exponent, as Go writes one: `1e+00`.
fn exponent(value: f64) -> String {
    if !value.is_finite() {
        return highwater_promql::format_float(value);
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_values_are_written_as_go_does() {
        assert_eq!(time(None), "0001-01-01T00:00:00Z");
        assert_eq!(time(Some(1_767_322_800_000)), "2026-01-02T03:00:00Z");
        assert_eq!(time(Some(1_767_322_800_120)), "2026-01-02T03:00:00.12Z");
        for (value, text) in
            [(1.0, "1e+00"), (0.0, "0e+00"), (-1234.5, "-1.2345e+03"), (1e-7, "1e-07"), (1e300, "1e+300")]
        {
            assert_eq!(exponent(value), text);
        }
        assert_eq!(exponent(f64::INFINITY), "+Inf");
    }
}
