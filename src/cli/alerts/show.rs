//! `highwater alerts show FINGERPRINT`: everything the table `alerts` knows of one alert, and the input its evidence points at.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::page;
use crate::cli::ServerArg;
use crate::cli::out::say;
use crate::client::Client;
use crate::error::Error;

/// Most transitions that are read, the newest.
const MAX_TRANSITIONS: usize = 1_000;
/// Fewest digits that name an alert.
const MIN_DIGITS: usize = 4;
/// Columns of the table that hold JSON text.
const JSON_COLUMNS: [&str; 4] = ["labels", "annotations", "rule", "source"];

/// Flags of `alerts show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The alert's fingerprint, 16 hexadecimal digits, or as many of the first as tell it from others. `alerts list` has it.
    fingerprint: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "page")]
    output: ShowFormat,
    #[command(flatten)]
    server: ServerArg,
}

/// How an alert is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ShowFormat {
    /// For eyes.
    Page,
    /// One object.
    Json,
}

/// What a transition has made of the alert: late rows may have made something else of it than the transition's own word says.
pub(super) fn is_now(row: &Map<String, Value>) -> &str {
    let state = row["state"].as_str().unwrap_or_default();
    match state {
        "corrected" | "retracted" => row["source"]["correction"]["now"].as_str().unwrap_or("inactive"),
        state => state,
    }
}

/// An alert: its transitions, and what it was made of.
pub(super) struct Shown {
    /// Rows of the table, oldest first, with JSON read; never empty.
    pub(super) transitions: Vec<Map<String, Value>>,
    /// Rows that the evidence's `input_sql` gives now; none where it has none.
    pub(super) input: Option<Vec<Map<String, Value>>>,
}

impl Shown {
    /// The newest transition.
    pub(super) fn latest(&self) -> Option<&Map<String, Value>> {
        self.transitions.last()
    }

    /// The newest transition in which the condition held: its evidence says why there is an alert.
    pub(super) fn latest_up(&self) -> Option<&Map<String, Value>> {
        let is_up = |row: &&Map<String, Value>| matches!(is_now(row), "pending" | "firing");
        self.transitions.iter().rev().find(is_up)
    }

    /// The object of `-o json`: the newest transition, with all of them and the input.
    fn to_json(&self) -> Value {
        let brief = |row: &Map<String, Value>| {
            let fields = ["timestamp", "state", "value", "starts_at", "ends_at", "source", "_partition", "_offset"];
            Value::Object(fields.iter().filter_map(|f| Some(((*f).to_owned(), row.get(*f)?.clone()))).collect())
        };
        let mut all = self.latest().cloned().unwrap_or_default();
        if let Some(latest) = self.latest() {
            all.insert("is_now".to_owned(), is_now(latest).into());
        }
        all.insert("transitions".to_owned(), self.transitions.iter().map(brief).collect());
        if let Some(input) = &self.input {
            all.insert("input".to_owned(), json!(input));
        }
        Value::Object(all)
    }
}

pub(super) async fn run(args: ShowArgs) -> Result<ExitCode, Error> {
    let wanted = args.fingerprint.to_ascii_lowercase();
    let hexadecimal = wanted.chars().all(|c| c.is_ascii_hexdigit());
    if !hexadecimal || !(MIN_DIGITS..=16).contains(&wanted.len()) {
        return Err(Error::Usage(format!(
            "{:?} is no fingerprint: {MIN_DIGITS} to 16 hexadecimal digits, as `highwater alerts list` prints them",
            args.fingerprint
        )));
    }
    let client = Client::new(&args.server)?;
    let query = format!(
        "SELECT fingerprint, alertname, group_name, state, timestamp, value, labels, annotations, starts_at, ends_at, \
           rule, source, tenant, _partition, _offset FROM alerts WHERE fingerprint LIKE '{wanted}%' \
         ORDER BY _partition DESC, _offset DESC LIMIT {MAX_TRANSITIONS}"
    );
    let mut transitions = rows(&client, &query).await?;
    transitions.reverse();
    for row in &mut transitions {
        for name in JSON_COLUMNS {
            let read = row.get(name).and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
            if let (Some(read), Some(column)) = (read, row.get_mut(name)) {
                *column = read;
            }
        }
    }
    let names: BTreeSet<&str> = transitions.iter().filter_map(|row| row["fingerprint"].as_str()).collect();
    match names.len() {
        0 => {
            return Err(Error::Failed(format!(
                "there is no alert {wanted}, and never was one; `highwater alerts list --all` prints all"
            )));
        }
        1 => {}
        _ => {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::Usage(format!("{wanted} is more than one alert: {names}")));
        }
    }
    let mut shown = Shown { transitions, input: None };
    if let Some(sql) = shown.latest_up().and_then(|row| row["source"]["input_sql"].as_str()) {
        // Whatever stands in the record, inside it can only be a query.
        shown.input = Some(rows(&client, &format!("SELECT * FROM (\n{sql}\n) AS input")).await?);
    }
    match args.output {
        ShowFormat::Page => page::print(&shown),
        ShowFormat::Json => {
            let text = serde_json::to_string_pretty(&shown.to_json());
            say!("{}", text.map_err(|error| Error::failed("printing the alert", error))?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The rows of a query, each by column; all columns, the NULL ones too.
async fn rows(client: &Client, query: &str) -> Result<Vec<Map<String, Value>>, Error> {
    let response = client.post("/api/v1/sql", &json!({"query": query, "format": "ndjson"})).await?;
    let text = response.text().await.map_err(|error| Error::failed("reading the answer", error))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let rows = lines.map(|line| serde_json::from_str(line).map_err(|error| Error::failed("reading the answer", error)));
    rows.collect()
}
