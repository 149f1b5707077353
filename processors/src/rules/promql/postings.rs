//! Which series of a metric have a label: of a hundred thousand series a query that asks for one host looks at those of that host.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use highwater_promql::{Label, Labels, METRIC_NAME, MatchOp, Matcher};

/// By label, then by value: where the head has the series.
#[derive(Debug, Clone, Default)]
pub(super) struct Postings(BTreeMap<Arc<str>, HashMap<Arc<str>, Vec<u32>>>);

/// The labels that tell series of a metric apart.
fn telling(series: &Labels) -> impl Iterator<Item = &Label> {
    series.as_slice().iter().filter(|(label, _)| **label != *METRIC_NAME)
}

impl Postings {
    pub(super) fn insert(&mut self, series: &Labels, slot: u32) {
        for (label, value) in telling(series) {
            let values = match self.0.get_mut(label) {
                Some(values) => values,
                None => self.0.entry(Arc::clone(label)).or_default(),
            };
            match values.get_mut(value) {
                Some(slots) => slots.push(slot),
                None => {
                    values.insert(Arc::clone(value), vec![slot]);
                }
            }
        }
    }

    /// Takes out those that are gone; `gone` says of every place whether it is.
    pub(super) fn remove(&mut self, series: &[Labels], gone: impl Fn(u32) -> bool) {
        let mut done: HashSet<(&str, &str)> = HashSet::new();
        for (label, value) in series.iter().flat_map(telling) {
            if !done.insert((label, value)) {
                continue;
            }
            let Some(values) = self.0.get_mut(label) else { continue };
            if let Some(slots) = values.get_mut(value) {
                slots.retain(|slot| !gone(*slot));
                if slots.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.0.remove(label);
            }
        }
    }

    /// The series that have the label that these ask for, of the label with the fewest; `None` where they ask for none.
    pub(super) fn fewest(&self, matchers: &[Matcher]) -> Option<&[u32]> {
        let asks = |m: &&Matcher| m.op == MatchOp::Equal && m.label != METRIC_NAME && !m.value.is_empty();
        let of = |m: &Matcher| Some(self.0.get(&*m.label)?.get(&*m.value)?.as_slice());
        matchers.iter().filter(asks).map(|m| of(m).unwrap_or_default()).min_by_key(|slots| slots.len())
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
        for (slot, host) in (0..).zip(["a", "b", "c"]) {
            postings.insert(&series(host, "web"), slot);
        }
        postings.insert(&series("a", "db"), 3);
        let (host, job) = (matcher("host", MatchOp::Equal, "a"), matcher("job", MatchOp::Equal, "web"));
        let found = |matchers: &[Matcher]| postings.fewest(matchers).map(<[u32]>::len);
        assert_eq!(found(&[job.clone(), host.clone()]), Some(2));
        assert_eq!(found(std::slice::from_ref(&job)), Some(3));
        assert_eq!(found(&[job, matcher("host", MatchOp::Equal, "z")]), Some(0));
        // What may hold without the label, or of many values, decides nothing.
        assert_eq!(found(&[matcher("host", MatchOp::Equal, "")]), None);
        assert_eq!(found(&[matcher("host", MatchOp::Regex, "a"), matcher("host", MatchOp::NotEqual, "b")]), None);
        assert_eq!(found(&[matcher(METRIC_NAME, MatchOp::Equal, "up")]), None);
        postings.remove(&[series("a", "db")], |slot| slot == 3);
        assert_eq!(postings.fewest(&[host]).unwrap(), [0]);
        postings.remove(&["a", "b", "c"].map(|host| series(host, "web")), |_| true);
        assert!(postings.0.is_empty());
    }
}
