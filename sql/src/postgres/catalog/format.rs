//! `format('%I.%I is %L', a, b, c)`: `%s` the value, `%I` as a name, `%L` as a literal, `%%`, and `%2$s` for the second.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Format(Signature);

impl Format {
    pub(super) fn new() -> Self {
        Self(Signature::user_defined(Volatility::Immutable))
    }
}

impl ScalarUDFImpl for Format {
    fn name(&self) -> &'static str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.is_empty() {
            plan_err!("format takes a text to fill in")
        } else {
            Ok(vec![DataType::Utf8; types.len()])
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args.args.iter().map(|arg| Ok(cast(&arg.to_array(rows)?, &DataType::Utf8)?));
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let texts: Vec<&StringArray> = arrays.iter().map(|array| array.as_string::<i32>()).collect();
        let value = |row: usize, array: &&StringArray| array.is_valid(row).then(|| array.value(row).to_string());
        let filled = (0..rows).map(|row| {
            let values: Vec<Option<String>> = texts.iter().skip(1).map(|array| value(row, array)).collect();
            value(row, &texts[0]).map(|text| filled(&text, &values)).transpose()
        });
        Ok(ColumnarValue::Array(Arc::new(filled.collect::<Result<StringArray>>()?)))
    }
}

fn filled(text: &str, values: &[Option<String>]) -> Result<String> {
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if let Some(behind) = rest[digits..].strip_prefix('$') {
            next = match rest[..digits].parse::<usize>() {
                Ok(place) if place > 0 => place - 1,
                _ => return exec_err!("format specifies argument 0, but arguments are numbered from 1"),
            };
            rest = behind;
        }
        let Some(kind) = rest.chars().next() else { return exec_err!("unterminated format() type specifier") };
        rest = &rest[kind.len_utf8()..];
        if kind == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.get(next) else { return exec_err!("too few arguments for format()") };
        next += 1;
        match (kind, value) {
            ('s', value) => out.push_str(value.as_deref().unwrap_or_default()),
            ('I', None) => return exec_err!("null values cannot be formatted as an SQL identifier"),
            ('I', Some(name)) => out.push_str(&quoted(name)),
            ('L', None) => out.push_str("NULL"),
            ('L', Some(text)) => {
                out.push('\'');
                out.push_str(&text.replace('\'', "''"));
                out.push('\'');
            }
            (other, _) => return exec_err!("unrecognized format() type specifier \"{other}\""),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// A name, in quotes where it needs them.
fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::filled;

    #[test]
    fn places_are_filled_in_as_postgres_does() {
        let values = ["a b", "c'd"].map(|v| Some(v.to_string()));
        assert_eq!(
            filled("%s is %I and %%: %2$L %1$s", &[values[0].clone(), values[1].clone()]).unwrap(),
            "a b is \"c'd\" and %: 'c''d' a b"
        );
        assert_eq!(filled("%L|%s|", &[None, None]).unwrap(), "NULL||");
        for (text, error) in
            [("%s %s %s", "too few"), ("%x", "unrecognized"), ("%", "unterminated"), ("%0$s", "numbered")]
        {
            assert!(filled(text, &values).unwrap_err().to_string().contains(error), "{text}");
        }
    }
}
