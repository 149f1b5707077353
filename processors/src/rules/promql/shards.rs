//! Which task evaluates a group.
//!
//! Within a task rules see at once what others write. So that it does not matter in which task a group is, groups that look at what other groups write
//! (what they record, `ALERTS`, `ALERTS_FOR_STATE`) are in one task with those: the unit is a component of groups that are connected in this way. The
//! task follows from the rules alone, as the hash of a name: every worker, and every replay, says the same.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_promql::{Labels, METRIC_NAME, Matcher};
use twox_hash::XxHash64;

use super::plan::{GroupPlan, PromRule, index_of, matchers_of};
use super::selector_index::SelectorIndex;
use crate::error::ProcessorsError;

const ALERTNAME: &str = "alertname";
/// The metrics that alerting rules write.
const OF_ALERTS: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];

/// Where groups are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shards {
    partitions: i32,
    /// The partition of the rules topic, by the group's name.
    places: HashMap<String, i32>,
}

impl Shards {
    /// Spreads groups over so many partitions.
    ///
    /// # Errors
    /// Where a selector cannot be run.
    pub(crate) fn of(plans: &[Arc<GroupPlan>], partitions: i32) -> Result<Self, ProcessorsError> {
        let components = if partitions > 1 { Some(Components::of(plans)?) } else { None };
        let place = |plan: &Arc<GroupPlan>| {
            let place = components.as_ref().map_or(0, |components| spread(components.name(&plan.name), partitions));
            (plan.name.clone(), place)
        };
        Ok(Self { partitions: partitions.max(1), places: plans.iter().map(place).collect() })
    }

    /// The partition of a group; `None` where there is none of this name.
    pub(crate) fn partition(&self, group: &str) -> Option<i32> {
        self.places.get(group).copied()
    }

    /// Number of partitions.
    pub(crate) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The groups of a partition, in order.
    pub(crate) fn groups(&self, plans: &[Arc<GroupPlan>], partition: i32) -> Vec<Arc<GroupPlan>> {
        plans.iter().filter(|plan| self.partition(&plan.name) == Some(partition)).map(Arc::clone).collect()
    }
}

fn spread(name: &str, partitions: i32) -> i32 {
    let hash = XxHash64::oneshot(0, name.as_bytes());
    i32::try_from(hash % u64::from(partitions.unsigned_abs().max(1))).unwrap_or(0)
}

/// Groups that are to be together. Groups of one name are one: their alerts are told apart by it.
struct Components<'a> {
    numbers: HashMap<&'a str, usize>,
    /// Towards the root of its component, by group.
    parents: Vec<usize>,
    /// By group: the name of its component.
    names: Vec<&'a str>,
}

impl<'a> Components<'a> {
    fn of(plans: &'a [Arc<GroupPlan>]) -> Result<Self, ProcessorsError> {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for plan in plans {
            let next = numbers.len();
            numbers.entry(&plan.name).or_insert(next);
        }
        let mut this = Self { parents: (0..numbers.len()).collect(), numbers, names: Vec::new() };
        // What else a recorded series has for labels is not known before it is there.
        let of_recorded = Readers::of(plans, &this.numbers, &[METRIC_NAME])?;
        let of_alerts = Readers::of(plans, &this.numbers, &[METRIC_NAME, ALERTNAME])?;
        let mut joined = [&of_recorded, &of_alerts].map(|readers| vec![false; readers.groups.len()]);
        // What a group writes for others gives its component the name: who only looks comes and goes without moving it.
        let mut is_source = vec![false; this.parents.len()];
        for (plan, rule) in plans.iter().flat_map(|plan| plan.rules.iter().map(move |rule| (plan, rule))) {
            let Some(&writer) = this.numbers.get(plan.name.as_str()) else { continue };
            let (readers, kind) = if rule.is_alerting() { (&of_alerts, 1) } else { (&of_recorded, 0) };
            for written in written(rule) {
                for selector in readers.index.finding(&written) {
                    let selector = selector as usize;
                    let groups = &readers.groups[selector];
                    is_source[writer] |= groups.iter().any(|group| *group != writer);
                    // All of them once; from then on one stands for all.
                    let most = if std::mem::replace(&mut joined[kind][selector], true) { 1 } else { groups.len() };
                    for group in groups.iter().take(most) {
                        this.join(writer, *group);
                    }
                }
            }
        }
        let roots: Vec<usize> = (0..this.parents.len()).map(|group| this.root(group)).collect();
        let mut best: HashMap<usize, (bool, &str)> = HashMap::new();
        for (name, number) in &this.numbers {
            // Sources are before others, then the smallest name.
            let mine = (!is_source[*number], *name);
            let known = best.entry(roots[*number]).or_insert(mine);
            *known = mine.min(*known);
        }
        this.names = roots.iter().map(|root| best.get(root).map_or("", |(_, name)| name)).collect();
        Ok(this)
    }

    fn name<'b>(&'b self, group: &'b str) -> &'b str {
        let name = self.numbers.get(group).and_then(|number| self.names.get(*number));
        name.copied().unwrap_or(group)
    }

    fn root(&mut self, mut number: usize) -> usize {
        while self.parents[number] != number {
            let above = self.parents[self.parents[number]];
            self.parents[number] = above;
            number = above;
        }
        number
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b)] = a.min(b);
    }
}

/// Selectors, as far as they say which of the series that rules write they may find, and who looks through them.
struct Readers {
    index: SelectorIndex,
    /// The groups of each.
    groups: Vec<Vec<usize>>,
}

impl Readers {
    /// By what they ask of these labels.
    fn of(plans: &[Arc<GroupPlan>], numbers: &HashMap<&str, usize>, labels: &[&str]) -> Result<Self, ProcessorsError> {
        let mut selectors: Vec<Vec<Matcher>> = Vec::new();
        let mut known: HashMap<Vec<Matcher>, usize> = HashMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for plan in plans {
            let Some(&reader) = numbers.get(plan.name.as_str()) else { continue };
            for rule in &plan.rules {
                for mut matchers in matchers_of(rule)? {
                    matchers.retain(|matcher| labels.contains(&matcher.label.as_str()));
                    let at = *known.entry(matchers.clone()).or_insert(groups.len());
                    if at == groups.len() {
                        selectors.push(matchers);
                        groups.push(Vec::new());
                    }
                    // A group's rules come one after the other.
                    if groups[at].last() != Some(&reader) {
                        groups[at].push(reader);
                    }
                }
            }
        }
        let index = index_of(&selectors)?;
        Ok(Self { index, groups })
    }
}

/// The series that a rule writes, as far as they are known.
fn written(rule: &PromRule) -> Vec<Labels> {
    if rule.is_alerting() {
        OF_ALERTS.map(|name| Labels::from_pairs([(METRIC_NAME, name), (ALERTNAME, rule.name.as_str())])).to_vec()
    } else {
        vec![Labels::from_pairs([(METRIC_NAME, rule.name.as_str())])]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::super::super::file::RuleFile;
    use super::*;

    /// Plans of groups, each a name and its rules.
    fn plans(groups: &[(&str, &[&str])]) -> Vec<Arc<GroupPlan>> {
        let mut text = "groups:\n".to_owned();
        for (name, rules) in groups {
            text.push_str(&format!("  - name: {name}\n    rules:\n"));
            for (at, rule) in rules.iter().enumerate() {
                let rule = match rule.split_once(" = ") {
                    Some((record, expr)) => format!("      - {{record: '{record}', expr: '{expr}'}}\n"),
                    None => format!("      - {{alert: A{at}, expr: '{rule}'}}\n"),
                };
                text.push_str(&rule);
            }
        }
        GroupPlan::of_files(&[RuleFile::parse("rules.yaml", &text).unwrap()]).unwrap()
    }

    /// The groups that are together, by the name that the place follows from.
    fn together(groups: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let plans = plans(groups);
        let components = Components::of(&plans).unwrap();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for plan in &plans {
            found.entry(components.name(&plan.name).to_owned()).or_default().push(plan.name.clone());
        }
        found
    }

    fn is(expected: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        expected
            .iter()
            .map(|(name, groups)| ((*name).to_owned(), groups.iter().map(ToString::to_string).collect()))
            .collect()
    }

    #[test]
    fn groups_are_with_those_whose_samples_they_look_at() {
        let alone = [("b", &["up == 0"][..]), ("a", &["load > 1"]), ("c", &["up{job=\"x\"} == 0"])];
        assert_eq!(
            together(&alone),
            is(&[("a", &["a"]), ("b", &["b"]), ("c", &["c"])]),
            "the same samples bind nobody"
        );
        // Named by who records, whoever else there is.
        let chain = [
            ("a-alerts", &["job:load:sum > 1"][..]),
            ("records", &["job:load:sum = sum by (job) (load)", "x = load"]),
            ("again", &["all:load:sum = sum(job:load:sum)"]),
            ("other", &["load > 5"]),
        ];
        assert_eq!(together(&chain), is(&[("other", &["other"]), ("records", &["a-alerts", "records", "again"])]));
        let ranges =
            [("r", &["x:y = load"][..]), ("q", &["max_over_time((rate({__name__=~\"x:y|z\"}[5m]))[1h:]) > 1"])];
        assert_eq!(together(&ranges), is(&[("r", &["r", "q"])]));
    }

    #[test]
    fn alerts_are_samples_too() {
        let named = [("a", &["up == 0", "down"][..]), ("b", &["ALERTS{alertname=\"A1\"} > 0"]), ("c", &["load"])];
        assert_eq!(together(&named), is(&[("a", &["a", "b"]), ("c", &["c"])]), "nobody but a has an A1");
        let recorded = [("a", &["r:x = sum by (alertname) (ALERTS)"][..]), ("b", &["r:x{alertname=\"A7\"} > 0"])];
        assert_eq!(together(&recorded), is(&[("a", &["a", "b"])]), "what is recorded may have any label");
        let all = [("a", &["up == 0"][..]), ("b", &["r = up"]), ("c", &["count(ALERTS_FOR_STATE) > 1"])];
        assert_eq!(together(&all), is(&[("a", &["a", "c"]), ("b", &["b"])]));
    }

    #[test]
    fn a_selector_without_a_metric_is_with_all_that_it_may_find() {
        let all = [("c", &["{job=\"x\"} > 1"][..]), ("a", &["up == 0"]), ("b", &["r = up"])];
        assert_eq!(together(&all), is(&[("a", &["c", "a", "b"])]));
        let some = [("c", &["{__name__=~\"node_.*\"} > 1"][..]), ("a", &["up == 0"]), ("b", &["node_x = up"])];
        assert_eq!(together(&some), is(&[("a", &["a"]), ("b", &["c", "b"])]));
    }

    #[test]
    fn queries_of_templates_look_as_well_and_groups_of_one_name_are_one() {
        let text = "
groups:
  - name: records
    rules: [{record: 'r:x', expr: load}]
  - name: alerts
    rules:
      - alert: A
        expr: up == 0
        annotations: {now: '{{ query \"r:x\" | len }}'}
";
        let mut files = vec![RuleFile::parse("rules.yaml", text).unwrap()];
        let more = "groups: [{name: alerts, rules: [{alert: B, expr: down}]}]";
        files.push(RuleFile::parse("more.yaml", more).unwrap());
        let plans = GroupPlan::of_files(&files).unwrap();
        let components = Components::of(&plans).unwrap();
        assert_eq!(plans.iter().map(|plan| components.name(&plan.name)).collect::<Vec<_>>(), ["records"; 3]);
    }

    #[test]
    fn places_follow_from_the_rules_and_use_all_partitions() {
        let names: Vec<String> = (0..200).map(|n| format!("group {n}")).collect();
        let groups: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &["up == 0"][..])).collect();
        let all = plans(&groups);
        let shards = Shards::of(&all, 4).unwrap();
        let counts = [0, 1, 2, 3].map(|partition| shards.groups(&all, partition).len());
        assert!(counts.iter().all(|count| (30..=70).contains(count)), "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 200);
        // Another group moves nobody that it does not look at, and whoever looks goes to what it looks at.
        let mut more = groups.clone();
        more.insert(0, ("a new one", &["up == 0 and r:x"]));
        more.push(("records", &["r:x = load"]));
        let more = Shards::of(&plans(&more), 4).unwrap();
        assert!(names.iter().all(|name| more.partition(name) == shards.partition(name)));
        assert_eq!(more.partition("a new one"), more.partition("records"));
        assert_eq!(more.partition("nobody"), None);
        let one = Shards::of(&all, 1).unwrap();
        assert_eq!((one.groups(&all, 0).len(), one.partitions()), (200, 1));
    }
}
