//! `quantile(x, q)`: a value within 1 % of the one at rank `q`, by DDSketch.
//!
//! A positive number is counted in bin `ceil(log_γ x)`, γ = 1.01 / 0.99, so whatever is in a bin is within 1 % of its middle. Negative numbers have the
//! bins of their magnitudes, mirrored; zero, the infinities and NaN (the greatest of all, as in Postgres) one each. A sketch is nothing but counts,
//! so a merge is an addition, and any merging of any batches gives the same sketch and the same answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int32Builder, Int64Builder, ListBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int32Type, Int64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::EmitTo;

use super::state::{Function, Many};

/// Greatest relative error.
const ERROR: f64 = 0.01;
const GAMMA: f64 = (1.0 + ERROR) / (1.0 - ERROR);
/// Keeps the bins of positive numbers, whose logarithms go down to -37,300, above that of zero.
const SHIFT: i32 = 1 << 20;
const INFINITE: i32 = i32::MAX - 1;
const NAN: i32 = i32::MAX;

/// The function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Quantile;

impl Function for Quantile {
    fn name(&self) -> &'static str {
        "quantile"
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let number = |t: &DataType| t.is_numeric() || matches!(t, DataType::Null);
        match types {
            [value, rank] if number(value) && number(rank) => Ok(vec![DataType::Float64, DataType::Float64]),
            _ => plan_err!("quantile takes a number and a rank from 0 to 1: quantile(value, 0.95)"),
        }
    }

    fn value_type(&self, _types: &[DataType]) -> DataType {
        DataType::Float64
    }

    fn state_types(&self, _types: &[DataType]) -> Vec<DataType> {
        let list = |item| DataType::List(list_field(item));
        vec![list(DataType::Int32), list(DataType::Int64), DataType::Float64, DataType::Float64]
    }

    fn many(&self, _types: &[DataType], constant: &dyn Fn(usize) -> Result<ScalarValue>) -> Result<Box<dyn Many>> {
        match constant(1)? {
            ScalarValue::Float64(Some(rank)) if (0.0..=1.0).contains(&rank) => {
                Ok(Box::new(Sketches { rank, groups: Vec::new() }))
            }
            other => plan_err!("the rank of quantile is a number from 0 to 1, not {other}"),
        }
    }
}

fn list_field(item: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(item, true))
}

/// The sketch of one group.
#[derive(Debug, Clone, Default)]
struct Sketch {
    counts: BTreeMap<i32, i64>,
    /// Least and greatest value: the answer is never outside. None where there is no value.
    ends: Option<(f64, f64)>,
}

#[derive(Debug)]
struct Sketches {
    rank: f64,
    groups: Vec<Sketch>,
}

/// The bin of a number.
fn bin(value: f64) -> i32 {
    if value.is_nan() {
        return NAN;
    }
    let magnitude = value.abs();
    let bin = if magnitude == 0.0 {
        0
    } else if magnitude.is_infinite() {
        INFINITE
    } else {
        // Within ±38,000, so the conversion is exact.
        #[expect(clippy::cast_possible_truncation, reason = "logarithms of finite numbers are small")]
        let index = (magnitude.ln() / GAMMA.ln()).ceil() as i32;
        SHIFT + index
    };
    if value < 0.0 { -bin } else { bin }
}

/// The number that a bin stands for.
fn middle(bin: i32) -> f64 {
    match bin {
        NAN => f64::NAN,
        INFINITE => f64::INFINITY,
        0 => 0.0,
        _ if bin == -INFINITE => f64::NEG_INFINITY,
        _ if bin < 0 => -middle(-bin),
        _ => 2.0 * GAMMA.powi(bin - SHIFT) / (GAMMA + 1.0),
    }
}

/// True where `a` comes before `b`; NaN is the greatest.
fn less(a: f64, b: f64) -> bool {
    a < b || (b.is_nan() && !a.is_nan())
}

impl Sketch {
    fn add(&mut self, value: f64) {
        *self.counts.entry(bin(value)).or_default() += 1;
        self.stretch(value, value);
    }

    fn stretch(&mut self, low: f64, high: f64) {
        self.ends = Some(match self.ends {
            None => (low, high),
            Some((l, h)) => (if less(low, l) { low } else { l }, if less(h, high) { high } else { h }),
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "a rank among 2^53 rows and more is within any error")]
    fn quantile(&self, rank: f64) -> Option<f64> {
        let (low, high) = self.ends?;
        let total: i64 = self.counts.values().sum();
        let wanted = rank * (total - 1) as f64;
        let mut below = 0;
        for (&bin, &count) in &self.counts {
            below += count;
            if below as f64 > wanted {
                let value = middle(bin);
                let value = if less(value, low) { low } else { value };
                return Some(if less(high, value) { high } else { value });
            }
        }
        Some(high)
    }
}

impl Many for Sketches {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Sketch::default());
    }

    fn update(&mut self, values: &[ArrayRef], groups: &[usize], kept: &dyn Fn(usize) -> bool) -> Result<()> {
        let values = values[0].as_primitive::<Float64Type>();
        for (row, &group) in groups.iter().enumerate() {
            if values.is_valid(row) && kept(row) {
                self.groups[group].add(values.value(row));
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> Result<()> {
        let [bins, counts, low, high] = states else { return plan_err!("a sketch has four columns") };
        let (bins, counts) = (bins.as_list::<i32>(), counts.as_list::<i32>());
        let (low, high) = (low.as_primitive::<Float64Type>(), high.as_primitive::<Float64Type>());
        for (row, &group) in groups.iter().enumerate() {
            if !low.is_valid(row) || !high.is_valid(row) {
                continue;
            }
            let sketch = &mut self.groups[group];
            sketch.stretch(low.value(row), high.value(row));
            let (bins, counts) = (bins.value(row), counts.value(row));
            let (bins, counts) = (bins.as_primitive::<Int32Type>(), counts.as_primitive::<Int64Type>());
            for (&bin, &count) in bins.values().iter().zip(counts.values()) {
                *sketch.counts.entry(bin).or_default() += count;
            }
        }
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit_to.take_needed(&mut self.groups);
        let mut bins = ListBuilder::new(Int32Builder::new());
        let mut counts = ListBuilder::new(Int64Builder::new());
        let (mut low, mut high) = (Float64Builder::new(), Float64Builder::new());
        for sketch in &groups {
            for (&bin, &count) in &sketch.counts {
                bins.values().append_value(bin);
                counts.values().append_value(count);
            }
            bins.append(true);
            counts.append(true);
            low.append_option(sketch.ends.map(|e| e.0));
            high.append_option(sketch.ends.map(|e| e.1));
        }
        Ok(vec![Arc::new(bins.finish()), Arc::new(counts.finish()), Arc::new(low.finish()), Arc::new(high.finish())])
    }

    fn value(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        Ok(Arc::new(groups.iter().map(|sketch| sketch.quantile(self.rank)).collect::<Float64Array>()))
    }

    fn size_bytes(&self) -> usize {
        let bins: usize = self.groups.iter().map(|g| g.counts.len()).sum();
        bins * 2 * size_of::<(i32, i64)>() + self.groups.capacity() * size_of::<Sketch>()
    }

    fn fresh(&self) -> Box<dyn Many> {
        Box::new(Self { rank: self.rank, groups: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_is_within_one_percent_of_all_it_holds() {
        for exponent in -300..300 {
            for factor in [1.0, 1.7, 2.3, 9.999] {
                let value = factor * 10f64.powi(exponent);
                for value in [value, -value] {
                    let answer = middle(bin(value));
                    assert!(((answer - value) / value).abs() <= ERROR + 1e-9, "{value}: {answer}");
                }
            }
        }
        for value in [0.0, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(middle(bin(value)), value);
        }
        assert!(middle(bin(f64::NAN)).is_nan());
        assert!(bin(f64::MIN_POSITIVE) > 0 && bin(f64::MAX) < INFINITE && bin(5e-324) > 0);
    }

    #[test]
    fn bins_are_in_the_order_of_numbers() {
        let numbers =
            [f64::NEG_INFINITY, -1e9, -1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 1e9, f64::INFINITY, f64::NAN].map(bin);
        assert!(numbers.is_sorted());
    }
}
