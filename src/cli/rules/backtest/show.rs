//! A timeline of transitions, as a table, JSON and a picture.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;

use chrono::{DateTime, SecondsFormat};
use highwater_pipeline::data::alerts::{State, Transition};
use highwater_promql::Labels;
use serde_json::json;

use crate::cli::out::say;
use crate::cli::text_table::TextTable;
use crate::error::Error;

/// Letters of a bar.
const WIDTH: usize = 100;

/// The transitions of some rules from one time to another, and how their alerts stood before.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    from_us: i64,
    to_us: i64,
    /// Alerts that were pending or firing when it began, by fingerprint.
    before: BTreeMap<String, Transition>,
    transitions: Vec<Transition>,
}

/// What one timeline has and another has not.
#[derive(Debug)]
pub(super) struct Difference<'a> {
    only_new: Vec<&'a Transition>,
    only_old: Vec<&'a Transition>,
    same: usize,
}

impl Timeline {
    /// Of all transitions up to the end, in order.
    pub(super) fn new(all: Vec<Transition>, from_us: i64, to_us: i64) -> Self {
        let mut this = Self { from_us, to_us, ..Self::default() };
        for transition in all {
            if transition.timestamp_us > to_us {
                continue;
            }
            if transition.timestamp_us >= from_us {
                this.transitions.push(transition);
            } else if is_up(transition.state) {
                this.before.insert(transition.fingerprint.clone(), transition);
            } else {
                this.before.remove(&transition.fingerprint);
            }
        }
        this
    }

    /// A line per transition.
    pub(super) fn table(&self) {
        let mut table = TextTable::new(&["time", "state", "alert", "labels", "value"]);
        for transition in &self.transitions {
            table.row(cells(transition));
        }
        table.print();
    }

    /// What differs from what other rules have said.
    pub(super) fn difference<'a>(&'a self, old: &'a Self) -> Difference<'a> {
        let keys = |timeline: &'a Self| timeline.transitions.iter().map(key).collect::<BTreeSet<_>>();
        let (new_keys, old_keys) = (keys(self), keys(old));
        let only_new: Vec<_> = self.transitions.iter().filter(|one| !old_keys.contains(&key(one))).collect();
        let only_old = old.transitions.iter().filter(|one| !new_keys.contains(&key(one))).collect();
        Difference { same: self.transitions.len() - only_new.len(), only_new, only_old }
    }

    /// How many of what.
    pub(super) fn summary(&self) -> String {
        let count = |state: State| self.transitions.iter().filter(|one| one.state == state).count();
        let mut up = self.before.clone();
        for one in &self.transitions {
            if is_up(one.state) {
                up.insert(one.fingerprint.clone(), one.clone());
            } else {
                up.remove(&one.fingerprint);
            }
        }
        let firing = up.values().filter(|one| one.state == State::Firing).count();
        format!(
            "{} transitions from {} to {}: {} fired, {} resolved; {firing} firing at the end, {} when it began",
            self.transitions.len(),
            time(self.from_us),
            time(self.to_us),
            count(State::Firing),
            count(State::Resolved),
            self.before.values().filter(|one| one.state == State::Firing).count(),
        )
    }

    /// One letter per stretch of time, for each alert: the worst it was.
    fn bars(&self) -> BTreeMap<(String, String), Bar> {
        let mut alerts: BTreeMap<(String, String), Vec<&Transition>> = BTreeMap::new();
        for one in self.before.values().chain(&self.transitions) {
            alerts.entry((one.alertname.clone(), labels(one))).or_default().push(one);
        }
        let bars = alerts.into_iter().map(|(alert, transitions)| {
            let mut bar = Bar { letters: [' '; WIDTH], fired: 0, firing_us: 0 };
            for (index, one) in transitions.iter().enumerate() {
                let until_us = transitions.get(index + 1).map_or(self.to_us, |next| next.timestamp_us);
                let since_us = one.timestamp_us.max(self.from_us);
                let letter = match one.state {
                    State::Firing => '█',
                    State::Pending => '░',
                    _ => continue,
                };
                if one.state == State::Firing {
                    bar.firing_us += until_us - since_us;
                    bar.fired += usize::from(one.timestamp_us >= self.from_us);
                }
                for at in self.letter(since_us)..=self.letter(until_us.max(since_us + 1) - 1) {
                    if bar.letters[at] != '█' {
                        bar.letters[at] = letter;
                    }
                }
            }
            (alert, bar)
        });
        bars.collect()
    }

    fn letter(&self, at_us: i64) -> usize {
        let whole = i128::from((self.to_us - self.from_us).max(1));
        let at = i128::from(at_us - self.from_us) * WIDTH as i128 / whole;
        usize::try_from(at).unwrap_or(0).min(WIDTH - 1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bar {
    letters: [char; WIDTH],
    fired: usize,
    firing_us: i64,
}

impl Difference<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.only_new.is_empty() && self.only_old.is_empty()
    }

    /// What comes and what goes, in the order of time.
    pub(super) fn table(&self) {
        let new = self.only_new.iter().map(|one| ("+", *one));
        let mut all: Vec<_> = new.chain(self.only_old.iter().map(|one| ("-", *one))).collect();
        all.sort_by_key(|(_, one)| one.timestamp_us);
        let mut table = TextTable::new(&["", "time", "state", "alert", "labels", "value"]);
        for (sign, one) in all {
            table.row(std::iter::once(sign.to_owned()).chain(cells(one)));
        }
        table.print();
    }

    pub(super) fn summary(&self) -> String {
        if self.is_empty() {
            return format!("no difference: {} transitions, the same", self.same);
        }
        format!("they differ: {} new, {} gone, {} the same", self.only_new.len(), self.only_old.len(), self.same)
    }
}

/// Everything as one object.
pub(super) fn json(new: &Timeline, old: Option<&Timeline>) -> Result<String, Error> {
    let mut all = json!({
        "from": time(new.from_us), "to": time(new.to_us),
        "before": new.before.values().collect::<Vec<_>>(), "transitions": new.transitions,
    });
    if let Some(old) = old {
        let difference = new.difference(old);
        all["diff"] = json!({"new": difference.only_new, "gone": difference.only_old, "same": difference.same});
    }
    serde_json::to_string_pretty(&all).map_err(|error| Error::failed("printing", error))
}

/// A bar per alert; with other rules beside them, two where they differ.
pub(super) fn graph(new: &Timeline, old: Option<&Timeline>) {
    let coloured = std::io::stdout().is_terminal();
    let bars = new.bars();
    let before = old.map(Timeline::bars).unwrap_or_default();
    let none = Bar { letters: [' '; WIDTH], fired: 0, firing_us: 0 };
    let all: BTreeSet<_> = bars.keys().chain(before.keys()).collect();
    if all.is_empty() {
        say!("nothing was pending or firing");
        return;
    }
    for alert in all {
        let bar = bars.get(alert).unwrap_or(&none);
        say!("{}{}", alert.0, alert.1);
        match old.and(Some(before.get(alert).unwrap_or(&none))).filter(|other| *other != bar) {
            None => say!("  {}", draw(bar, coloured)),
            Some(other) => {
                say!("- {}", draw(other, coloured));
                say!("+ {}", draw(bar, coloured));
            }
        }
    }
    let (first, last) = (time(new.from_us), time(new.to_us));
    let gap = WIDTH.saturating_sub(first.len() + last.len()).max(1);
    say!("  {first}{:gap$}{last}", "");
    say!("  ░ pending  █ firing");
}

fn draw(bar: &Bar, coloured: bool) -> String {
    let letters: String = bar.letters.iter().collect();
    let letters = if coloured {
        letters.replace('█', "\x1b[31m█\x1b[0m").replace('░', "\x1b[33m░\x1b[0m")
    } else {
        letters
    };
    let firing = std::time::Duration::from_secs((bar.firing_us / 1_000_000).unsigned_abs());
    format!("{letters}│ fired {}x, {}", bar.fired, humantime::format_duration(firing))
}

fn is_up(state: State) -> bool {
    matches!(state, State::Pending | State::Firing)
}

/// What makes two transitions the same: when which alert became what. Values and texts may differ.
fn key(one: &Transition) -> (i64, &str, &str, &BTreeMap<String, String>) {
    (one.timestamp_us, one.state.as_str(), &one.alertname, &one.labels)
}

fn cells(one: &Transition) -> [String; 5] {
    let value = one.value.map_or_else(String::new, highwater_promql::format_float);
    [time(one.timestamp_us), one.state.as_str().to_owned(), one.alertname.clone(), labels(one), value]
}

/// The labels without the alert's name.
fn labels(one: &Transition) -> String {
    Labels::from_pairs(one.labels.iter().filter(|(name, _)| *name != "alertname")).to_string()
}

fn time(us: i64) -> String {
    DateTime::from_timestamp_micros(us)
        .map_or_else(|| us.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
