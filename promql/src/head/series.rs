//! The samples of one series: chunks, behind them the newest as they are, and native histograms beside them.
//!
//! Once the newest are too many they become a chunk, and chunks that are no longer than what follows them become one with it, up to
//! [`chunk::FULL`] samples: so there are few, and a sample is written about as often as a chunk doubles.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::chunk::{self, Chunk, Gathered, Point};
use super::grow::push;
use super::pairs::Pair;
use super::tail::{self, Tail};
use crate::histogram::Histogram;
use crate::labels::Labels;
use crate::source::Series;

/// A native histogram, and what its owner has noted beside it.
#[derive(Debug, Clone)]
pub struct HistogramPoint {
    /// Unix milliseconds.
    pub time_ms: i64,
    /// The histogram.
    pub histogram: Arc<Histogram>,
    /// As that of a [`Point`].
    pub mark: i64,
}

#[derive(Debug, Default)]
pub(super) struct HeadSeries {
    /// In the order of their names.
    pub(super) labels: Box<[Pair]>,
    pub(super) built: Built,
    closed: Vec<Chunk>,
    tail: Tail,
    /// In time order, at other times than those of the floats.
    #[expect(clippy::box_collection, reason = "eight bytes of each series instead of 24, for most have none")]
    histograms: Option<Box<Vec<HistogramPoint>>>,
}

/// The labels as those want them who read the series, for as long as it is read: they take ten times the memory.
#[derive(Debug, Default)]
pub(super) struct Built {
    labels: OnceLock<Labels>,
    is_read: AtomicBool,
}

impl Built {
    pub(super) fn get_or(&self, build: impl FnOnce() -> Labels) -> &Labels {
        if !self.is_read.load(Ordering::Relaxed) {
            self.is_read.store(true, Ordering::Relaxed);
        }
        self.labels.get_or_init(build)
    }

    /// Drops them where nobody has read them since this was last called.
    pub(super) fn age(&mut self) {
        if !std::mem::take(self.is_read.get_mut()) {
            self.labels.take();
        }
    }

    fn heap_bytes(&self) -> usize {
        // An Arc holds two counts in front of its labels.
        self.labels.get().map_or(0, |labels| size_of_val(labels.as_slice()) + 2 * size_of::<usize>())
    }
}

impl HeadSeries {
    pub(super) fn new(labels: Box<[Pair]>) -> Self {
        Self { labels, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.tail.is_empty() && self.histograms().is_empty()
    }

    pub(super) fn histograms(&self) -> &[HistogramPoint] {
        self.histograms.as_ref().map_or(&[], |histograms| histograms)
    }

    /// Adds a float; of samples at one time the last to come stays. How many samples there are more than before.
    pub(super) fn append(&mut self, point: Point, gathered: &mut Gathered) -> isize {
        let instead = isize::from(self.remove_histogram(point.time_ms));
        isize::from(self.put(point, gathered)) - instead
    }

    /// The same for a native histogram.
    pub(super) fn append_histogram(&mut self, point: HistogramPoint, gathered: &mut Gathered) -> isize {
        let instead = isize::from(self.remove_float(point.time_ms, gathered));
        let histograms = self.histograms.get_or_insert_default();
        match histograms.binary_search_by_key(&point.time_ms, |known| known.time_ms) {
            Ok(at) => {
                histograms[at] = point;
                -instead
            }
            Err(at) => {
                histograms.insert(at, point);
                1 - instead
            }
        }
    }

    /// Whether there is a float more now.
    fn put(&mut self, point: Point, gathered: &mut Gathered) -> bool {
        let behind_closed = self.closed.last().is_none_or(|last| last.last_ms() < point.time_ms);
        if !behind_closed {
            return self.put_into_chunk(point, gathered);
        }
        let at = self.tail.at_most(point.time_ms);
        if at > 0 && self.tail.time_ms(at - 1) == point.time_ms {
            if !self.tail.replace(at - 1, point) {
                self.close(self.tail.len(), gathered);
                return self.put(point, gathered);
            }
            return false;
        }
        if !self.tail.insert(at, point) {
            // All but the newest, unless it is the distance.
            let full = self.tail.len() >= tail::FULL;
            self.close(self.tail.len() - usize::from(full), gathered);
            return self.put(point, gathered);
        }
        true
    }

    fn put_into_chunk(&mut self, point: Point, gathered: &mut Gathered) -> bool {
        let at = self.closed.partition_point(|chunk| chunk.last_ms() < point.time_ms);
        gathered.clear();
        gathered.take(&self.closed[at]);
        let is_more = gathered.insert(point);
        let count = gathered.len();
        let half = if count > chunk::FULL { count / 2 } else { count };
        self.closed[at] = gathered.chunk(0..half);
        if half < count {
            self.closed.insert(at + 1, gathered.chunk(half..count));
        }
        is_more
    }

    /// Makes a chunk of the first so many of the newest samples, with those before it that are no longer.
    fn close(&mut self, count: usize, gathered: &mut Gathered) {
        let (mut first, mut all) = (self.closed.len(), count);
        while let Some(before) = first.checked_sub(1).map(|before| self.closed[before].len())
            && before <= all
            && before + all <= chunk::FULL
        {
            first -= 1;
            all += before;
        }
        gathered.clear();
        self.closed.drain(first..).for_each(|chunk| gathered.take(&chunk));
        self.tail.points(0..count).for_each(|point| gathered.push(point));
        self.tail.drop_first(count);
        if all > 0 {
            push(&mut self.closed, gathered.chunk(0..all));
        }
    }

    fn remove_histogram(&mut self, time_ms: i64) -> bool {
        let Some(histograms) = &mut self.histograms else { return false };
        let found = histograms.binary_search_by_key(&time_ms, |known| known.time_ms);
        if let Ok(at) = found {
            histograms.remove(at);
        }
        found.is_ok()
    }

    fn remove_float(&mut self, time_ms: i64, gathered: &mut Gathered) -> bool {
        let at = self.closed.partition_point(|chunk| chunk.last_ms() < time_ms);
        if let Some(chunk) = self.closed.get(at) {
            gathered.clear();
            gathered.take(chunk);
            let is_there = gathered.remove(time_ms);
            match gathered.len() {
                0 => drop(self.closed.remove(at)),
                left if is_there => self.closed[at] = gathered.chunk(0..left),
                _ => {}
            }
            return is_there;
        }
        let at = self.tail.at_most(time_ms);
        let is_there = at > 0 && self.tail.time_ms(at - 1) == time_ms;
        if is_there {
            self.tail.remove(at - 1);
        }
        is_there
    }

    /// Forgets what is before this time: how many samples, and when the last of them was.
    pub(super) fn truncate(&mut self, before_ms: i64) -> (usize, Option<i64>) {
        let (mut gone, mut last_ms) = (0, None);
        let old = self.closed.partition_point(|chunk| chunk.last_ms() < before_ms);
        for chunk in self.closed.drain(..old) {
            gone += chunk.len();
            last_ms = Some(chunk.last_ms());
        }
        match self.closed.first_mut() {
            Some(first) => {
                if let Some((count, newest_ms)) = first.forget(before_ms) {
                    gone += count;
                    last_ms = Some(newest_ms);
                }
            }
            None => {
                let old = self.tail.at_most(before_ms.saturating_sub(1));
                if old > 0 {
                    last_ms = Some(self.tail.time_ms(old - 1));
                    self.tail.drop_first(old);
                    gone += old;
                }
            }
        }
        if self.closed.capacity() > 2 * self.closed.len() + 4 {
            self.closed.shrink_to_fit();
        }
        if let Some(histograms) = &mut self.histograms {
            let old = histograms.partition_point(|point| point.time_ms < before_ms);
            last_ms = histograms.drain(..old).map(|point| point.time_ms).chain(last_ms).max();
            gone += old;
            if histograms.is_empty() {
                self.histograms = None;
            }
        }
        (gone, last_ms)
    }

    /// Appends the floats at `start_ms < t <= end_ms`.
    pub(super) fn read(&self, start_ms: i64, end_ms: i64, times_ms: &mut Vec<i64>, values: &mut Vec<f64>) {
        let from = self.closed.partition_point(|chunk| chunk.last_ms() <= start_ms);
        for chunk in &self.closed[from..] {
            let opened = chunk.open();
            let from = opened.at_most(start_ms);
            let is_last = chunk.last_ms() > end_ms;
            let to = if is_last { opened.at_most(end_ms) } else { opened.count };
            if from < to {
                times_ms.reserve(to - from + tail::FULL);
                values.reserve(to - from + tail::FULL);
                opened.read(from..to, times_ms, values);
            }
            if is_last {
                return;
            }
        }
        for point in self.tail.points(self.tail_places(start_ms, end_ms)) {
            times_ms.push(point.time_ms);
            values.push(point.value);
        }
    }

    fn tail_places(&self, start_ms: i64, end_ms: i64) -> std::ops::Range<usize> {
        let to = self.tail.at_most(end_ms);
        self.tail.at_most(start_ms).min(to)..to
    }

    /// The floats at `start_ms < t <= end_ms`, one after the other.
    pub(super) fn points(&self, start_ms: i64, end_ms: i64) -> impl Iterator<Item = Point> + '_ {
        let from = self.closed.partition_point(|chunk| chunk.last_ms() <= start_ms);
        let closed = self.closed[from..].iter().flat_map(move |chunk| {
            let opened = chunk.open();
            opened.points(opened.at_most(start_ms)..opened.count)
        });
        closed
            .chain(self.tail.points(self.tail_places(start_ms, end_ms)))
            .take_while(move |point| point.time_ms <= end_ms)
    }

    /// The last float that is at most as late as this.
    pub(super) fn newest(&self, end_ms: i64) -> Option<Point> {
        let in_tail = self.tail.at_most(end_ms);
        if in_tail > 0 {
            return Some(self.tail.get(in_tail - 1));
        }
        let whole = self.closed.partition_point(|chunk| chunk.last_ms() <= end_ms);
        let within = self.closed.get(whole).and_then(|chunk| {
            let opened = chunk.open();
            let to = opened.at_most(end_ms);
            opened.points(opened.from..to).next_back()
        });
        within.or_else(|| {
            let opened = self.closed.get(whole.checked_sub(1)?)?.open();
            opened.points(opened.from..opened.count).next_back()
        })
    }

    /// The time of the first float later than this.
    fn next_float_ms(&self, after_ms: i64) -> Option<i64> {
        let passed = self.closed.partition_point(|chunk| chunk.last_ms() <= after_ms);
        if let Some(chunk) = self.closed.get(passed) {
            let opened = chunk.open();
            return Some(opened.time_ms(opened.at_most(after_ms)));
        }
        let at = self.tail.at_most(after_ms);
        (at < self.tail.len()).then(|| self.tail.time_ms(at))
    }

    /// The time of the first sample later than this.
    pub(super) fn next_ms(&self, after_ms: i64) -> Option<i64> {
        let histograms = self.histograms();
        let histogram = histograms.get(histograms.partition_point(|point| point.time_ms <= after_ms));
        let histogram_ms = histogram.map(|point| point.time_ms);
        self.next_float_ms(after_ms).into_iter().chain(histogram_ms).min()
    }

    /// The last native histogram that is at most as late as this.
    pub(super) fn newest_histogram(&self, end_ms: i64) -> Option<&HistogramPoint> {
        let histograms = self.histograms();
        histograms[..histograms.partition_point(|point| point.time_ms <= end_ms)].last()
    }

    pub(super) fn histograms_within(&self, start_ms: i64, end_ms: i64) -> &[HistogramPoint] {
        let all = self.histograms();
        let to = all.partition_point(|point| point.time_ms <= end_ms);
        let from = all.partition_point(|point| point.time_ms <= start_ms).min(to);
        &all[from..to]
    }

    /// Fills in the samples at `start_ms < t <= end_ms`.
    pub(super) fn fill(&self, start_ms: i64, end_ms: i64, series: &mut Series) {
        self.read(start_ms, end_ms, &mut series.timestamps_ms, &mut series.values);
        let within = self.histograms_within(start_ms, end_ms);
        series.histograms.extend(within.iter().map(|point| (point.time_ms, Arc::clone(&point.histogram))));
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let chunks =
            self.closed.capacity() * size_of::<Chunk>() + self.closed.iter().map(Chunk::heap_bytes).sum::<usize>();
        let histogram = |point: &HistogramPoint| size_of::<HistogramPoint>() + point.histogram.size_in_samples() * 16;
        let histograms: usize = self.histograms().iter().map(histogram).sum();
        self.labels.len() * size_of::<Pair>() + self.built.heap_bytes() + chunks + self.tail.heap_bytes() + histograms
    }
}
