//! What is known of keys: pure, fed with the records of the keys topic in their order.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};

use highwater_broker::{Appended, IDEMPOTENCY_HORIZON_MS};
use twox_hash::XxHash3_128;

pub(super) const INTENT: u8 = 1;
const DONE: u8 = 2;
/// Keys remembered; past it the oldest are forgotten early.
const MAX_KEYS: usize = 1 << 20;

pub(super) type Hash = u128;

/// What stands for a key of one partition.
pub(super) fn hash(topic: &str, partition: i32, scope: &str) -> Hash {
    XxHash3_128::oneshot(format!("{topic}\0{partition}\0{scope}").as_bytes())
}

/// Where an append with a key went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) append_time_ms: i64,
}

impl Done {
    pub(super) fn of(appended: &Appended) -> Self {
        Self {
            base_offset: appended.base_offset,
            last_offset: appended.last_offset,
            append_time_ms: appended.append_time_ms,
        }
    }

    pub(super) fn appended(self, duplicate: bool) -> Appended {
        let Self { base_offset, last_offset, append_time_ms } = self;
        Appended { base_offset, last_offset, append_time_ms, duplicate, suppressed: 0 }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![DONE];
        for number in [self.base_offset, self.last_offset, self.append_time_ms] {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&DONE, rest) = bytes.split_first()? else { return None };
        let (numbers, []) = rest.as_chunks::<8>() else { return None };
        let &[base, last, time] = numbers else { return None };
        Some(Self {
            base_offset: i64::from_be_bytes(base),
            last_offset: i64::from_be_bytes(last),
            append_time_ms: i64::from_be_bytes(time),
        })
    }
}

/// A key that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Offset of its first intent in the keys topic, and when that was appended.
    pub(super) offset: i64,
    pub(super) at_ms: i64,
    pub(super) done: Option<Done>,
}

#[derive(Default)]
pub(super) struct Book {
    entries: HashMap<Hash, Entry>,
    /// First intents, oldest first, to forget them by.
    order: VecDeque<(Hash, i64)>,
}

impl Book {
    /// Takes in the next record of the keys topic. What is no record of ours is left alone.
    pub(super) fn read(&mut self, offset: i64, at_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let Some(hash) = key.and_then(|key| key.try_into().ok()).map(u128::from_be_bytes) else { return };
        match value {
            Some([INTENT]) => {
                self.forget_before(at_ms.saturating_sub(IDEMPOTENCY_HORIZON_MS));
                // Of several intents the first one counts.
                if let MapEntry::Vacant(vacant) = self.entries.entry(hash) {
                    vacant.insert(Entry { offset, at_ms, done: None });
                    self.order.push_back((hash, at_ms));
                }
            }
            Some(value) => {
                if let (Some(done), Some(entry)) = (Done::parse(value), self.entries.get_mut(&hash)) {
                    // Said twice, it is said of the same data.
                    entry.done.get_or_insert(done);
                }
            }
            None => {}
        }
    }

    /// The key's entry, unless it is older than 24 h at this time.
    pub(super) fn entry(&self, hash: Hash, now_ms: i64) -> Option<Entry> {
        let horizon_ms = now_ms.saturating_sub(IDEMPOTENCY_HORIZON_MS);
        self.entries.get(&hash).filter(|entry| entry.at_ms > horizon_ms).copied()
    }

    /// Where the key's data is, if that is known.
    pub(super) fn done(&self, hash: Hash, now_ms: i64) -> Option<Done> {
        self.entry(hash, now_ms).and_then(|entry| entry.done)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn forget_before(&mut self, horizon_ms: i64) {
        while let Some((hash, at_ms)) = self.order.front().copied() {
            let too_many = self.entries.len() >= MAX_KEYS;
            if at_ms > horizon_ms && !too_many {
                break;
            }
            if at_ms > horizon_ms {
                metrics::counter!("highwater_kafka_keys_forgotten_early_total").increment(1);
            }
            self.order.pop_front();
            self.entries.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 60 * 60 * 1000;

    fn key(hash: Hash) -> [u8; 16] {
        hash.to_be_bytes()
    }

    #[test]
    fn the_first_intent_counts_and_done_is_remembered() {
        let (mut book, hash) = (Book::default(), hash("logs", 2, "t\0k"));
        book.read(5, 100, Some(&key(hash)), Some(&[INTENT]));
        book.read(6, 101, Some(&key(hash)), Some(&[INTENT]));
        assert_eq!(book.entry(hash, 200), Some(Entry { offset: 5, at_ms: 100, done: None }));
        assert_eq!(book.done(hash, 200), None);
        let done = Done { base_offset: 40, last_offset: 41, append_time_ms: 150 };
        book.read(7, 102, Some(&key(hash)), Some(&done.to_bytes()));
        assert_eq!(book.done(hash, 200), Some(done));
        assert_eq!(done.appended(true).last_offset, 41);
    }

    #[test]
    fn a_key_is_forgotten_after_a_day() {
        let mut book = Book::default();
        let (old, new) = (hash("logs", 0, "old"), hash("logs", 0, "new"));
        book.read(0, 0, Some(&key(old)), Some(&[INTENT]));
        assert!(book.entry(old, 24 * HOUR_MS - 1).is_some());
        assert!(book.entry(old, 24 * HOUR_MS).is_none(), "also before anything else is read");
        book.read(1, 25 * HOUR_MS, Some(&key(new)), Some(&[INTENT]));
        assert_eq!(book.len(), 1);
        // The old key is news now.
        book.read(2, 25 * HOUR_MS, Some(&key(old)), Some(&[INTENT]));
        assert_eq!(book.entry(old, 26 * HOUR_MS).map(|e| e.offset), Some(2));
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let (mut book, hash) = (Book::default(), hash("logs", 2, "t\0k"));
        book.read(0, 1, None, Some(&[INTENT]));
        book.read(1, 1, Some(b"short"), Some(&[INTENT]));
        book.read(2, 1, Some(&key(hash)), None);
        book.read(3, 1, Some(&key(hash)), Some(&[9, 9]));
        assert_eq!(book.len(), 0);
        book.read(4, 1, Some(&key(hash)), Some(&[INTENT]));
        book.read(5, 1, Some(&key(hash)), Some(&[DONE, 1, 2, 3]));
        assert_eq!(book.done(hash, 2), None, "a torn done says nothing");
    }

    #[test]
    fn the_same_scope_in_another_partition_is_another_key() {
        assert_ne!(hash("logs", 1, "k"), hash("logs", 2, "k"));
        assert_ne!(hash("logs", 1, "k"), hash("metrics", 1, "k"));
    }
}
