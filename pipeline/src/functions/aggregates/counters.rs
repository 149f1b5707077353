//! `increase`, `rate` and `histogram_quantile`: over counters, which only grow, and begin again at zero when their process does.
//!
//! What they mean, within one group and window:
//! - Samples are put in order of time per series, whatever order they came in; of two at one instant the greater counts; NULL (stale) ones are left out.
//! - `increase` of a series is the sum of the steps from each sample to the next; a step down is a reset, and counts as the value after it. Nothing is
//!   extrapolated to the window's ends: whole numbers stay whole, and the step between two windows is in neither.
//! - `rate` of a series is its increase by the seconds from its first sample to its last. It is what Prometheus's `rate` gives where samples reach to the
//!   window's ends.
//! - Both are summed over the group's series. A series with one sample says nothing; where none says anything the answer is NULL.
//! - `histogram_quantile(q, le, value)` adds the increases of the `_bucket` series up by `le`, and takes the quantile as Prometheus does.
//!
//! Resets can only be told from the samples in order, so the state is the samples: 24 to 32 bytes each until the window is closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Builder, ListBuilder, PrimitiveBuilder,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::EmitTo;

use super::histogram;
use super::state::{Function, Many};
use crate::data::time;

const US_PER_SECOND: f64 = 1e6;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Counter {
    Increase,
    Rate,
    HistogramQuantile,
}

impl Counter {
    fn usage(self) -> &'static str {
        match self {
            Self::Increase => "increase(value) over metrics; over other rows increase(value, timestamp, series)",
            Self::Rate => "rate(value) over metrics; over other rows rate(value, timestamp, series)",
            Self::HistogramQuantile => {
                "histogram_quantile(0.95, labels->>'le', value) over metrics; over other rows histogram_quantile(0.95, le, value, timestamp, series)"
            }
        }
    }

    /// Number of arguments before the instant and the series.
    fn own(self) -> usize {
        if self == Self::HistogramQuantile { 3 } else { 1 }
    }
}

impl Function for Counter {
    fn name(&self) -> &'static str {
        match self {
            Self::Increase => "increase",
            Self::Rate => "rate",
            Self::HistogramQuantile => "histogram_quantile",
        }
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let own: &[DataType] = match self {
            Self::Increase | Self::Rate => &[DataType::Float64],
            Self::HistogramQuantile => &[DataType::Float64, DataType::Utf8, DataType::Float64],
        };
        let number = |at: usize| types.get(at).is_some_and(|t| t.is_numeric() || t.is_null());
        let fits = if *self == Self::HistogramQuantile { number(0) && number(2) } else { number(0) };
        if !fits || ![own.len(), own.len() + 2].contains(&types.len()) {
            return plan_err!("{} is called {}", self.name(), self.usage());
        }
        let mut all = own.to_vec();
        if types.len() > own.len() {
            all.extend([time::data_type(), DataType::Int64]);
        }
        Ok(all)
    }

    fn value_type(&self, _types: &[DataType]) -> DataType {
        DataType::Float64
    }

    fn state_types(&self, _types: &[DataType]) -> Vec<DataType> {
        let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        let mut types = vec![list(DataType::Int64), list(DataType::Int64), list(DataType::Float64)];
        if *self == Self::HistogramQuantile {
            types.push(list(DataType::Float64));
        }
        types
    }

    fn many(&self, types: &[DataType], constant: &dyn Fn(usize) -> Result<ScalarValue>) -> Result<Box<dyn Many>> {
        if types.len() != self.own() + 2 {
            return plan_err!("{} needs the columns timestamp and series_id: {}", self.name(), self.usage());
        }
        let rank = match self {
            Self::Increase | Self::Rate => 0.0,
            Self::HistogramQuantile => match constant(0)? {
                ScalarValue::Float64(Some(rank)) => rank,
                other => return plan_err!("the rank of histogram_quantile is a number, not {other}"),
            },
        };
        Ok(Box::new(Counters { counter: *self, rank, groups: Vec::new() }))
    }
}

/// The samples of one group, column by column.
#[derive(Debug, Clone, Default)]
struct Samples {
    series: Vec<i64>,
    at_us: Vec<i64>,
    value: Vec<f64>,
    /// Upper bound of the bucket that the series counts; only of histograms.
    bound: Vec<f64>,
}

#[derive(Debug)]
struct Counters {
    counter: Counter,
    rank: f64,
    groups: Vec<Samples>,
}

/// What a series comes to.
struct Grown {
    bound: f64,
    increase: f64,
    seconds: f64,
}

impl Samples {
    /// Their indexes by series and time, one per instant: the one with the greatest value.
    fn in_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.series.len()).collect();
        order.sort_by(|&a, &b| {
            let place = |i: usize| (self.series[i], self.at_us[i]);
            place(a).cmp(&place(b)).then_with(|| self.value[b].total_cmp(&self.value[a]))
        });
        order.dedup_by_key(|&mut i| (self.series[i], self.at_us[i]));
        order
    }

    /// What each series that has two samples comes to, in the order of series.
    #[expect(clippy::cast_precision_loss, reason = "a window's microseconds are far below 2^53")]
    fn grown(&self) -> Vec<Grown> {
        let order = self.in_order();
        let series = order.chunk_by(|&a, &b| self.series[a] == self.series[b]).filter(|samples| samples.len() > 1);
        series
            .map(|samples| {
                let step = |pair: &[usize]| {
                    let (before, after) = (self.value[pair[0]], self.value[pair[1]]);
                    if after < before { after } else { after - before }
                };
                let (first, last) = (samples[0], samples[samples.len() - 1]);
                Grown {
                    bound: self.bound.get(first).copied().unwrap_or(f64::NAN),
                    increase: samples.windows(2).map(step).sum(),
                    seconds: self.at_us[last].saturating_sub(self.at_us[first]) as f64 / US_PER_SECOND,
                }
            })
            .collect()
    }

    fn value(&self, counter: Counter, rank: f64) -> Option<f64> {
        let grown = self.grown();
        if grown.is_empty() {
            return None;
        }
        match counter {
            Counter::Increase => Some(grown.iter().map(|g| g.increase).sum()),
            Counter::Rate => Some(grown.iter().map(|g| g.increase / g.seconds).sum()),
            Counter::HistogramQuantile => {
                let mut buckets: Vec<(f64, f64)> = grown.iter().map(|g| (g.bound, g.increase)).collect();
                // Stable: increases of one bound are added in the order of series.
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                let summed = buckets.chunk_by(|a, b| a.0 == b.0);
                let buckets = summed.map(|of| (of[0].0, of.iter().map(|b| b.1).sum())).collect();
                Some(histogram::quantile(rank, buckets))
            }
        }
    }
}

impl Many for Counters {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Samples::default());
    }

    fn update(&mut self, values: &[ArrayRef], groups: &[usize], kept: &dyn Fn(usize) -> bool) -> Result<()> {
        let own = self.counter.own();
        let [.., value, at, series] = values else {
            return plan_err!("a counter has a value, an instant and a series");
        };
        let value = value.as_primitive::<Float64Type>();
        let at = at.as_primitive::<TimestampMicrosecondType>();
        let series = series.as_primitive::<Int64Type>();
        let bounds = (own == 3).then(|| Bounds::new(&values[1]));
        for (row, &group) in groups.iter().enumerate() {
            if !kept(row) || value.is_null(row) || at.is_null(row) || series.is_null(row) {
                continue;
            }
            let bound = match &bounds {
                None => None,
                Some(bounds) => match bounds.get(row) {
                    None => continue,
                    bound => bound,
                },
            };
            let samples = &mut self.groups[group];
            samples.series.push(series.value(row));
            samples.at_us.push(at.value(row));
            samples.value.push(value.value(row));
            samples.bound.extend(bound);
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> Result<()> {
        let [series, at, value, rest @ ..] = states else { return plan_err!("samples have three columns or four") };
        for (row, &group) in groups.iter().enumerate() {
            let samples = &mut self.groups[group];
            append::<Int64Type>(&mut samples.series, series, row);
            append::<Int64Type>(&mut samples.at_us, at, row);
            append::<Float64Type>(&mut samples.value, value, row);
            rest.iter().for_each(|bound| append::<Float64Type>(&mut samples.bound, bound, row));
        }
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit_to.take_needed(&mut self.groups);
        let (mut series, mut at) = (ListBuilder::new(Int64Builder::new()), ListBuilder::new(Int64Builder::new()));
        let (mut value, mut bound) = (ListBuilder::new(Float64Builder::new()), ListBuilder::new(Float64Builder::new()));
        for samples in &groups {
            // In order and without doubles, so that a state is the same however its samples came together.
            let order = samples.in_order();
            list(&mut series, &samples.series, &order);
            list(&mut at, &samples.at_us, &order);
            list(&mut value, &samples.value, &order);
            if self.counter == Counter::HistogramQuantile {
                list(&mut bound, &samples.bound, &order);
            }
        }
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(series.finish()), Arc::new(at.finish()), Arc::new(value.finish())];
        if self.counter == Counter::HistogramQuantile {
            columns.push(Arc::new(bound.finish()));
        }
        Ok(columns)
    }

    fn value(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        Ok(Arc::new(groups.iter().map(|samples| samples.value(self.counter, self.rank)).collect::<Float64Array>()))
    }

    fn size_bytes(&self) -> usize {
        let samples = |s: &Samples| (s.series.capacity() * 3 + s.bound.capacity()) * 8;
        self.groups.iter().map(samples).sum::<usize>() + self.groups.capacity() * size_of::<Samples>()
    }

    fn fresh(&self) -> Box<dyn Many> {
        Box::new(Self { counter: self.counter, rank: self.rank, groups: Vec::new() })
    }
}

fn append<T: ArrowPrimitiveType>(to: &mut Vec<T::Native>, lists: &ArrayRef, row: usize) {
    let lists = lists.as_list::<i32>();
    if lists.is_valid(row) {
        to.extend_from_slice(lists.value(row).as_primitive::<T>().values());
    }
}

fn list<T: ArrowPrimitiveType>(lists: &mut ListBuilder<PrimitiveBuilder<T>>, of: &[T::Native], order: &[usize]) {
    order.iter().for_each(|&at| lists.values().append_value(of[at]));
    lists.append(true);
}

/// The bounds of a record's rows: few different texts, each read once.
struct Bounds<'a> {
    texts: &'a arrow::array::StringArray,
    read: BTreeMap<&'a str, Option<f64>>,
}

impl<'a> Bounds<'a> {
    fn new(column: &'a ArrayRef) -> Self {
        let texts = column.as_string::<i32>();
        let mut read = BTreeMap::new();
        for text in texts.iter().flatten() {
            read.entry(text).or_insert_with(|| text.parse().ok().filter(|bound: &f64| !bound.is_nan()));
        }
        Self { texts, read }
    }

    fn get(&self, row: usize) -> Option<f64> {
        if self.texts.is_null(row) {
            return None;
        }
        self.read.get(self.texts.value(row)).copied().flatten()
    }
}
