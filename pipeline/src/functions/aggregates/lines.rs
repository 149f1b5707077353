//! `evidence_lines(timestamp, level, service, host, message, _partition, _offset, _row)`: the first log lines of a group, at most [`MOST`], as a list of
//! JSON objects. Rules over logs keep them, so that an alert shows what it was raised for.
//!
//! Lines are in the order of time, then of their row identity; the first of two lists are the first of their union, so any merging gives the same list.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::logical_expr::EmitTo;
use serde_json::json;

use super::state::{Function, Many};
use crate::data::time;

/// Longest list.
const MOST: usize = 10;
/// Longest message that is kept whole, in bytes.
const MAX_MESSAGE_BYTES: usize = 1_024;
/// Digits in front of a line in a state: its place, so that states sort as their places do.
const PLACE_DIGITS: usize = 16 + 8 + 16 + 8;

/// The function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lines;

impl Function for Lines {
    fn name(&self) -> &'static str {
        "evidence_lines"
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.len() != 8 {
            return plan_err!(
                "{0} takes {0}(timestamp, level, service, host, message, _partition, _offset, _row)",
                self.name()
            );
        }
        let mut wanted = vec![time::data_type()];
        wanted.extend([DataType::Utf8, DataType::Utf8, DataType::Utf8, DataType::Utf8]);
        wanted.extend([DataType::Int32, DataType::Int64, DataType::Int32]);
        Ok(wanted)
    }

    fn value_type(&self, _: &[DataType]) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
    }

    fn state_types(&self, types: &[DataType]) -> Vec<DataType> {
        vec![self.value_type(types)]
    }

    fn many(&self, _: &[DataType], _: &dyn Fn(usize) -> Result<ScalarValue>) -> Result<Box<dyn Many>> {
        Ok(Box::new(Kept::default()))
    }
}

/// Where a line stands: its instant, partition, offset, row.
type Place = (i64, i32, i64, i32);

#[derive(Debug, Default)]
struct Kept {
    /// The first ones, in order.
    groups: Vec<Vec<(Place, String)>>,
}

struct Columns<'a> {
    at: &'a TimestampMicrosecondArray,
    texts: [&'a StringArray; 4],
    partition: &'a Int32Array,
    offset: &'a Int64Array,
    row: &'a Int32Array,
}

impl<'a> Columns<'a> {
    fn of(values: &'a [ArrayRef]) -> Result<Self> {
        let [at, level, service, host, message, partition, offset, row] = values else {
            return plan_err!("evidence_lines takes eight columns");
        };
        Ok(Self {
            at: at.as_primitive::<TimestampMicrosecondType>(),
            texts: [level, service, host, message].map(|text| text.as_string::<i32>()),
            partition: partition.as_primitive::<Int32Type>(),
            offset: offset.as_primitive::<Int64Type>(),
            row: row.as_primitive::<Int32Type>(),
        })
    }

    fn place(&self, row: usize) -> Option<Place> {
        let at = self.at.is_valid(row).then(|| self.at.value(row))?;
        Some((at, self.partition.value(row), self.offset.value(row), self.row.value(row)))
    }

    fn line(&self, row: usize, (at, partition, offset, number): Place) -> String {
        let [level, service, host, message] = self.texts.map(|text| text.is_valid(row).then(|| text.value(row)));
        let message = message.map(|text| &text[..text.floor_char_boundary(MAX_MESSAGE_BYTES)]);
        json!({
            "timestamp": time::format(at), "level": level, "service": service, "host": host, "message": message,
            "partition": partition, "offset": offset, "row": number,
        })
        .to_string()
    }
}

/// Takes a line in where it is one of the first. The text is asked for only then.
fn add(list: &mut Vec<(Place, String)>, place: Place, text: impl FnOnce() -> String) {
    let at = list.partition_point(|(known, _)| *known <= place);
    if at < MOST {
        list.insert(at, (place, text()));
        list.truncate(MOST);
    }
}

impl Kept {
    fn lists(&mut self, emit_to: EmitTo, text: impl Fn(Place, String) -> String) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        let lengths = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
        let lines: Vec<String> = groups.into_iter().flatten().map(|(place, line)| text(place, line)).collect();
        let lines = StringArray::from(lines);
        let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
        Ok(Arc::new(ListArray::try_new(field, lengths, Arc::new(lines), None)?))
    }
}

/// A place as text that sorts as places do.
fn written((at, partition, offset, row): Place) -> String {
    let shifted = at.cast_unsigned() ^ (1 << 63);
    format!("{shifted:016x}{:08x}{:016x}{:08x}", partition.cast_unsigned(), offset.cast_unsigned(), row.cast_unsigned())
}

fn read(text: &str) -> Option<(Place, &str)> {
    let (digits, line) = text.split_at_checked(PLACE_DIGITS)?;
    let long = |from: usize| u64::from_str_radix(digits.get(from..from + 16)?, 16).ok();
    let short = |from: usize| u32::from_str_radix(digits.get(from..from + 8)?, 16).ok();
    let at = (long(0)? ^ (1 << 63)).cast_signed();
    Some(((at, short(16)?.cast_signed(), long(24)?.cast_signed(), short(40)?.cast_signed()), line))
}

impl Many for Kept {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Vec::new());
    }

    fn update(&mut self, values: &[ArrayRef], groups: &[usize], kept: &dyn Fn(usize) -> bool) -> Result<()> {
        let columns = Columns::of(values)?;
        for (row, &group) in groups.iter().enumerate() {
            if let Some(place) = columns.place(row).filter(|_| kept(row)) {
                add(&mut self.groups[group], place, || columns.line(row, place));
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        for (row, &group) in groups.iter().enumerate() {
            if lists.is_null(row) {
                continue;
            }
            let lines = lists.value(row);
            for text in lines.as_string::<i32>().iter().flatten() {
                let (place, line) =
                    read(text).ok_or_else(|| exec_datafusion_err!("a state of evidence_lines is unreadable"))?;
                add(&mut self.groups[group], place, || line.to_owned());
            }
        }
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.lists(emit_to, |place, line| written(place) + &line)?])
    }

    fn value(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.lists(emit_to, |_, line| line)
    }

    fn size_bytes(&self) -> usize {
        let lines = self.groups.iter().flatten();
        lines.map(|(_, line)| line.capacity() + size_of::<(Place, String)>()).sum::<usize>()
            + self.groups.capacity() * size_of::<Vec<(Place, String)>>()
    }

    fn fresh(&self) -> Box<dyn Many> {
        Box::new(Self::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_so_that_they_sort() {
        let places = [(-5, 0, 1, 2), (0, 0, 0, 0), (7, 1, 0, 3), (7, 1, 1 << 40, 0), (7, 2, 0, 0)];
        let texts = places.map(|place| written(place) + "{}");
        assert!(texts.is_sorted(), "{texts:?}");
        for (place, text) in places.iter().zip(&texts) {
            assert_eq!(read(text), Some((*place, "{}")));
        }
    }
}
