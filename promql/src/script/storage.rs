//! The series that a script has loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::parse::Load;
use crate::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram};
use crate::labels::{BUCKET_LABEL, Labels, METRIC_NAME};
use crate::parser::SequenceValue;
use crate::source::{CompiledMatcher, Selection, Series, SeriesSource, SourceError};

#[derive(Debug, Clone)]
enum Value {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// Samples by series and time, with the start times of their counters.
#[derive(Debug, Default)]
pub(super) struct Storage {
    series: BTreeMap<Labels, BTreeMap<i64, (Value, i64)>>,
}

impl Storage {
    pub(super) fn clear(&mut self) {
        self.series.clear();
    }

    /// Adds what is loaded; an error where classic histograms cannot be made native ones.
    pub(super) fn load(&mut self, load: &Load) -> Result<(), String> {
        for (labels, values, starts) in &load.series {
            for (i, value) in values.iter().enumerate() {
                let time = i as i64 * load.interval_ms;
                let value = match value {
                    SequenceValue::Omitted => continue,
                    SequenceValue::Float(v) => Value::Float(*v),
                    SequenceValue::Histogram(h, _) => Value::Histogram(Arc::clone(h)),
                };
                let start = starts.get(i).copied().flatten().map_or(0, |offset| time + offset);
                self.series.entry(labels.clone()).or_default().insert(time, (value, start));
            }
        }
        let converted = if load.with_nhcb { self.convert_classic(load) } else { Ok(()) };
        for samples in self.series.values_mut() {
            note_resets(samples);
        }
        converted
    }

    /// Makes native histograms with custom buckets of the classic ones that were loaded.
    fn convert_classic(&mut self, load: &Load) -> Result<(), String> {
        let mut histograms: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
        for (labels, values, _) in &load.series {
            let name = labels.name();
            let Some((base, part)) = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix).map(|base| (base, *suffix)))
            else {
                continue;
            };
            let bound: f64 = match part {
                "_bucket" => match labels.value(BUCKET_LABEL).replace("Inf", "inf").parse::<f64>() {
                    Ok(bound) if !bound.is_nan() => bound,
                    _ => continue,
                },
                _ => 0.0,
            };
            let metric = labels.filter(|n| n != BUCKET_LABEL).with(METRIC_NAME, base);
            for (i, value) in values.iter().enumerate() {
                let SequenceValue::Float(v) = value else { continue };
                let at = histograms.entry(metric.clone()).or_default().entry(i as i64 * load.interval_ms).or_default();
                match part {
                    "_bucket" => at.buckets.push((bound, *v)),
                    "_count" => at.count = Some(*v),
                    _ => at.sum = *v,
                }
            }
        }
        for (labels, by_time) in histograms {
            for (time, classic) in by_time {
                let h = classic.convert().map_err(|e| format!("{labels} at {time} ms is no native histogram: {e}"))?;
                self.series.entry(labels.clone()).or_default().insert(time, (Value::Histogram(Arc::new(h)), 0));
            }
        }
        Ok(())
    }
}

/// Says of each counter histogram whether it is known to continue the one before it, as Prometheus's storage does while it
/// appends. What begins a new chunk there - a reset, a change of layout, a staleness marker or a float before it - is read
/// back with nothing known.
fn note_resets(samples: &mut BTreeMap<i64, (Value, i64)>) {
    use CounterResetHint::{CounterReset, Gauge, NotCounterReset, Unknown};
    let mut previous: Option<Arc<Histogram>> = None;
    for (value, _) in samples.values_mut() {
        let Value::Histogram(h) = value else {
            previous = None;
            continue;
        };
        if h.counter_reset_hint != Gauge && !h.is_stale() {
            let plain = Histogram { counter_reset_hint: Unknown, ..(**h).clone() };
            let continues = h.counter_reset_hint != CounterReset
                && previous.as_ref().is_some_and(|p| {
                    p.counter_reset_hint != Gauge
                        && !p.is_stale()
                        && plain.schema == p.schema
                        && plain.zero_threshold == p.zero_threshold
                        && plain.custom_values == p.custom_values
                        && !plain.detect_reset(p)
                });
            *h = Arc::new(Histogram { counter_reset_hint: if continues { NotCounterReset } else { Unknown }, ..plain });
        }
        previous = Some(Arc::clone(h));
    }
}

#[derive(Default)]
struct Classic {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    fn convert(mut self) -> Result<Histogram, String> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        // One bound may be written in several ways.
        self.buckets.dedup_by_key(|(bound, _)| *bound);
        let infinite = self.buckets.last().filter(|(bound, _)| *bound == f64::INFINITY).map(|(_, count)| *count);
        let count = self.count.or(infinite).or(self.buckets.last().map(|(_, c)| *c)).unwrap_or(0.0);
        if infinite.is_none() {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut counts = Vec::with_capacity(self.buckets.len());
        let mut before = 0.0;
        for (_, cumulative) in &self.buckets {
            if *cumulative < before {
                return Err(format!("count is not cumulative: {cumulative} < {before}"));
            }
            counts.push(cumulative - before);
            before = *cumulative;
        }
        if before != count {
            return Err(format!("count mismatch: {count} and {before} in the last bucket"));
        }
        let h = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_spans: vec![BucketSpan { offset: 0, length: counts.len() as u32 }],
            positive_buckets: counts,
            custom_values: self.buckets[..self.buckets.len() - 1].iter().map(|(bound, _)| *bound).collect(),
            ..Histogram::default()
        };
        h.validate().map(|()| h.compacted()).map_err(|e| e.to_string())
    }
}

impl SeriesSource for Storage {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let matchers: Vec<CompiledMatcher> = selection
            .matchers
            .iter()
            .map(|m| m.compile())
            .collect::<Result<_, _>>()
            .map_err(|e| SourceError::Storage(e.to_string()))?;
        let mut out = Vec::new();
        for (labels, samples) in &self.series {
            if !matchers.iter().all(|m| m.matches_labels(labels)) {
                continue;
            }
            let mut series = Series { labels: labels.clone(), ..Series::default() };
            let mut histogram_starts = Vec::new();
            for (time, (value, start)) in samples.range(
                selection.start_ms.saturating_add(1)..=selection.end_ms.max(selection.start_ms.saturating_add(1)),
            ) {
                if *time > selection.end_ms {
                    continue;
                }
                match value {
                    Value::Float(v) => {
                        series.timestamps_ms.push(*time);
                        series.values.push(*v);
                        series.start_timestamps_ms.push(*start);
                    }
                    Value::Histogram(h) => {
                        series.histograms.push((*time, Arc::clone(h)));
                        histogram_starts.push(*start);
                    }
                }
            }
            series.start_timestamps_ms.append(&mut histogram_starts);
            if series.start_timestamps_ms.iter().all(|s| *s == 0) {
                series.start_timestamps_ms.clear();
            }
            if !series.is_empty() {
                out.push(series);
            }
        }
        Ok(out)
    }
}
