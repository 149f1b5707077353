//! Which version applies where: a fold over the records of the config topic, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::record::{ConfigRecord, Unreadable};
use super::{DefinitionsError, TOPIC};
use crate::log::{StoredRecord, TopicPartition};

/// A version of the definitions that applies somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// 1 for the first.
    pub number: u32,
    /// Its content hash.
    pub hash: String,
    /// The definitions; what they mean is their reader's business.
    pub definitions: Arc<Value>,
    /// The first offset of each partition to which it applies. A partition that is not named had no records then: 0.
    pub from: BTreeMap<TopicPartition, i64>,
}

impl Version {
    fn from(&self, input: &TopicPartition) -> i64 {
        self.from.get(input).copied().unwrap_or(0)
    }
}

/// What a record has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folded {
    /// New definitions, which do not apply yet.
    Proposed(u32),
    /// This version applies from now on, where its record says.
    Started(u32),
    /// Nothing; the text says why.
    Void(String),
}

/// All versions, as the config topic has them up to an offset.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Version n at n - 1.
    proposed: Vec<Proposed>,
    /// Those that were started, in order.
    started: Vec<Arc<Version>>,
    next_offset: i64,
}

#[derive(Debug, Clone)]
struct Proposed {
    hash: String,
    definitions: Arc<Value>,
}

impl History {
    /// Takes the next record. Stops for good at one that a newer version wrote.
    pub fn fold(&mut self, record: &StoredRecord) -> Result<Folded, DefinitionsError> {
        let folded = match ConfigRecord::parse(record) {
            Ok(ConfigRecord::Definitions { hash, definitions }) => self.propose(hash, definitions),
            Ok(ConfigRecord::Start { version, from }) => self.start(version, &from),
            Err(Unreadable::Foreign(reason)) => Folded::Void(reason),
            Err(Unreadable::Newer(format)) => {
                return Err(DefinitionsError::Newer { offset: record.offset, format });
            }
        };
        self.skip_to(record.offset + 1);
        Ok(folded)
    }

    /// Goes on behind offsets that hold no record.
    pub fn skip_to(&mut self, offset: i64) {
        self.next_offset = self.next_offset.max(offset);
    }

    /// The next offset of the config topic to read.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The version that applies to the record at this offset: the newest that starts at or before it. In front of all starts it is the first, because
    /// there is nothing else that could have applied. `None` only where no version was ever started.
    pub fn version_at(&self, input: &TopicPartition, offset: i64) -> Option<&Arc<Version>> {
        self.started.iter().rfind(|version| version.from(input) <= offset).or(self.started.first())
    }

    /// A started version by its number.
    pub fn version(&self, number: u32) -> Option<&Arc<Version>> {
        self.started.iter().rfind(|version| version.number == number)
    }

    /// The newest version that was started.
    pub fn newest(&self) -> Option<&Arc<Version>> {
        self.started.last()
    }

    /// The newest definitions, if they have no start yet. Older ones without a start never get one.
    pub fn pending(&self) -> Option<u32> {
        let newest = self.newest_proposed();
        (newest > self.newest_started()).then_some(newest)
    }

    /// True where these are the newest definitions, started or not.
    pub fn is_newest(&self, definitions: &Value) -> bool {
        self.proposed.last().is_some_and(|last| *last.definitions == *definitions)
    }

    /// True where some version had these definitions.
    pub fn knows(&self, definitions: &Value) -> bool {
        self.proposed.iter().any(|proposed| *proposed.definitions == *definitions)
    }

    fn newest_proposed(&self) -> u32 {
        u32::try_from(self.proposed.len()).unwrap_or(u32::MAX)
    }

    fn newest_started(&self) -> u32 {
        self.newest().map_or(0, |version| version.number)
    }

    fn propose(&mut self, hash: String, definitions: Value) -> Folded {
        if self.is_newest(&definitions) {
            return Folded::Void(format!("the same definitions as version {}", self.newest_proposed()));
        }
        self.proposed.push(Proposed { hash, definitions: Arc::new(definitions) });
        Folded::Proposed(self.newest_proposed())
    }

    fn start(&mut self, number: u32, from: &BTreeMap<String, i64>) -> Folded {
        if number <= self.newest_started() {
            return Folded::Void(format!("version {} has been started already", self.newest_started()));
        }
        let index = usize::try_from(number).unwrap_or(usize::MAX) - 1;
        let Some(Proposed { hash, definitions }) = self.proposed.get(index).cloned() else {
            return Folded::Void(format!("{TOPIC} has no definitions of version {number}"));
        };
        // Never before the version before it: whoever wrote this may have read its offsets earlier than the other did.
        let mut effective = self.newest().map(|version| version.from.clone()).unwrap_or_default();
        for (name, &offset) in from {
            let Some(input) = topic_partition(name) else { continue };
            let known = effective.entry(input).or_insert(0);
            *known = offset.max(*known);
        }
        self.started.push(Arc::new(Version { number, hash, definitions, from: effective }));
        Folded::Started(number)
    }
}

fn topic_partition(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('/')?;
    Some(TopicPartition { topic: topic.into(), partition: partition.parse().ok()? })
}
