//! The samples that rules look at, in memory, newest first to go in and oldest first to go.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_promql::{CompiledMatcher, Histogram, Labels, Selection, Series, SeriesSource, SourceError};

use super::postings::Postings;

/// Where a sample's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinate {
    /// Partition of topic `metrics`.
    pub partition: i32,
    /// Offset there.
    pub offset: i64,
}

/// Samples by series. Bounded by whoever fills it: see [`Head::prune`] and [`Head::len`].
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// By metric name.
    metrics: BTreeMap<Arc<str>, Metric>,
    samples: usize,
}

#[derive(Debug, Clone, Default)]
struct Metric {
    series: BTreeMap<Labels, Points>,
    postings: Postings,
}

#[derive(Debug, Clone, Default)]
struct Points {
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
    /// Per float, where its record is: [`NO_RECORD`] for what rules wrote.
    offsets: Vec<i64>,
    /// A series is in one partition; `None` for one that rules write.
    partition: Option<i32>,
    histograms: Vec<(i64, Arc<Histogram>)>,
}

/// No offset.
pub(super) const NO_RECORD: i64 = -1;

/// One series, as a snapshot keeps it.
pub(crate) struct Kept<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamps_ms: &'a [i64],
    pub(crate) values: &'a [f64],
    pub(crate) offsets: &'a [i64],
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
        let points = self.points(labels);
        let offset = from.map_or(NO_RECORD, |from| from.offset);
        points.partition = from.map(|from| from.partition).or(points.partition);
        let at = match points.timestamps_ms.last() {
            Some(last) if *last >= timestamp_ms => points.timestamps_ms.binary_search(&timestamp_ms),
            _ => Err(points.timestamps_ms.len()),
        };
        let added = match at {
            Ok(at) => {
                (points.values[at], points.offsets[at]) = (value, offset);
                false
            }
            Err(at) => {
                points.timestamps_ms.insert(at, timestamp_ms);
                points.values.insert(at, value);
                points.offsets.insert(at, offset);
                true
            }
        };
        self.samples += usize::from(added);
    }

    /// Adds a native histogram.
    pub fn push_histogram(&mut self, labels: &Labels, timestamp_ms: i64, histogram: Arc<Histogram>) {
        let points = self.points(labels);
        let added = match points.histograms.binary_search_by_key(&timestamp_ms, |(at, _)| *at) {
            Ok(at) => {
                points.histograms[at].1 = histogram;
                false
            }
            Err(at) => {
                points.histograms.insert(at, (timestamp_ms, histogram));
                true
            }
        };
        self.samples += usize::from(added);
    }

    fn points(&mut self, labels: &Labels) -> &mut Points {
        let name = labels.name();
        if !self.metrics.contains_key(name) {
            self.metrics.insert(name.into(), Metric::default());
        }
        let metric = self.metrics.entry(name.into()).or_default();
        if !metric.series.contains_key(labels) {
            metric.postings.insert(labels);
        }
        metric.series.entry(labels.clone()).or_default()
    }

    /// Drops what is at or before this time. Gives the time of the newest that went and had come from a record.
    pub fn prune(&mut self, until_ms: i64) -> Option<i64> {
        let (mut left, mut newest) = (0, None);
        self.metrics.retain(|_, metric| {
            metric.series.retain(|labels, points| {
                let old = points.timestamps_ms.partition_point(|&at| at <= until_ms);
                if points.partition.is_some() {
                    newest = newest.max(old.checked_sub(1).map(|last| points.timestamps_ms[last]));
                }
                points.timestamps_ms.drain(..old);
                points.values.drain(..old);
                points.offsets.drain(..old);
                points.histograms.retain(|(at, _)| *at > until_ms);
                left += points.timestamps_ms.len() + points.histograms.len();
                let is_kept = !points.timestamps_ms.is_empty() || !points.histograms.is_empty();
                if !is_kept {
                    metric.postings.remove(labels);
                }
                is_kept
            });
            !metric.series.is_empty()
        });
        self.samples = left;
        newest
    }

    /// The time of the newest sample at or before `until_ms` that came from a record: what rules write follows from those.
    pub fn newest_ms(&self, until_ms: i64) -> Option<i64> {
        let newest = |points: &Points| {
            points.partition?;
            let at = points.timestamps_ms.partition_point(|&at| at <= until_ms);
            at.checked_sub(1).map(|at| points.timestamps_ms[at])
        };
        self.metrics.values().flat_map(|metric| metric.series.values()).filter_map(newest).max()
    }

    /// The time of the oldest sample after `from_ms`.
    pub fn next_ms(&self, from_ms: i64) -> Option<i64> {
        let next = |points: &Points| {
            let at = points.timestamps_ms.partition_point(|&at| at <= from_ms);
            points.timestamps_ms.get(at).copied()
        };
        self.metrics.values().flat_map(|metric| metric.series.values()).filter_map(next).min()
    }

    /// Where the record of a sample is; `None` where rules wrote it.
    pub fn record_of(&self, labels: &Labels, timestamp_ms: i64) -> Option<Coordinate> {
        let points = self.metrics.get(labels.name())?.series.get(labels)?;
        let offset = points.offsets[points.timestamps_ms.binary_search(&timestamp_ms).ok()?];
        Some(Coordinate { partition: points.partition?, offset }).filter(|_| offset != NO_RECORD)
    }

    /// Every series, in order.
    pub(crate) fn series(&self) -> impl Iterator<Item = Kept<'_>> {
        self.metrics.values().flat_map(|metric| &metric.series).map(|(labels, points)| Kept {
            labels,
            partition: points.partition,
            timestamps_ms: &points.timestamps_ms,
            values: &points.values,
            offsets: &points.offsets,
        })
    }
}

fn compile(selection: &Selection) -> Result<Vec<CompiledMatcher>, SourceError> {
    let compiled = selection.matchers.iter().map(|m| m.compile().map_err(|e| SourceError::TooMuch(e.to_string())));
    compiled.collect()
}

impl SeriesSource for Head {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let matchers = compile(selection)?;
        let mut found = Vec::new();
        let mut take = |labels: &Labels, points: &Points| {
            if !matchers.iter().all(|m| m.matches_labels(labels)) {
                return;
            }
            let from = points.timestamps_ms.partition_point(|&at| at <= selection.start_ms);
            let to = points.timestamps_ms.partition_point(|&at| at <= selection.end_ms);
            let within = |at: i64| at > selection.start_ms && at <= selection.end_ms;
            let histograms: Vec<_> = points.histograms.iter().filter(|(at, _)| within(*at)).cloned().collect();
            if from < to || !histograms.is_empty() {
                let floats = Series::floats(
                    labels.clone(),
                    points.timestamps_ms[from..to].to_vec(),
                    points.values[from..to].to_vec(),
                );
                found.push(Series { histograms, ..floats });
            }
        };
        match selection.metric_name() {
            Some(name) => {
                let Some(metric) = self.metrics.get(name) else { return Ok(found) };
                match metric.postings.fewest(&selection.matchers) {
                    Some(few) if few.len() < metric.series.len() => {
                        for labels in few {
                            if let Some(points) = metric.series.get(labels) {
                                take(labels, points);
                            }
                        }
                    }
                    _ => {
                        for (labels, points) in &metric.series {
                            take(labels, points);
                        }
                    }
                }
            }
            None => {
                for (labels, points) in self.metrics.values().flat_map(|metric| &metric.series) {
                    take(labels, points);
                }
            }
        }
        Ok(found)
    }
}

/// A head, and samples of this tick that nobody else sees yet.
pub(crate) struct View<'a> {
    pub(crate) head: &'a Head,
    pub(crate) fresh: &'a Head,
}

impl SeriesSource for View<'_> {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let mut found = self.head.select(selection)?;
        for fresh in self.fresh.select(selection)? {
            match found.iter_mut().find(|series| series.labels == fresh.labels) {
                Some(series) => {
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
