//! What of a text matches a pattern.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use regex::{Regex, RegexBuilder};

use super::humanize::as_given;

/// Memory that a compiled pattern may take, bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Function {
    /// `regexp_extract(text, pattern [, group])`: `''` where nothing matches, as in DuckDB and Spark.
    Extract,
    /// `regexp_substr(text, pattern)`: NULL where nothing matches, as in Postgres.
    Substr,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Regexp {
    function: Function,
    signature: Signature,
}

impl Regexp {
    pub(super) fn new(function: Function) -> Self {
        Self { function, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Regexp {
    fn name(&self) -> &str {
        match self.function {
            Function::Extract => "regexp_extract",
            Function::Substr => "regexp_substr",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match (arg_types.len(), self.function) {
            (2, _) => Ok(vec![DataType::Utf8, DataType::Utf8]),
            (3, Function::Extract) => Ok(vec![DataType::Utf8, DataType::Utf8, DataType::Int64]),
            _ => plan_err!("{} takes a text and a pattern", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let arrays: Vec<ArrayRef> = args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<_>>()?;
        let (Some(texts), Some(patterns)) = (arrays.first(), arrays.get(1)) else {
            return plan_err!("{} takes a text and a pattern", self.name());
        };
        let (texts, patterns): (&StringArray, &StringArray) = (texts.as_string(), patterns.as_string());
        let groups = arrays.get(2).map(|groups| groups.as_primitive::<Int64Type>());
        let mut compiled: Option<(String, Regex)> = None;
        let mut out = StringBuilder::with_capacity(rows, texts.value_data().len() / 2);
        for row in 0..rows {
            let group = groups.map_or(Some(0), |groups| groups.is_valid(row).then(|| groups.value(row)));
            let (true, true, Some(group)) = (texts.is_valid(row), patterns.is_valid(row), group) else {
                out.append_null();
                continue;
            };
            let pattern = patterns.value(row);
            // One pattern for all rows, most of the time.
            if compiled.as_ref().is_none_or(|(of, _)| of != pattern) {
                compiled = Some((pattern.to_string(), self.compile(pattern)?));
            }
            let Some((_, regex)) = &compiled else { continue };
            let found = match group {
                0 => regex.find(texts.value(row)).map(|m| m.as_str()),
                group => {
                    let Some(group) = usize::try_from(group).ok().filter(|group| *group < regex.captures_len()) else {
                        return exec_err!("{}: {pattern:?} has no group {group}", self.name());
                    };
                    // A group that took no part in the match is as empty as no match.
                    regex.captures(texts.value(row)).and_then(|c| c.get(group)).map(|m| m.as_str())
                }
            };
            match (found, self.function) {
                (Some(found), _) => out.append_value(found),
                (None, Function::Extract) => out.append_value(""),
                (None, Function::Substr) => out.append_null(),
            }
        }
        as_given(Arc::new(out.finish()), is_scalar)
    }
}

impl Regexp {
    fn compile(&self, pattern: &str) -> Result<Regex> {
        RegexBuilder::new(pattern)
            .size_limit(MAX_PATTERN_BYTES)
            .build()
            .map_err(|e| DataFusionError::Execution(format!("{}: a regular expression that is none: {e}", self.name())))
    }
}
