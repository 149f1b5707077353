//! Looking back: a rule that is new, or edited, sees the samples that were stored before it began.
//!
//! ```text
//! metrics/2:  0 ...... rows below the cut, read from the table ......│cut│...... rows of the log, as its task passes them on ......
//! ```
//!
//! The cut of a partition of `metrics` is the first record of which its task passes on what these rules look at; it says so in its reports of progress. Once all
//! partitions have said it, what the new rules look back to and the head does not have is asked for, partition by partition, below the cuts (topic
//! `__highwater.backfill`, as rollups do: [`filling`](crate::rollups::filling)), and what rules recorded up to the last tick with it. The answers come as records of the
//! rules' topic. A rule waits for them and is evaluated from then on; others go on meanwhile.
//!
//! A sample is in the head once, from whichever side it came: of two at the same time the one further on in the log stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_pipeline::data::metrics;
use highwater_pipeline::runtime::{SeriesRequest, SeriesSelector, SliceReader, SliceRequest};
use highwater_promql::{METRIC_NAME, Matcher, Options};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::plan::{GroupPlan, PromRule, hash_of};
use super::ticks::ROWS;
use crate::rollups::filling::{FIRST_WIDTH_US, hex};

/// The table, and the topic of what came in.
const TABLE: &str = "metrics";

/// Which rules wait for stored samples, and how far that has come. As snapshots hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LookBack {
    /// Of which rules this is.
    rules: u64,
    /// How far back the head goes for them.
    reach_ms: i64,
    /// Something has been read.
    is_begun: bool,
    /// Ids of the rules that wait.
    waiting: BTreeSet<String>,
    /// Hashes of selectors, by the time since when the head has all their samples, as far as it goes back at all.
    since_ms: BTreeMap<i64, BTreeSet<u64>>,
    /// What rules recorded up to this time is read as well: the head has what came after it. `None` where there were no rules.
    recorded_ms: Option<i64>,
    /// By partition of `metrics`.
    cuts: Vec<Option<i64>>,
    fill: Option<Fill>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Fill {
    id: u64,
    since_ms: BTreeMap<u64, i64>,
    /// The partitions that have not answered to the end.
    left: BTreeSet<String>,
}

/// Where a request comes from, and how far time has come there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asks<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) position: i64,
    /// The tick that is next is after this.
    pub(super) now_ms: i64,
    /// How far before a tick rules record.
    pub(super) behind_ms: i64,
}

impl LookBack {
    /// Of rules that nothing is known of yet. Where there are no tables to read, none of them waits.
    pub(super) fn new(plans: &[Arc<GroupPlan>], partitions: usize, reach_ms: i64, has_history: bool) -> Self {
        let waits = |rule: &&PromRule| has_history && !rule.looks_back.is_empty();
        let waiting = rules_of(plans).filter(waits).map(|rule| rule.id.clone());
        let (waiting, cuts) = (waiting.collect(), vec![None; partitions]);
        Self { rules: hash_of(plans), reach_ms, waiting, cuts, ..Self::default() }
    }

    /// Before the first record. A log of which the begin is gone is read without what was asked for in it, and without what was answered.
    pub(super) fn begin(&mut self, position: i64) {
        if !std::mem::replace(&mut self.is_begun, true) && position > 0 {
            self.waiting.clear();
        }
    }

    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Takes over what a snapshot has, which may be of other rules; `None` where it is of a version that did not look back. `is_known`: whether the
    /// snapshot has the rule, so that it is not new. `reached_ms`: the last tick.
    pub(super) fn restore(
        &mut self,
        saved: Option<Self>,
        plans: &[Arc<GroupPlan>],
        reached_ms: Option<i64>,
        is_known: impl Fn(&PromRule) -> bool,
    ) {
        let has_history = !self.waiting.is_empty();
        let lookback_ms = Options::default().lookback_ms;
        let had_ms = saved.as_ref().map_or(lookback_ms, |saved| saved.reach_ms);
        match saved {
            Some(saved) if saved.rules == self.rules && saved.cuts.len() == self.cuts.len() => {
                *self = Self { reach_ms: self.reach_ms, ..saved };
                if !has_history {
                    self.waiting.clear();
                }
                return;
            }
            Some(saved) => {
                // What the head had then it has now, and goes on having; but for what nobody looks at now.
                let looks = rules_of(plans).flat_map(|rule| &rule.looks_back);
                let looked_at: BTreeSet<u64> = looks.map(|look| hash(&text(&look.matchers))).collect();
                for (since_ms, mut selectors) in saved.since_ms {
                    selectors.retain(|selector| looked_at.contains(selector));
                    let Some(reached_ms) = reached_ms else { break };
                    let since_ms = since_ms.max(reached_ms.saturating_sub(saved.reach_ms));
                    self.since_ms.entry(since_ms).or_default().extend(selectors);
                }
                self.is_begun = saved.is_begun;
                let stays = |rule: &&PromRule| saved.waiting.contains(&rule.id) || !is_known(rule);
                let stay = rules_of(plans).filter(|rule| self.waits(rule)).filter(stays).map(|rule| rule.id.clone());
                self.waiting = stay.collect();
            }
            None => {
                let known = || rules_of(plans).filter(|rule| is_known(rule));
                let selectors = known().flat_map(|rule| &rule.looks_back).map(|look| hash(&text(&look.matchers)));
                self.since_ms.entry(i64::MIN).or_default().extend(selectors);
                let known: BTreeSet<&str> = known().map(|rule| rule.id.as_str()).collect();
                self.waiting.retain(|id| !known.contains(id.as_str()));
                self.is_begun = true;
            }
        }
        self.recorded_ms = reached_ms.map(|reached_ms| reached_ms.saturating_sub(had_ms));
        if let Some(reached_ms) = reached_ms {
            let has_all = |rule: &PromRule| {
                rule.looks_back.iter().all(|look| self.has(&look.matchers, reached_ms.saturating_sub(look.reach_ms)))
            };
            for rule in rules_of(plans).filter(|rule| self.waits(rule) && has_all(rule)).collect::<Vec<_>>() {
                self.waiting.remove(&rule.id);
            }
        }
    }

    /// Whether a rule has to wait.
    pub(super) fn waits(&self, rule: &PromRule) -> bool {
        self.waiting.contains(&rule.id)
    }

    /// Whether all rules do, and there are some.
    pub(super) fn all_wait(&self, plans: &[Arc<GroupPlan>]) -> bool {
        !self.waiting.is_empty() && self.waiting.len() == rules_of(plans).count()
    }

    /// A partition says whose samples it passes on from this record on.
    pub(super) fn cut(&mut self, partition: usize, rules: Option<&str>, position: i64) {
        if let Some(cut) = self.cuts.get_mut(partition)
            && rules.is_some_and(|rules| rules == hex(self.rules))
        {
            cut.get_or_insert(position);
        }
    }

    /// What has to be asked for, once all partitions have said where they begin. True where rules wait no longer.
    pub(super) fn ask(&mut self, plans: &[Arc<GroupPlan>], asks: &Asks<'_>) -> (Vec<SliceRequest>, bool) {
        if self.waiting.is_empty() || self.fill.is_some() {
            return (Vec::new(), false);
        }
        let Some(cuts) = self.cuts.iter().copied().collect::<Option<Vec<i64>>>() else { return (Vec::new(), false) };
        let is_first = cuts.iter().all(|cut| *cut == 0);
        let mut fill = Fill { id: self.fill_id(asks.position), since_ms: BTreeMap::new(), left: BTreeSet::new() };
        let mut selectors: BTreeMap<String, SeriesSelector> = BTreeMap::new();
        for look in rules_of(plans).filter(|rule| self.waits(rule)).flat_map(|rule| &rule.looks_back) {
            let from_ms = asks.now_ms.saturating_sub(look.reach_ms);
            if is_first {
                // There is nothing below, and nothing has been dropped.
                fill.since_ms.insert(hash(&text(&look.matchers)), i64::MIN);
            } else if !self.has(&look.matchers, from_ms) {
                let selector = text(&look.matchers);
                let since_ms = fill.since_ms.entry(hash(&selector)).or_insert(from_ms);
                *since_ms = from_ms.min(*since_ms);
                let from_us = since_ms.saturating_mul(1_000);
                selectors.insert(selector.clone(), SeriesSelector { selector, names: names(&look.matchers), from_us });
            }
        }
        let mut requests = Vec::new();
        if let Some(from_us) = selectors.values().map(|selector| selector.from_us).min() {
            let series = SeriesRequest {
                to_topic: asks.topic.to_owned(),
                to_partition: asks.partition,
                fill: hex(fill.id),
                until_us: None,
                selectors: selectors.into_values().collect(),
            };
            let reader = SliceReader { name: ROWS.to_owned(), definition: hex(self.rules) };
            for (partition, cut) in (0_i32..).zip(cuts) {
                let came_in = SliceRequest {
                    table: TABLE.to_owned(),
                    topic: None,
                    partition,
                    below_offset: cut,
                    from_us: Some(from_us),
                    width_us: FIRST_WIDTH_US,
                    readers: vec![reader.clone()],
                    series: Some(series.clone()),
                };
                // All of it was written long ago, and what is to be written is behind it.
                let recorded_ms = self.recorded_ms.map(|at_ms| at_ms.min(asks.now_ms.saturating_sub(asks.behind_ms)));
                let until_us = recorded_ms.map(|recorded_ms| recorded_ms.saturating_add(1).saturating_mul(1_000));
                let recorded = SliceRequest {
                    topic: Some(metrics::RECORDED_TOPIC.to_owned()),
                    below_offset: i64::MAX,
                    series: Some(SeriesRequest { until_us, ..series.clone() }),
                    ..came_in.clone()
                };
                let both = [Some(came_in), until_us.map(|_| recorded)].into_iter().flatten();
                for request in both.filter(|request| request.below_offset > 0) {
                    fill.left.insert(source(&request));
                    requests.push(request);
                }
            }
        }
        self.fill = Some(fill);
        let is_done = self.finish();
        (requests, is_done)
    }

    /// Whether rows are of what was asked for last.
    pub(super) fn has_asked(&self, id: u64) -> bool {
        self.fill.as_ref().is_some_and(|fill| fill.id == id)
    }

    /// A partition has answered to the end. True where rules wait no longer.
    pub(super) fn answered(&mut self, id: &str, source: &str) -> bool {
        let Some(fill) = self.fill.as_mut().filter(|fill| hex(fill.id) == id) else { return false };
        fill.left.remove(source);
        self.finish()
    }

    fn finish(&mut self) -> bool {
        let Some(fill) = self.fill.take_if(|fill| fill.left.is_empty()) else { return false };
        for (selector, since_ms) in fill.since_ms {
            for selectors in self.since_ms.values_mut() {
                selectors.remove(&selector);
            }
            self.since_ms.entry(since_ms).or_default().insert(selector);
        }
        self.since_ms.retain(|_, selectors| !selectors.is_empty());
        self.waiting.clear();
        true
    }

    fn has(&self, matchers: &[Matcher], from_ms: i64) -> bool {
        let selector = hash(&text(matchers));
        self.since_ms.range(..=from_ms).any(|(_, selectors)| selectors.contains(&selector))
    }

    fn fill_id(&self, position: i64) -> u64 {
        let mut bytes = self.rules.to_le_bytes().to_vec();
        bytes.extend(position.to_le_bytes());
        XxHash64::oneshot(0, &bytes)
    }
}

/// The partition whose rows a request asks for.
pub(super) fn source(request: &SliceRequest) -> String {
    format!("{}/{}", request.topic.as_ref().unwrap_or(&request.table), request.partition)
}

/// Whether samples of this source are what rules recorded.
pub(super) fn is_recorded(source: &str) -> bool {
    source.strip_prefix(metrics::RECORDED_TOPIC).is_some_and(|rest| rest.starts_with('/'))
}

fn rules_of(plans: &[Arc<GroupPlan>]) -> impl Iterator<Item = &PromRule> {
    plans.iter().flat_map(|plan| &plan.rules)
}

/// As PromQL has it.
fn text(matchers: &[Matcher]) -> String {
    let all: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
    format!("{{{}}}", all.join(","))
}

fn hash(selector: &str) -> u64 {
    XxHash64::oneshot(0, selector.as_bytes())
}

/// The metrics that matchers name, where they name some.
fn names(matchers: &[Matcher]) -> Option<Vec<String>> {
    let compiled = matchers.iter().filter(|m| m.label == METRIC_NAME).filter_map(|m| m.compile().ok());
    let literals = |m: highwater_promql::CompiledMatcher| {
        m.literals().map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    compiled.filter_map(literals).next().filter(|all| !all.iter().any(String::is_empty))
}
