//! Recent samples in memory: compressed, with an index of labels. A pure structure: no clock, no IO; whoever owns it says what comes in
//! and what is old. Rules in PromQL look at one.
//!
//! The newest samples of a series lie there as they are, those before them in chunks that are read from any place on ([`chunk`], [`column`]). They come
//! in time order as a rule; one that does not is put into its place at the cost of writing its chunk anew. Of samples at one time the last to come
//! stays. Labels are kept once, with the series that have them, so that a series that has ended leaves nothing behind. A series that is read has its
//! labels built for its readers until it is not read any more.
//!
//! Invariants: samples of a series are in time order, and no time is in a series twice; a series has at least one sample; the labels kept are exactly
//! those of the series there are.

mod chunk;
mod column;
mod grow;
mod pairs;
mod series;
mod symbols;
mod tail;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;

use crate::error::Error;
use crate::labels::Labels;
use crate::source::{CompiledMatcher, Matcher, Selection, Series, SeriesSource, SourceError};
use chunk::Gathered;
pub use chunk::{NO_MARK, Point};
use grow::push;
use pairs::{Pair, Pairs};
use series::HeadSeries;
pub use series::HistogramPoint;

/// A series of a [`Head`], for as long as [`Head::truncate`] does not say it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(u32);

impl SeriesRef {
    /// That at a place; there need not be one.
    #[must_use]
    pub fn at(place: u32) -> Self {
        Self(place)
    }

    /// Its place: another series may have it once this one is gone. Places are counted from 0.
    #[must_use]
    pub fn place(self) -> u32 {
        self.0
    }
}

/// A series that has got a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Which.
    pub series: SeriesRef,
    /// It is its first.
    pub is_new: bool,
}

impl Point {
    /// A sample with nothing noted beside it.
    #[must_use]
    pub fn new(time_ms: i64, value: f64) -> Self {
        Self { time_ms, value, mark: NO_MARK }
    }
}

/// Recent samples of many series.
#[derive(Debug, Default)]
pub struct Head {
    pairs: Pairs,
    series: Vec<Option<HeadSeries>>,
    by_labels: HashTable<u32>,
    free: Vec<u32>,
    hasher: RandomState,
    samples: usize,
    gathered: Gathered,
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

    /// Places that there are, taken or free.
    #[must_use]
    pub fn places(&self) -> usize {
        self.series.len()
    }

    /// Every series, in the order of their places.
    pub fn all(&self) -> impl Iterator<Item = SeriesRef> + '_ {
        (0_u32..).zip(&self.series).filter_map(|(id, series)| series.as_ref().map(|_| SeriesRef(id)))
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
    pub fn append(&mut self, labels: &Labels, point: Point) -> Appended {
        let appended = self.series_of(labels);
        self.append_to(appended.series, point);
        appended
    }

    /// Adds a native histogram to the series of these labels, which may be new.
    pub fn append_histogram(&mut self, labels: &Labels, point: HistogramPoint) -> Appended {
        let appended = self.series_of(labels);
        self.append_histogram_to(appended.series, point);
        appended
    }

    /// Adds a sample to a series that is there; false where it is gone.
    pub fn append_to(&mut self, series: SeriesRef, point: Point) -> bool {
        let Some(series) = self.series.get_mut(series.0 as usize).and_then(Option::as_mut) else { return false };
        self.samples = self.samples.saturating_add_signed(series.append(point, &mut self.gathered));
        true
    }

    /// Adds a native histogram to a series that is there; false where it is gone.
    pub fn append_histogram_to(&mut self, series: SeriesRef, point: HistogramPoint) -> bool {
        let Some(series) = self.series.get_mut(series.0 as usize).and_then(Option::as_mut) else { return false };
        self.samples = self.samples.saturating_add_signed(series.append_histogram(point, &mut self.gathered));
        true
    }

    /// The series of these labels. Where it is new it has no samples yet, and is to get one at once.
    fn series_of(&mut self, labels: &Labels) -> Appended {
        if let Some(series) = self.find(labels) {
            return Appended { series, is_new: false };
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
        self.series[id as usize] = Some(HeadSeries::new(pairs));
        let hash = self.hash(labels);
        let (series, pairs, hasher) = (&self.series, &self.pairs, &self.hasher);
        let rehash = |id: &u32| hash_pairs(series[*id as usize].as_ref(), pairs, hasher);
        self.by_labels.insert_unique(hash, id, rehash);
        Appended { series: SeriesRef(id), is_new: true }
    }

    /// Samples there are.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.samples
    }

    /// Forgets samples before this time, and series that have none left; gives these. `dropped` hears of every series that has lost some when the
    /// last of them was. Labels that nobody has read since it was last called are no longer built.
    pub fn truncate(&mut self, before_ms: i64, mut dropped: impl FnMut(SeriesRef, i64)) -> Vec<SeriesRef> {
        let mut gone = Vec::new();
        for (id, place) in (0_u32..).zip(&mut self.series) {
            let Some(series) = place else { continue };
            let (count, last_ms) = series.truncate(before_ms);
            self.samples -= count;
            if let Some(last_ms) = last_ms {
                dropped(SeriesRef(id), last_ms);
            }
            if series.is_empty() {
                gone.push(SeriesRef(id));
            } else {
                series.built.age();
            }
        }
        self.remove(&gone);
        gone
    }

    fn remove(&mut self, gone: &[SeriesRef]) {
        let mut pairs: Vec<Pair> = Vec::new();
        for SeriesRef(id) in gone {
            let hash = hash_pairs(self.series_at(*id), &self.pairs, &self.hasher);
            if let Ok(entry) = self.by_labels.find_entry(hash, |other| other == id) {
                entry.remove();
            }
            if let Some(series) = self.series[*id as usize].take() {
                pairs.extend(series.labels);
            }
            push(&mut self.free, *id);
        }
        pairs.sort_unstable();
        pairs.dedup();
        let series = &self.series;
        for pair in pairs {
            self.pairs.remove(pair, |id| series.get(id as usize).is_none_or(Option::is_none));
        }
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

    /// Whether there is a series of this label.
    #[must_use]
    pub fn has_label(&self, name: &str, value: &str) -> bool {
        self.pairs.find(name, value).is_some()
    }

    /// Labels of a series, if it is there.
    #[must_use]
    pub fn labels(&self, series: SeriesRef) -> Option<&Labels> {
        self.series_at(series.0).map(|series| self.labels_of(series))
    }

    fn labels_of<'a>(&'a self, series: &'a HeadSeries) -> &'a Labels {
        let label = |pair| (Arc::clone(self.pairs.name(pair)), Arc::clone(self.pairs.value(pair)));
        series.built.get_or(|| Labels::new(series.labels.iter().copied().map(label).collect()))
    }

    /// The order of two series by their labels, which need not be built for it.
    #[must_use]
    pub fn compare(&self, a: SeriesRef, b: SeriesRef) -> Ordering {
        let pairs = |series: SeriesRef| self.series_at(series.0).map_or(&[][..], |series| &*series.labels);
        let (a, b) = (pairs(a), pairs(b));
        let text = |pair: Pair| (self.pairs.name(pair), self.pairs.value(pair));
        let different = a.iter().zip(b).find(|(a, b)| a != b).map(|(a, b)| text(*a).cmp(&text(*b)));
        different.unwrap_or_else(|| a.len().cmp(&b.len()))
    }

    /// The floats of a series at `start_ms < t <= end_ms`, one after the other.
    pub fn points(&self, series: SeriesRef, start_ms: i64, end_ms: i64) -> impl Iterator<Item = Point> + '_ {
        self.series_at(series.0).into_iter().flat_map(move |series| series.points(start_ms, end_ms))
    }

    /// The native histograms of a series at `start_ms < t <= end_ms`.
    #[must_use]
    pub fn histograms(&self, series: SeriesRef, start_ms: i64, end_ms: i64) -> &[HistogramPoint] {
        self.series_at(series.0).map_or(&[], |series| series.histograms_within(start_ms, end_ms))
    }

    /// The last float of a series that is at most as late as this.
    #[must_use]
    pub fn newest(&self, series: SeriesRef, end_ms: i64) -> Option<Point> {
        self.series_at(series.0)?.newest(end_ms)
    }

    /// The last native histogram of a series that is at most as late as this.
    #[must_use]
    pub fn newest_histogram(&self, series: SeriesRef, end_ms: i64) -> Option<&HistogramPoint> {
        self.series_at(series.0)?.newest_histogram(end_ms)
    }

    /// The time of the first sample of a series that is later than this.
    #[must_use]
    pub fn next_ms(&self, series: SeriesRef, after_ms: i64) -> Option<i64> {
        self.series_at(series.0)?.next_ms(after_ms)
    }

    /// A series with its samples at `start_ms < t <= end_ms`, where there are some.
    #[must_use]
    pub fn read(&self, series: SeriesRef, start_ms: i64, end_ms: i64) -> Option<Series> {
        let stored = self.series_at(series.0)?;
        let mut read = Series::default();
        stored.fill(start_ms, end_ms, &mut read);
        if read.is_empty() {
            return None;
        }
        read.labels = self.labels_of(stored).clone();
        Some(read)
    }

    fn series_at(&self, id: u32) -> Option<&HeadSeries> {
        self.series.get(id as usize)?.as_ref()
    }

    /// Series that satisfy the one matcher that fewest do, of those that name values; `None` where none does.
    fn candidates(&self, matchers: &[CompiledMatcher]) -> Option<Vec<u32>> {
        let of = |matcher: &CompiledMatcher| -> Option<Vec<Pair>> {
            let values = matcher.literals().filter(|values| values.iter().all(|value| !value.is_empty()))?;
            Some(values.into_iter().filter_map(|value| self.pairs.find(matcher.label(), value)).collect())
        };
        let count = |pairs: &Vec<Pair>| pairs.iter().map(|pair| self.pairs.series(*pair).len()).sum::<usize>();
        let fewest = matchers.iter().filter_map(of).min_by_key(count)?;
        let mut ids: Vec<u32> = fewest.into_iter().flat_map(|pair| self.pairs.series(pair)).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
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

impl SeriesSource for Head {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let found = self.matching(&selection.matchers).map_err(|e| SourceError::TooMuch(e.to_string()))?;
        let read = |series: SeriesRef| self.read(series, selection.start_ms, selection.end_ms);
        Ok(found.into_iter().filter_map(read).collect())
    }
}
