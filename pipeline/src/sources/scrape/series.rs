//! Series as they are stored: what relabelling and the target's labels make of what a page says, worked out once per series.

use super::config::JobConfig;
use super::exposition::series::NAME;
use super::labels::Labels;
use super::target::Target;
use crate::data::labels as canonical;

/// A series, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    pub(super) name: String,
    /// Canonical labels without the name.
    pub(super) labels: String,
    /// Canonical labels with it: the topic's key.
    pub(super) key: String,
    pub(super) id: i64,
    pub(super) job: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) service: Option<String>,
    /// As in the column `kind`.
    pub(super) kind: Option<&'static str>,
    /// How many labels it has, its name among them.
    pub(super) labels_count: usize,
    /// Sizes of the longest name of a label, and of the longest value, in bytes.
    pub(super) longest: [usize; 2],
}

impl Series {
    fn new(labels: &Labels, kind: Option<&'static str>) -> Self {
        let name = labels.get(NAME).unwrap_or_default().to_owned();
        let pairs: Vec<(&str, &str)> = labels.iter().filter(|(label, _)| *label != NAME).collect();
        let (mut text, mut key) = (String::new(), String::new());
        canonical::write_canonical(pairs.iter().copied(), &mut text);
        canonical::write_series(&name, &pairs, &mut key);
        let longest = |of: fn(&(&str, &str)) -> usize| labels.iter().map(|pair| of(&pair)).max().unwrap_or_default();
        let longest = [longest(|(label, _)| label.len()), longest(|(_, value)| value.len())];
        let get = |names: &[&str]| names.iter().find_map(|name| labels.get(name)).map(str::to_owned);
        Self {
            id: canonical::series_id(&key),
            job: get(&["job"]),
            instance: get(&["instance"]),
            service: get(&["service", "service.name", "service_name"]),
            name,
            labels: text,
            key,
            kind,
            labels_count: labels.len(),
            longest,
        }
    }

    /// What a sample of these labels is stored as; `None` where relabelling drops it.
    ///
    /// # Errors
    /// Labels that fail the whole scrape: none that name a metric, or beyond the job's limits.
    pub(super) fn of_sample(
        mut labels: Labels,
        target: &Target,
        kind: Option<&'static str>,
    ) -> Result<Option<Self>, String> {
        add_target_labels(&mut labels, target);
        if !target.job.metric_relabel.apply(&mut labels) || labels.is_empty() {
            return Ok(None);
        }
        if labels.get(NAME).is_none() {
            return Err("relabelling leaves a sample without a name".into());
        }
        check(&labels, &target.job)?;
        Ok(Some(Self::new(&labels, kind)))
    }

    /// A series about the scrape itself.
    pub(super) fn of_report(name: &str, target: &Target) -> Self {
        let mut labels = target.labels.clone();
        labels.set(NAME, name);
        Self::new(&labels, Some("gauge"))
    }
}

fn add_target_labels(labels: &mut Labels, target: &Target) {
    if target.job.honor_labels {
        for (name, value) in target.labels.iter() {
            labels.set_default(name, value);
        }
        return;
    }
    let mut conflicts = Vec::new();
    for (name, value) in target.labels.iter() {
        if let Some(exposed) = labels.get(name) {
            conflicts.push((name.to_owned(), exposed.to_owned()));
        }
        labels.set(name, value);
    }
    for (mut name, value) in conflicts {
        // Until it is nobody's.
        while labels.get(&name).is_some() {
            name = format!("exported_{name}");
        }
        labels.set(&name, &value);
    }
}

fn check(labels: &Labels, job: &JobConfig) -> Result<(), String> {
    let name = labels.get(NAME).unwrap_or_default();
    if job.label_limit > 0 && labels.len() > job.label_limit {
        return Err(format!(
            "label_limit exceeded (metric: {name:.50}, number of labels: {}, limit: {})",
            labels.len(),
            job.label_limit
        ));
    }
    if !job.names.allow_metric(name) || !labels.iter().all(|(label, _)| job.names.allow_label(label)) {
        return Err(format!(
            "invalid metric name or label names: {name:.50} (metric_name_validation_scheme is legacy)"
        ));
    }
    let (names, values) = (job.label_name_length_limit, job.label_value_length_limit);
    for (label, value) in labels.iter() {
        if names > 0 && label.len() > names {
            return Err(format!(
                "label_name_length_limit exceeded (metric: {name:.50}, label name: {label:.50}, length: {}, limit: {names})",
                label.len()
            ));
        }
        if values > 0 && value.len() > values {
            let start: String = value.chars().take(50).collect();
            return Err(format!(
                "label_value_length_limit exceeded (metric: {name:.50}, label name: {label:.50}, value: {start:?}, length: {}, limit: {values})",
                value.len()
            ));
        }
    }
    Ok(())
}
