//! A table in memory, under the contract of the real ones, and a writer that keeps to it.
//!
//! The table is as dumb as a Delta log: a commit is put under the next version, if nobody was there first. All else is up to
//! writers: a commit of `[a, b)` may go in only where the table stands at `a`; after a conflict or a lost answer they look again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_pipeline::data::content_type;
use highwater_pipeline::log::Log;
use parking_lot::Mutex;

use crate::coverage::Coverage;
use crate::random::Random;
use crate::time::Time;

/// See the module's text.
#[derive(Debug)]
pub struct Table {
    topic: Arc<str>,
    partitions: i32,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// How many commits there are; the version of the newest.
    version: usize,
    stands: BTreeMap<i32, i64>,
    /// Which attempt made each version.
    attempts: Vec<u64>,
    rows: Vec<(i32, i64)>,
}

/// What one commit brings of a partition: the rows of offsets `from..to`.
#[derive(Debug, Clone)]
struct Part {
    partition: i32,
    from: i64,
    to: i64,
    rows: Vec<i64>,
}

impl Table {
    /// An empty table of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partitions: i32) -> Arc<Self> {
        Arc::new(Self { topic: topic.into(), partitions, state: Mutex::default() })
    }

    /// The topic it is a table of.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Where it stands in each partition.
    pub fn stands(&self) -> BTreeMap<i32, i64> {
        let state = self.state.lock();
        (0..self.partitions).map(|p| (p, state.stands.get(&p).copied().unwrap_or(0))).collect()
    }

    /// Partition and offset of each row, in the order they went in.
    pub fn rows(&self) -> Vec<(i32, i64)> {
        self.state.lock().rows.clone()
    }

    fn version(&self) -> usize {
        self.state.lock().version
    }

    /// Puts a commit behind this version; false where another was put there first.
    fn put(&self, behind: usize, attempt: u64, parts: &[Part]) -> bool {
        let mut state = self.state.lock();
        if state.version != behind {
            return false;
        }
        state.version += 1;
        state.attempts.push(attempt);
        for part in parts {
            state.stands.insert(part.partition, part.to);
            state.rows.extend(part.rows.iter().map(|offset| (part.partition, *offset)));
        }
        true
    }

    fn holds(&self, attempt: u64) -> bool {
        self.state.lock().attempts.contains(&attempt)
    }
}

/// Writes a topic into its table until it is dropped. Several may do so at once.
pub struct TableWriter {
    /// The table.
    pub table: Arc<Table>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The clock.
    pub time: Time,
    /// Chance.
    pub random: Random,
    /// False for one that forgets to look where the table stands once somebody was there first.
    pub looks: bool,
    /// True for one that is not made to wait or to lose answers.
    pub calm: bool,
    /// What was met.
    pub coverage: Coverage,
}

impl TableWriter {
    /// Never ends.
    pub async fn run(mut self) {
        loop {
            let ms = self.random.between(50, 2_500);
            self.time.pause_ms(ms).await;
            let (version, stands) = (self.table.version(), self.table.stands());
            let parts = self.read(&stands).await;
            if !parts.is_empty() {
                self.commit(version, &parts).await;
            }
        }
    }

    async fn read(&mut self, stands: &BTreeMap<i32, i64>) -> Vec<Part> {
        let mut parts = Vec::new();
        for (&partition, &from) in stands {
            let fetched = self.log.read(&self.table.topic, partition, from, 1 << 16, Duration::ZERO).await;
            // What a read fails at is the oracle's to judge.
            let Ok(fetched) = fetched else { continue };
            if fetched.next_offset > from {
                let rows = fetched.records.iter().filter(|r| content_type::of(r) != Some(content_type::CONTROL));
                let rows = rows.map(|r| r.offset).collect();
                parts.push(Part { partition, from, to: fetched.next_offset, rows });
            }
        }
        parts
    }

    async fn commit(&mut self, mut version: usize, parts: &[Part]) {
        let attempt = self.random.bits();
        loop {
            let ms = match self.random.below(20) {
                _ if self.calm => 0,
                0 => self.random.between(1_000, 20_000),
                _ => self.random.between(0, 60),
            };
            self.time.pause_ms(ms).await;
            let put = self.table.put(version, attempt, parts);
            let answered = self.calm || !self.random.chance(80);
            if put && answered {
                return;
            }
            self.coverage.met(if put { "table commits whose answer was lost" } else { "table commits in conflict" });
            // Somebody was there first, or nobody knows: look again.
            version = self.table.version();
            if self.table.holds(attempt) {
                return;
            }
            let stands = self.table.stands();
            if self.looks && parts.iter().any(|part| stands.get(&part.partition) != Some(&part.from)) {
                // Another owner is at work. What was read is forgotten; the table says where to go on.
                return;
            }
        }
    }
}
