//! From groups of addresses to targets: labels of the job, relabelling, the URL.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::config::{JobConfig, PromDuration, TargetGroup};
use super::labels::Labels;

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PARAM: &str = "__param_";
/// The file, and the URL, that a target was found in.
pub(super) const FILE: &str = "__meta_filepath";
pub(super) const URL: &str = "__meta_url";
const JOB: &str = "job";
const INSTANCE: &str = "instance";

/// Somebody to scrape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) job: Arc<JobConfig>,
    /// Labels of its samples.
    pub(super) labels: Labels,
    /// What was known of it before relabelling.
    pub(super) discovered: Labels,
    pub(super) url: Url,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    /// Why all its scrapes fail before they are made.
    pub(super) forced_error: Option<String>,
}

/// A group, and where it was found: the label that says so.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FoundGroup {
    pub(super) place: Option<(&'static str, String)>,
    pub(super) group: TargetGroup,
}

/// The targets of a job.
#[derive(Debug, Default)]
pub(super) struct Built {
    /// Each once.
    pub(super) targets: Vec<Target>,
    /// Labels of those that relabelling drops.
    pub(super) dropped: Vec<Labels>,
    /// Mistakes: of which target, and what.
    pub(super) errors: Vec<String>,
}

impl Target {
    /// Tells targets apart: labels and URL. The same in every process.
    pub(super) fn id(&self) -> u64 {
        let text = format!("{:x}\0{}\0{}", self.labels.hash(), self.url, self.job.job_name);
        twox_hash::XxHash64::oneshot(0, text.as_bytes())
    }

    /// How long after a multiple of the interval it is scraped: spread evenly over targets, the same after every start.
    pub(super) fn offset_ms(&self) -> i64 {
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        i64::try_from(self.id() % interval_ms).unwrap_or(0)
    }

    /// The first time for a scrape after this one.
    pub(super) fn next_ms(&self, after_ms: i64) -> i64 {
        let interval_ms = i64::try_from(self.interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let since = (after_ms - self.offset_ms()).rem_euclid(interval_ms);
        after_ms + interval_ms - since
    }
}

/// Makes the targets of groups.
pub(super) fn build(job: &Arc<JobConfig>, groups: &[FoundGroup]) -> Built {
    let mut built = Built::default();
    let mut ids = std::collections::HashSet::new();
    for found in groups {
        for address in &found.group.targets {
            let discovered = discovered(job, found, &address.0);
            match target(job, discovered.clone()) {
                Ok(Some(target)) if ids.insert(target.id()) => built.targets.push(target),
                Ok(Some(_)) => {}
                Ok(None) => built.dropped.push(discovered),
                Err(error) => built.errors.push(format!("target {:?} of job {:?}: {error}", address.0, job.job_name)),
            }
        }
    }
    if job.target_limit > 0 && built.targets.len() > job.target_limit {
        let error =
            format!("target_limit exceeded (number of targets: {}, limit: {})", built.targets.len(), job.target_limit);
        for target in &mut built.targets {
            target.forced_error = Some(error.clone());
        }
    }
    built
}

fn discovered(job: &JobConfig, found: &FoundGroup, address: &str) -> Labels {
    let mut labels = Labels::default();
    for (name, value) in &found.group.labels {
        labels.set(name, &value.0);
    }
    labels.set(ADDRESS, address);
    if let Some((label, place)) = &found.place {
        labels.set(label, place);
    }
    labels.set_default(JOB, &job.job_name);
    labels.set_default(INTERVAL, &job.scrape_interval.to_string());
    labels.set_default(TIMEOUT, &job.scrape_timeout.to_string());
    labels.set_default(PATH, &job.metrics_path);
    labels.set_default(SCHEME, job.scheme.name());
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            labels.set(&format!("{PARAM}{name}"), first);
        }
    }
    labels
}

/// `None` where relabelling drops it.
fn target(job: &Arc<JobConfig>, discovered: Labels) -> Result<Option<Target>, String> {
    let mut labels = discovered.clone();
    if !job.relabel.apply(&mut labels) {
        return Ok(None);
    }
    let address = labels.get(ADDRESS).ok_or("no address")?.to_owned();
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    let duration = |name| PromDuration::parse(labels.get(name).unwrap_or_default()).map(|duration| duration.0);
    let (interval, timeout) = (duration(INTERVAL)?, duration(TIMEOUT)?);
    if interval.is_zero() || timeout.is_zero() {
        return Err("the scrape interval and timeout must be above 0".into());
    }
    if timeout > interval {
        return Err("the scrape timeout is longer than the interval".into());
    }
    let url = url(job, &labels, &address)?;
    labels.set_default(INSTANCE, &address);
    labels.retain(|name| !name.starts_with("__"));
    let job = Arc::clone(job);
    Ok(Some(Target { job, labels, discovered, url, interval, timeout, forced_error: None }))
}

fn url(job: &JobConfig, labels: &Labels, address: &str) -> Result<Url, String> {
    let scheme = labels.get(SCHEME).unwrap_or("http");
    if !["http", "https"].contains(&scheme) {
        return Err(format!("scheme {scheme:?} is neither http nor https"));
    }
    let path = labels.get(PATH).unwrap_or_default();
    // A path may come with a query of its own.
    let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
    let mut url =
        Url::parse(&format!("{scheme}://{address}{slash}{path}")).map_err(|error| format!("{address:?}: {error}"))?;
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, values) in &job.params {
        let changed = labels.get(&format!("{PARAM}{name}"));
        for (at, value) in values.iter().enumerate() {
            let value = if at == 0 { changed.unwrap_or_default() } else { value };
            pairs.push((name.clone(), value.to_owned()));
        }
    }
    for (name, value) in labels.iter() {
        if let Some(name) = name.strip_prefix(PARAM)
            && !job.params.contains_key(name)
        {
            pairs.push((name.to_owned(), value.to_owned()));
        }
    }
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url)
}

/// True for labels that tell where a target was found, which nobody but relabelling sees.
#[cfg(test)]
fn is_meta(name: &str) -> bool {
    name.starts_with("__meta_")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::config::{GlobalConfig, ScrapeConfigs};
    use super::*;

    fn built(yaml: &str) -> Built {
        let written: ScrapeConfigs = serde_saphyr::from_str(yaml).unwrap();
        let config = written.resolve(&GlobalConfig::default(), Path::new("/")).unwrap();
        let job = Arc::new(config.jobs[0].clone());
        let groups = job.static_configs.iter().cloned().map(|group| FoundGroup { place: None, group });
        build(&job, &groups.collect::<Vec<_>>())
    }

    fn text(labels: &Labels) -> String {
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_target_has_the_labels_of_its_job() {
        let built = built("[{ job_name: node, static_configs: [{ targets: ['a:9100'], labels: { env: prod } }] }]");
        let target = &built.targets[0];
        assert_eq!(text(&target.labels), "env=prod instance=a:9100 job=node");
        assert_eq!(target.url.as_str(), "http://a:9100/metrics");
        assert_eq!(
            text(&target.discovered),
            "__address__=a:9100 __metrics_path__=/metrics __scheme__=http __scrape_interval__=1m __scrape_timeout__=10s env=prod job=node"
        );
        assert!(is_meta(FILE) && !is_meta(ADDRESS));
    }

    #[test]
    fn relabelling_makes_another_of_it() {
        // As people use the blackbox exporter.
        let built = built(
            "[{ job_name: probe, metrics_path: /probe, params: { module: [http_2xx] }, \
               static_configs: [{ targets: ['https-is-not-asked.example', drop-me] }], relabel_configs: [\
               { source_labels: [__address__], regex: drop-me, action: drop }, \
               { source_labels: [__address__], target_label: __param_target }, \
               { source_labels: [__param_target], target_label: instance }, \
               { target_label: __scheme__, replacement: https }, { target_label: __scrape_interval__, replacement: 5s }, \
               { target_label: __scrape_timeout__, replacement: 2s }, \
               { target_label: __address__, replacement: 'exporter:9115' }] }]",
        );
        let target = &built.targets[0];
        assert_eq!(
            target.url.as_str(),
            "https://exporter:9115/probe?module=http_2xx&target=https-is-not-asked.example"
        );
        assert_eq!(text(&target.labels), "instance=https-is-not-asked.example job=probe");
        assert_eq!((target.interval.as_secs(), target.timeout.as_secs()), (5, 2));
        assert_eq!((built.targets.len(), built.dropped.len()), (1, 1));
    }

    #[test]
    fn mistakes_and_doubles_are_left_out() {
        let built = built(
            "[{ job_name: a, static_configs: [{ targets: ['a:1', 'a:1', 'b:1'] }], relabel_configs: [\
               { source_labels: [__address__], regex: 'b:1', target_label: __address__, replacement: '' }] }]",
        );
        assert_eq!(built.targets.len(), 1);
        assert_eq!(built.errors, ["target \"b:1\" of job \"a\": no address"]);
    }

    #[test]
    fn a_target_too_many_fails_all() {
        let built = built("[{ job_name: a, target_limit: 1, static_configs: [{ targets: ['a:1', 'b:1'] }] }]");
        assert!(built.targets.iter().all(|target| target.forced_error.is_some()));
    }

    #[test]
    fn scrapes_are_spread_and_come_back_at_the_same_times() {
        let all = (0..200).map(|n| format!("'h{n}:1'")).collect::<Vec<_>>().join(", ");
        let built =
            built(&format!("[{{ job_name: a, scrape_interval: 10s, static_configs: [{{ targets: [{all}] }}] }}]"));
        let offsets: Vec<_> = built.targets.iter().map(Target::offset_ms).collect();
        for tenth in 0..10 {
            let here = offsets.iter().filter(|offset| (tenth * 1_000..(tenth + 1) * 1_000).contains(*offset)).count();
            assert!((5..50).contains(&here), "{here} of 200 in second {tenth}");
        }
        let target = &built.targets[0];
        let next = target.next_ms(1_000_000);
        assert!((1_000_001..=1_010_000).contains(&next));
        assert_eq!(target.next_ms(next), next + 10_000);
        assert_eq!(target.next_ms(next - 1), next);
    }
}
