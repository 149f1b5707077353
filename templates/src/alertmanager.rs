//! The templates of Alertmanager's receivers: their functions. The data is whoever sends it: see the notifiers.

use crate::exec::Functions;
use crate::format;
use crate::prometheus::humanize_duration;
use crate::strings;
use crate::value::{Duration, Value};

/// The functions, at an instant.
pub struct Context {
    /// Now, Unix milliseconds: for `since`.
    pub now_ms: i64,
}

const NAMES: [&str; 16] = [
    "toUpper",
    "toLower",
    "title",
    "trimSpace",
    "join",
    "match",
    "safeHtml",
    "safeUrl",
    "urlUnescape",
    "reReplaceAll",
    "stringSlice",
    "date",
    "tz",
    "since",
    "humanizeDuration",
    "toJson",
];

impl Functions for Context {
    fn has(&self, name: &str) -> bool {
        NAMES.contains(&name)
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        match (name, args) {
            ("toUpper", [Value::Str(text)]) => Ok(Value::from(text.to_uppercase())),
            ("toLower", [Value::Str(text)]) => Ok(Value::from(text.to_lowercase())),
            ("title", [Value::Str(text)]) => Ok(Value::from(strings::title(text))),
            ("trimSpace", [Value::Str(text)]) => Ok(Value::text(text.trim())),
            ("join", [Value::Str(between), Value::List(list)]) => {
                Ok(Value::from(list.iter().map(format::to_text).collect::<Vec<_>>().join(between)))
            }
            ("match", [Value::Str(pattern), Value::Str(text)]) => {
                Ok(Value::Bool(strings::regex(pattern)?.is_match(text)))
            }
            ("safeHtml" | "safeUrl", [Value::Str(_)]) => Ok(args[0].clone()),
            ("urlUnescape", [Value::Str(_)]) => Ok(args[0].clone()),
            ("reReplaceAll", [Value::Str(pattern), Value::Str(by), Value::Str(text)]) => {
                Ok(Value::from(strings::regex(pattern)?.replace_all(text, &**by).into_owned()))
            }
            ("stringSlice", texts) => Ok(Value::list(texts.to_vec())),
            ("date", [Value::Str(layout), Value::Time(ms)]) => Ok(Value::from(format::go_time(*ms, layout))),
            ("tz", [Value::Str(zone), Value::Time(ms)]) if &**zone == "UTC" => Ok(Value::Time(*ms)),
            ("since", [Value::Time(ms)]) => {
                Ok(Value::Duration(Duration(self.now_ms.saturating_sub(*ms).saturating_mul(1_000_000))))
            }
            #[expect(clippy::cast_precision_loss, reason = "as Go converts")]
            ("humanizeDuration", [Value::Duration(span)]) => humanize_duration(span.0 as f64 / 1e9),
            ("humanizeDuration", [Value::Float(seconds)]) => humanize_duration(*seconds),
            ("toJson", [value]) => Ok(Value::from(value.to_json().to_string())),
            _ => {
                let got: Vec<&str> = args.iter().map(Value::type_name).collect();
                Err(format!("{name} cannot take ({})", got.join(", ")))
            }
        }
    }
}
