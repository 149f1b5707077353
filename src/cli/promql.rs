//! `highwater promql 'QUERY'`: asks a running server, and prints a table, the answer as JSON, or a graph.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use highwater_broker::{Clock, SystemClock};
use highwater_promql::Labels;
use highwater_promql::parser::{format_duration_ms, parse_duration_ms};
use serde::Deserialize;

use super::ServerArg;
use super::graph::{Graph, Line};
use super::out::say;
use super::text_table::TextTable;
use crate::client::Client;
use crate::error::Error;

/// Steps of a range whose step is not given: as many as a graph has columns of dots.
const STEPS: i64 = 200;
/// The range of a graph whose start is not given.
const GRAPH_RANGE_MS: i64 = 3_600_000;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns for eyes.
    Table,
    /// The server's answer.
    Json,
    /// Lines over time, drawn in the terminal.
    Graph,
}

/// Flags of `promql`. Times are RFC 3339, Unix seconds, `now`, or a time ago such as `now-1h`.
#[derive(Debug, Args)]
pub(crate) struct PromqlArgs {
    /// The query; `-` reads it from stdin.
    query: String,
    /// Evaluate at this time instead of now.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["start", "end", "step"])]
    time: Option<String>,
    /// Evaluate from this time on, step by step.
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// Evaluate up to this time; now by default.
    #[arg(long, value_name = "TIME", requires = "start")]
    end: Option<String>,
    /// Time between evaluations, such as `15s`; a 200th of the range by default.
    #[arg(long, value_name = "DURATION")]
    step: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: ServerArg,
}

/// The answer of the API, as far as it is printed.
#[derive(Debug, Deserialize)]
struct Answer {
    data: Data,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar(Point),
    String(Point),
    Vector(Vec<Sample>),
    Matrix(Vec<Series>),
}

/// Seconds, and a value as text.
#[derive(Debug, Clone, Deserialize)]
struct Point(f64, String);

#[derive(Debug, Deserialize)]
struct Sample {
    metric: std::collections::BTreeMap<String, String>,
    value: Option<Point>,
    histogram: Option<(f64, serde_json::Value)>,
}

#[derive(Debug, Deserialize)]
struct Series {
    metric: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<Point>,
    #[serde(default)]
    histograms: Vec<(f64, serde_json::Value)>,
}

pub(super) async fn run(args: PromqlArgs) -> Result<ExitCode, Error> {
    let query = match args.query.as_str() {
        "-" => std::io::read_to_string(std::io::stdin())
            .map_err(|error| Error::failed("reading the query from stdin", error))?,
        query => query.to_owned(),
    };
    let now_ms = SystemClock.now_ms();
    let (path, parameters) = parameters(&args, &query, now_ms)?;
    let client = Client::new(&args.server)?;
    let response = client.post_form(path, &parameters).await.map_err(|error| pointed(error, &query))?;
    let text = response.text().await.map_err(|error| Error::failed("reading the answer", error))?;
    if args.output == Output::Json {
        say!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let answer: Answer = serde_json::from_str(&text).map_err(|error| Error::failed("reading the answer", error))?;
    for remark in answer.warnings.iter().chain(&answer.infos) {
        eprintln!("{remark}");
    }
    match args.output {
        Output::Graph => graph(answer.data)?,
        _ => table(answer.data),
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the place in the query that an error of the parser names: `1:5: parse error: ...`.
fn pointed(error: Error, query: &str) -> Error {
    let Error::Failed(message) = &error else { return error };
    let place = || {
        let (before, _) = message.split_once(": parse error: ")?;
        let (line, column) = before.rsplit(' ').next()?.split_once(':')?;
        let text = query.lines().nth(line.parse::<usize>().ok()?.checked_sub(1)?)?;
        // Columns are bytes there, letters here.
        let before = text.get(..column.parse::<usize>().ok()?.checked_sub(1)?.min(text.len()))?;
        Some((text, before.chars().count()))
    };
    match place() {
        Some((text, letters)) => {
            let text = text.replace('\t', " ");
            Error::Failed(format!("{message}\n\n  {text}\n  {:letters$}^", ""))
        }
        None => error,
    }
}

/// What is sent with a request.
type Form = Vec<(&'static str, String)>;

/// The path to ask, and what to send there.
fn parameters(args: &PromqlArgs, query: &str, now_ms: i64) -> Result<(&'static str, Form), Error> {
    let query = ("query", query.to_owned());
    let is_range = args.start.is_some() || args.step.is_some() || (args.output == Output::Graph && args.time.is_none());
    if !is_range {
        let time_ms = args.time.as_deref().map_or(Ok(now_ms), |time| read_time(time, now_ms))?;
        return Ok(("/api/v1/query", vec![query, ("time", seconds(time_ms))]));
    }
    let end_ms = args.end.as_deref().map_or(Ok(now_ms), |end| read_time(end, now_ms))?;
    let start_ms = args.start.as_deref().map_or(Ok(end_ms - GRAPH_RANGE_MS), |start| read_time(start, now_ms))?;
    let step = match &args.step {
        Some(step) => step.clone(),
        // Whole seconds where there are that many.
        None => match (end_ms - start_ms) / STEPS {
            ms if ms >= 1000 => format_duration_ms(ms / 1000 * 1000),
            ms => format_duration_ms(ms.max(1)),
        },
    };
    Ok(("/api/v1/query_range", vec![query, ("start", seconds(start_ms)), ("end", seconds(end_ms)), ("step", step)]))
}

/// Unix milliseconds of a time as people write it.
pub(super) fn read_time(text: &str, now_ms: i64) -> Result<i64, Error> {
    let wrong = || {
        Error::Usage(format!(
            "{text:?} is no time: write RFC 3339, Unix seconds, `now`, or a time ago such as `now-1h`"
        ))
    };
    if let Some(rest) = text.strip_prefix("now") {
        return match rest.trim().strip_prefix('-') {
            None if rest.trim().is_empty() => Ok(now_ms),
            None => Err(wrong()),
            Some(ago) => parse_duration_ms(ago.trim()).map(|ago_ms| now_ms - ago_ms).map_err(|_| wrong()),
        };
    }
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.abs() < 1e12
    {
        #[expect(clippy::cast_possible_truncation, reason = "in range, and less than a millisecond is no matter")]
        return Ok((seconds * 1000.0).round() as i64);
    }
    chrono::DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis()).map_err(|_| wrong())
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

fn time(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "times of an answer are in range")]
    let time = chrono::DateTime::from_timestamp_millis((seconds * 1000.0).round() as i64);
    time.map_or_else(|| seconds.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

fn name(metric: &std::collections::BTreeMap<String, String>) -> String {
    Labels::from_pairs(metric).to_string()
}

fn table(data: Data) {
    match data {
        Data::Scalar(Point(_, value)) | Data::String(Point(_, value)) => say!("{value}"),
        Data::Vector(samples) => {
            let mut table = TextTable::new(&["series", "value"]);
            for sample in samples {
                let histogram = sample.histogram.map(|(_, histogram)| histogram.to_string());
                let value = sample.value.map(|Point(_, value)| value).or(histogram);
                table.row([name(&sample.metric), value.unwrap_or_default()]);
            }
            table.print();
        }
        Data::Matrix(all) => {
            let mut table = TextTable::new(&["series", "time", "value"]);
            for series in all {
                let name = name(&series.metric);
                for Point(at, value) in series.values {
                    table.row([name.clone(), time(at), value]);
                }
                for (at, histogram) in series.histograms {
                    table.row([name.clone(), time(at), histogram.to_string()]);
                }
            }
            table.print();
        }
    }
}

fn graph(data: Data) -> Result<(), Error> {
    let Data::Matrix(all) = data else {
        return Err(Error::Usage("one moment has no graph: leave --time out, or give --start".to_owned()));
    };
    let lines = all.into_iter().map(|series| Line {
        name: name(&series.metric),
        points: series.values.iter().filter_map(|Point(at, value)| Some((*at, value.parse().ok()?))).collect(),
    });
    say!("{}", Graph::new(lines.collect()).draw(time));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: PromqlArgs,
    }

    fn asked(flags: &[&str]) -> (&'static str, Form) {
        let cli = Cli::parse_from(["promql", "up"].iter().chain(flags));
        parameters(&cli.args, "up", 1_767_322_800_500).unwrap()
    }

    #[test]
    fn an_instant_a_range_and_a_graph() {
        let up = ("query", "up".to_owned());
        assert_eq!(asked(&[]), ("/api/v1/query", vec![up.clone(), ("time", "1767322800.500".to_owned())]));
        assert_eq!(
            asked(&["--time", "2026-01-02T03:00:00Z"]),
            ("/api/v1/query", vec![up.clone(), ("time", "1767322800.000".to_owned())])
        );
        let range = |start: &str, end: &str, step: &str| {
            let own = |text: &str| text.to_owned();
            ("/api/v1/query_range", vec![up.clone(), ("start", own(start)), ("end", own(end)), ("step", own(step))])
        };
        assert_eq!(asked(&["--start", "now-1h"]), range("1767319200.500", "1767322800.500", "18s"));
        assert_eq!(
            asked(&["--start", "1767319200", "--end", "1767319260", "--step", "15s"]),
            range("1767319200.000", "1767319260.000", "15s")
        );
        assert_eq!(asked(&["-o", "graph"]), range("1767319200.500", "1767322800.500", "18s"));
        assert_eq!(asked(&["--start", "now-1s"]), range("1767322799.500", "1767322800.500", "5ms"));
    }

    #[test]
    fn errors_of_the_parser_point_at_their_place() {
        let pointed = |message: &str, query: &str| pointed(Error::Failed(message.to_owned()), query).to_string();
        let message = "invalid parameter \"query\": 1:7: parse error: unexpected end of input";
        assert_eq!(pointed(message, "sum(up"), format!("{message}\n\n  sum(up\n        ^"));
        let message = "invalid parameter \"query\": 2:8: parse error: unclosed left parenthesis";
        assert_eq!(pointed(message, "1 +\n\tüber (x"), format!("{message}\n\n   über (x\n        ^"));
        for (message, query) in [("no such server", "up"), ("9:1: parse error: x", "up"), ("1:x: parse error: x", "up")]
        {
            assert_eq!(pointed(message, query), message);
        }
    }

    #[test]
    fn what_is_no_time_is_a_usage_error() {
        for text in ["yesterday", "now+1h", "now-x", "2026-01-02"] {
            assert!(matches!(read_time(text, 0), Err(Error::Usage(_))), "{text}");
        }
    }
}
