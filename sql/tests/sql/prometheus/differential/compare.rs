//! Whether two answers say the same.
//!
//! What may differ:
//! - floats, by a part in 10^9: sums are added up in another order;
//! - the order of series, where a query does not sort: Prometheus's is that of its index;
//! - which series a `limitk`, a `topk` or a `bottomk` keeps among equals: see above;
//! - dates of numbers that are no time (NaN, infinities, years beyond any calendar): Go converts them as the processor does;
//! - `timestamp(x @ t offset d)`, where Prometheus forgets the offset;
//! - remarks on counter resets that collide, and histograms of a `limit`ed resolution: what is known of a reset is what the storage noted there;
//! - which label `count_values` makes of a native histogram: bounds of buckets come of a table there, whose last digit is not the nearest;
//! - the message of an error and the places in remarks: the kind of error and the status must be equal.

use std::collections::BTreeMap;

use serde_json::Value;

use super::queries::Asked;

/// Parts of a value by which floats may differ.
const TOLERANCE: f64 = 1e-9;
/// Below this, differences do not count: what is left where large numbers cancel out.
const NOTHING: f64 = 1e-12;

/// An answer of the API.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

/// What differs, if anything does.
pub(super) fn compare(asked: &Asked, theirs: &Answer, ours: &Answer) -> Result<(), String> {
    errors(theirs, ours)?;
    if theirs.status != 200 || asked.forgets_offset() {
        return Ok(());
    }
    let (theirs, ours) = (&theirs.body, &ours.body);
    let kind = |body: &Value| body["data"]["resultType"].clone();
    if kind(theirs) != kind(ours) {
        return Err(format!("theirs is a {}, ours a {}", kind(theirs), kind(ours)));
    }
    let results = |body: &Value| body["data"]["result"].clone();
    match kind(theirs).as_str() {
        Some("vector" | "matrix") => series(asked, &results(theirs), &results(ours))?,
        _ => point(&results(theirs), &results(ours))?,
    }
    remarks(theirs, ours)
}

/// The same for what is not a query: everything is equal, but for the order of series.
pub(super) fn compare_exactly(theirs: &Answer, ours: &Answer) -> Result<(), String> {
    errors(theirs, ours)?;
    let fields = if theirs.status == 200 { ["data", "warnings"] } else { ["error", "errorType"] };
    for field in fields {
        let sorted = |answer: &Answer| match &answer.body[field] {
            Value::Array(all) => {
                let mut texts: Vec<String> = all.iter().map(ToString::to_string).collect();
                texts.sort();
                Value::from(texts)
            }
            other => other.clone(),
        };
        let (theirs, ours) = (sorted(theirs), sorted(ours));
        if theirs != ours {
            return Err(format!("{field}: theirs {theirs}\n  ours {ours}"));
        }
    }
    Ok(())
}

fn errors(theirs: &Answer, ours: &Answer) -> Result<(), String> {
    let outcome = |answer: &Answer| (answer.status, answer.body["errorType"].clone());
    if outcome(theirs) == outcome(ours) {
        return Ok(());
    }
    let told = |answer: &Answer| format!("{} {} {}", answer.status, answer.body["errorType"], answer.body["error"]);
    Err(format!("theirs {}\n  ours   {}", told(theirs), told(ours)))
}

/// Warnings and infos, without their places.
fn remarks(theirs: &Value, ours: &Value) -> Result<(), String> {
    for kind in ["warnings", "infos"] {
        let texts = |body: &Value| -> Vec<String> {
            let texts = body[kind].as_array().into_iter().flatten().filter_map(Value::as_str);
            let of_storage = |text: &&str| text.contains("conflicting counter resets");
            let mut texts: Vec<String> = texts
                .filter(|text| !of_storage(text))
                .map(|text| text.split(" (").next().unwrap_or(text).to_owned())
                .collect();
            texts.sort();
            texts
        };
        if texts(theirs) != texts(ours) {
            return Err(format!("{kind}: theirs {:?}\n  ours {:?}", texts(theirs), texts(ours)));
        }
    }
    Ok(())
}

fn series(asked: &Asked, theirs: &Value, ours: &Value) -> Result<(), String> {
    let (Some(theirs), Some(ours)) = (theirs.as_array(), ours.as_array()) else {
        return Err(format!("theirs {theirs}\n  ours {ours}"));
    };
    if asked.is_sorted() {
        // What is equal may stand in any order, so values are compared in order and series as a set.
        let values = |all: &[Value]| all.iter().map(|series| series["value"].clone()).collect::<Vec<_>>();
        for (theirs, ours) in values(theirs).iter().zip(&values(ours)) {
            point(theirs, ours).map_err(|difference| format!("in order: {difference}"))?;
        }
    }
    let of_histograms = |all: &[Value]| {
        asked.counts_values() && all.iter().any(|series| series["metric"].to_string().contains("{count:"))
    };
    if of_histograms(theirs) && of_histograms(ours) {
        return Ok(());
    }
    let by_metric = |all: &[Value]| -> BTreeMap<String, Value> {
        all.iter().map(|series| (series["metric"].to_string(), series.clone())).collect()
    };
    let (theirs, ours) = (by_metric(theirs), by_metric(ours));
    if asked.chooses_among_equals() {
        return Ok(());
    }
    for metric in theirs.keys().chain(ours.keys()) {
        match (theirs.get(metric), ours.get(metric)) {
            (Some(theirs), Some(ours)) => {
                points(theirs, ours).map_err(|difference| format!("{metric}: {difference}"))?
            }
            (Some(theirs), None) => return Err(format!("only theirs: {}", short(theirs))),
            (None, Some(ours)) => return Err(format!("only ours: {}", short(ours))),
            (None, None) => {}
        }
    }
    Ok(())
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(400).collect()
}

fn points(theirs: &Value, ours: &Value) -> Result<(), String> {
    for kind in ["values", "histograms"] {
        let all = |of: &Value| of[kind].as_array().cloned().unwrap_or_default();
        let (theirs, ours) = (all(theirs), all(ours));
        for (theirs, ours) in theirs.iter().zip(&ours) {
            if kind == "values" { point(theirs, ours)? } else { histogram(theirs, ours)? }
        }
        if theirs.len() != ours.len() {
            return Err(format!("theirs has {} {kind}, ours {}", theirs.len(), ours.len()));
        }
    }
    match (theirs["value"].is_array(), theirs["histogram"].is_array()) {
        (true, _) => point(&theirs["value"], &ours["value"]),
        (_, true) => histogram(&theirs["histogram"], &ours["histogram"]),
        _ => Ok(()),
    }
}

/// Time, count, sum and buckets.
fn histogram(theirs: &Value, ours: &Value) -> Result<(), String> {
    let equal = theirs[0].as_f64() == ours[0].as_f64() && alike(&theirs[1], &ours[1]);
    if equal { Ok(()) } else { Err(format!("theirs {}\n  ours {}", short(theirs), short(ours))) }
}

/// The same document, but for what floats may differ by.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        (Value::String(a), Value::String(b)) => match (a.parse(), b.parse()) {
            (Ok(a), Ok(b)) => close(a, b),
            _ => a == b,
        },
        (a, b) => a == b,
    }
}

/// Time and value.
fn point(theirs: &Value, ours: &Value) -> Result<(), String> {
    let differ = || Err(format!("theirs {theirs}, ours {ours}"));
    if theirs[0].as_f64() != ours[0].as_f64() {
        return differ();
    }
    let (Some(a), Some(b)) = (theirs[1].as_str(), ours[1].as_str()) else { return differ() };
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) if close(a, b) => Ok(()),
        _ if a == b => Ok(()),
        _ => differ(),
    }
}

fn close(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let difference = (a - b).abs();
    difference <= TOLERANCE * a.abs().max(b.abs()) || difference < NOTHING
}
