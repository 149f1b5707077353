//! `percentile_disc(p) WITHIN GROUP (ORDER BY x)`: the first `x` in order at or behind which lies the share `p` of them, a value that is there, whatever its type.
//! `mode() WITHIN GROUP (ORDER BY x)`: the most frequent `x`; of several the first in order. NULLs are passed over.
//!
//! All values of a group are kept, so any merging gives the same; the memory limit of the query is what bounds them.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, new_empty_array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::EmitTo;

use super::state::{Function, Many};
use super::top_k::compare;

/// Which value of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ordered {
    PercentileDisc,
    Mode,
}

/// The same for one query.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Choice {
    /// At this share of them.
    Share(f64),
    MostFrequent,
}

impl Function for Ordered {
    fn name(&self) -> &'static str {
        match self {
            Self::PercentileDisc => "percentile_disc",
            Self::Mode => "mode",
        }
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self, types) {
            (Self::PercentileDisc, [value, share]) if !value.is_nested() && (share.is_numeric() || share.is_null()) => {
                Ok(vec![value.clone(), DataType::Float64])
            }
            (Self::Mode, [value]) if !value.is_nested() => Ok(vec![value.clone()]),
            (Self::PercentileDisc, _) => {
                plan_err!("percentile_disc is called as percentile_disc(0.9) WITHIN GROUP (ORDER BY value)")
            }
            (Self::Mode, _) => plan_err!("mode is called as mode() WITHIN GROUP (ORDER BY value)"),
        }
    }

    fn value_type(&self, types: &[DataType]) -> DataType {
        types.first().cloned().unwrap_or(DataType::Null)
    }

    fn state_types(&self, types: &[DataType]) -> Vec<DataType> {
        vec![DataType::List(Arc::new(Field::new_list_field(self.value_type(types), true)))]
    }

    fn many(&self, types: &[DataType], constant: &dyn Fn(usize) -> Result<ScalarValue>) -> Result<Box<dyn Many>> {
        self.many_in_order(types, constant, false)
    }

    fn many_in_order(
        &self,
        types: &[DataType],
        constant: &dyn Fn(usize) -> Result<ScalarValue>,
        is_descending: bool,
    ) -> Result<Box<dyn Many>> {
        let choice = match self {
            Self::Mode => Choice::MostFrequent,
            Self::PercentileDisc => match constant(1)? {
                ScalarValue::Float64(Some(share)) if (0.0..=1.0).contains(&share) => Choice::Share(share),
                other => return plan_err!("percentile_disc takes a share from 0 to 1, not {other}"),
            },
        };
        Ok(Box::new(Values { choice, is_descending, item: self.value_type(types), groups: Vec::new() }))
    }

    fn is_ordered_set(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Values {
    choice: Choice,
    is_descending: bool,
    item: DataType,
    groups: Vec<Vec<ScalarValue>>,
}

impl Values {
    fn chosen(&self, mut values: Vec<ScalarValue>) -> Option<ScalarValue> {
        values.sort_by(|a, b| if self.is_descending { compare(b, a) } else { compare(a, b) });
        match self.choice {
            Choice::Share(share) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "a share of a count is a count"
                )]
                let before = (share * values.len() as f64).ceil() as usize;
                let at = before.saturating_sub(1);
                (at < values.len()).then(|| values.swap_remove(at))
            }
            Choice::MostFrequent => {
                let runs = values.chunk_by(|a, b| compare(a, b) == Ordering::Equal);
                // Of runs that are equally long the first stays.
                runs.reduce(|best, run| if run.len() > best.len() { run } else { best })
                    .and_then(|run| run.first().cloned())
            }
        }
    }
}

impl Many for Values {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Vec::new());
    }

    fn update(&mut self, values: &[ArrayRef], groups: &[usize], kept: &dyn Fn(usize) -> bool) -> Result<()> {
        let nulls = values[0].logical_nulls();
        for (row, &group) in groups.iter().enumerate() {
            if kept(row) && nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                self.groups[group].push(ScalarValue::try_from_array(&values[0], row)?);
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
                    self.groups[group].push(ScalarValue::try_from_array(&values, at)?);
                }
            }
        }
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit_to.take_needed(&mut self.groups);
        let lengths = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
        let nulls = NullBuffer::from_iter(groups.iter().map(|list| !list.is_empty()));
        let mut values = groups.into_iter().flatten().peekable();
        let values =
            if values.peek().is_none() { new_empty_array(&self.item) } else { ScalarValue::iter_to_array(values)? };
        let field = Arc::new(Field::new_list_field(self.item.clone(), true));
        Ok(vec![Arc::new(ListArray::try_new(field, lengths, values, Some(nulls))?)])
    }

    fn value(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        let count = groups.len();
        let null = ScalarValue::try_new_null(&self.item)?;
        let chosen: Vec<ScalarValue> =
            groups.into_iter().map(|values| self.chosen(values).unwrap_or_else(|| null.clone())).collect();
        if chosen.is_empty() { Ok(new_null_array(&self.item, count)) } else { ScalarValue::iter_to_array(chosen) }
    }

    fn size_bytes(&self) -> usize {
        self.groups.iter().flatten().map(ScalarValue::size).sum::<usize>()
            + self.groups.capacity() * size_of::<Vec<ScalarValue>>()
    }

    fn fresh(&self) -> Box<dyn Many> {
        Box::new(Self {
            choice: self.choice,
            is_descending: self.is_descending,
            item: self.item.clone(),
            groups: Vec::new(),
        })
    }
}
