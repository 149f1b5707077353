//! The labels in use, each name and value kept once, and which series have it.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;

use super::grow::push;
use super::symbols::{Symbol, Symbols};

/// A label: its number.
pub(super) type Pair = u32;

/// Labels, and the series of each.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    names: Symbols,
    entries: Vec<Entry>,
    by_text: HashTable<Pair>,
    free: Vec<Pair>,
    /// Series of labels that more than one has.
    lists: Vec<Vec<u32>>,
    free_lists: Vec<u32>,
    /// What stands where a text was: an allocation for all.
    nothing: Arc<str>,
    hasher: RandomState,
}

/// 24 bytes, for there may be several of them per series.
#[derive(Debug)]
struct Entry {
    value: Arc<str>,
    name: Symbol,
    series: Postings,
}

/// Many labels are of one series only, and that one is here itself; the place of a list has the highest bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Postings(u32);

const IS_LIST: u32 = 1 << 31;

enum Held {
    One(u32),
    List(usize),
}

impl Postings {
    fn held(self) -> Held {
        match self.0 & IS_LIST {
            0 => Held::One(self.0),
            _ => Held::List((self.0 & !IS_LIST) as usize),
        }
    }
}

impl Pairs {
    /// The number of a label, if a series has it.
    pub(super) fn find(&self, name: &str, value: &str) -> Option<Pair> {
        self.find_value(self.names.find(name)?, value)
    }

    fn find_value(&self, name: Symbol, value: &str) -> Option<Pair> {
        let is_it = |pair: &Pair| {
            let entry = &self.entries[*pair as usize];
            entry.name == name && *entry.value == *value
        };
        self.by_text.find(hash(&self.hasher, name, value), is_it).copied()
    }

    /// A series, which is no number with the highest bit, has this label; to be said once.
    pub(super) fn add(&mut self, name: &Arc<str>, value: &Arc<str>, series: u32) -> Pair {
        let known = self.names.find(name).and_then(|name| self.find_value(name, value));
        if let Some(pair) = known {
            self.add_series(pair, series);
            return pair;
        }
        let entry = Entry { value: Arc::clone(value), name: self.names.take(name), series: Postings(series) };
        let pair = match self.free.pop() {
            Some(pair) => {
                self.entries[pair as usize] = entry;
                pair
            }
            None => {
                push(&mut self.entries, entry);
                // More than 2^32 labels do not fit into memory.
                u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        let rehash = |pair: &Pair| {
            let entry = &entries[*pair as usize];
            hash(hasher, entry.name, &entry.value)
        };
        self.by_text.insert_unique(rehash(&pair), pair, rehash);
        pair
    }

    fn add_series(&mut self, pair: Pair, series: u32) {
        match self.entries[pair as usize].series.held() {
            Held::One(other) => {
                let list = vec![other, series];
                let at = match self.free_lists.pop() {
                    Some(at) => {
                        self.lists[at as usize] = list;
                        at
                    }
                    None => {
                        push(&mut self.lists, list);
                        u32::try_from(self.lists.len() - 1).unwrap_or(u32::MAX)
                    }
                };
                self.entries[pair as usize].series = Postings(at | IS_LIST);
            }
            Held::List(at) => push(&mut self.lists[at], series),
        }
    }

    /// Some of the series that have this label are gone.
    pub(super) fn remove(&mut self, pair: Pair, is_gone: impl Fn(u32) -> bool) {
        match self.entries[pair as usize].series.held() {
            Held::One(series) if is_gone(series) => self.forget(pair),
            Held::One(_) => {}
            Held::List(at) => {
                let list = &mut self.lists[at];
                list.retain(|series| !is_gone(*series));
                let left = match **list {
                    [] => None,
                    [last] => Some(last),
                    _ => {
                        if list.capacity() > 2 * list.len() + 8 {
                            list.shrink_to_fit();
                        }
                        return;
                    }
                };
                *list = Vec::new();
                push(&mut self.free_lists, u32::try_from(at).unwrap_or(u32::MAX));
                match left {
                    Some(last) => self.entries[pair as usize].series = Postings(last),
                    None => self.forget(pair),
                }
            }
        }
    }

    fn forget(&mut self, pair: Pair) {
        let entry = &mut self.entries[pair as usize];
        let text_hash = hash(&self.hasher, entry.name, &entry.value);
        if let Ok(found) = self.by_text.find_entry(text_hash, |other| *other == pair) {
            found.remove();
        }
        self.names.give_back(entry.name);
        entry.value = Arc::clone(&self.nothing);
        push(&mut self.free, pair);
    }

    /// The series that have this label.
    pub(super) fn series(&self, pair: Pair) -> &[u32] {
        let entry = &self.entries[pair as usize];
        match entry.series.held() {
            Held::One(_) => std::slice::from_ref(&entry.series.0),
            Held::List(at) => &self.lists[at],
        }
    }

    /// The name of a label.
    pub(super) fn name(&self, pair: Pair) -> &Arc<str> {
        self.names.text(self.entries[pair as usize].name)
    }

    /// The value of a label.
    pub(super) fn value(&self, pair: Pair) -> &Arc<str> {
        &self.entries[pair as usize].value
    }

    /// Memory held, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        // An Arc holds two counts in front of its text.
        let texts: usize = self.entries.iter().map(|entry| entry.value.len() + 2 * size_of::<usize>()).sum();
        let lists: usize = self.lists.iter().map(|list| list.capacity() * size_of::<u32>()).sum();
        let tables = self.entries.capacity() * size_of::<Entry>()
            + self.by_text.capacity() * (size_of::<Pair>() + 1)
            + self.lists.capacity() * size_of::<Vec<u32>>()
            + (self.free.capacity() + self.free_lists.capacity()) * size_of::<u32>();
        self.names.heap_bytes() + texts + lists + tables
    }
}

fn hash(hasher: &RandomState, name: Symbol, value: &str) -> u64 {
    let mut state = hasher.build_hasher();
    name.hash(&mut state);
    value.hash(&mut state);
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn a_label_knows_its_series_until_the_last_is_gone() {
        let mut pairs = Pairs::default();
        let job = pairs.add(&text("job"), &text("a"), 7);
        assert_eq!(pairs.series(job), [7]);
        for series in [3, 9, 5] {
            assert_eq!(pairs.add(&text("job"), &text("a"), series), job);
        }
        assert_eq!(pairs.series(job), [7, 3, 9, 5]);
        let zone = pairs.add(&text("zone"), &text("a"), 0);
        assert_ne!(zone, job);
        assert_eq!((&**pairs.name(zone), &**pairs.value(zone)), ("zone", "a"));
        pairs.remove(job, |series| series == 3);
        assert_eq!(pairs.series(job), [7, 9, 5]);
        pairs.remove(job, |series| series != 7);
        assert_eq!((pairs.series(job), pairs.find("job", "a")), ([7].as_slice(), Some(job)));
        pairs.remove(job, |series| series == 8);
        pairs.remove(job, |series| series == 7);
        assert_eq!((pairs.find("job", "a"), pairs.find("zone", "a")), (None, Some(zone)));
        // Its number is taken again, and so is the list.
        assert_eq!(pairs.add(&text("job"), &text("b"), 1), job);
        assert_eq!(pairs.add(&text("job"), &text("b"), 2), job);
        assert_eq!((pairs.series(job), pairs.lists.len()), ([1, 2].as_slice(), 1));
        pairs.remove(job, |_| true);
        assert_eq!((pairs.find("job", "b"), pairs.free_lists.len()), (None, 1));
    }
}
