//! `top_k(x, k)` and `bottom_k(x, k)`: the `k` greatest and least values of a group, in order, as a list. Equal values stand in it as often as they came.
//! NULLs are passed over; NaN is greater than every other number.
//!
//! The `k` greatest of two lists are the `k` greatest of their union, so any merging gives the same list.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, new_empty_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::EmitTo;

use super::state::{Function, Many};

/// Longest list.
const MAX_K: i64 = 1_000;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TopK {
    Top,
    Bottom,
}

impl Function for TopK {
    fn name(&self) -> &'static str {
        match self {
            Self::Top => "top_k",
            Self::Bottom => "bottom_k",
        }
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [value, count] if !value.is_nested() && (count.is_integer() || count.is_null()) => {
                Ok(vec![value.clone(), DataType::Int64])
            }
            _ => plan_err!("{0} takes a value and a number: {0}(value, 10)", self.name()),
        }
    }

    fn value_type(&self, types: &[DataType]) -> DataType {
        let item = types.first().cloned().unwrap_or(DataType::Null);
        DataType::List(Arc::new(Field::new_list_field(item, true)))
    }

    fn state_types(&self, types: &[DataType]) -> Vec<DataType> {
        vec![self.value_type(types)]
    }

    fn many(&self, types: &[DataType], constant: &dyn Fn(usize) -> Result<ScalarValue>) -> Result<Box<dyn Many>> {
        let k = match constant(1)? {
            ScalarValue::Int64(Some(k)) if (1..=MAX_K).contains(&k) => usize::try_from(k).unwrap_or(1),
            other => {
                return plan_err!("the second argument of {} is a number from 1 to {MAX_K}, not {other}", self.name());
            }
        };
        let item = types.first().cloned().unwrap_or(DataType::Null);
        Ok(Box::new(Lists { which: *self, k, item, groups: Vec::new() }))
    }
}

#[derive(Debug)]
struct Lists {
    which: TopK,
    k: usize,
    item: DataType,
    /// Best first.
    groups: Vec<Vec<ScalarValue>>,
}

impl Lists {
    fn add(&mut self, group: usize, value: ScalarValue) {
        let (which, list) = (self.which, &mut self.groups[group]);
        let behind = |kept: &ScalarValue| {
            let order = compare(kept, &value);
            if which == TopK::Top { order.is_ge() } else { order.is_le() }
        };
        let at = list.partition_point(behind);
        if at < self.k {
            list.insert(at, value);
            list.truncate(self.k);
        }
    }

    fn lists(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        let lengths = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
        let nulls = NullBuffer::from_iter(groups.iter().map(|list| !list.is_empty()));
        let mut values = groups.into_iter().flatten().peekable();
        let values =
            if values.peek().is_none() { new_empty_array(&self.item) } else { ScalarValue::iter_to_array(values)? };
        let field = Arc::new(Field::new_list_field(self.item.clone(), true));
        Ok(Arc::new(ListArray::try_new(field, lengths, values, Some(nulls))?))
    }
}

/// A total order: NaN is the greatest number, zero of either sign has its own place, so that lists are the same whatever came first.
pub(super) fn compare(a: &ScalarValue, b: &ScalarValue) -> Ordering {
    match (a, b) {
        (ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(b))) => {
            a.is_nan().cmp(&b.is_nan()).then_with(|| a.total_cmp(b))
        }
        _ => a.partial_cmp(b).unwrap_or(Ordering::Equal),
    }
}

impl Many for Lists {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Vec::new());
    }

    fn update(&mut self, values: &[ArrayRef], groups: &[usize], kept: &dyn Fn(usize) -> bool) -> Result<()> {
        let nulls = values[0].logical_nulls();
        for (row, &group) in groups.iter().enumerate() {
            if kept(row) && nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                self.add(group, ScalarValue::try_from_array(&values[0], row)?);
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        for (row, &group) in groups.iter().enumerate() {
            if lists.is_valid(row) {
                let values = lists.value(row);
                for at in 0..values.len() {
                    self.add(group, ScalarValue::try_from_array(&values, at)?);
                }
            }
        }
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.lists(emit_to)?])
    }

    fn value(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.lists(emit_to)
    }

    fn size_bytes(&self) -> usize {
        self.groups.iter().flatten().map(ScalarValue::size).sum::<usize>()
            + self.groups.capacity() * size_of::<Vec<ScalarValue>>()
    }

    fn fresh(&self) -> Box<dyn Many> {
        Box::new(Self { which: self.which, k: self.k, item: self.item.clone(), groups: Vec::new() })
    }
}
