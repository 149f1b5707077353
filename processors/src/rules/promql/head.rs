//! The samples that rules look at: a [compressed head](highwater_promql::head), in which the offset of its record lies beside each sample, and what else
//! is known of its series: partition and id.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_promql::head::{Head as Samples, HistogramPoint, NO_MARK, Point, SeriesRef};
use highwater_promql::{
    Histogram, Labels, METRIC_NAME, Sample, Selection, Series, SeriesSource, SourceError, is_stale,
};

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
#[derive(Debug, Default)]
pub struct Head {
    samples: Samples,
    /// By slot.
    origins: Vec<Origin>,
    /// By the id of the series, where somebody has said it.
    by_id: HashMap<i64, u32>,
}

/// What is known of a series.
#[derive(Debug, Clone, Copy, Default)]
struct Origin {
    id: Option<i64>,
    /// A series is in one partition; `None` for one that rules write.
    partition: Option<i32>,
}

/// No offset: of what rules write.
pub(super) const NO_RECORD: i64 = NO_MARK;

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
    slot: u32,
    samples: &'a Samples,
}

impl<'a> Kept<'a> {
    /// Its floats; the mark of each is the offset of its record.
    pub(crate) fn points(&self) -> impl Iterator<Item = Point> + 'a {
        self.samples.points(SeriesRef::at(self.slot), i64::MIN, i64::MAX)
    }

    /// Its native histograms, likewise.
    pub(crate) fn histograms(&self) -> &'a [HistogramPoint] {
        self.samples.histograms(SeriesRef::at(self.slot), i64::MIN, i64::MAX)
    }
}

impl Head {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.sample_count()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a float. One at a time that is there already replaces it.
    pub fn push(&mut self, labels: &Labels, timestamp_ms: i64, value: f64, from: Option<Coordinate>) {
        self.put(labels, timestamp_ms, value, from);
    }

    /// The same, and where the series is.
    pub(crate) fn put(&mut self, labels: &Labels, at_ms: i64, value: f64, from: Option<Coordinate>) -> Pushed {
        let appended = self.samples.append(labels, point(at_ms, value, from));
        let pushed = Pushed { slot: appended.series.place(), is_new: appended.is_new };
        self.came_from(pushed.slot, from);
        pushed
    }

    /// Adds a float to the series that is there.
    pub(crate) fn put_at(&mut self, slot: u32, at_ms: i64, value: f64, from: Option<Coordinate>) {
        if self.samples.append_to(SeriesRef::at(slot), point(at_ms, value, from)) {
            self.came_from(slot, from);
        }
    }

    /// Adds a native histogram.
    pub fn push_histogram(&mut self, labels: &Labels, timestamp_ms: i64, histogram: Arc<Histogram>) {
        self.put_sample(labels, timestamp_ms, Sample::Histogram(histogram), None);
    }

    /// Adds either, and says where the series is.
    pub(crate) fn put_sample(
        &mut self,
        labels: &Labels,
        at_ms: i64,
        sample: Sample,
        from: Option<Coordinate>,
    ) -> Pushed {
        let histogram = match sample {
            Sample::Float(value) => return self.put(labels, at_ms, value, from),
            Sample::Histogram(histogram) => histogram,
        };
        let appended = self.samples.append_histogram(labels, histogram_point(at_ms, histogram, from));
        let pushed = Pushed { slot: appended.series.place(), is_new: appended.is_new };
        self.came_from(pushed.slot, from);
        pushed
    }

    /// Adds either to the series that is there.
    pub(crate) fn put_sample_at(&mut self, slot: u32, at_ms: i64, sample: Sample, from: Option<Coordinate>) {
        let histogram = match sample {
            Sample::Float(value) => return self.put_at(slot, at_ms, value, from),
            Sample::Histogram(histogram) => histogram,
        };
        if self.samples.append_histogram_to(SeriesRef::at(slot), histogram_point(at_ms, histogram, from)) {
            self.came_from(slot, from);
        }
    }

    fn came_from(&mut self, slot: u32, from: Option<Coordinate>) {
        let at = slot as usize;
        if self.origins.len() <= at {
            self.origins.resize(at + 1, Origin::default());
        }
        if let Some(from) = from {
            self.origins[at].partition = Some(from.partition);
        }
    }

    /// Where the series of this id is.
    pub(crate) fn by_id(&self, id: i64) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// Where the record is of the sample of this time, [`NO_RECORD`] for what rules wrote; `None` where there is no sample.
    pub(crate) fn offset_at(&self, slot: u32, at_ms: i64) -> Option<i64> {
        let series = SeriesRef::at(slot);
        let float = self.samples.newest(series, at_ms).map(|point| (point.time_ms, point.mark));
        let histogram = self.samples.newest_histogram(series, at_ms).map(|point| (point.time_ms, point.mark));
        float.into_iter().chain(histogram).find(|(time_ms, _)| *time_ms == at_ms).map(|(_, mark)| mark)
    }

    /// Says what the id of a series is.
    pub(crate) fn name(&mut self, slot: u32, id: i64) {
        if let Some(origin) = self.origins.get_mut(slot as usize) {
            origin.id = Some(id);
            self.by_id.insert(id, slot);
        }
    }

    /// The labels of the series there.
    pub(crate) fn labels(&self, slot: u32) -> Option<&Labels> {
        self.samples.labels(SeriesRef::at(slot))
    }

    /// Puts places into the order of the labels of their series.
    pub(crate) fn sort(&self, slots: &mut [u32]) {
        slots.sort_by(|a, b| self.samples.compare(SeriesRef::at(*a), SeriesRef::at(*b)));
    }

    /// Places that there are, taken or free.
    pub(crate) fn places(&self) -> usize {
        self.samples.places()
    }

    /// Whether it has a series of this metric.
    pub(crate) fn has_metric(&self, name: &str) -> bool {
        self.samples.has_label(METRIC_NAME, name)
    }

    fn origin(&self, slot: u32) -> Origin {
        self.origins.get(slot as usize).copied().unwrap_or_default()
    }

    /// Drops what is at or before this time; the series that have nothing left, by place, and the time of the newest dropped sample that came from
    /// a record.
    pub(crate) fn prune(&mut self, until_ms: i64) -> (Vec<u32>, Option<i64>) {
        let mut newest_ms = None;
        let origins = &self.origins;
        let gone = self.samples.truncate(until_ms.saturating_add(1), |series, last_ms| {
            if origins.get(series.place() as usize).is_some_and(|origin| origin.partition.is_some()) {
                newest_ms = newest_ms.max(Some(last_ms));
            }
        });
        let gone: Vec<u32> = gone.into_iter().map(SeriesRef::place).collect();
        for slot in &gone {
            let origin = self.origins.get_mut(*slot as usize).map(std::mem::take);
            if let Some(id) = origin.and_then(|origin| origin.id) {
                self.by_id.remove(&id);
            }
        }
        (gone, newest_ms)
    }

    /// The time of the newest sample at or before `until_ms` that came from a record: what rules write follows from those.
    pub fn newest_ms(&self, until_ms: i64) -> Option<i64> {
        let from_records = self.samples.all().filter(|series| self.origin(series.place()).partition.is_some());
        let newest_ms = |series: SeriesRef| {
            let float_ms = self.samples.newest(series, until_ms).map(|point| point.time_ms);
            float_ms.max(self.samples.newest_histogram(series, until_ms).map(|point| point.time_ms))
        };
        from_records.filter_map(newest_ms).max()
    }

    /// The time of the oldest sample after `from_ms`.
    pub fn next_ms(&self, from_ms: i64) -> Option<i64> {
        self.samples.all().filter_map(|series| self.samples.next_ms(series, from_ms)).min()
    }

    /// Where this series is.
    pub(crate) fn by_labels(&self, labels: &Labels) -> Option<u32> {
        self.samples.find(labels).map(SeriesRef::place)
    }

    /// Where the record of a sample is; `None` where rules wrote it.
    pub fn record_of(&self, labels: &Labels, timestamp_ms: i64) -> Option<Coordinate> {
        let slot = self.by_labels(labels)?;
        let partition = self.origin(slot).partition?;
        let offset = self.offset_at(slot, timestamp_ms).filter(|offset| *offset != NO_RECORD)?;
        Some(Coordinate { partition, offset })
    }

    /// Every series, in the order of their labels.
    pub(crate) fn series(&self) -> impl Iterator<Item = Kept<'_>> {
        let mut slots: Vec<u32> = self.samples.all().map(SeriesRef::place).collect();
        self.sort(&mut slots);
        slots.into_iter().filter_map(|slot| {
            let labels = self.labels(slot)?;
            Some(Kept { labels, partition: self.origin(slot).partition, slot, samples: &self.samples })
        })
    }

    /// Samples of the series at `start_ms < t <= end_ms`, where there are some; only the newest where no more is wanted.
    pub(crate) fn read(&self, slot: u32, start_ms: i64, end_ms: i64, newest: bool) -> Option<Series> {
        let series = SeriesRef::at(slot);
        let mut from_ms = start_ms;
        if newest && let Some(newest) = self.samples.newest(series, end_ms) {
            from_ms = start_ms.max(newest.time_ms.saturating_sub(1));
        }
        self.samples.read(series, from_ms, end_ms)
    }

    /// The next end of the range, of which this is one, at which a value that is made of its samples can be another.
    pub(super) fn next_change_ms(&self, slot: u32, start_ms: i64, end_ms: i64, what: What) -> i64 {
        let series = SeriesRef::at(slot);
        let samples = &self.samples;
        let comes_ms = samples.next_ms(series, end_ms).unwrap_or(i64::MAX);
        let range_ms = end_ms.saturating_sub(start_ms);
        if !samples.histograms(series, start_ms, end_ms).is_empty() {
            return end_ms.saturating_add(1);
        }
        let goes_ms = match what {
            What::Steps => i64::MAX,
            What::Newest => match samples.newest(series, end_ms) {
                Some(newest) if newest.time_ms > start_ms && !is_stale(newest.value) => {
                    newest.time_ms.saturating_add(range_ms)
                }
                _ => i64::MAX,
            },
            What::Samples => match samples.next_ms(series, start_ms) {
                Some(first_ms) if first_ms <= end_ms => first_ms.saturating_add(range_ms),
                _ => i64::MAX,
            },
            What::Slope => {
                let mut points = samples.points(series, start_ms, end_ms);
                match points.next() {
                    None => i64::MAX,
                    Some(first) if is_level(first, points) => first.time_ms.saturating_add(range_ms),
                    Some(_) => end_ms.saturating_add(1),
                }
            }
        };
        comes_ms.min(goes_ms)
    }
}

fn point(time_ms: i64, value: f64, from: Option<Coordinate>) -> Point {
    Point { time_ms, value, mark: from.map_or(NO_RECORD, |from| from.offset) }
}

fn histogram_point(time_ms: i64, histogram: Arc<Histogram>, from: Option<Coordinate>) -> HistogramPoint {
    HistogramPoint { time_ms, histogram, mark: from.map_or(NO_RECORD, |from| from.offset) }
}

/// There is one value only, or all are the same number: there is no slope, wherever in the range they lie.
fn is_level(first: Point, mut others: impl Iterator<Item = Point>) -> bool {
    others.all(|other| first.value.is_finite() && other.value.to_bits() == first.value.to_bits())
}

impl SeriesSource for Head {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        self.samples.select(selection)
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
