//! Alerts as receivers are told of them: Alertmanager's data.

use std::collections::BTreeMap;

use highwater_pipeline::data::alerts::{State, Transition};
use highwater_pipeline::data::time;
use highwater_templates::{Value, query_escape};
use serde::Serialize;

/// What is told: one transition to `firing` or `resolved`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Notice {
    pub(super) fingerprint: String,
    pub(super) alertname: String,
    pub(super) is_firing: bool,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) starts_at_us: i64,
    pub(super) ends_at_us: Option<i64>,
    /// The rule's expression.
    pub(super) expr: Option<String>,
    /// Which transition it is: fingerprint, state and offset. The same however often it is told.
    pub(super) dedupe_key: String,
}

/// Where alerts come from, for those who are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) external_url: String,
    pub(super) external_labels: BTreeMap<String, String>,
}

impl Notice {
    /// Of a transition; `None` of one that nobody is told of.
    pub(super) fn of(transition: Transition, partition: i32, offset: i64, origin: &Origin) -> Option<Self> {
        // Late rows may have changed what was told: then it matters what they were told before, and what is so now.
        let was_firing = transition.correction().is_none_or(|correction| correction.was == State::Firing);
        let is_late = transition.correction().is_some();
        let is_firing = match transition.is_now() {
            State::Firing => true,
            State::Resolved if was_firing => false,
            _ if is_late && was_firing => false,
            _ => return None,
        };
        let state = if is_firing { "firing" } else { "resolved" };
        let mut labels = transition.labels;
        for (name, value) in &origin.external_labels {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if transition.tenant != highwater_pipeline::data::Tenant::DEFAULT {
            labels.entry("tenant".to_owned()).or_insert(transition.tenant);
        }
        Some(Self {
            dedupe_key: format!("{}-{state}-{partition}:{offset}", transition.fingerprint),
            fingerprint: transition.fingerprint,
            alertname: transition.alertname,
            is_firing,
            labels,
            annotations: transition.annotations,
            starts_at_us: transition.fired_at_us.or(transition.starts_at_us).unwrap_or(transition.timestamp_us),
            ends_at_us: (!is_firing).then(|| transition.ends_at_us.unwrap_or(transition.timestamp_us)),
            expr: ["expr", "sql"].iter().find_map(|key| transition.rule[key].as_str().map(str::to_owned)),
        })
    }

    pub(super) fn status(&self) -> &'static str {
        if self.is_firing { "firing" } else { "resolved" }
    }

    /// A link to what decided.
    pub(super) fn generator_url(&self, origin: &Origin) -> String {
        let base = origin.external_url.trim_end_matches('/');
        self.expr
            .as_ref()
            .map_or_else(String::new, |expr| format!("{base}/graph?g0.expr={}&g0.tab=1", query_escape(expr)))
    }
}

/// The payload of Alertmanager's webhooks, version 4.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload<'a> {
    version: &'static str,
    group_key: String,
    truncated_alerts: usize,
    status: &'static str,
    receiver: &'a str,
    group_labels: BTreeMap<&'static str, &'a str>,
    common_labels: BTreeMap<&'a str, &'a str>,
    common_annotations: BTreeMap<&'a str, &'a str>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<PayloadAlert<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert<'a> {
    status: &'static str,
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: &'a str,
    dedupe_key: &'a str,
}

/// Go's zero time: an alert that has no end yet.
const NO_END: &str = "0001-01-01T00:00:00Z";

impl<'a> Payload<'a> {
    /// Of notices with one alertname.
    pub(super) fn new(receiver: &'a str, notices: &'a [Notice], origin: &'a Origin) -> Self {
        let alertname = notices.first().map_or("", |notice| notice.alertname.as_str());
        let alerts = notices.iter().map(|notice| PayloadAlert {
            status: notice.status(),
            labels: &notice.labels,
            annotations: &notice.annotations,
            starts_at: time::format(notice.starts_at_us),
            ends_at: notice.ends_at_us.map_or_else(|| NO_END.to_owned(), time::format),
            generator_url: notice.generator_url(origin),
            fingerprint: &notice.fingerprint,
            dedupe_key: &notice.dedupe_key,
        });
        Self {
            version: "4",
            group_key: format!("{{}}:{{alertname={alertname:?}}}"),
            truncated_alerts: 0,
            status: status(notices),
            receiver,
            group_labels: BTreeMap::from([("alertname", alertname)]),
            common_labels: common(notices.iter().map(|notice| &notice.labels)),
            common_annotations: common(notices.iter().map(|notice| &notice.annotations)),
            external_url: &origin.external_url,
            alerts: alerts.collect(),
        }
    }
}

/// Firing while any fires.
fn status(notices: &[Notice]) -> &'static str {
    if notices.iter().any(|notice| notice.is_firing) { "firing" } else { "resolved" }
}

/// What all maps have in common.
fn common<'a>(maps: impl Iterator<Item = &'a BTreeMap<String, String>>) -> BTreeMap<&'a str, &'a str> {
    let mut maps = maps;
    let Some(first) = maps.next() else { return BTreeMap::new() };
    let mut common: BTreeMap<&str, &str> = first.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    for map in maps {
        common.retain(|name, value| map.get(*name).is_some_and(|other| other == value));
    }
    common
}

/// The data of Alertmanager's notification templates.
pub(super) fn template_data(receiver: &str, notices: &[Notice], origin: &Origin) -> Value {
    let owned = |map: BTreeMap<&str, &str>| {
        Value::strings(map.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    };
    let alerts = notices.iter().map(|notice| {
        Value::fields(vec![
            ("Status", Value::text(notice.status())),
            ("Labels", Value::strings(notice.labels.clone())),
            ("Annotations", Value::strings(notice.annotations.clone())),
            ("StartsAt", Value::Time(notice.starts_at_us.div_euclid(1_000))),
            ("EndsAt", Value::Time(notice.ends_at_us.map_or(-62_135_596_800_000, |us| us.div_euclid(1_000)))),
            ("GeneratorURL", Value::from(notice.generator_url(origin))),
            ("Fingerprint", Value::text(&notice.fingerprint)),
        ])
    });
    let alertname = notices.first().map_or("", |notice| notice.alertname.as_str());
    Value::fields(vec![
        ("Receiver", Value::text(receiver)),
        ("Status", Value::text(status(notices))),
        ("Alerts", Value::list(alerts.collect())),
        ("GroupLabels", owned(BTreeMap::from([("alertname", alertname)]))),
        ("CommonLabels", owned(common(notices.iter().map(|notice| &notice.labels)))),
        ("CommonAnnotations", owned(common(notices.iter().map(|notice| &notice.annotations)))),
        ("ExternalURL", Value::text(&origin.external_url)),
    ])
}
