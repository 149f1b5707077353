//! Which series of a metric have a label: of a hundred thousand series a selector that asks for one host looks at those of that host.

use std::collections::{BTreeMap, BTreeSet};

use highwater_promql::{Labels, METRIC_NAME, MatchOp, Matcher};

static NONE: BTreeSet<Labels> = BTreeSet::new();

/// By label, then by value: the series, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Postings(BTreeMap<String, BTreeMap<String, BTreeSet<Labels>>>);

impl Postings {
    pub(super) fn insert(&mut self, series: &Labels) {
        for (label, value) in series.iter().filter(|(label, _)| *label != METRIC_NAME) {
            if !self.0.contains_key(label) {
                self.0.insert(label.to_owned(), BTreeMap::new());
            }
            let Some(values) = self.0.get_mut(label) else { continue };
            match values.get_mut(value) {
                Some(all) => {
                    all.insert(series.clone());
                }
                None => {
                    values.insert(value.to_owned(), BTreeSet::from([series.clone()]));
                }
            }
        }
    }

    pub(super) fn remove(&mut self, series: &Labels) {
        for (label, value) in series.iter().filter(|(label, _)| *label != METRIC_NAME) {
            let Some(values) = self.0.get_mut(label) else { continue };
            if let Some(all) = values.get_mut(value) {
                all.remove(series);
                if all.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.0.remove(label);
            }
        }
    }

    /// The series that have the label that these ask for, of the label with the fewest; `None` where they ask for none.
    pub(super) fn fewest(&self, matchers: &[Matcher]) -> Option<&BTreeSet<Labels>> {
        let asks = |m: &&Matcher| m.op == MatchOp::Equal && m.label != METRIC_NAME && !m.value.is_empty();
        let found = matchers.iter().filter(asks).map(|m| self.0.get(&m.label)?.get(&m.value));
        found.map(|series| series.unwrap_or(&NONE)).min_by_key(|series| series.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_label_with_the_fewest_series_decides() {
        let series = |host: &str, job: &str| Labels::from_pairs([(METRIC_NAME, "up"), ("host", host), ("job", job)]);
        let matcher = |label: &str, op: MatchOp, value: &str| Matcher { label: label.into(), op, value: value.into() };
        let mut postings = Postings::default();
        for host in ["a", "b", "c"] {
            postings.insert(&series(host, "web"));
        }
        postings.insert(&series("a", "db"));
        let (host, job) = (matcher("host", MatchOp::Equal, "a"), matcher("job", MatchOp::Equal, "web"));
        let found = |matchers: &[Matcher]| postings.fewest(matchers).map(BTreeSet::len);
        assert_eq!(found(&[job.clone(), host.clone()]), Some(2));
        assert_eq!(found(std::slice::from_ref(&job)), Some(3));
        assert_eq!(found(&[job, matcher("host", MatchOp::Equal, "z")]), Some(0));
        // What may hold without the label, or of many values, decides nothing.
        assert_eq!(found(&[matcher("host", MatchOp::Equal, "")]), None);
        assert_eq!(found(&[matcher("host", MatchOp::Regex, "a"), matcher("host", MatchOp::NotEqual, "b")]), None);
        assert_eq!(found(&[matcher(METRIC_NAME, MatchOp::Equal, "up")]), None);
        postings.remove(&series("a", "db"));
        assert_eq!(postings.fewest(&[host]).unwrap().iter().collect::<Vec<_>>(), [&series("a", "web")]);
        for host in ["a", "b", "c"] {
            postings.remove(&series(host, "web"));
        }
        assert!(postings.0.is_empty());
    }
}
