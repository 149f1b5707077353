//! Functions one of whose arguments says how large the result is, with a limit on it.
//!
//! DataFusion counts what joins, sorts and aggregates hold, not what an expression makes: `repeat('x', 2000000000)` would take its memory
//! before anybody asks. Here the size is worked out from the arguments first.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

/// The most that one call makes of one batch of rows, bytes.
const MAX_RESULT_BYTES: i128 = 64 << 20;
/// What an element of a list takes at least, bytes.
const ELEMENT_BYTES: i128 = 8;
/// What a character takes at most, bytes.
const CHARACTER_BYTES: i128 = 4;
const DAY_NS: i128 = 86_400_000_000_000;

/// How a result's size follows from the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Size {
    /// The first argument, as often as the second says: `repeat`, `array_repeat`.
    Times,
    /// As many characters as the second argument says: `lpad`, `rpad`.
    Characters,
    /// As many elements as the second argument says: `array_resize`.
    Elements,
    /// From the first to the second in steps of the third: `range`, `generate_series`.
    Range,
}

const BOUNDED: [(&str, Size); 7] = [
    ("repeat", Size::Times),
    ("array_repeat", Size::Times),
    ("lpad", Size::Characters),
    ("rpad", Size::Characters),
    ("array_resize", Size::Elements),
    ("range", Size::Range),
    ("generate_series", Size::Range),
];

/// Puts the limit around those functions that the registry has.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for (name, size) in BOUNDED {
        if let Ok(inner) = registry.udf(name) {
            registry.register_udf(Arc::new(ScalarUDF::from(Bounded { inner, size })))?;
        }
    }
    Ok(())
}

/// A function behind a limit. It is the function in all else.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    size: Size,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.inner().simplify(args, info)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let size_bytes = self.size_bytes(&args)?;
        if size_bytes > MAX_RESULT_BYTES {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{}() would make {size_bytes} bytes at once, the limit is {MAX_RESULT_BYTES}",
                self.name()
            )));
        }
        self.inner.inner().invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.inner().documentation()
    }
}

impl Bounded {
    /// About what the result takes, bytes, over all rows.
    fn size_bytes(&self, args: &ScalarFunctionArgs) -> Result<i128> {
        // A call on constants is one row, however many rows it is for.
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays: Vec<ArrayRef> = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<_>>()?;
        if self.size == Size::Range {
            return Ok(range_elements(&arrays)?.saturating_mul(ELEMENT_BYTES));
        }
        let [first, count, ..] = arrays.as_slice() else { return Ok(0) };
        let total: i128 = integers(count)?.into_iter().flatten().map(|n| i128::from(n.max(0))).sum();
        Ok(total.saturating_mul(match self.size {
            Size::Characters => CHARACTER_BYTES,
            Size::Times => widest(first)?,
            Size::Elements | Size::Range => ELEMENT_BYTES,
        }))
    }
}

fn integers(array: &ArrayRef) -> Result<Vec<Option<i64>>> {
    let array = cast(array, &DataType::Int64)?;
    Ok(array.as_primitive::<Int64Type>().iter().collect())
}

/// What the widest value takes, bytes; of nested values the average.
fn widest(array: &ArrayRef) -> Result<i128> {
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let lengths = integers(&length(array)?)?;
            Ok(lengths.into_iter().flatten().map(i128::from).max().unwrap_or(0).max(1))
        }
        _ => {
            let bytes = i128::try_from(array.get_array_memory_size()).unwrap_or(i128::MAX);
            let rows = i128::try_from(array.len().max(1)).unwrap_or(1);
            Ok((bytes / rows).max(ELEMENT_BYTES))
        }
    }
}

/// How many elements the ranges have together.
fn range_elements(arrays: &[ArrayRef]) -> Result<i128> {
    let (start, stop, step) = match arrays {
        [stop] => (None, stop, None),
        [start, stop] => (Some(start), stop, None),
        [start, stop, step, ..] => (Some(start), stop, Some(step)),
        [] => return Ok(0),
    };
    // Whole numbers count in ones, times in nanoseconds.
    let unit: i128 = match stop.data_type() {
        DataType::Date32 => DAY_NS,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        DataType::Null => return Ok(0),
        other if other.is_integer() => 1,
        // Nothing else has a range.
        _ => return Ok(0),
    };
    let plain = |array: &ArrayRef| -> Result<Vec<Option<i64>>> {
        match array.data_type() {
            DataType::Date32 => integers(&cast(array, &DataType::Int32)?),
            _ => integers(array),
        }
    };
    let stops = plain(stop)?;
    let starts = start.map(plain).transpose()?;
    let steps = step.map(steps).transpose()?;
    let mut total: i128 = 0;
    for (row, stop) in stops.iter().enumerate() {
        let start = starts.as_ref().map_or(Some(0), |s| s.get(row).copied().flatten());
        let step = steps.as_ref().map_or(Some(1), |s| s.get(row).copied().flatten());
        if let (Some(start), Some(stop), Some(step)) = (start, *stop, step) {
            let distance = (i128::from(stop) - i128::from(start)).abs().saturating_mul(unit);
            total = total.saturating_add(distance / step.abs().max(1) + 1);
        }
    }
    Ok(total)
}

/// Steps as whole numbers or nanoseconds; a month counts as its shortest.
fn steps(array: &ArrayRef) -> Result<Vec<Option<i128>>> {
    if !matches!(array.data_type(), DataType::Interval(_)) {
        return Ok(integers(array)?.into_iter().map(|s| s.map(i128::from)).collect());
    }
    let array = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let in_ns = |s: arrow::datatypes::IntervalMonthDayNano| {
        (i128::from(s.months) * 28 + i128::from(s.days)) * DAY_NS + i128::from(s.nanoseconds)
    };
    Ok(array.as_primitive::<IntervalMonthDayNanoType>().iter().map(|s| s.map(in_ns)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;

    async fn run(sql: &str) -> Result<String, String> {
        let mut context = SessionContext::new();
        super::register(&mut context).unwrap();
        let batches = context.sql(sql).await.map_err(|e| e.to_string())?.collect().await.map_err(|e| e.to_string())?;
        Ok(pretty_format_batches(&batches).unwrap().to_string())
    }

    #[tokio::test]
    async fn small_results_are_as_ever() {
        for (sql, expected) in [
            ("SELECT repeat('ab', 3)", "| ababab"),
            ("SELECT repeat('ab', -3) || 'x'", "| x "),
            ("SELECT lpad('a', 3, 'x') || rpad('a', 3)", "| xxaa  "),
            ("SELECT array_repeat('a', 2)", "| [a, a]"),
            ("SELECT array_resize([1], 3, 7)", "| [1, 7, 7]"),
            ("SELECT range(1, 4)", "| [1, 2, 3]"),
            ("SELECT generate_series(3, 1, -1)", "| [3, 2, 1]"),
            ("SELECT array_length(range(DATE '2026-01-01', DATE '2026-03-01', INTERVAL '1 month'))", "| 2"),
            ("SELECT sum(length(repeat('a', n))) FROM (VALUES (1), (2), (NULL)) t(n)", "| 3"),
        ] {
            let table = run(sql).await.unwrap();
            assert!(table.contains(expected), "{sql}\n{table}");
        }
    }

    #[tokio::test]
    async fn large_results_are_refused_before_they_are_made() {
        for sql in [
            "SELECT repeat('x', 2000000000)",
            "SELECT length(repeat('x', n * 1000000)) FROM (VALUES (100), (200)) t(n)",
            "SELECT lpad('x', 2000000000)",
            "SELECT rpad('x', 2000000000, 'y')",
            "SELECT array_repeat(1, 1000000000)",
            "SELECT array_resize([1], 1000000000)",
            "SELECT array_length(range(0, 9223372036854775807))",
            "SELECT array_length(generate_series(TIMESTAMP '1970-01-01', TIMESTAMP '2026-01-01', INTERVAL '1 second'))",
        ] {
            let error = run(sql).await.unwrap_err();
            assert!(error.contains("bytes at once, the limit is 67108864"), "{sql}: {error}");
        }
    }
}
