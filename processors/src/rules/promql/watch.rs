//! Which rules have to be evaluated: those that look at a series that has got a sample since, and those whose samples come into sight or go out of it.
//!
//! A rule keeps what it was last evaluated to, and until when that holds if nothing comes ([`Timing`](super::timing::Timing)). A sample says to the
//! selectors that find its series from when on it is seen; before a tick they tell their rules. So a tick costs what has changed, not what there is, and
//! the value of a rule is at every tick what evaluating it would give: a property test holds that.
//!
//! Only a memory: nothing of it is in snapshots, and after a restart every rule is evaluated once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use highwater_promql::{Labels, METRIC_NAME, MatchOp, Matcher, Selection, Series, SeriesSource, SourceError};

use super::group::value_of;
use super::head::{Head, Pushed, View};
use super::plan::{GroupPlan, PromRule};
use super::selector_index::SelectorIndex;
use super::timing::What;

/// Most series that are noted for all selectors of a tenant; a selector that goes beyond is asked anew each time.
const MAX_NOTED: usize = 4_000_000;

/// The value of a rule: samples in the order of their labels, or why there are none.
pub(super) type Value = Result<Vec<(Labels, f64)>, String>;

/// The selectors of all rules, each once. The same for every tenant.
#[derive(Debug)]
pub(super) struct Watched {
    /// Missing where a regular expression does not compile: then nothing is known of any.
    index: Option<SelectorIndex>,
    /// By selector: who looks through it, and how much later than its time a sample is seen.
    users: Vec<Vec<User>>,
    /// By group and rule: the selectors of its looks.
    looks: Vec<Vec<Vec<u32>>>,
    most_noted: usize,
}

#[derive(Debug, Clone, Copy)]
struct User {
    group: usize,
    rule: usize,
    shift_ms: i64,
}

impl Watched {
    pub(super) fn new(plans: &[Arc<GroupPlan>]) -> Self {
        let mut numbers: HashMap<&[Matcher], u32> = HashMap::new();
        let mut selectors: Vec<&[Matcher]> = Vec::new();
        let mut users: Vec<Vec<User>> = Vec::new();
        let mut looks = Vec::with_capacity(plans.len());
        for (group, plan) in plans.iter().enumerate() {
            let mut of_group = Vec::with_capacity(plan.rules.len());
            for (rule, planned) in plan.rules.iter().enumerate() {
                let mut of_rule = Vec::with_capacity(planned.timing.looks.len());
                for look in &planned.timing.looks {
                    let number = *numbers.entry(&look.matchers).or_insert_with(|| {
                        selectors.push(&look.matchers);
                        users.push(Vec::new());
                        u32::try_from(selectors.len() - 1).unwrap_or(u32::MAX)
                    });
                    users[number as usize].push(User { group, rule, shift_ms: look.shift_ms });
                    of_rule.push(number);
                }
                of_group.push(of_rule);
            }
            looks.push(of_group);
        }
        Self { index: SelectorIndex::new(selectors).ok(), users, looks, most_noted: MAX_NOTED }
    }

    /// With few series noted, for tests.
    #[cfg(test)]
    pub(super) fn with_most_noted(self, most_noted: usize) -> Self {
        Self { most_noted, ..self }
    }
}

/// What a tenant's rules have last been evaluated to, and until when it holds.
#[derive(Debug)]
pub(super) struct Watch {
    watched: Arc<Watched>,
    /// By the place of a series: the selectors that find it.
    finding: Vec<Box<[u32]>>,
    /// By selector.
    found: Vec<Found>,
    noted: usize,
    /// Selectors that have got samples.
    told: Vec<u32>,
    groups: Vec<Group>,
}

/// What a selector finds.
#[derive(Debug, Clone)]
struct Found {
    /// Places of series, in the order of their labels where they are sorted.
    slots: Vec<u32>,
    is_sorted: bool,
    /// Too many: they are not noted, and its rules are evaluated at each tick.
    is_wide: bool,
    /// Time of the oldest sample that has come and that its rules do not know of.
    news_ms: i64,
}

#[derive(Debug, Clone)]
struct Group {
    /// Before this nothing of it has to be done.
    idle_until_ms: i64,
    rules: Vec<Kept>,
}

#[derive(Debug, Clone)]
struct Kept {
    /// From when on the value may be another. Times are those as of which expressions are evaluated.
    due_ms: i64,
    value: Value,
}

impl Found {
    /// A sample of this time has come; `told` is who has got some.
    fn note(&mut self, selector: u32, at_ms: i64, told: &mut Vec<u32>) {
        if self.news_ms == i64::MAX {
            told.push(selector);
        }
        self.news_ms = self.news_ms.min(at_ms);
    }
}

impl Watch {
    pub(super) fn new(watched: &Arc<Watched>) -> Self {
        let kept = Kept { due_ms: i64::MIN, value: Ok(Vec::new()) };
        let group = |rules: &Vec<Vec<u32>>| Group { idle_until_ms: i64::MIN, rules: vec![kept.clone(); rules.len()] };
        let is_wide = watched.index.is_none();
        let found = Found { slots: Vec::new(), is_sorted: true, is_wide, news_ms: i64::MAX };
        Self {
            watched: Arc::clone(watched),
            finding: Vec::new(),
            found: vec![found; watched.users.len()],
            noted: 0,
            told: Vec::new(),
            groups: watched.looks.iter().map(group).collect(),
        }
    }

    /// A series of the head has got a sample.
    pub(super) fn pushed(&mut self, head: &Head, pushed: Pushed, at_ms: i64) {
        if pushed.is_new {
            self.find(head, pushed.slot);
        }
        let Some(finding) = self.finding.get(pushed.slot as usize) else { return };
        for selector in finding {
            self.found[*selector as usize].note(*selector, at_ms, &mut self.told);
        }
    }

    /// All series of a head that nobody has spoken of yet.
    pub(super) fn find_all(&mut self, head: &Head) {
        for slot in 0..u32::try_from(head.places()).unwrap_or(u32::MAX) {
            self.find(head, slot);
        }
    }

    fn find(&mut self, head: &Head, slot: u32) {
        let Some(labels) = head.labels(slot) else { return };
        let at = slot as usize;
        if self.finding.len() <= at {
            self.finding.resize_with(at + 1, Box::default);
        }
        let finding = self.watched.index.iter().flat_map(|index| index.finding(labels));
        let finding: Vec<u32> = finding.filter(|selector| !self.found[*selector as usize].is_wide).collect();
        for selector in &finding {
            let found = &mut self.found[*selector as usize];
            found.slots.push(slot);
            found.is_sorted = false;
            self.noted += 1;
        }
        self.finding[at] = finding.into();
        while self.noted > self.watched.most_noted {
            let most = (0_u32..).zip(&self.found).max_by_key(|(_, found)| found.slots.len()).map(|(at, _)| at);
            let Some(widest) = most else { break };
            self.widen(widest);
        }
    }

    /// Forgets what a selector finds.
    fn widen(&mut self, selector: u32) {
        let found = &mut self.found[selector as usize];
        found.is_wide = true;
        let slots = std::mem::take(&mut found.slots);
        self.noted -= slots.len();
        for slot in slots {
            let finding = &mut self.finding[slot as usize];
            *finding = finding.iter().copied().filter(|other| *other != selector).collect();
        }
        self.found[selector as usize].note(selector, i64::MIN, &mut self.told);
    }

    /// These series are no more.
    pub(super) fn gone(&mut self, slots: &[u32]) {
        let mut is_gone: HashSet<u32> = HashSet::with_capacity(slots.len());
        let mut touched: HashSet<u32> = HashSet::new();
        for slot in slots {
            let Some(finding) = self.finding.get_mut(*slot as usize) else { continue };
            touched.extend(std::mem::take(finding));
            is_gone.insert(*slot);
        }
        for selector in touched {
            let found = &mut self.found[selector as usize];
            let were = found.slots.len();
            found.slots.retain(|slot| !is_gone.contains(slot));
            self.noted -= were - found.slots.len();
        }
    }

    /// Samples went that rules may still look at.
    pub(super) fn forget(&mut self) {
        for group in &mut self.groups {
            group.idle_until_ms = i64::MIN;
            group.rules.iter_mut().for_each(|kept| kept.due_ms = i64::MIN);
        }
    }

    /// Tells the rules what has come. To be called before each tick.
    pub(super) fn settle(&mut self, head: &Head) {
        for selector in self.told.drain(..) {
            let found = &mut self.found[selector as usize];
            let news_ms = std::mem::replace(&mut found.news_ms, i64::MAX);
            if !found.is_sorted {
                head.sort(&mut found.slots);
                found.is_sorted = true;
            }
            for user in &self.watched.users[selector as usize] {
                let seen_ms = news_ms.saturating_add(user.shift_ms);
                let group = &mut self.groups[user.group];
                let kept = &mut group.rules[user.rule];
                kept.due_ms = kept.due_ms.min(seen_ms);
                group.idle_until_ms = group.idle_until_ms.min(seen_ms);
            }
        }
    }

    /// Whether nothing of a group has to be done as of this time.
    pub(super) fn is_idle(&self, group: usize, as_of_ms: i64) -> bool {
        self.groups[group].idle_until_ms > as_of_ms
    }

    /// Nothing of a group has to be done before this time, as far as is known now.
    pub(super) fn idle_until(&mut self, group: usize, until_ms: i64) {
        self.groups[group].idle_until_ms = until_ms;
    }

    /// The value of a rule, and from when on it may be another; `fresh` is what rules before it have written at this tick.
    pub(super) fn value(
        &mut self,
        (group, index): (usize, usize),
        rule: &PromRule,
        head: &Head,
        fresh: &Head,
        as_of_ms: i64,
    ) -> (&Value, i64) {
        let sees_fresh = !fresh.is_empty()
            && (rule.timing.by_time || rule.timing.looks.iter().any(|look| may_find(&look.matchers, fresh)));
        if sees_fresh || self.groups[group].rules[index].due_ms <= as_of_ms {
            let known = self.known((group, index), rule, head, as_of_ms);
            let value = value_of(rule, &View { head: &known, fresh }, as_of_ms);
            let due_ms = self.next_change_ms((group, index), rule, head, as_of_ms);
            self.groups[group].rules[index] = Kept { due_ms, value };
        }
        let kept = &self.groups[group].rules[index];
        (&kept.value, kept.due_ms)
    }

    /// What a rule's selectors find in the head.
    pub(super) fn known<'a>(
        &'a self,
        (group, index): (usize, usize),
        rule: &'a PromRule,
        head: &'a Head,
        as_of_ms: i64,
    ) -> Known<'a> {
        Known { found: &self.found, selectors: &self.watched.looks[group][index], rule, head, as_of_ms }
    }

    /// When the value as of this time, if no sample comes, can be another.
    fn next_change_ms(&self, (group, index): (usize, usize), rule: &PromRule, head: &Head, as_of_ms: i64) -> i64 {
        let timing = &rule.timing;
        if timing.by_time {
            return i64::MIN;
        }
        let mut next_ms = timing.grids.iter().map(|grid| grid.next_ms(as_of_ms)).min().unwrap_or(i64::MAX);
        for (look, selector) in timing.looks.iter().zip(&self.watched.looks[group][index]) {
            let found = &self.found[*selector as usize];
            if found.is_wide {
                return as_of_ms.saturating_add(1);
            }
            let end_ms = as_of_ms.saturating_sub(look.shift_ms);
            let start_ms = end_ms.saturating_sub(look.range_ms);
            for slot in &found.slots {
                let change_ms = head.next_change_ms(*slot, start_ms, end_ms, look.what);
                next_ms = next_ms.min(change_ms.saturating_add(look.shift_ms));
            }
        }
        next_ms
    }
}

/// Whether these may find a series of this head, by its metric.
fn may_find(matchers: &[Matcher], head: &Head) -> bool {
    let named = matchers.iter().find(|m| m.label == METRIC_NAME && m.op == MatchOp::Equal);
    named.is_none_or(|named| head.has_metric(&named.value))
}

/// A head, asked by a rule: what its selectors find is known.
pub(super) struct Known<'a> {
    found: &'a [Found],
    selectors: &'a [u32],
    rule: &'a PromRule,
    head: &'a Head,
    as_of_ms: i64,
}

impl SeriesSource for Known<'_> {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let timing = &self.rule.timing;
        let mut found = None;
        // Of a selector of instants the newest samples will do, where nothing else looks through it at the same time.
        let mut newest = !timing.by_time;
        for (look, selector) in timing.looks.iter().zip(self.selectors) {
            if look.matchers != selection.matchers {
                continue;
            }
            found = self.found.get(*selector as usize);
            let end_ms = self.as_of_ms.saturating_sub(look.shift_ms);
            let same = end_ms == selection.end_ms && end_ms.saturating_sub(look.range_ms) == selection.start_ms;
            newest &= match look.what {
                What::Newest => true,
                What::Samples | What::Slope => !same,
                What::Steps => false,
            };
        }
        match found.filter(|found| !found.is_wide) {
            Some(found) => {
                let read = |slot: &u32| self.head.read(*slot, selection.start_ms, selection.end_ms, newest);
                Ok(found.slots.iter().filter_map(read).collect())
            }
            None => self.head.select(selection),
        }
    }
}
