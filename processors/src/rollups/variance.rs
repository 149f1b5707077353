//! `var` and `stddev`: count, mean and sum of squared distances, row by row as Welford has it, merged as Chan has it.
//!
//! DataFusion's own rounds where it merges a state into nothing, so a snapshot would change the last bits; here that gives the state itself.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, UInt64Array};
use arrow::datatypes::{Float64Type, UInt64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

/// Which of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    /// Over a sample, so that one row has none; else over a population.
    sample: bool,
    root: bool,
}

impl Spread {
    /// By the name of the aggregate.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "var" => Some(Self { sample: true, root: false }),
            "var_pop" => Some(Self { sample: false, root: false }),
            "stddev" => Some(Self { sample: true, root: true }),
            "stddev_pop" => Some(Self { sample: false, root: true }),
            _ => None,
        }
    }
}

/// The moments of each group.
#[derive(Debug)]
pub(super) struct Variance {
    spread: Spread,
    groups: Vec<Moments>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moments {
    count: u64,
    mean: f64,
    /// Sum of the squared distances from the mean.
    squares: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    fn merge(&mut self, other: Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other;
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        self.mean += apart * (b / (a + b));
        self.squares += other.squares + apart * apart * (a * (b / (a + b)));
        self.count += other.count;
    }

    fn value(self, spread: Spread) -> Option<f64> {
        let by = self.count.checked_sub(u64::from(spread.sample)).filter(|&by| by > 0)?;
        let variance = self.squares / by as f64;
        Some(if spread.root { variance.sqrt() } else { variance })
    }
}

impl Variance {
    pub(super) fn new(spread: Spread) -> Self {
        Self { spread, groups: Vec::new() }
    }
}

impl GroupsAccumulator for Variance {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.groups.resize(total, Moments::default());
        let [values] = values else {
            return Err(DataFusionError::Internal("a variance takes one argument".to_owned()));
        };
        let values = values.as_primitive::<Float64Type>();
        for (row, (&group, &value)) in groups.iter().zip(values.values()).enumerate() {
            if values.is_valid(row) && filter.is_none_or(|f| f.is_valid(row) && f.value(row)) {
                self.groups[group].add(value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        Ok(Arc::new(groups.into_iter().map(|moments| moments.value(self.spread)).collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit_to.take_needed(&mut self.groups);
        Ok(vec![
            Arc::new(groups.iter().map(|m| Some(m.count)).collect::<UInt64Array>()),
            Arc::new(groups.iter().map(|m| Some(m.mean)).collect::<Float64Array>()),
            Arc::new(groups.iter().map(|m| Some(m.squares)).collect::<Float64Array>()),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.groups.resize(total, Moments::default());
        let [count, mean, squares] = states else {
            return Err(DataFusionError::Internal("moments are three columns".to_owned()));
        };
        let count = count.as_primitive::<UInt64Type>();
        let (mean, squares) = (mean.as_primitive::<Float64Type>(), squares.as_primitive::<Float64Type>());
        for (row, &group) in groups.iter().enumerate() {
            let (count, mean, squares) = (count.value(row), mean.value(row), squares.value(row));
            self.groups[group].merge(Moments { count, mean, squares });
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let groups: Vec<usize> = (0..values.first().map_or(0, |v| v.len())).collect();
        let mut each = Self::new(self.spread);
        each.update_batch(values, &groups, filter, groups.len())?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<Moments>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn moments(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|&v| moments.add(v));
        moments
    }

    #[test]
    fn parts_merge_to_the_whole_even_far_from_zero() {
        let values: Vec<f64> = (0..100).map(|n| 1e9 + f64::from(n)).collect();
        let whole = moments(&values).value(Spread::of("var").unwrap()).unwrap();
        assert!((whole - 841.666_666_666_666_6).abs() < 1e-6, "{whole}");
        for at in [0, 1, 37, 100] {
            let mut merged = moments(&values[..at]);
            merged.merge(moments(&values[at..]));
            let merged = merged.value(Spread::of("var").unwrap()).unwrap();
            assert!((merged - whole).abs() < 1e-6, "{at}: {merged}");
        }
    }

    #[test]
    fn a_state_merged_into_nothing_is_itself() {
        let one = moments(&[0.1, 0.2, 0.7]);
        let mut merged = Moments::default();
        merged.merge(one);
        merged.merge(Moments::default());
        assert_eq!(merged, one);
    }

    #[test]
    fn one_row_is_a_population_and_no_sample() {
        let one = moments(&[3.0]);
        let of = |name| one.value(Spread::of(name).unwrap());
        assert_eq!((of("var"), of("stddev"), of("var_pop"), of("stddev_pop")), (None, None, Some(0.0), Some(0.0)));
        assert_eq!(moments(&[1.0, 3.0]).value(Spread::of("stddev_pop").unwrap()), Some(1.0));
    }
}
