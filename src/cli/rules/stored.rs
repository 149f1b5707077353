//! Metrics and labels that are stored, beside those that rules select.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use highwater_processors::rules::{Place, Selector};
use highwater_promql::{MatchOp, Matcher};

use crate::cli::sql::Source;
use crate::error::Error;

/// Most series that are looked at. Where there are more, what is not among them is not said to be unknown.
const MAX_SERIES: usize = 200_000;
/// Series that rules write about alerts.
const ALERT_SERIES: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];
/// Labels named in a warning.
const MAX_NAMED: usize = 8;

/// The labels of stored series, by metric: each with its values.
pub(super) struct Series {
    metrics: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    is_cut: bool,
}

impl Series {
    /// Those of the metrics that selectors name.
    pub(super) async fn load<'a>(
        source: &Source,
        selectors: impl Iterator<Item = &'a Selector>,
    ) -> Result<Self, Error> {
        let names: BTreeSet<&str> = selectors.filter_map(|selector| selector.metric.as_deref()).collect();
        let mut this = Self { metrics: BTreeMap::new(), is_cut: false };
        if names.is_empty() {
            return Ok(this);
        }
        let list: Vec<String> = names.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
        let sql = format!(
            "SELECT name, labels FROM metrics WHERE name IN ({}) GROUP BY name, labels LIMIT {MAX_SERIES}",
            list.join(", ")
        );
        let failed = |error: arrow::error::ArrowError| Error::failed("reading the stored series", error);
        let mut rows = source.ask(&sql).await?;
        let mut count = 0;
        while let Some(batch) = rows.next().await? {
            count += batch.num_rows();
            let texts = [0, 1].map(|at| cast(batch.column(at), &DataType::Utf8));
            let [names, labels] = texts;
            let (names, labels) = (names.map_err(failed)?, labels.map_err(failed)?);
            for (name, labels) in names.as_string::<i32>().iter().zip(labels.as_string::<i32>()) {
                let (Some(name), Some(labels)) = (name, labels) else { continue };
                let known = this.metrics.entry(name.to_owned()).or_default();
                let labels: BTreeMap<String, String> = serde_json::from_str(labels).unwrap_or_default();
                for (label, value) in labels {
                    known.entry(label).or_default().insert(value);
                }
            }
        }
        this.is_cut = count >= MAX_SERIES;
        Ok(this)
    }

    /// What of this is unknown, with its place. Metrics that rules record are known, whatever is stored.
    pub(super) fn warnings(&self, selectors: &[Selector], recorded: &BTreeSet<&str>) -> Vec<(Place, String)> {
        let mut warnings = Vec::new();
        for selector in selectors {
            let Some(metric) = &selector.metric else { continue };
            if self.is_cut || recorded.contains(metric.as_str()) || ALERT_SERIES.contains(&metric.as_str()) {
                continue;
            }
            let rule = &selector.rule;
            let Some(labels) = self.metrics.get(metric) else {
                warnings.push((
                    selector.place,
                    format!("rule {rule}: unknown metric {metric}: nothing of that name is stored"),
                ));
                continue;
            };
            let unknown = |label: &str| {
                let known: Vec<&str> = labels.keys().map(String::as_str).take(MAX_NAMED).collect();
                let more = if labels.len() > MAX_NAMED { ", ..." } else { "" };
                format!("rule {rule}: unknown label {label}: {metric} has {}{more}", known.join(", "))
            };
            for matcher in selector.matchers.iter().filter(|matcher| wants_something(matcher)) {
                match labels.get(&matcher.label) {
                    None => warnings.push((selector.place, unknown(&matcher.label))),
                    Some(values) if matcher.compile().is_ok_and(|m| !values.iter().any(|value| m.matches(value))) => {
                        let text = format!("rule {rule}: no stored series of {metric} has {matcher}");
                        warnings.push((selector.place, text));
                    }
                    Some(_) => {}
                }
            }
            for (place, label) in selector.grouping.iter().filter(|(_, label)| !labels.contains_key(label)) {
                warnings.push((*place, unknown(label)));
            }
        }
        warnings.sort();
        warnings.dedup();
        warnings
    }
}

/// True where a series without the label does not match.
fn wants_something(matcher: &Matcher) -> bool {
    match matcher.op {
        MatchOp::Equal | MatchOp::NotEqual => (matcher.op == MatchOp::Equal) != matcher.value.is_empty(),
        MatchOp::Regex | MatchOp::NotRegex => matcher.compile().is_ok_and(|matcher| !matcher.matches("")),
    }
}
