//! `first(x)` and `last(x)`: the value of the row with the least and the greatest timestamp.
//!
//! Rows of one instant are told apart by their identity: partition, offset, row. Where there is none (a subquery), by the value itself, the greater
//! one. NULL values are passed over.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, TimestampMicrosecondArray, new_empty_array};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::EmitTo;

use super::state::{Function, Many};
use crate::data::time;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FirstLast {
    First,
    Last,
}

impl Function for FirstLast {
    fn name(&self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
        }
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let all = [None, Some(time::data_type()), Some(DataType::Int32), Some(DataType::Int64), Some(DataType::Int32)];
        if ![1, 2, 5].contains(&types.len()) {
            let name = self.name();
            return plan_err!(
                "{name} takes a value, and where the rows have no column timestamp an instant: {name}(value, instant)"
            );
        }
        let instant = types.get(1);
        if instant.is_some_and(|t| !matches!(t, DataType::Timestamp(..) | DataType::Date32 | DataType::Null)) {
            return plan_err!("the second argument of {} is the instant to go by", self.name());
        }
        Ok(types.iter().zip(all).map(|(given, wanted)| wanted.unwrap_or_else(|| given.clone())).collect())
    }

    fn value_type(&self, types: &[DataType]) -> DataType {
        types.first().cloned().unwrap_or(DataType::Null)
    }

    fn state_types(&self, types: &[DataType]) -> Vec<DataType> {
        vec![self.value_type(types), time::data_type(), DataType::Int32, DataType::Int64, DataType::Int32]
    }

    fn many(&self, types: &[DataType], _: &dyn Fn(usize) -> Result<ScalarValue>) -> Result<Box<dyn Many>> {
        if types.len() < 2 {
            return plan_err!("{0} needs the column timestamp; over other rows say {0}(value, instant)", self.name());
        }
        Ok(Box::new(Chosen::new(*self, self.value_type(types))))
    }
}

/// Where a row stands: its instant, then its identity.
type Place = (i64, i32, i64, i32);

/// The row chosen so far, per group.
#[derive(Debug)]
struct Chosen {
    which: FirstLast,
    value_type: DataType,
    groups: Vec<Option<(Place, ScalarValue)>>,
    /// Of the batch in hand: the best row of each group, so that one value is taken out per group and not per row.
    best: Vec<Option<(Place, usize)>>,
}

/// The columns that say where rows stand.
struct Places<'a> {
    at: &'a TimestampMicrosecondArray,
    identity: Option<(&'a Int32Array, &'a Int64Array, &'a Int32Array)>,
}

impl<'a> Places<'a> {
    fn new(columns: &'a [ArrayRef]) -> Result<Self> {
        let (Some(at), rest) = (columns.first(), columns.get(1..4)) else { return plan_err!("rows have no instant") };
        let identity = rest.map(|c| {
            (c[0].as_primitive::<Int32Type>(), c[1].as_primitive::<Int64Type>(), c[2].as_primitive::<Int32Type>())
        });
        Ok(Self { at: at.as_primitive::<TimestampMicrosecondType>(), identity })
    }

    fn get(&self, row: usize) -> Option<Place> {
        let at = self.at.is_valid(row).then(|| self.at.value(row))?;
        let (partition, offset, number) =
            self.identity.map_or((0, 0, 0), |(p, o, r)| (p.value(row), o.value(row), r.value(row)));
        Some((at, partition, offset, number))
    }
}

impl Chosen {
    fn new(which: FirstLast, value_type: DataType) -> Self {
        Self { which, value_type, groups: Vec::new(), best: Vec::new() }
    }

    /// Which of two places is taken; equal where they are one.
    fn compare(&self, a: Place, b: Place) -> Ordering {
        match self.which {
            FirstLast::First => b.cmp(&a),
            FirstLast::Last => a.cmp(&b),
        }
    }

    fn take(
        &mut self,
        values: &ArrayRef,
        places: &Places<'_>,
        groups: &[usize],
        kept: &dyn Fn(usize) -> bool,
    ) -> Result<()> {
        let mut touched = Vec::new();
        let nulls = values.logical_nulls();
        for (row, &group) in groups.iter().enumerate() {
            if nulls.as_ref().is_some_and(|n| n.is_null(row)) || !kept(row) {
                continue;
            }
            let Some(place) = places.get(row) else { continue };
            let better = match &self.best[group] {
                None => {
                    touched.push(group);
                    true
                }
                Some((best, at)) => match self.compare(place, *best) {
                    Ordering::Equal => greater(values, row, *at)?,
                    order => order.is_gt(),
                },
            };
            if better {
                self.best[group] = Some((place, row));
            }
        }
        for group in touched {
            let Some((place, row)) = self.best[group].take() else { continue };
            let order = self.groups[group].as_ref().map(|(chosen, _)| self.compare(place, *chosen));
            if order.is_some_and(Ordering::is_lt) {
                continue;
            }
            let value = ScalarValue::try_from_array(values, row)?;
            if let (Some(Ordering::Equal), Some((_, chosen))) = (order, &self.groups[group])
                && value.partial_cmp(chosen).is_none_or(Ordering::is_le)
            {
                continue;
            }
            self.groups[group] = Some((place, value));
        }
        Ok(())
    }

    fn values(&self, groups: &[Option<(Place, ScalarValue)>]) -> Result<ArrayRef> {
        if groups.is_empty() {
            return Ok(new_empty_array(&self.value_type));
        }
        let null = ScalarValue::try_from(&self.value_type)?;
        ScalarValue::iter_to_array(groups.iter().map(|g| g.as_ref().map_or_else(|| null.clone(), |(_, v)| v.clone())))
    }
}

/// Whether the value of row `a` is greater than that of row `b`.
fn greater(values: &ArrayRef, a: usize, b: usize) -> Result<bool> {
    let (a, b) = (ScalarValue::try_from_array(values, a)?, ScalarValue::try_from_array(values, b)?);
    Ok(a.partial_cmp(&b).is_some_and(Ordering::is_gt))
}

impl Many for Chosen {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, None);
        self.best.resize(groups, None);
    }

    fn update(&mut self, values: &[ArrayRef], groups: &[usize], kept: &dyn Fn(usize) -> bool) -> Result<()> {
        let Some((values, places)) = values.split_first() else { return plan_err!("first and last take a value") };
        self.take(values, &Places::new(places)?, groups, kept)
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> Result<()> {
        self.update(states, groups, &|_| true)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit_to.take_needed(&mut self.groups);
        self.best.truncate(self.groups.len());
        let places: Vec<Option<Place>> = groups.iter().map(|g| g.as_ref().map(|(place, _)| *place)).collect();
        let at: TimestampMicrosecondArray = places.iter().map(|p| p.map(|p| p.0)).collect();
        let partition: Int32Array = places.iter().map(|p| p.map(|p| p.1)).collect();
        let offset: Int64Array = places.iter().map(|p| p.map(|p| p.2)).collect();
        let row: Int32Array = places.iter().map(|p| p.map(|p| p.3)).collect();
        Ok(vec![
            self.values(&groups)?,
            std::sync::Arc::new(at.with_timezone_opt(Some("UTC"))),
            std::sync::Arc::new(partition),
            std::sync::Arc::new(offset),
            std::sync::Arc::new(row),
        ])
    }

    fn value(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        self.best.truncate(self.groups.len());
        self.values(&groups)
    }

    fn size_bytes(&self) -> usize {
        let values: usize = self.groups.iter().flatten().map(|(_, value)| value.size()).sum();
        values + self.groups.capacity() * size_of::<Option<(Place, ScalarValue)>>() + self.best.capacity() * 40
    }

    fn fresh(&self) -> Box<dyn Many> {
        Box::new(Self::new(self.which, self.value_type.clone()))
    }
}
