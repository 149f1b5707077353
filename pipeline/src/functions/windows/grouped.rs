//! `hop` and `session` as they stand in SQL: checked when a query is planned, and run by nobody.

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::data::time;

/// `hop(timestamp, slide, size)`: windows that overlap.
pub const HOP: &str = "hop";
/// `session(timestamp, gap)`: windows that end where nothing has come for the gap.
pub const SESSION: &str = "session";

/// One of the two.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::functions) struct GroupedWindow {
    name: &'static str,
    usage: &'static str,
    intervals: usize,
    signature: Signature,
}

impl GroupedWindow {
    pub(in crate::functions) fn hop() -> Self {
        Self::new(HOP, "hop(timestamp, INTERVAL '1 minute', INTERVAL '5 minutes'), slide first, then size", 2)
    }

    pub(in crate::functions) fn session() -> Self {
        Self::new(SESSION, "session(timestamp, INTERVAL '10 minutes')", 1)
    }

    fn new(name: &'static str, usage: &'static str, intervals: usize) -> Self {
        Self { name, usage, intervals, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for GroupedWindow {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (name, usage) = (self.name, self.usage);
        let Some((instant, intervals)) = arg_types.split_first().filter(|(_, i)| i.len() == self.intervals) else {
            return plan_err!("{name} takes {} arguments: {usage}", self.intervals + 1);
        };
        if !matches!(instant, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null) {
            return plan_err!("the first argument of {name} must be an instant, not {instant}: {usage}");
        }
        if let Some(other) = intervals.iter().find(|i| !matches!(i, DataType::Interval(_))) {
            return plan_err!("{name} takes intervals such as INTERVAL '1 minute', not {other}: {usage}");
        }
        let mut types = vec![time::data_type()];
        types.extend(intervals.iter().map(|_| DataType::Interval(IntervalUnit::MonthDayNano)));
        Ok(types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(time::data_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("{} stands by itself in GROUP BY: {}", self.name, self.usage)
    }
}
