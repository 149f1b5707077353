//! `count_distinct(x)`: how many different values there are, exactly while they are few, within about 1 % when they are many.
//!
//! A value is known by a hash of 64 bits. Up to 2,047 different ones a group keeps the hashes themselves; beyond, it keeps a HyperLogLog of 16,384
//! registers made of them, so it never takes more than 16 KiB. Which of the two it is, and what is in it, follows from the set of values alone, so
//! any merging of any batches gives the same state and the same answer. NULLs are not counted.
//!
//! The estimate is that of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), which needs no tables of biases.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::EmitTo;
use twox_hash::XxHash64;

use super::state::{Function, Many};

/// Bits of a hash that choose the register.
const INDEX_BITS: u32 = 14;
const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash that are left for the rank, which is at most one more.
const RANK_BITS: usize = 64 - INDEX_BITS as usize;
/// The most hashes that are kept as they are: their bytes are fewer than the registers'.
const MOST_EXACT: usize = REGISTERS / 8 - 1;

/// The function. `count(DISTINCT x)` of a rollup is turned into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CountDistinct;

impl Function for CountDistinct {
    fn name(&self) -> &'static str {
        "count_distinct"
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [value] if !value.is_nested() => Ok(vec![value.clone()]),
            [value] => plan_err!("count_distinct cannot tell values of {value} apart; count one of their parts"),
            _ => plan_err!("count_distinct takes one value: count_distinct(x)"),
        }
    }

    fn value_type(&self, _types: &[DataType]) -> DataType {
        DataType::Int64
    }

    fn state_types(&self, _types: &[DataType]) -> Vec<DataType> {
        vec![DataType::Binary]
    }

    fn many(&self, _types: &[DataType], _: &dyn Fn(usize) -> Result<ScalarValue>) -> Result<Box<dyn Many>> {
        Ok(Box::new(Sets::default()))
    }
}

#[derive(Debug, Default)]
struct Sets {
    groups: Vec<Set>,
}

/// The values of one group.
#[derive(Debug, Clone, PartialEq)]
enum Set {
    /// Hashes, sorted.
    Few(Vec<u64>),
    /// The greatest rank of each register.
    Many(Box<[u8]>),
}

impl Default for Set {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Set {
    fn add(&mut self, hash: u64) {
        match self {
            Self::Many(registers) => count(registers, hash),
            Self::Few(hashes) => {
                let Err(at) = hashes.binary_search(&hash) else { return };
                hashes.insert(at, hash);
                if hashes.len() > MOST_EXACT {
                    *self = Self::Many(registers(hashes));
                }
            }
        }
    }

    /// Takes what [`Self::write`] wrote.
    fn merge(&mut self, state: &[u8]) -> Result<()> {
        if state.len() != REGISTERS {
            let (hashes, rest) = state.as_chunks::<8>();
            if !rest.is_empty() {
                return plan_err!("a set of values has hashes of 8 bytes");
            }
            hashes.iter().for_each(|hash| self.add(u64::from_le_bytes(*hash)));
            return Ok(());
        }
        if let Self::Few(hashes) = self {
            *self = Self::Many(registers(hashes));
        }
        if let Self::Many(own) = self {
            own.iter_mut().zip(state).for_each(|(own, other)| *own = (*own).max(*other));
        }
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Few(hashes) => hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes())),
            Self::Many(registers) => out.extend_from_slice(registers),
        }
    }

    fn len(&self) -> i64 {
        match self {
            Self::Few(hashes) => i64::try_from(hashes.len()).unwrap_or(i64::MAX),
            Self::Many(registers) => estimate(registers),
        }
    }
}

fn registers(hashes: &[u64]) -> Box<[u8]> {
    let mut registers = vec![0; REGISTERS].into_boxed_slice();
    hashes.iter().for_each(|hash| count(&mut registers, *hash));
    registers
}

fn count(registers: &mut [u8], hash: u64) {
    let index = usize::try_from(hash >> RANK_BITS).unwrap_or(0);
    let zeros = (hash << INDEX_BITS).leading_zeros().min(64 - INDEX_BITS);
    let rank = u8::try_from(zeros + 1).unwrap_or(u8::MAX);
    if let Some(register) = registers.get_mut(index) {
        *register = (*register).max(rank);
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "an estimate, of numbers that are far below 2^53"
)]
fn estimate(registers: &[u8]) -> i64 {
    let mut of_rank = [0_u32; RANK_BITS + 2];
    for &rank in registers {
        if let Some(count) = of_rank.get_mut(usize::from(rank)) {
            *count += 1;
        }
    }
    let all = REGISTERS as f64;
    let mut z = all * tau(1.0 - f64::from(of_rank[RANK_BITS + 1]) / all);
    for &count in of_rank[1..=RANK_BITS].iter().rev() {
        z = 0.5 * (z + f64::from(count));
    }
    z += all * sigma(f64::from(of_rank[0]) / all);
    (all * all / (2.0 * std::f64::consts::LN_2 * z)).round() as i64
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

/// The hash of each value. It must never change: it is in states.
fn hashes(values: &ArrayRef) -> Result<Vec<u64>> {
    let hash = |bytes: &[u8]| XxHash64::oneshot(0, bytes);
    let rows = 0..values.len();
    Ok(match values.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let values = cast(values, &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            // The zeros are one value, and so are all NaNs.
            let bits = |x: f64| if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() };
            values.values().iter().map(|x| hash(&bits(*x).to_le_bytes())).collect()
        }
        t if t.is_temporal() || t.is_integer() && *t != DataType::UInt64 => match cast(values, &DataType::Int64) {
            Ok(numbers) => {
                numbers.as_primitive::<Int64Type>().values().iter().map(|n| hash(&n.to_le_bytes())).collect()
            }
            Err(_) => texts(values)?.iter().map(|text| hash(text.unwrap_or_default())).collect(),
        },
        DataType::Binary => rows.map(|row| hash(values.as_binary::<i32>().value(row))).collect(),
        _ => texts(values)?.iter().map(|text| hash(text.unwrap_or_default())).collect(),
    })
}

fn texts(values: &ArrayRef) -> Result<arrow::array::BinaryArray> {
    Ok(cast(&cast(values, &DataType::Utf8)?, &DataType::Binary)?.as_binary::<i32>().clone())
}

impl Many for Sets {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Set::default());
    }

    fn update(&mut self, values: &[ArrayRef], groups: &[usize], kept: &dyn Fn(usize) -> bool) -> Result<()> {
        let nulls = values[0].logical_nulls();
        let hashes = hashes(&values[0])?;
        for (row, (&group, hash)) in groups.iter().zip(hashes).enumerate() {
            if nulls.as_ref().is_none_or(|n| n.is_valid(row)) && kept(row) {
                self.groups[group].add(hash);
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> Result<()> {
        let states = states[0].as_binary::<i32>();
        for (row, &group) in groups.iter().enumerate() {
            if states.is_valid(row) {
                self.groups[group].merge(states.value(row))?;
            }
        }
        Ok(())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut out = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for set in emit_to.take_needed(&mut self.groups) {
            set.write(&mut bytes);
            out.append_value(&bytes);
        }
        Ok(vec![Arc::new(out.finish())])
    }

    fn value(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        Ok(Arc::new(groups.iter().map(|set| Some(set.len())).collect::<Int64Array>()))
    }

    fn size_bytes(&self) -> usize {
        let sets = self.groups.iter().map(|set| match set {
            Set::Few(hashes) => hashes.capacity() * 8,
            Set::Many(_) => REGISTERS,
        });
        sets.sum::<usize>() + self.groups.capacity() * size_of::<Set>()
    }

    fn fresh(&self) -> Box<dyn Many> {
        Box::new(Self::default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(values: impl IntoIterator<Item = i64>) -> Set {
        let mut set = Set::default();
        let values: ArrayRef = Arc::new(values.into_iter().collect::<Int64Array>());
        hashes(&values).unwrap().into_iter().for_each(|hash| set.add(hash));
        set
    }

    fn merged(a: &Set, b: &Set) -> Set {
        let (mut merged, mut bytes) = (a.clone(), Vec::new());
        b.write(&mut bytes);
        merged.merge(&bytes).unwrap();
        merged
    }

    #[test]
    fn few_are_counted_exactly_and_many_within_three_standard_errors() {
        for n in [0, 1, 2, 1_000, 2_047] {
            assert_eq!(of((0..n).chain(0..n)).len(), n);
        }
        for n in [2_048, 5_000, 20_000, 60_000, 300_000] {
            let counted = of(0..n).len();
            assert!((counted - n).abs() * 1_000 <= n * 25, "{n}: {counted}");
        }
    }

    #[test]
    fn a_merge_is_the_union_whichever_form_the_parts_have() {
        for (a, b) in [(0..10, 5..20), (0..2_000, 1_000..3_000), (0..3_000, 0..5), (0..5, 0..9_000), (0..0, 0..9_000)] {
            let whole = of(a.clone().chain(b.clone()));
            let (a, b) = (of(a), of(b));
            assert_eq!(merged(&a, &b), whole);
            assert_eq!(merged(&b, &a), whole);
        }
    }

    #[test]
    fn values_are_told_apart_as_sql_does() {
        let count = |values: ArrayRef| {
            let mut sets = Sets::default();
            sets.resize(1);
            sets.update(&[Arc::clone(&values)], &vec![0; values.len()], &|_| true).unwrap();
            sets.value(EmitTo::All).unwrap().as_primitive::<Int64Type>().value(0)
        };
        let floats: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![
            Some(0.0),
            Some(-0.0),
            Some(f64::NAN),
            Some(-f64::NAN),
            None,
            Some(1.5),
        ]));
        assert_eq!(count(floats), 3);
        let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![Some("a"), Some(""), None, Some("a")]));
        assert_eq!(count(texts), 2);
        assert_eq!(count(Arc::new(arrow::array::BooleanArray::from(vec![Some(true), Some(false), None]))), 2);
        assert_eq!(count(Arc::new(arrow::array::UInt64Array::from(vec![u64::MAX, 1, u64::MAX - 1]))), 3);
        assert_eq!(count(Arc::new(crate::data::time::array(vec![1, 2, 2]))), 2);
    }
}
