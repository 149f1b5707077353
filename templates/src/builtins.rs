//! Go's built-in functions, and the methods of times.

use std::cmp::Ordering;

use crate::format::{self, sprint, sprintf, to_text};
use crate::strings;
use crate::value::{Duration, Value};

const NAMES: [&str; 18] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js", "urlquery", "call", "eq",
    "ne", "lt", "le", "gt",
];

/// True for the name of a built-in.
pub(crate) fn has(name: &str) -> bool {
    NAMES.contains(&name) || name == "ge"
}

/// Calls a built-in other than `and` and `or`.
pub(crate) fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    let count = |want: usize| match args.len() {
        got if got == want => Ok(()),
        got => Err(format!("wrong number of args for {name}: want {want} got {got}")),
    };
    match name {
        "not" => {
            count(1)?;
            Ok(Value::Bool(!args[0].is_true()))
        }
        "len" => {
            count(1)?;
            let length = match &args[0] {
                Value::Str(text) => text.len(),
                Value::List(list) => list.len(),
                Value::Strings(map) => map.len(),
                Value::Map(map) => map.len(),
                other => return Err(format!("len of type {}", other.type_name())),
            };
            Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
        }
        "index" => index(args),
        "slice" => slice(args),
        "print" => Ok(Value::from(sprint(args))),
        "println" => Ok(Value::from(format!("{}\n", args.iter().map(to_text).collect::<Vec<_>>().join(" ")))),
        "printf" => match args.split_first() {
            Some((Value::Str(verbs), rest)) => Ok(Value::from(sprintf(verbs, rest))),
            _ => Err("wrong type for value; expected string; its first argument is the format".to_owned()),
        },
        "html" => Ok(Value::from(strings::html_escape(&sprint(args)))),
        "js" => Ok(Value::from(strings::js_escape(&sprint(args)))),
        "urlquery" => Ok(Value::from(strings::query_escape(&sprint(args)))),
        "call" => Err("there is no function among the values".to_owned()),
        "eq" => match args {
            [] | [_] => Err("missing argument for comparison".to_owned()),
            [first, others @ ..] => {
                for other in others {
                    if equal(first, other)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
        },
        "ne" => {
            count(2)?;
            equal(&args[0], &args[1]).map(|same| Value::Bool(!same))
        }
        "lt" | "le" | "gt" | "ge" => {
            count(2)?;
            let order = compare(&args[0], &args[1])?;
            Ok(Value::Bool(match name {
                "lt" => order == Some(Ordering::Less),
                "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                "gt" => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            }))
        }
        _ => Err(format!("function {name:?} not defined")),
    }
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        #[expect(clippy::float_cmp, reason = "as Go's eq does")]
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Str(a), Value::Str(b)) => Ok(a == b),
        (Value::Duration(a), Value::Duration(b)) => Ok(a == b),
        (Value::Time(a), Value::Time(b)) => Ok(a == b),
        (Value::Nil, other) | (other, Value::Nil) => Ok(*other == Value::Nil),
        (Value::List(_) | Value::Strings(_) | Value::Map(_), _)
        | (_, Value::List(_) | Value::Strings(_) | Value::Map(_)) => Err("non-comparable type".to_owned()),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn compare(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Str(a), Value::Str(b)) => Ok(Some(a.cmp(b))),
        (Value::Duration(a), Value::Duration(b)) => Ok(Some(a.cmp(b))),
        (Value::Int(_) | Value::Float(_) | Value::Str(_), Value::Int(_) | Value::Float(_) | Value::Str(_)) => {
            Err("incompatible types for comparison".to_owned())
        }
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn index(args: &[Value]) -> Result<Value, String> {
    let Some((first, keys)) = args.split_first() else {
        return Err("wrong number of args for index: want at least 1 got 0".to_owned());
    };
    let mut value = first.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Strings(map), Value::Str(key)) => Value::text(map.get(&**key).map_or("", String::as_str)),
            (Value::Map(map), Value::Str(key)) => map.get(&**key).cloned().unwrap_or(Value::Nil),
            (Value::List(list), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| list.get(at));
                found.cloned().ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Value::Str(text), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
                Value::Int(i64::from(*found.ok_or_else(|| format!("index out of range: {at}"))?))
            }
            (Value::Nil, _) => return Err("index of untyped nil".to_owned()),
            (Value::List(_) | Value::Str(_), other) => {
                return Err(format!("cannot index slice/array with type {}", other.type_name()));
            }
            (Value::Strings(_) | Value::Map(_), other) => {
                return Err(format!("value has type {}; should be string", other.type_name()));
            }
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let Some((value, bounds)) = args.split_first() else {
        return Err("wrong number of args for slice: want at least 1 got 0".to_owned());
    };
    let length = match value {
        Value::Str(text) => text.len(),
        Value::List(list) => list.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if bounds.len() > 2 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let bound = |at: usize, default: usize| match bounds.get(at) {
        None => Ok(default),
        Some(Value::Int(at)) => {
            usize::try_from(*at).ok().filter(|at| *at <= length).ok_or_else(|| format!("index out of range: {at}"))
        }
        Some(other) => Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match value {
        Value::Str(text) => Value::from(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()),
        Value::List(list) => Value::list(list[from..to].to_vec()),
        _ => Value::Nil,
    })
}

/// The methods of times and spans that templates use.
pub(crate) fn method(value: &Value, name: &str, args: &[Value]) -> Result<Value, String> {
    use chrono::{Datelike, Timelike};
    let unknown = || format!("can't evaluate field {name} in type {}", value.type_name());
    match value {
        Value::Time(ms) => {
            let time = chrono::DateTime::from_timestamp_millis(*ms).ok_or_else(|| "time out of range".to_owned())?;
            let int = |n: u32| Ok(Value::Int(i64::from(n)));
            match (name, args) {
                ("Format", [Value::Str(layout)]) => Ok(Value::from(format::go_time(*ms, layout))),
                ("String", []) => Ok(Value::from(format::time_text(*ms))),
                ("UTC" | "Local", []) => Ok(value.clone()),
                ("Unix", []) => Ok(Value::Int(ms.div_euclid(1_000))),
                ("UnixMilli", []) => Ok(Value::Int(*ms)),
                ("UnixNano", []) => Ok(Value::Int(ms.saturating_mul(1_000_000))),
                ("Year", []) => Ok(Value::Int(i64::from(time.year()))),
                ("Month", []) => Ok(Value::from(time.format("%B").to_string())),
                ("Weekday", []) => Ok(Value::from(time.format("%A").to_string())),
                ("Day", []) => int(time.day()),
                ("YearDay", []) => int(time.ordinal()),
                ("Hour", []) => int(time.hour()),
                ("Minute", []) => int(time.minute()),
                ("Second", []) => int(time.second()),
                ("IsZero", []) => Ok(Value::Bool(*ms == format::ZERO_TIME_MS)),
                ("Add", [Value::Duration(span)]) => Ok(Value::Time(ms.saturating_add(span.0 / 1_000_000))),
                ("Sub", [Value::Time(other)]) => {
                    Ok(Value::Duration(Duration(ms.saturating_sub(*other).saturating_mul(1_000_000))))
                }
                ("Before", [Value::Time(other)]) => Ok(Value::Bool(ms < other)),
                ("After", [Value::Time(other)]) => Ok(Value::Bool(ms > other)),
                ("Equal", [Value::Time(other)]) => Ok(Value::Bool(ms == other)),
                _ => Err(unknown()),
            }
        }
        Value::Duration(Duration(ns)) => {
            #[expect(clippy::cast_precision_loss, reason = "as Go's methods do")]
            let seconds = *ns as f64 / 1e9;
            match (name, args) {
                ("String", []) => Ok(Value::from(format::duration_text(*ns))),
                ("Seconds", []) => Ok(Value::Float(seconds)),
                ("Minutes", []) => Ok(Value::Float(seconds / 60.0)),
                ("Hours", []) => Ok(Value::Float(seconds / 3600.0)),
                ("Milliseconds", []) => Ok(Value::Int(ns / 1_000_000)),
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}
