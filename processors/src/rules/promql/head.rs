//! The samples that rules look at, in memory, newest first to go in and oldest first to go.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use highwater_promql::{
    CompiledMatcher, Histogram, Label, Labels, Selection, Series, SeriesSource, SourceError, is_stale,
};

use super::postings::Postings;
use super::timing::What;

/// Where a sample's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinate {
    /// Partition of topic `metrics`.
    pub partition: i32,
    /// Offset there.
    pub offset: i64,
}

/// Samples by series. Bounded by whoever fills it, by [`Head::len`].
///
/// A series has a place, its slot, for as long as it has samples; another may have it afterwards.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// By metric name.
    metrics: BTreeMap<Arc<str>, Metric>,
    slots: Vec<Option<Stored>>,
    free: Vec<u32>,
    /// By the id of the series, where somebody has said it.
    by_id: HashMap<i64, u32>,
    /// Names and values of labels, each once.
    texts: HashSet<Arc<str>>,
    samples: usize,
}

#[derive(Debug, Clone, Default)]
struct Metric {
    series: BTreeMap<Labels, u32>,
    postings: Postings,
}

#[derive(Debug, Clone)]
struct Stored {
    labels: Labels,
    id: Option<i64>,
    /// A series is in one partition; `None` for one that rules write.
    partition: Option<i32>,
    points: Vec<Point>,
    histograms: Vec<(i64, Arc<Histogram>)>,
}

/// A float.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) at_ms: i64,
    pub(crate) value: f64,
    /// Where its record is: [`NO_RECORD`] for what rules wrote.
    pub(crate) offset: i64,
}

/// No offset.
pub(super) const NO_RECORD: i64 = -1;

/// A series that has got a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pushed {
    pub(crate) slot: u32,
    /// It is its first.
    pub(crate) is_new: bool,
}

/// One series, as a snapshot keeps it.
pub(crate) struct Kept<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) partition: Option<i32>,
    pub(crate) points: &'a [Point],
}

impl Head {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Adds a float. One at a time that is there already replaces it.
    pub fn push(&mut self, labels: &Labels, timestamp_ms: i64, value: f64, from: Option<Coordinate>) {
        self.put(labels, timestamp_ms, value, from);
    }

    /// The same, and where the series is.
    pub(crate) fn put(&mut self, labels: &Labels, at_ms: i64, value: f64, from: Option<Coordinate>) -> Pushed {
        let pushed = self.slot(labels);
        self.put_at(pushed.slot, at_ms, value, from);
        pushed
    }

    /// Adds a float to the series that is there.
    pub(crate) fn put_at(&mut self, slot: u32, at_ms: i64, value: f64, from: Option<Coordinate>) {
        let Some(stored) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        stored.partition = from.map(|from| from.partition).or(stored.partition);
        let point = Point { at_ms, value, offset: from.map_or(NO_RECORD, |from| from.offset) };
        let points = &mut stored.points;
        if points.last().is_none_or(|last| last.at_ms < at_ms) {
            points.push(point);
            self.samples += 1;
            return;
        }
        match points.binary_search_by_key(&at_ms, |point| point.at_ms) {
            Ok(at) => points[at] = point,
            Err(at) => {
                points.insert(at, point);
                self.samples += 1;
            }
        }
    }

    /// Adds a native histogram.
    pub fn push_histogram(&mut self, labels: &Labels, timestamp_ms: i64, histogram: Arc<Histogram>) {
        let slot = self.slot(labels).slot;
        let Some(stored) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        match stored.histograms.binary_search_by_key(&timestamp_ms, |(at, _)| *at) {
            Ok(at) => stored.histograms[at].1 = histogram,
            Err(at) => {
                stored.histograms.insert(at, (timestamp_ms, histogram));
                self.samples += 1;
            }
        }
    }

    /// Where the series of this id is.
    pub(crate) fn by_id(&self, id: i64) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// Where the record is of the sample of this time, [`NO_RECORD`] for what rules wrote; `None` where there is no sample.
    pub(crate) fn offset_at(&self, slot: u32, at_ms: i64) -> Option<i64> {
        let points = &self.stored(slot)?.points;
        points.binary_search_by_key(&at_ms, |point| point.at_ms).ok().map(|at| points[at].offset)
    }

    /// Says what the id of a series is.
    pub(crate) fn name(&mut self, slot: u32, id: i64) {
        if let Some(stored) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) {
            stored.id = Some(id);
            self.by_id.insert(id, slot);
        }
    }

    /// The series there.
    pub(crate) fn labels(&self, slot: u32) -> Option<&Labels> {
        self.stored(slot).map(|stored| &stored.labels)
    }

    /// Places that there are, taken or free.
    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has a series of this metric.
    pub(crate) fn has_metric(&self, name: &str) -> bool {
        self.metrics.contains_key(name)
    }

    fn stored(&self, slot: u32) -> Option<&Stored> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn slot(&mut self, labels: &Labels) -> Pushed {
        if let Some(slot) = self.metrics.get(labels.name()).and_then(|metric| metric.series.get(labels)) {
            return Pushed { slot: *slot, is_new: false };
        }
        let name = self.text(&labels.name().into());
        let shared: Vec<Label> =
            labels.as_slice().iter().map(|(name, value)| (self.text(name), self.text(value))).collect();
        let labels = Labels::new(shared);
        // More than 2^32 series do not fit into memory.
        let slot = self.free.pop().unwrap_or_else(|| u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let metric = self.metrics.entry(name).or_default();
        metric.postings.insert(&labels, slot);
        metric.series.insert(labels.clone(), slot);
        let stored = Stored { labels, id: None, partition: None, points: Vec::new(), histograms: Vec::new() };
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = Some(stored),
            None => self.slots.push(Some(stored)),
        }
        Pushed { slot, is_new: true }
    }

    /// The one copy of a text.
    fn text(&mut self, text: &Arc<str>) -> Arc<str> {
        match self.texts.get(text) {
            Some(known) => Arc::clone(known),
            None => {
                self.texts.insert(Arc::clone(text));
                Arc::clone(text)
            }
        }
    }

    /// Drops what is at or before this time; the series that have nothing left, by place, and the time of the newest dropped sample that came from
    /// a record.
    pub(crate) fn prune(&mut self, until_ms: i64) -> (Vec<u32>, Option<i64>) {
        let (mut left, mut gone, mut newest_ms) = (0, Vec::new(), None);
        for (slot, stored) in (0_u32..).zip(&mut self.slots) {
            let Some(stored) = stored else { continue };
            let old = stored.points.partition_point(|point| point.at_ms <= until_ms);
            if old > 0 && stored.partition.is_some() {
                newest_ms = newest_ms.max(Some(stored.points[old - 1].at_ms));
            }
            stored.points.drain(..old);
            stored.histograms.retain(|(at, _)| *at > until_ms);
            left += stored.points.len() + stored.histograms.len();
            if stored.points.is_empty() && stored.histograms.is_empty() {
                gone.push(slot);
            }
        }
        self.samples = left;
        self.forget(&gone);
        (gone, newest_ms)
    }

    fn forget(&mut self, gone: &[u32]) {
        let mut by_metric: BTreeMap<Arc<str>, Vec<Labels>> = BTreeMap::new();
        for slot in gone {
            let Some(stored) = self.slots.get_mut(*slot as usize).and_then(Option::take) else { continue };
            if let Some(id) = stored.id {
                self.by_id.remove(&id);
            }
            self.free.push(*slot);
            by_metric.entry(self.text(&stored.labels.name().into())).or_default().push(stored.labels);
        }
        for (name, series) in by_metric {
            let Some(metric) = self.metrics.get_mut(&name) else { continue };
            for labels in &series {
                metric.series.remove(labels);
            }
            let slots = &self.slots;
            metric.postings.remove(&series, |slot| slots.get(slot as usize).is_none_or(Option::is_none));
            if metric.series.is_empty() {
                self.metrics.remove(&name);
            }
        }
        if !gone.is_empty() {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
        }
    }

    /// The time of the newest sample at or before `until_ms` that came from a record: what rules write follows from those.
    pub fn newest_ms(&self, until_ms: i64) -> Option<i64> {
        let newest = |stored: &Stored| {
            stored.partition?;
            let at = stored.points.partition_point(|point| point.at_ms <= until_ms);
            at.checked_sub(1).map(|at| stored.points[at].at_ms)
        };
        self.slots.iter().flatten().filter_map(newest).max()
    }

    /// The time of the oldest sample after `from_ms`.
    pub fn next_ms(&self, from_ms: i64) -> Option<i64> {
        let next = |stored: &Stored| {
            let at = stored.points.partition_point(|point| point.at_ms <= from_ms);
            stored.points.get(at).map(|point| point.at_ms)
        };
        self.slots.iter().flatten().filter_map(next).min()
    }

    /// Where this series is.
    pub(crate) fn by_labels(&self, labels: &Labels) -> Option<u32> {
        self.metrics.get(labels.name())?.series.get(labels).copied()
    }

    /// Where the record of a sample is; `None` where rules wrote it.
    pub fn record_of(&self, labels: &Labels, timestamp_ms: i64) -> Option<Coordinate> {
        let stored = self.stored(*self.metrics.get(labels.name())?.series.get(labels)?)?;
        let at = stored.points.binary_search_by_key(&timestamp_ms, |point| point.at_ms).ok()?;
        let offset = stored.points[at].offset;
        Some(Coordinate { partition: stored.partition?, offset }).filter(|_| offset != NO_RECORD)
    }

    /// Every series, in order.
    pub(crate) fn series(&self) -> impl Iterator<Item = Kept<'_>> {
        let slots = self.metrics.values().flat_map(|metric| metric.series.values());
        slots.filter_map(|slot| self.stored(*slot)).map(|stored| Kept {
            labels: &stored.labels,
            partition: stored.partition,
            points: &stored.points,
        })
    }

    /// Samples of the series at `start_ms < t <= end_ms`, where there are some; only the newest where no more is wanted.
    pub(crate) fn read(&self, slot: u32, start_ms: i64, end_ms: i64, newest: bool) -> Option<Series> {
        read(self.stored(slot)?, start_ms, end_ms, newest)
    }

    /// The next end of the range, of which this is one, at which a value that is made of its samples can be another.
    pub(super) fn next_change_ms(&self, slot: u32, start_ms: i64, end_ms: i64, what: What) -> i64 {
        let Some(stored) = self.stored(slot) else { return i64::MAX };
        if !stored.histograms.is_empty() {
            return end_ms.saturating_add(1);
        }
        let points = &stored.points;
        let to = points.partition_point(|point| point.at_ms <= end_ms);
        let comes_ms = points.get(to).map_or(i64::MAX, |point| point.at_ms);
        let range_ms = end_ms.saturating_sub(start_ms);
        let inside = |from: usize| points.get(from..to).unwrap_or_default();
        let from = match what {
            What::Newest => to.saturating_sub(1),
            What::Samples | What::Slope => points[..to].partition_point(|point| point.at_ms <= start_ms),
            What::Steps => return comes_ms,
        };
        let goes_ms = match inside(from) {
            [] => i64::MAX,
            [first, ..] if first.at_ms <= start_ms => i64::MAX,
            [newest] if what == What::Newest && is_stale(newest.value) => i64::MAX,
            [_, _, ..] if what == What::Slope && !is_level(inside(from)) => end_ms.saturating_add(1),
            [first, ..] => first.at_ms.saturating_add(range_ms),
        };
        comes_ms.min(goes_ms)
    }
}

/// All values are the same number: there is no slope, wherever in the range they lie.
fn is_level(points: &[Point]) -> bool {
    points.first().is_some_and(|first| {
        let bits = first.value.to_bits();
        first.value.is_finite() && points.iter().all(|point| point.value.to_bits() == bits)
    })
}

fn read(stored: &Stored, start_ms: i64, end_ms: i64, newest: bool) -> Option<Series> {
    let to = stored.points.partition_point(|point| point.at_ms <= end_ms);
    let before = &stored.points[..to];
    let from = match before.last() {
        Some(last) if newest && last.at_ms > start_ms => to - 1,
        _ => before.partition_point(|point| point.at_ms <= start_ms),
    };
    let inside = &before[from..];
    let within = |at: i64| at > start_ms && at <= end_ms;
    let histograms: Vec<_> = stored.histograms.iter().filter(|(at, _)| within(*at)).cloned().collect();
    if inside.is_empty() && histograms.is_empty() {
        return None;
    }
    let floats = Series::floats(
        stored.labels.clone(),
        inside.iter().map(|point| point.at_ms).collect(),
        inside.iter().map(|point| point.value).collect(),
    );
    Some(Series { histograms, ..floats })
}

fn compile(selection: &Selection) -> Result<Vec<CompiledMatcher>, SourceError> {
    let compiled = selection.matchers.iter().map(|m| m.compile().map_err(|e| SourceError::TooMuch(e.to_string())));
    compiled.collect()
}

impl SeriesSource for Head {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let matchers = compile(selection)?;
        let take = |slot: &u32| {
            let stored = self.stored(*slot)?;
            let finds = matchers.iter().all(|m| m.matches_labels(&stored.labels));
            if finds { read(stored, selection.start_ms, selection.end_ms, false) } else { None }
        };
        Ok(match selection.metric_name() {
            Some(name) => {
                let Some(metric) = self.metrics.get(name) else { return Ok(Vec::new()) };
                match metric.postings.fewest(&selection.matchers) {
                    Some(few) if few.len() < metric.series.len() => few.iter().filter_map(take).collect(),
                    _ => metric.series.values().filter_map(take).collect(),
                }
            }
            None => self.metrics.values().flat_map(|metric| metric.series.values()).filter_map(take).collect(),
        })
    }
}

/// A head, and samples of this tick that nobody else sees yet.
pub(crate) struct View<'a> {
    pub(crate) head: &'a dyn SeriesSource,
    pub(crate) fresh: &'a Head,
}

impl SeriesSource for View<'_> {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let mut found = self.head.select(selection)?;
        if self.fresh.is_empty() {
            return Ok(found);
        }
        let fresh = self.fresh.select(selection)?;
        if fresh.is_empty() {
            return Ok(found);
        }
        let known: HashMap<Labels, usize> =
            found.iter().enumerate().map(|(at, series)| (series.labels.clone(), at)).collect();
        for fresh in fresh {
            match known.get(&fresh.labels) {
                Some(at) => {
                    let series = &mut found[*at];
                    for (at, value) in fresh.timestamps_ms.into_iter().zip(fresh.values) {
                        match series.timestamps_ms.binary_search(&at) {
                            Ok(index) => series.values[index] = value,
                            Err(index) => {
                                series.timestamps_ms.insert(index, at);
                                series.values.insert(index, value);
                            }
                        }
                    }
                }
                None => found.push(fresh),
            }
        }
        Ok(found)
    }
}
