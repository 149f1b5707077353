//! `to_char` with Postgres's patterns, and `strftime`.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// Postgres's patterns and those of `strftime`; of two that begin alike the longer is first.
const PATTERNS: &[(&str, &str)] = &[
    ("YYYY", "%Y"),
    ("yyyy", "%Y"),
    ("IYYY", "%G"),
    ("YY", "%y"),
    ("yy", "%y"),
    ("MONTH", "%B"),
    ("Month", "%B"),
    ("month", "%B"),
    ("MON", "%b"),
    ("Mon", "%b"),
    ("mon", "%b"),
    ("MM", "%m"),
    ("mm", "%m"),
    ("DAY", "%A"),
    ("Day", "%A"),
    ("day", "%A"),
    ("DDD", "%j"),
    ("ddd", "%j"),
    ("DD", "%d"),
    ("dd", "%d"),
    ("DY", "%a"),
    ("Dy", "%a"),
    ("dy", "%a"),
    ("ID", "%u"),
    ("IW", "%V"),
    ("WW", "%U"),
    ("HH24", "%H"),
    ("hh24", "%H"),
    ("HH12", "%I"),
    ("hh12", "%I"),
    ("HH", "%I"),
    ("hh", "%I"),
    ("MI", "%M"),
    ("mi", "%M"),
    ("SS", "%S"),
    ("ss", "%S"),
    ("MS", "%3f"),
    ("ms", "%3f"),
    ("US", "%6f"),
    ("us", "%6f"),
    ("FF3", "%3f"),
    ("FF6", "%6f"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("am", "%P"),
    ("pm", "%P"),
    ("TZ", "%Z"),
    ("OF", "%:z"),
    ("Q", "%q"),
];

/// Puts them around the engine's own `to_char`.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let Ok(inner) = registry.udf("to_char") else { return Ok(()) };
    // Under the other names of the engine's own, too: a session made from another registers all it finds there anew, and what is left under one of
    // those would take the place of this.
    for (name, aliases) in [("to_char", inner.aliases().to_vec()), ("strftime", Vec::new())] {
        let function = ToChar { name, inner: Arc::clone(&inner), aliases };
        registry.register_udf(Arc::new(ScalarUDF::from(function)))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar {
    name: &'static str,
    inner: Arc<ScalarUDF>,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [number, _] if number.is_numeric() => {
                plan_err!(
                    "{}: patterns for numbers are not known here; round() and a cast to text make most of them",
                    self.name
                )
            }
            _ => self.inner.return_type(arg_types),
        }
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(format) = args.args.get_mut(1) {
            match format {
                ColumnarValue::Scalar(text) => {
                    if let Some(Some(pattern)) = text.try_as_str() {
                        *text = ScalarValue::Utf8(Some(strftime(pattern)));
                    }
                }
                ColumnarValue::Array(texts) => {
                    let patterns = cast(texts, &DataType::Utf8)?;
                    let translated: StringArray = patterns.as_string::<i32>().iter().map(|t| t.map(strftime)).collect();
                    *texts = Arc::new(translated);
                }
            }
        }
        self.inner.invoke_with_args(args)
    }
}

/// A format in the patterns of `strftime`: as it is where it has a `%`, otherwise from Postgres's.
pub fn strftime(format: &str) -> String {
    if format.contains('%') {
        return format.to_string();
    }
    let mut out = String::with_capacity(format.len() * 2);
    let mut rest = format;
    let mut unfilled = false;
    while let Some(first) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            out.push_str(&quoted[..end]);
            rest = quoted.get(end + 1..).unwrap_or_default();
        } else if let Some(after) = rest.strip_prefix("FM").or_else(|| rest.strip_prefix("fm")) {
            // No zeros in front of what follows.
            unfilled = true;
            rest = after;
        } else if let Some((pattern, translated)) = PATTERNS.iter().find(|(pattern, _)| rest.starts_with(pattern)) {
            // Of numbers only: words are not filled up anyway.
            match translated.strip_prefix('%').filter(|_| std::mem::take(&mut unfilled)) {
                Some(number) if "dHIjmMSUVyY".contains(number) => out.extend(["%-", number]),
                _ => out.push_str(translated),
            }
            rest = &rest[pattern.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_postgres_become_those_of_strftime() {
        assert_eq!(strftime("YYYY-MM-DD HH24:MI:SS.US"), "%Y-%m-%d %H:%M:%S.%6f");
        assert_eq!(strftime("FMMonth DD, YYYY \"at\" HH12 AM"), "%B %d, %Y at %I %p");
        assert_eq!(strftime("FMDD.MM. Q"), "%-d.%m. %q");
        assert_eq!(strftime("%Y"), "%Y");
    }
}
