//! `min` and `max` of floats, in an order that NaN has a place in.
//!
//! DataFusion's own begin at the largest (smallest) finite number and let a NaN replace, and be replaced by, whatever comes: the least of infinities
//! comes out finite, and the answer depends on the order of rows. Partials of several partitions must merge to one answer, so
//! here NaN is greater than every other value, as in Postgres and DuckDB.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::datatypes::Float64Type;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extreme {
    Min,
    Max,
}

/// The least or greatest value of each group; `None` where it had none.
#[derive(Debug)]
pub(super) struct FloatExtreme {
    end: Extreme,
    values: Vec<Option<f64>>,
}

impl FloatExtreme {
    pub(super) fn new(end: Extreme) -> Self {
        Self { end, values: Vec::new() }
    }

    fn take(&mut self, emit_to: EmitTo) -> ArrayRef {
        Arc::new(Float64Array::from(emit_to.take_needed(&mut self.values)))
    }
}

/// True where `a` comes before `b`. Zeros of either sign are the same, and so are NaNs of any kind.
fn less(a: f64, b: f64) -> bool {
    a < b || (b.is_nan() && !a.is_nan())
}

impl GroupsAccumulator for FloatExtreme {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.values.resize(total, None);
        let [values] = values else {
            return Err(DataFusionError::Internal("min and max take one argument".to_owned()));
        };
        let values = values.as_primitive::<Float64Type>();
        for (row, (&group, &value)) in groups.iter().zip(values.values()).enumerate() {
            if values.is_null(row) || filter.is_some_and(|f| f.is_null(row) || !f.value(row)) {
                continue;
            }
            let kept = &mut self.values[group];
            let better = match (*kept, self.end) {
                (None, _) => true,
                (Some(kept), Extreme::Min) => less(value, kept),
                (Some(kept), Extreme::Max) => less(kept, value),
            };
            if better {
                *kept = Some(value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(self.take(emit_to))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.take(emit_to)])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(values, groups, None, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let groups: Vec<usize> = (0..values.first().map_or(0, |v| v.len())).collect();
        let mut each = Self::new(self.end);
        each.update_batch(values, &groups, filter, groups.len())?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.values.capacity() * size_of::<Option<f64>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(end: Extreme, batches: &[&[f64]]) -> Option<f64> {
        let mut merged = FloatExtreme::new(end);
        for batch in batches {
            let mut partial = FloatExtreme::new(end);
            let values: ArrayRef = Arc::new(Float64Array::from(batch.to_vec()));
            partial.update_batch(&[values], &vec![0; batch.len()], None, 1).unwrap();
            merged.merge_batch(&partial.state(EmitTo::All).unwrap(), &[0], 1).unwrap();
        }
        let value = merged.evaluate(EmitTo::All).unwrap();
        let value = value.as_primitive::<Float64Type>();
        value.is_valid(0).then(|| value.value(0))
    }

    #[test]
    fn infinities_and_nan_have_their_place_whatever_the_order() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        assert_eq!(answer(Extreme::Min, &[&[inf]]), Some(inf));
        assert_eq!(answer(Extreme::Max, &[&[-inf]]), Some(-inf));
        for batches in [[&[nan, 1.0][..], &[2.0]], [&[2.0][..], &[1.0, nan]], [&[1.0, nan, 2.0][..], &[]]] {
            assert_eq!(answer(Extreme::Min, &batches), Some(1.0));
            assert!(answer(Extreme::Max, &batches).is_some_and(f64::is_nan));
        }
        assert!(answer(Extreme::Min, &[&[nan]]).is_some_and(f64::is_nan));
        assert_eq!(answer(Extreme::Min, &[&[], &[]]), None);
    }
}
