//! Recent samples in memory: compressed, with an index of labels. A pure structure: no clock, no IO; whoever owns it says what comes in
//! and what is old.
//!
//! Samples of a series lie in chunks of 120, the last of which is open. They come in time order as a rule; one that does not is
//! put into its place at the cost of writing its chunk anew. Of samples at one time the last to come stays. Labels
//! are kept once, with the series that have them, so that a series that has ended leaves nothing behind.
//!
//! Invariants: chunks of a series are in time order and do not overlap; no time is in a series twice; a series has at least one
//! sample; the labels kept are exactly those of the series there are.

mod bits;
mod chunk;
mod grow;
mod pairs;
mod symbols;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;

use crate::error::Error;
use crate::labels::Labels;
use crate::source::{CompiledMatcher, Matcher, Selection, Series, SeriesSource, SourceError};
use chunk::{Chunk, OpenChunk};
use grow::push;
use pairs::{Pair, Pairs};

/// A series of a [`Head`], for as long as [`Head::truncate`] does not say it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(u32);

/// Recent samples of many series.
#[derive(Debug, Default)]
pub struct Head {
    pairs: Pairs,
    series: Vec<Option<HeadSeries>>,
    by_labels: HashTable<u32>,
    free: Vec<u32>,
    hasher: RandomState,
    samples: usize,
}

#[derive(Debug)]
struct HeadSeries {
    /// In the order of their names.
    labels: Box<[Pair]>,
    closed: Vec<Chunk>,
    open: Option<Box<OpenChunk>>,
}

impl Head {
    /// An empty head.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Series there are.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.series.len() - self.free.len()
    }

    /// Memory in use, bytes: samples, labels, index. An estimate from the sizes of what is held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let series: usize = self.series.iter().flatten().map(HeadSeries::heap_bytes).sum();
        let tables = self.series.capacity() * size_of::<Option<HeadSeries>>()
            + self.by_labels.capacity() * (size_of::<u32>() + 1);
        series + tables + self.pairs.heap_bytes() + self.free.capacity() * size_of::<u32>()
    }

    /// The series of these labels, if it has samples.
    #[must_use]
    pub fn find(&self, labels: &Labels) -> Option<SeriesRef> {
        let has_labels = |id: &u32| self.series_at(*id).is_some_and(|series| self.same_labels(series, labels));
        self.by_labels.find(self.hash(labels), has_labels).map(|id| SeriesRef(*id))
    }

    /// Adds a sample to the series of these labels, which may be new.
    pub fn append(&mut self, labels: &Labels, time_ms: i64, value: f64) -> SeriesRef {
        if let Some(found) = self.find(labels) {
            self.append_to(found, time_ms, value);
            return found;
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                push(&mut self.series, None);
                // More than 2^31 series do not fit into memory.
                u32::try_from(self.series.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let pairs = labels.as_slice().iter().map(|(name, value)| self.pairs.add(name, value, id)).collect();
        let series =
            HeadSeries { labels: pairs, closed: Vec::new(), open: Some(Box::new(OpenChunk::new(time_ms, value))) };
        self.series[id as usize] = Some(series);
        self.samples += 1;
        let hash = self.hash(labels);
        let (series, pairs, hasher) = (&self.series, &self.pairs, &self.hasher);
        let rehash = |id: &u32| hash_pairs(series[*id as usize].as_ref(), pairs, hasher);
        self.by_labels.insert_unique(hash, id, rehash);
        SeriesRef(id)
    }

    /// Adds a sample to a series that is there; false where it is gone.
    pub fn append_to(&mut self, series: SeriesRef, time_ms: i64, value: f64) -> bool {
        let Some(series) = self.series.get_mut(series.0 as usize).and_then(Option::as_mut) else { return false };
        self.samples += usize::from(series.append(time_ms, value));
        true
    }

    /// Samples there are.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.samples
    }

    /// Forgets chunks that end before this time, and series that have none left; gives these. Samples of a chunk go together, so some
    /// before this time stay.
    pub fn truncate(&mut self, before_ms: i64) -> Vec<SeriesRef> {
        let mut gone = Vec::new();
        for id in 0..self.series.len() {
            let Some(series) = self.series[id].as_mut() else { continue };
            self.samples -= series.truncate(before_ms);
            if !series.closed.is_empty() || series.open.is_some() {
                continue;
            }
            let id = u32::try_from(id).unwrap_or(u32::MAX);
            let hash = hash_pairs(Some(series), &self.pairs, &self.hasher);
            if let Ok(entry) = self.by_labels.find_entry(hash, |other| *other == id) {
                entry.remove();
            }
            let labels = std::mem::take(&mut series.labels);
            self.series[id as usize] = None;
            push(&mut self.free, id);
            gone.push(SeriesRef(id));
            for pair in labels {
                self.pairs.remove(pair, id);
            }
        }
        gone
    }

    /// The series that satisfy all matchers.
    ///
    /// # Errors
    /// `bad_data` where a regular expression does not compile.
    pub fn matching(&self, matchers: &[Matcher]) -> Result<Vec<SeriesRef>, Error> {
        let matchers = matchers.iter().map(Matcher::compile).collect::<Result<Vec<_>, _>>()?;
        let matches = |id: u32| self.series_at(id).is_some_and(|series| self.satisfies(series, &matchers));
        let ids: Box<dyn Iterator<Item = u32>> = match self.candidates(&matchers) {
            Some(ids) => Box::new(ids.into_iter()),
            None => Box::new((0..self.series.len()).filter_map(|id| u32::try_from(id).ok())),
        };
        Ok(ids.filter(|id| matches(*id)).map(SeriesRef).collect())
    }

    /// Labels of a series, if it is there.
    #[must_use]
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        let label = |pair| (Arc::clone(self.pairs.name(pair)), Arc::clone(self.pairs.value(pair)));
        let series = self.series_at(series.0)?;
        Some(Labels::new(series.labels.iter().copied().map(label).collect()))
    }

    /// The samples of a series at `start_ms < t <= end_ms`.
    #[must_use]
    pub fn samples(&self, series: SeriesRef, start_ms: i64, end_ms: i64) -> (Vec<i64>, Vec<f64>) {
        let mut samples = (Vec::new(), Vec::new());
        if let Some(series) = self.series_at(series.0) {
            series.read(start_ms, end_ms, &mut samples);
        }
        samples
    }

    fn series_at(&self, id: u32) -> Option<&HeadSeries> {
        self.series.get(id as usize)?.as_ref()
    }

    /// Series that satisfy the one matcher that fewest do, of those that name values; `None` where none does.
    fn candidates(&self, matchers: &[CompiledMatcher]) -> Option<Vec<u32>> {
        let of = |matcher: &CompiledMatcher| -> Option<Vec<u32>> {
            let values = matcher.literals().filter(|values| values.iter().all(|value| !value.is_empty()))?;
            let pairs = values.into_iter().filter_map(|value| self.pairs.find(matcher.label(), value));
            let mut ids: Vec<u32> = pairs.flat_map(|pair| self.pairs.series(pair)).copied().collect();
            ids.sort_unstable();
            ids.dedup();
            Some(ids)
        };
        matchers.iter().filter_map(of).min_by_key(Vec::len)
    }

    fn satisfies(&self, series: &HeadSeries, matchers: &[CompiledMatcher]) -> bool {
        matchers.iter().all(|matcher| {
            let is_label = |pair: &&Pair| **self.pairs.name(**pair) == *matcher.label();
            let value = series.labels.iter().find(is_label).map_or("", |pair| self.pairs.value(*pair));
            matcher.matches(value)
        })
    }

    fn same_labels(&self, series: &HeadSeries, labels: &Labels) -> bool {
        let texts = series.labels.iter().map(|pair| (&**self.pairs.name(*pair), &**self.pairs.value(*pair)));
        series.labels.len() == labels.len() && texts.eq(labels.iter())
    }

    fn hash(&self, labels: &Labels) -> u64 {
        hash_texts(labels.iter(), &self.hasher)
    }
}

fn hash_pairs(series: Option<&HeadSeries>, pairs: &Pairs, hasher: &RandomState) -> u64 {
    let labels = series.into_iter().flat_map(|series| series.labels.iter());
    hash_texts(labels.map(|pair| (&**pairs.name(*pair), &**pairs.value(*pair))), hasher)
}

fn hash_texts<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, hasher: &RandomState) -> u64 {
    let mut state = hasher.build_hasher();
    for label in labels {
        label.hash(&mut state);
    }
    state.finish()
}

impl HeadSeries {
    /// Whether there is a sample more now.
    fn append(&mut self, time_ms: i64, value: f64) -> bool {
        match &mut self.open {
            Some(open) if time_ms > open.last_ms() => {
                if open.is_full() {
                    let full = std::mem::replace(&mut **open, OpenChunk::new(time_ms, value));
                    push(&mut self.closed, full.close());
                } else {
                    open.push(time_ms, value);
                }
                true
            }
            None if self.closed.last().is_none_or(|last| last.last_ms() < time_ms) => {
                self.open = Some(Box::new(OpenChunk::new(time_ms, value)));
                true
            }
            _ => self.insert(time_ms, value),
        }
    }

    /// Puts a sample among earlier ones: writes the chunk that it belongs to anew.
    fn insert(&mut self, time_ms: i64, value: f64) -> bool {
        let at = self.closed.partition_point(|chunk| chunk.last_ms() < time_ms);
        let in_open = self.open.as_ref().is_some_and(|open| at == self.closed.len() || open.first_ms() <= time_ms);
        let mut samples: Vec<(i64, f64)> = match (&self.open, in_open) {
            (Some(open), true) => open.samples().collect(),
            _ => self.closed.get(at).map_or_else(Vec::new, |chunk| chunk.samples().collect()),
        };
        let more = match samples.binary_search_by_key(&time_ms, |sample| sample.0) {
            Ok(place) => {
                samples[place].1 = value;
                false
            }
            Err(place) => {
                samples.insert(place, (time_ms, value));
                true
            }
        };
        let mut written: Vec<OpenChunk> = Vec::new();
        for (time_ms, value) in samples {
            match written.last_mut() {
                Some(last) if !last.is_full() => last.push(time_ms, value),
                _ => written.push(OpenChunk::new(time_ms, value)),
            }
        }
        if in_open {
            self.open = written.pop().map(Box::new);
            self.closed.extend(written.into_iter().map(OpenChunk::close));
        } else {
            self.closed.splice(at..=at, written.into_iter().map(OpenChunk::close));
        }
        more
    }

    /// How many samples went.
    fn truncate(&mut self, before_ms: i64) -> usize {
        let old = self.closed.partition_point(|chunk| chunk.last_ms() < before_ms);
        let mut gone: usize = self.closed.drain(..old).map(|chunk| chunk.samples().count()).sum();
        if let Some(open) = self.open.take_if(|open| open.last_ms() < before_ms) {
            gone += open.samples().count();
        }
        if self.closed.capacity() > 2 * self.closed.len() + 4 {
            self.closed.shrink_to_fit();
        }
        gone
    }

    fn read(&self, start_ms: i64, end_ms: i64, into: &mut (Vec<i64>, Vec<f64>)) {
        let from = self.closed.partition_point(|chunk| chunk.last_ms() <= start_ms);
        let closed = self.closed[from..].iter().take_while(|chunk| chunk.first_ms() <= end_ms).map(Chunk::samples);
        let open = self.open.iter().map(|open| open.samples());
        for (time_ms, value) in closed.chain(open).flatten() {
            if start_ms < time_ms && time_ms <= end_ms {
                into.0.push(time_ms);
                into.1.push(value);
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        let chunks =
            self.closed.capacity() * size_of::<Chunk>() + self.closed.iter().map(Chunk::heap_bytes).sum::<usize>();
        let open = self.open.as_ref().map_or(0, |open| size_of::<OpenChunk>() + open.heap_bytes());
        self.labels.len() * size_of::<Pair>() + chunks + open
    }
}

impl SeriesSource for Head {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let found = self.matching(&selection.matchers).map_err(|e| SourceError::TooMuch(e.to_string()))?;
        let read = |series: SeriesRef| {
            let (times_ms, values) = self.samples(series, selection.start_ms, selection.end_ms);
            let labels = self.labels(series).filter(|_| !times_ms.is_empty())?;
            Some(Series::floats(labels, times_ms, values))
        };
        Ok(found.into_iter().filter_map(read).collect())
    }
}
