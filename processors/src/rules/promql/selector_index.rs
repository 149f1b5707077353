//! Which of many selectors find a series, without trying each: ten thousand rules look at a hundred thousand series by a label's value, and a series
//! has one value of each label.

use std::collections::{BTreeSet, HashMap, HashSet};

use highwater_promql::{CompiledMatcher, Error, Labels, METRIC_NAME, Matcher};

/// Selectors, by what a series must have for them to find it. They are numbered in the order in which they were given.
#[derive(Debug, Clone, Default)]
pub(super) struct SelectorIndex {
    selectors: Vec<Vec<CompiledMatcher>>,
    /// Those that name metrics, by each of the names.
    named: HashMap<String, Bucket>,
    /// The others.
    nameless: Vec<u32>,
}

/// Selectors of one metric.
#[derive(Debug, Clone, Default)]
struct Bucket {
    /// By label and value.
    by_value: Vec<(String, HashMap<String, Vec<u32>>)>,
    /// Those that ask for no value.
    others: Vec<u32>,
}

impl SelectorIndex {
    /// The index of these.
    ///
    /// # Errors
    /// Where a regular expression does not compile.
    pub(super) fn new<'a>(selectors: impl IntoIterator<Item = &'a [Matcher]>) -> Result<Self, Error> {
        let compile = |matchers: &[Matcher]| matchers.iter().map(Matcher::compile).collect::<Result<Vec<_>, _>>();
        let selectors = selectors.into_iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        // A selector is found by its label with the most values: `job` tells few apart, `instance` many.
        let mut values: HashMap<(&str, &str), HashSet<&str>> = HashMap::new();
        for matchers in &selectors {
            for name in names(matchers).unwrap_or_default() {
                for (label, literals) in keys(matchers) {
                    values.entry((name, label)).or_default().extend(literals);
                }
            }
        }
        let (mut named, mut nameless) = (HashMap::<String, Bucket>::new(), Vec::new());
        for (at, matchers) in (0_u32..).zip(&selectors) {
            let Some(names) = names(matchers) else {
                nameless.push(at);
                continue;
            };
            for name in names {
                let bucket = named.entry(name.to_owned()).or_default();
                let telling = |(label, _): &(&str, Vec<&str>)| values.get(&(name, *label)).map_or(0, HashSet::len);
                let Some((label, literals)) = keys(matchers).max_by_key(telling) else {
                    bucket.others.push(at);
                    continue;
                };
                let by_value = match bucket.by_value.iter_mut().position(|(known, _)| known == label) {
                    Some(known) => &mut bucket.by_value[known].1,
                    None => {
                        bucket.by_value.push((label.to_owned(), HashMap::new()));
                        let last = bucket.by_value.len() - 1;
                        &mut bucket.by_value[last].1
                    }
                };
                for value in literals.into_iter().collect::<BTreeSet<_>>() {
                    by_value.entry(value.to_owned()).or_default().push(at);
                }
            }
        }
        Ok(Self { selectors, named, nameless })
    }

    /// The metrics they name; `None` where one does not say which.
    pub(super) fn names(&self) -> Option<BTreeSet<String>> {
        self.nameless.is_empty().then(|| self.named.keys().cloned().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.selectors.is_empty()
    }

    /// Whether any may find a series of this metric.
    pub(super) fn may_find(&self, name: &str) -> bool {
        !self.nameless.is_empty() || self.named.contains_key(name)
    }

    /// Those that find this series, each once.
    pub(super) fn finding<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = u32> + 'a {
        let bucket = self.named.get(labels.name());
        let by_value = bucket.into_iter().flat_map(|bucket| &bucket.by_value);
        let keyed = by_value.filter_map(|(label, values)| values.get(labels.get(label)?)).flatten();
        let others = bucket.into_iter().flat_map(|bucket| &bucket.others);
        let finds = |at: &u32| self.selectors[*at as usize].iter().all(|matcher| matcher.matches_labels(labels));
        keyed.chain(others).chain(&self.nameless).copied().filter(finds)
    }
}

/// The metrics that matchers name, where they name some.
fn names(matchers: &[CompiledMatcher]) -> Option<BTreeSet<&str>> {
    let mut named = matchers.iter().filter(|m| m.label() == METRIC_NAME);
    let literals = named.find_map(CompiledMatcher::literals)?;
    (!literals.contains(&"")).then(|| literals.into_iter().collect())
}

/// Labels of which matchers ask for some of these values.
fn keys(matchers: &[CompiledMatcher]) -> impl Iterator<Item = (&str, Vec<&str>)> {
    let others = matchers.iter().filter(|m| m.label() != METRIC_NAME);
    others.filter_map(|m| Some((m.label(), m.literals().filter(|literals| !literals.contains(&""))?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use highwater_promql::parser::parse_selector;

    use super::*;

    #[test]
    fn it_finds_what_trying_each_finds() {
        let texts = [
            r#"up"#,
            r#"up{job="web"}"#,
            r#"up{job="web", host="a"}"#,
            r#"up{job="web", host="b"}"#,
            r#"up{host=~"a|c", zone=""}"#,
            r#"up{host!="a"}"#,
            r#"{__name__=~"up|down", host="a"}"#,
            r#"{__name__=~"u.*"}"#,
            r#"{host="a", zone!=""}"#,
            r#"up{host=~"|a"}"#,
            r#"up{host="a", host="b"}"#,
        ];
        let selectors: Vec<Vec<Matcher>> = texts.iter().map(|text| parse_selector(text).unwrap()).collect();
        let index = SelectorIndex::new(selectors.iter().map(Vec::as_slice)).unwrap();
        let mut found = 0;
        for name in ["up", "down", "else"] {
            for host in ["", "a", "b", "c"] {
                for job in ["", "web"] {
                    for zone in ["", "z"] {
                        let pairs = [(METRIC_NAME, name), ("host", host), ("job", job), ("zone", zone)];
                        let labels = Labels::from_pairs(pairs);
                        let all = |at: &u32| {
                            let matchers = &selectors[*at as usize];
                            matchers.iter().all(|m| m.compile().unwrap().matches_labels(&labels))
                        };
                        let expected: Vec<u32> = (0..).take(selectors.len()).filter(all).collect();
                        let mut got: Vec<u32> = index.finding(&labels).collect();
                        got.sort_unstable();
                        assert_eq!(got, expected, "{labels}");
                        found += got.len();
                        assert!(got.is_empty() || index.may_find(name));
                    }
                }
            }
        }
        assert!(found > 60, "{found}");
        assert_eq!(index.names(), None);
    }

    #[test]
    fn metrics_that_are_named_are_known() {
        let of = |texts: &[&str]| {
            let selectors: Vec<Vec<Matcher>> = texts.iter().map(|text| parse_selector(text).unwrap()).collect();
            SelectorIndex::new(selectors.iter().map(Vec::as_slice)).unwrap()
        };
        let index = of(&["up", r#"{__name__=~"a|b", x="1"}"#]);
        let names: Vec<String> = index.names().unwrap().into_iter().collect();
        assert_eq!(names, ["a", "b", "up"]);
        assert!(index.may_find("b") && !index.may_find("c") && !index.is_empty());
        assert!(of(&[]).is_empty());
    }
}
