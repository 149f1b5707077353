//! Which series have a label of a value.

use std::collections::HashMap;

use super::symbols::Symbol;

/// A label: symbols of name and value.
pub(super) type Pair = (Symbol, Symbol);

/// Series by label, in ascending order.
#[derive(Debug, Default)]
pub(super) struct Index(HashMap<Pair, Postings, ahash::RandomState>);

/// Many labels are of one series only.
#[derive(Debug)]
enum Postings {
    One(u32),
    /// Behind a pointer, as it is the rarer case and the larger one.
    #[expect(clippy::box_collection, reason = "16 bytes for each of the many labels of one series")]
    Many(Box<Vec<u32>>),
}

impl Postings {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(series) => std::slice::from_ref(series),
            Self::Many(all) => all,
        }
    }
}

impl Index {
    /// A series has this label.
    pub(super) fn add(&mut self, pair: Pair, series: u32) {
        match self.0.get_mut(&pair) {
            None => drop(self.0.insert(pair, Postings::One(series))),
            Some(Postings::Many(all)) => {
                if let Err(at) = all.binary_search(&series) {
                    all.insert(at, series);
                }
            }
            Some(one) => {
                let other = one.as_slice()[0];
                if other != series {
                    *one = Postings::Many(Box::new(vec![other.min(series), other.max(series)]));
                }
            }
        }
    }

    /// It is gone.
    pub(super) fn remove(&mut self, pair: Pair, series: u32) {
        let empty = match self.0.get_mut(&pair) {
            None => false,
            Some(Postings::One(_)) => true,
            Some(Postings::Many(all)) => {
                if let Ok(at) = all.binary_search(&series) {
                    all.remove(at);
                }
                all.is_empty()
            }
        };
        if empty {
            self.0.remove(&pair);
        }
    }

    /// The series that have this label.
    pub(super) fn get(&self, pair: Pair) -> &[u32] {
        self.0.get(&pair).map_or(&[], Postings::as_slice)
    }

    /// Memory held, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let listed = |postings: &Postings| match postings {
            Postings::One(_) => 0,
            Postings::Many(all) => size_of::<Vec<u32>>() + all.capacity() * size_of::<u32>(),
        };
        self.0.capacity() * (size_of::<(Pair, Postings)>() + 1) + self.0.values().map(listed).sum::<usize>()
    }
}
