//! The windows of `hop` that a row is in, for a query engine: a list of their starts, to be unnested.

use std::sync::Arc;

use arrow::array::{Array, AsArray, ListArray, TimestampMicrosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, TimestampMicrosecondType};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::tumble_start_us;
use crate::data::time;

/// The starts of the windows that span an instant, in order; widths in microseconds, both positive. None where the slide is wider than the window and the
/// instant between two.
pub fn hop_starts_us(instant_us: i64, slide_us: i64, size_us: i64) -> impl Iterator<Item = i64> {
    let last_us = tumble_start_us(instant_us, slide_us);
    // The earliest start that is later than `instant - size`.
    let before = (last_us.saturating_add(size_us).saturating_sub(instant_us).saturating_sub(1)).div_euclid(slide_us);
    (0..=before).rev().map(move |n| last_us.saturating_sub(n.saturating_mul(slide_us)))
}

/// `hop_starts(timestamp)` for a slide and a size.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HopStarts {
    slide_us: i64,
    size_us: i64,
    signature: Signature,
}

impl HopStarts {
    pub(super) fn new(slide_us: i64, size_us: i64) -> Self {
        Self { slide_us, size_us, signature: Signature::any(1, Volatility::Immutable) }
    }
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(time::data_type(), true))
}

impl ScalarUDFImpl for HopStarts {
    fn name(&self) -> &str {
        "hop_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(item()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [instants] = args.args.as_slice() else { return plan_err!("hop_starts takes an instant") };
        let instants = instants.to_array(args.number_rows)?;
        let Some(instants) = instants.as_primitive_opt::<TimestampMicrosecondType>() else {
            return plan_err!("hop got {} instead of an instant", instants.data_type());
        };
        let mut starts = Vec::new();
        let mut lengths = Vec::with_capacity(instants.len());
        for instant in instants.iter() {
            let before = starts.len();
            starts.extend(instant.into_iter().flat_map(|at| hop_starts_us(at, self.slide_us, self.size_us)));
            lengths.push(starts.len() - before);
        }
        let starts = TimestampMicrosecondArray::from(starts).with_timezone_opt(Some("UTC"));
        let lists = ListArray::try_new(
            item(),
            OffsetBuffer::from_lengths(lengths),
            Arc::new(starts),
            instants.nulls().cloned(),
        )?;
        Ok(ColumnarValue::Array(Arc::new(lists)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_that_span_an_instant() {
        let starts = |at, slide, size| hop_starts_us(at, slide, size).collect::<Vec<_>>();
        assert_eq!(starts(12, 5, 10), [5, 10]);
        assert_eq!(starts(10, 5, 10), [5, 10]);
        assert_eq!(starts(-1, 5, 15), [-15, -10, -5]);
        assert_eq!(starts(9, 4, 6), [4, 8]);
        assert_eq!(starts(11, 4, 6), [8]);
        assert_eq!(starts(3, 10, 2), [0; 0], "between two windows");
    }
}
