//! `ago('1h')`: the moment this long before the query began.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// `ago(duration)`, a timestamp in microseconds, UTC. The duration is a literal as people write them: `'90s'`, `'1h 30m'`, `'7d'`.
/// It becomes a constant of the plan, so that files are pruned by it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Ago {
    signature: Signature,
}

impl Ago {
    pub(super) fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Utf8], Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Ago {
    fn name(&self) -> &str {
        "ago"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let (Some(now), [Expr::Literal(ScalarValue::Utf8(Some(text)), _)]) =
            (info.query_execution_start_time(), args.as_slice())
        else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let at_us = moment_us(now.timestamp_micros(), text)?;
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(
            ScalarValue::TimestampMicrosecond(Some(at_us), Some("UTC".into())),
            None,
        )))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Plan("ago takes one literal duration, such as ago('1h')".to_string()))
    }
}

/// `now_us` less the duration, microseconds since 1970.
fn moment_us(now_us: i64, text: &str) -> Result<i64> {
    let duration = humantime::parse_duration(text).map_err(|e| {
        DataFusionError::Plan(format!("ago({text:?}): not a duration such as '90s', '1h' or '7d': {e}"))
    })?;
    i64::try_from(duration.as_micros())
        .ok()
        .and_then(|us| now_us.checked_sub(us))
        .ok_or_else(|| DataFusionError::Plan(format!("ago({text:?}): further back than time goes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_back_by_the_duration() {
        assert_eq!(moment_us(3_600_000_000, "1h").unwrap(), 0);
        assert_eq!(moment_us(0, "1500ms").unwrap(), -1_500_000);
    }

    #[test]
    fn a_bad_duration_is_an_error_that_shows_it() {
        let error = moment_us(0, "yesterday").unwrap_err().to_string();
        assert!(error.contains("ago(\"yesterday\"): not a duration"), "{error}");
        assert!(moment_us(0, "500000y").unwrap_err().to_string().contains("further back than time goes"));
    }
}
