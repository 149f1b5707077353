//! An alert as a page for eyes.

use serde_json::{Map, Value};

use super::show::{Shown, is_now};
use crate::cli::out::say;
use crate::cli::text_table::TextTable;

type Row = Map<String, Value>;

/// Prints it.
pub(super) fn print(shown: &Shown) {
    let Some(latest) = shown.latest() else { return };
    say!("{} is {}", text(latest, "alertname"), is_now(latest));
    match latest["state"].as_str() {
        Some("retracted") => say!("Late rows have shown that it should not have fired."),
        Some("corrected") => say!("Late rows have corrected when it fired, with which value, or until when."),
        _ => {}
    }
    say!();
    say!("fingerprint  {}", text(latest, "fingerprint"));
    say!("group        {}", text(latest, "group_name"));
    say!("tenant       {}", text(latest, "tenant"));
    say!("value        {}", text(latest, "value"));
    say!("since        {}", text(latest, "starts_at"));
    if !latest["ends_at"].is_null() {
        say!("ended        {}", text(latest, "ends_at"));
    }
    named("labels", &latest["labels"]);
    named("annotations", &latest["annotations"]);

    section("Transitions");
    let mut table = TextTable::new(&["AT", "STATE", "VALUE", "RECORD"]);
    for row in &shown.transitions {
        let record = format!("alerts/{}@{}", text(row, "_partition"), text(row, "_offset"));
        let state = match row["source"]["correction"].as_object() {
            Some(correction) => {
                format!("{} ({} -> {})", text(row, "state"), text(correction, "was"), text(correction, "now"))
            }
            None => text(row, "state"),
        };
        table.row([text(row, "timestamp"), state, text(row, "value"), record]);
    }
    table.print();

    rule(&latest["rule"]);
    if let Some(up) = shown.latest_up() {
        evidence(&format!("Evidence that it was {}", is_now(up)), &up["source"]);
    }
    if !matches!(is_now(latest), "pending" | "firing") {
        let became = match latest["state"].as_str() {
            Some("retracted") => "retracted",
            _ => is_now(latest),
        };
        evidence(&format!("Evidence that it was {became}"), &latest["source"]);
    }
    if let Some(input) = &shown.input {
        section("Input");
        rows(input);
    }
}

/// What the rule says, and which version of it.
fn rule(rule: &Value) {
    section("Rule");
    let Some(rule) = rule.as_object() else { return };
    for name in ["name", "group", "file", "hash", "rollup", "for", "keep_firing_for"] {
        if let Some(value) = rule.get(name).filter(|value| !matches!(value.as_str(), Some("" | "0s"))) {
            say!("{name:<16} {}", plain(value));
        }
    }
    for name in ["expr", "sql"] {
        if let Some(query) = rule.get(name).and_then(Value::as_str) {
            say!("{name:<16} {}", query.trim().replace('\n', &format!("\n{:17}", "")));
        }
    }
}

fn evidence(title: &str, source: &Value) {
    let Some(source) = source.as_object() else { return };
    section(title);
    for name in ["evaluated_at", "watermark", "window_start", "window_end", "reason"] {
        if let Some(value) = source.get(name).filter(|value| !value.is_null()) {
            say!("{name:<16} {}", plain(value));
        }
    }
    if let Some(offset) = source.get("offset") {
        say!("{:<16} {}/{}@{}", "record", text(source, "topic"), text(source, "partition"), plain(offset));
    }
    for (name, title) in [("row", "row"), ("last_row", "last row")] {
        if let Some(row) = source.get(name).and_then(Value::as_object) {
            let cells: Vec<String> = row.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
            say!("{title:<16} {}", cells.join("  "));
        }
    }
    if let Some(series) = source.get("series").and_then(Value::as_array).filter(|series| !series.is_empty()) {
        say!();
        let mut table = TextTable::new(&["SERIES", "VALUE", "AT", "RECORD"]);
        for one in series {
            let record = one["record"].as_object().map_or_else(
                || "-".to_owned(),
                |record| format!("{}/{}@{}", text(record, "topic"), text(record, "partition"), text(record, "offset")),
            );
            table.row([series_name(&one["labels"]), plain(&one["value"]), plain(&one["timestamp"]), record]);
        }
        table.print();
    }
    if let Some(lines) = source.get("lines").and_then(Value::as_array).filter(|lines| !lines.is_empty()) {
        say!();
        let mut table = TextTable::new(&["LINE", "LEVEL", "SERVICE", "HOST", "MESSAGE", "RECORD"]);
        for line in lines {
            let cell = |name: &str| plain(&line[name]).replace('\n', "\\n");
            let record = format!("logs/{}@{}", cell("partition"), cell("offset"));
            table.row([cell("timestamp"), cell("level"), cell("service"), cell("host"), cell("message"), record]);
        }
        table.print();
    }
    for name in ["sql", "input_sql"] {
        if let Some(sql) = source.get(name).and_then(Value::as_str) {
            say!();
            say!("{sql}");
        }
    }
}

/// `name{label="value"}`.
fn series_name(labels: &Value) -> String {
    let Some(labels) = labels.as_object() else { return String::new() };
    let name = labels.get("__name__").map(plain).unwrap_or_default();
    let others = labels.iter().filter(|(label, _)| *label != "__name__");
    let others: Vec<String> = others.map(|(label, value)| format!("{label}={:?}", plain(value))).collect();
    if others.is_empty() { name } else { format!("{name}{{{}}}", others.join(", ")) }
}

/// Rows under their columns.
fn rows(rows: &[Row]) {
    let Some(first) = rows.first() else {
        say!("(no rows)");
        return;
    };
    let names: Vec<String> = first.keys().map(|name| name.to_uppercase()).collect();
    let mut table = TextTable::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        // A line of a log may be many.
        table.row(first.keys().map(|name| text(row, name).replace('\n', "\\n")));
    }
    table.print();
}

fn named(title: &str, values: &Value) {
    let Some(values) = values.as_object().filter(|values| !values.is_empty()) else { return };
    say!();
    say!("{title}");
    let width = values.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, value) in values {
        say!("  {name:<width$}  {}", plain(value).replace('\n', &format!("\n{:1$}", "", width + 4)));
    }
}

fn section(title: &str) {
    say!();
    say!("{title}");
    say!("{}", "-".repeat(title.chars().count()));
}

fn text(row: &Row, name: &str) -> String {
    row.get(name).map(plain).unwrap_or_default()
}

/// A value without the quotes of JSON; what is not there is a dash.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
