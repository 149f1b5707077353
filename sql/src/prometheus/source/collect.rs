//! From rows to series: samples by series, in time order, each time once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use highwater_promql::{Histogram, Labels, Series};

use super::catalogue::Catalogue;
use super::columns::{SampleColumns, SeriesColumns};
use super::{ReadError, Wanted};

/// How many samples a query may hold, and has.
#[derive(Debug)]
pub(in crate::prometheus) struct SampleBudget {
    max: usize,
    held: AtomicUsize,
}

impl SampleBudget {
    pub(in crate::prometheus) fn new(max: usize) -> Self {
        Self { max, held: AtomicUsize::new(0) }
    }

    fn take(&self, samples: usize) -> Result<(), ReadError> {
        let held = self.held.fetch_add(samples, Ordering::Relaxed).saturating_add(samples);
        if held > self.max { Err(ReadError::TooManySamples) } else { Ok(()) }
    }

    /// How many it has.
    pub(in crate::prometheus) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The same limit with nothing held.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.max)
    }
}

/// Samples of one series from one place, in the order in which they lay there.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    place: u32,
    times_ms: Vec<i64>,
    values: Vec<f64>,
    /// Where they were in the log; empty unless asked for.
    offsets: Vec<i64>,
    /// Whether times do not ascend.
    disordered: bool,
    /// Native histograms: when, what, and where in the log if asked for.
    histograms: Vec<(i64, Arc<Histogram>, Option<i64>)>,
}

impl Chunk {
    /// How many samples it has.
    pub(super) fn len(&self) -> usize {
        self.times_ms.len() + self.histograms.len()
    }
}

/// Collects from one file, or from one partition of the tail.
pub(super) struct Collector {
    wanted: Arc<Wanted>,
    catalogue: Arc<Catalogue>,
    budget: Arc<SampleBudget>,
    ordered: bool,
    chunks: Vec<Chunk>,
    by_place: HashMap<u32, usize, ahash::RandomState>,
}

impl Collector {
    /// `ordered` keeps where samples were in the log.
    pub(super) fn new(
        wanted: Arc<Wanted>,
        catalogue: Arc<Catalogue>,
        budget: Arc<SampleBudget>,
        ordered: bool,
    ) -> Self {
        Self { wanted, catalogue, budget, ordered, chunks: Vec::new(), by_place: HashMap::default() }
    }

    /// Takes the wanted samples of a batch.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), ReadError> {
        let series = SeriesColumns::of(batch)?;
        let samples = SampleColumns::of(batch, self.ordered)?;
        let mut row = 0;
        while row < batch.num_rows() {
            let end = series.run_end(row);
            let (id, name, labels) = series.get(row);
            if let Some(place) = self.catalogue.place(id, name, labels)? {
                self.take(place, &samples, row..end)?;
            }
            row = end;
        }
        Ok(())
    }

    fn take(&mut self, place: u32, samples: &SampleColumns<'_>, rows: std::ops::Range<usize>) -> Result<(), ReadError> {
        let at = *self.by_place.entry(place).or_insert_with(|| {
            self.chunks.push(Chunk { place, ..Chunk::default() });
            self.chunks.len() - 1
        });
        let chunk = &mut self.chunks[at];
        let before = chunk.times_ms.len();
        let mut size = 0;
        let mut last = chunk.times_ms.last().copied().unwrap_or(i64::MIN);
        for row in rows {
            let time_us = samples.time_us(row);
            if !self.wanted.has_time(time_us) {
                continue;
            }
            let time_ms = time_us.div_euclid(1000);
            let Some(value) = samples.value(row) else {
                if let Some(message) = samples.histogram(row) {
                    let histogram = Histogram::from_message(message).map_err(|why| ReadError::histogram(&why))?;
                    size += histogram.size_in_samples();
                    chunk.histograms.push((time_ms, Arc::new(histogram), samples.offset(row)));
                }
                continue;
            };
            chunk.disordered |= time_ms <= last;
            last = time_ms;
            chunk.times_ms.push(time_ms);
            chunk.values.push(value);
            if let Some(offset) = samples.offset(row) {
                chunk.offsets.push(offset);
            }
        }
        self.budget.take(size + chunk.times_ms.len() - before)
    }

    pub(super) fn finish(self) -> Vec<Chunk> {
        self.chunks
    }
}

/// Two samples of one series have one time and different values, and which is the later one was not asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// The series of all chunks, sorted by labels; those without a sample are left out. Of samples at one millisecond the one that was last in the
/// log stays.
pub(super) fn assemble(labels: Vec<Option<Labels>>, chunks: Vec<Chunk>) -> Result<Vec<Series>, Ambiguous> {
    let mut by_place: Vec<Vec<Chunk>> = Vec::new();
    by_place.resize_with(labels.len(), Vec::new);
    for chunk in chunks {
        if !chunk.times_ms.is_empty() || !chunk.histograms.is_empty() {
            by_place[chunk.place as usize].push(chunk);
        }
    }
    let mut all = Vec::new();
    for (labels, chunks) in labels.into_iter().zip(by_place) {
        let Some(labels) = labels.filter(|_| !chunks.is_empty()) else { continue };
        let mut chunks = chunks;
        let histograms: Vec<_> = chunks.iter_mut().flat_map(|chunk| std::mem::take(&mut chunk.histograms)).collect();
        if histograms.is_empty() {
            let (times_ms, values) = join(chunks)?;
            all.push(Series::floats(labels, times_ms, values));
        } else {
            all.push(mixed(labels, chunks, histograms)?);
        }
    }
    all.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
    Ok(all)
}

/// A series of native histograms, and floats where it has any.
fn mixed(
    labels: Labels,
    chunks: Vec<Chunk>,
    histograms: Vec<(i64, Arc<Histogram>, Option<i64>)>,
) -> Result<Series, Ambiguous> {
    enum Sample {
        Float(f64),
        Histogram(Arc<Histogram>),
    }
    let mut samples: Vec<(i64, Option<i64>, Sample)> = Vec::new();
    for chunk in chunks {
        let offset = |i: usize| chunk.offsets.get(i).copied();
        let floats = (0..chunk.times_ms.len()).map(|i| (chunk.times_ms[i], offset(i), Sample::Float(chunk.values[i])));
        samples.extend(floats);
    }
    samples.extend(histograms.into_iter().map(|(time_ms, of, offset)| (time_ms, offset, Sample::Histogram(of))));
    samples.sort_by_key(|(time_ms, offset, _)| (*time_ms, *offset));
    let mut series = Series { labels, ..Series::default() };
    let mut samples = samples.into_iter().peekable();
    while let Some((time_ms, offset, sample)) = samples.next() {
        if let Some((next_ms, _, next)) = samples.peek()
            && *next_ms == time_ms
        {
            let equal = match (&sample, next) {
                (Sample::Float(a), Sample::Float(b)) => a.to_bits() == b.to_bits(),
                (Sample::Histogram(a), Sample::Histogram(b)) => a == b,
                _ => false,
            };
            if offset.is_none() && !equal {
                return Err(Ambiguous);
            }
            continue;
        }
        match sample {
            Sample::Float(value) => {
                series.timestamps_ms.push(time_ms);
                series.values.push(value);
            }
            Sample::Histogram(histogram) => series.histograms.push((time_ms, histogram)),
        }
    }
    Ok(series)
}

/// The samples of one series in time order.
fn join(mut chunks: Vec<Chunk>) -> Result<(Vec<i64>, Vec<f64>), Ambiguous> {
    if let [only] = chunks.as_mut_slice()
        && !only.disordered
    {
        return Ok((std::mem::take(&mut only.times_ms), std::mem::take(&mut only.values)));
    }
    chunks.sort_by_key(|chunk| chunk.times_ms.first().copied());
    let count = chunks.iter().map(|chunk| chunk.times_ms.len()).sum();
    let apart = |pair: &[Chunk]| pair[0].times_ms.last() < pair[1].times_ms.first();
    if chunks.iter().all(|chunk| !chunk.disordered) && chunks.windows(2).all(apart) {
        let (mut times_ms, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for chunk in chunks {
            times_ms.extend_from_slice(&chunk.times_ms);
            values.extend_from_slice(&chunk.values);
        }
        return Ok((times_ms, values));
    }
    let mut samples: Vec<(i64, Option<i64>, f64)> = Vec::with_capacity(count);
    for chunk in chunks {
        let offset = |i: usize| chunk.offsets.get(i).copied();
        samples.extend((0..chunk.times_ms.len()).map(|i| (chunk.times_ms[i], offset(i), chunk.values[i])));
    }
    // Stable: of one record, and so of one chunk, the later row stays behind the earlier.
    samples.sort_by_key(|(time_ms, offset, _)| (*time_ms, *offset));
    let (mut times_ms, mut values): (Vec<i64>, Vec<f64>) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (time_ms, offset, value) in samples {
        match values.last_mut() {
            Some(last) if times_ms.last() == Some(&time_ms) => {
                if offset.is_none() && last.to_bits() != value.to_bits() {
                    return Err(Ambiguous);
                }
                *last = value;
            }
            _ => {
                times_ms.push(time_ms);
                values.push(value);
            }
        }
    }
    Ok((times_ms, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(samples: &[(i64, f64, i64)], with_offsets: bool) -> Chunk {
        let times_ms: Vec<i64> = samples.iter().map(|s| s.0).collect();
        Chunk {
            place: 0,
            disordered: times_ms.windows(2).any(|w| w[0] >= w[1]),
            times_ms,
            values: samples.iter().map(|s| s.1).collect(),
            offsets: if with_offsets { samples.iter().map(|s| s.2).collect() } else { Vec::new() },
            histograms: Vec::new(),
        }
    }

    fn joined(chunks: Vec<Chunk>) -> Result<Vec<(i64, f64)>, Ambiguous> {
        join(chunks).map(|(times, values)| times.into_iter().zip(values).collect())
    }

    #[test]
    fn chunks_are_joined_in_time_order() {
        let apart = vec![chunk(&[(3, 3.0, 0), (4, 4.0, 0)], false), chunk(&[(1, 1.0, 0), (2, 2.0, 0)], false)];
        assert_eq!(joined(apart).unwrap(), [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]);
        let woven = vec![chunk(&[(1, 1.0, 0), (3, 3.0, 0)], false), chunk(&[(2, 2.0, 0), (4, 4.0, 0)], false)];
        assert_eq!(joined(woven).unwrap(), [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]);
        let disordered = vec![chunk(&[(3, 3.0, 0), (1, 1.0, 1), (2, 2.0, 2)], false)];
        assert_eq!(joined(disordered).unwrap(), [(1, 1.0), (2, 2.0), (3, 3.0)]);
    }

    #[test]
    fn of_samples_at_one_time_the_last_in_the_log_stays() {
        let same = vec![chunk(&[(1, 1.0, 5)], false), chunk(&[(1, 1.0, 4), (2, 2.0, 6)], false)];
        assert_eq!(joined(same).unwrap(), [(1, 1.0), (2, 2.0)]);
        let different =
            |with_offsets| vec![chunk(&[(1, 1.0, 5), (2, 2.0, 5)], with_offsets), chunk(&[(1, 9.0, 4)], with_offsets)];
        assert_eq!(joined(different(false)), Err(Ambiguous));
        assert_eq!(joined(different(true)).unwrap(), [(1, 1.0), (2, 2.0)]);
        let one_record = vec![chunk(&[(1, 1.0, 5), (1, 2.0, 5)], true)];
        assert_eq!(joined(one_record).unwrap(), [(1, 2.0)]);
    }

    #[test]
    fn floats_and_histograms_of_a_series_are_kept_apart_and_of_one_time_the_last_stays() {
        let histogram = |count: f64| Arc::new(Histogram { count, ..Histogram::default() });
        let floats = vec![chunk(&[(1, 1.0, 5), (2, 2.0, 6)], true)];
        let histograms = vec![(3, histogram(3.0), Some(9)), (2, histogram(2.0), Some(7)), (1, histogram(1.0), Some(4))];
        let series = mixed(Labels::empty(), floats, histograms).unwrap();
        assert_eq!((series.timestamps_ms, series.values), (vec![1], vec![1.0]));
        assert_eq!(series.histograms, [(2, histogram(2.0)), (3, histogram(3.0))]);
        let unknown = vec![(1, histogram(1.0), None)];
        assert_eq!(mixed(Labels::empty(), vec![chunk(&[(1, 1.0, 5)], false)], unknown).unwrap_err(), Ambiguous);
    }
}
