//! All reports together, and the sum over them. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use super::DIRECT;
use super::count::PartitionCount;
use super::report::{DoorReport, LedgerEntry};
use crate::data::dead_letter;
use crate::log::{CommittedOffset, TopicPartition};
use crate::sources::bridge;

/// A run that has said nothing for this long is over, whether it said so or not.
const SILENT_AFTER_MS: i64 = 60_000;

/// What is known from the reports. Merging is idempotent and does not depend on the order of reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerState {
    pub(super) runs: BTreeMap<String, Run>,
    pub(super) partitions: BTreeMap<TopicPartition, PartitionCount>,
}

/// The latest report of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) sequence: u64,
    pub(super) at_ms: i64,
    pub(super) ended: bool,
    pub(super) doors: Vec<DoorReport>,
}

impl Run {
    pub(super) fn entry(&self, name: &str) -> LedgerEntry {
        let (sequence, at_ms, ended) = (self.sequence, self.at_ms, self.ended);
        LedgerEntry::Run { run: name.to_owned(), sequence, at_ms, ended, doors: self.doors.clone() }
    }
}

/// One line of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerRow {
    /// Where entries came from: `http`, `internal`, `kafka:<topic>`, `direct`.
    pub source: String,
    /// `logs` or `metrics`.
    pub signal: String,
    /// Entries received.
    pub received: u64,
    /// Entries in the log.
    pub stored: u64,
    /// Entries that the log had already, sent again under the same idempotency key.
    pub duplicate: u64,
    /// Entries refused, by reason; the sender was told, or got no answer (`unanswered`).
    pub rejected: BTreeMap<String, u64>,
    /// Entries in `dead-letter`.
    pub dead_lettered: u64,
    /// Entries received of which nothing else is known yet.
    pub in_flight: u64,
    /// Offsets that were removed before they could be counted or read.
    pub lost: u64,
}

impl LedgerRow {
    /// Received less everything that became of it: 0 where it adds up, above 0 where entries were acknowledged and are not there.
    pub fn balance(&self) -> i64 {
        let known = self.stored + self.duplicate + self.rejected_total() + self.dead_lettered + self.in_flight;
        self.received.cast_signed() - known.cast_signed()
    }

    /// Entries refused, whatever the reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    fn add(&mut self, run: &Settled) {
        self.received += run.received;
        self.stored += run.stored;
        self.duplicate += run.duplicate;
        self.dead_lettered += run.dead_lettered;
        self.in_flight += run.in_flight;
        for (reason, count) in &run.rejected {
            *self.rejected.entry(reason.clone()).or_default() += count;
        }
    }
}

/// What one run has to do with one source and signal.
#[derive(Debug, Default)]
struct Settled {
    received: u64,
    stored: u64,
    duplicate: u64,
    rejected: BTreeMap<String, u64>,
    dead_lettered: u64,
    in_flight: u64,
}

impl Settled {
    /// Sets what a door says against what the log holds. `over`: the run will not add to it.
    fn of(door: &DoorReport, stored: u64, over: bool) -> Self {
        let mut settled = Self {
            received: door.received,
            stored,
            duplicate: door.duplicate,
            rejected: door.rejected.clone(),
            ..Self::default()
        };
        let known = stored + door.duplicate + door.rejected();
        let Some(missing) = door.received.checked_sub(known) else {
            let mut more = known - door.received;
            // An append whose reply was lost: refused as far as the door knows, and in the log all the same.
            if let Some(refused) = settled.rejected.get_mut("log") {
                let stored_after_all = more.min(*refused);
                *refused -= stored_after_all;
                more -= stored_after_all;
            }
            // Stored since the door's last report, so received since then as well.
            settled.received += more;
            return settled;
        };
        let unanswered = missing.min(door.in_flight());
        if over && unanswered > 0 {
            settled.rejected.insert("unanswered".to_owned(), unanswered);
        } else {
            settled.in_flight = unanswered;
        }
        // Whatever is missing beyond that was acknowledged and is not there: the balance shows it.
        settled
    }
}

impl LedgerState {
    /// Takes in a report.
    pub fn merge(&mut self, entry: LedgerEntry) {
        match entry {
            LedgerEntry::Run { run, sequence, at_ms, ended, doors } => {
                let known = self.runs.entry(run).or_default();
                if sequence >= known.sequence {
                    *known = Run { sequence, at_ms, ended, doors };
                }
            }
            LedgerEntry::Counted { topic, partition, cut, lost, counts } => {
                let place = TopicPartition { topic: topic.into(), partition };
                let known = self.partitions.entry(place).or_default();
                if cut >= known.cut {
                    *known = PartitionCount::new(cut, lost, counts);
                }
            }
        }
    }

    /// The ledger. `live` is the run of this process with its counts as of before the partitions were counted; `committed` are the tasks' offsets, in
    /// which bridges keep their counts.
    pub fn rows(
        &self,
        live: Option<(&str, &[DoorReport])>,
        committed: &[CommittedOffset],
        now_ms: i64,
    ) -> Vec<LedgerRow> {
        let mut rows = Rows::default();
        self.doors(&mut rows, live, now_ms);
        self.bridges(&mut rows, committed);
        self.direct(&mut rows);
        rows.finish()
    }

    fn doors(&self, rows: &mut Rows, live: Option<(&str, &[DoorReport])>, now_ms: i64) {
        let mut seen = BTreeSet::new();
        let reported = self.runs.iter().map(|(name, run)| {
            let silent = now_ms.saturating_sub(run.at_ms) > SILENT_AFTER_MS;
            (name.as_str(), run.doors.as_slice(), run.ended || silent)
        });
        let reported = reported.filter(|(name, ..)| live.is_none_or(|(live, _)| live != *name));
        let live = live.into_iter().map(|(name, doors)| (name, doors, false));
        for (run, doors, over) in reported.chain(live) {
            for door in doors {
                let stored = self.entries(&door.source, run, &door.signal, false);
                rows.of(&door.source, &door.signal).add(&Settled::of(door, stored, over));
                seen.insert((run, door.source.as_str(), door.signal.as_str()));
            }
        }
        // Runs that were killed before their first report: all that is known of them is what they stored.
        for counted in self.partitions.values().flat_map(|count| count.counts()) {
            let key = (counted.run.as_str(), counted.source.as_str(), counted.signal.as_str());
            if !counted.run.is_empty() && seen.insert(key) {
                let stored = self.entries(&counted.source, &counted.run, &counted.signal, false);
                let settled = Settled { received: stored, stored, ..Settled::default() };
                rows.of(&counted.source, &counted.signal).add(&settled);
            }
        }
    }

    fn bridges(&self, rows: &mut Rows, committed: &[CommittedOffset]) {
        let mut received: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
        for claim in committed.iter().filter(|claim| claim.topic.starts_with(bridge::CLAIM_PREFIX)) {
            // What cannot be read is an error of the bridge when it starts; here it is nothing received.
            let Ok(Some(progress)) = bridge::Progress::parse(&claim.metadata) else { continue };
            let (entries, lost) = received.entry((progress.source, progress.signal)).or_default();
            *entries += progress.received;
            *lost += progress.lost;
        }
        let in_log = self.partitions.values().flat_map(|count| count.counts());
        for counted in in_log.filter(|counted| counted.run.is_empty() && counted.source != DIRECT) {
            received.entry((counted.source.clone(), counted.signal.clone())).or_default();
        }
        for ((source, signal), (entries, lost)) in received {
            let stored = self.entries(&source, "", &signal, false);
            let dead_lettered = self.entries(&source, "", &signal, true);
            let row = rows.of(&source, &signal);
            row.add(&Settled {
                // What lies above the committed offset is in the log and not yet in its count.
                received: entries.max(stored + dead_lettered),
                stored,
                dead_lettered,
                ..Settled::default()
            });
            row.lost += lost;
        }
    }

    fn direct(&self, rows: &mut Rows) {
        let signals: BTreeSet<&str> = self
            .partitions
            .values()
            .flat_map(|count| count.counts())
            .filter(|counted| counted.source == DIRECT)
            .map(|counted| counted.signal.as_str())
            .collect();
        for signal in signals {
            let stored = self.entries(DIRECT, "", signal, false);
            let dead_lettered = self.entries(DIRECT, "", signal, true);
            let refused: u64 = self
                .partitions
                .values()
                .flat_map(|count| count.counts())
                .filter(|counted| counted.source == DIRECT && counted.signal == signal)
                .map(|counted| counted.refused)
                .sum();
            rows.of(DIRECT, signal).add(&Settled {
                received: stored + refused.max(dead_lettered),
                stored,
                dead_lettered,
                // The task of the topic has not come to them yet.
                in_flight: refused.saturating_sub(dead_lettered),
                ..Settled::default()
            });
        }
        for (place, count) in &self.partitions {
            if count.lost > 0 {
                rows.of(DIRECT, &place.topic).lost += count.lost;
            }
        }
    }

    /// Entries of an origin in the log: rows, or dead letters.
    fn entries(&self, source: &str, run: &str, signal: &str, dead: bool) -> u64 {
        let places = self.partitions.iter().filter(|(place, _)| (&*place.topic == dead_letter::TOPIC) == dead);
        places
            .flat_map(|(_, count)| count.counts())
            .filter(|counted| counted.source == source && counted.run == run && counted.signal == signal)
            .map(|counted| counted.entries)
            .sum()
    }
}

/// Lines by source and signal.
#[derive(Default)]
struct Rows(BTreeMap<(String, String), LedgerRow>);

impl Rows {
    fn of(&mut self, source: &str, signal: &str) -> &mut LedgerRow {
        self.0.entry((source.to_owned(), signal.to_owned())).or_insert_with(|| LedgerRow {
            source: source.to_owned(),
            signal: signal.to_owned(),
            ..LedgerRow::default()
        })
    }

    fn finish(self) -> Vec<LedgerRow> {
        self.0.into_values().collect()
    }
}
