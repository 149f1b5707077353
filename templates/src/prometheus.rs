//! The templates of Prometheus's rules: their data and their functions.

use std::collections::BTreeMap;

use crate::error::TemplateError;
use crate::exec::{Functions, Template};
use crate::format::{self, format_float, sprintf};
use crate::strings::{self, query_escape};
use crate::value::{Duration, Value};

/// A sample that a query has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels, `__name__` among them.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Answers the queries in a template, at the instant of the evaluation.
pub trait Query {
    /// The samples of an instant query; a scalar is one sample without labels. The error is for people.
    fn query(&self, expr: &str) -> Result<Vec<Sample>, String>;
}

/// No queries: `query` fails.
pub struct NoQueries;

impl Query for NoQueries {
    fn query(&self, _expr: &str) -> Result<Vec<Sample>, String> {
        Err("queries cannot be answered here".to_owned())
    }
}

/// What all templates of one evaluation share.
pub struct Context<'a> {
    /// Who answers `query`.
    pub queries: &'a dyn Query,
    /// The instant of the evaluation, Unix milliseconds.
    pub now_ms: i64,
    /// Labels that this server adds to everything it sends.
    pub external_labels: &'a BTreeMap<String, String>,
    /// Under which address this server is reached.
    pub external_url: &'a str,
}

impl Context<'_> {
    /// The data of a label or an annotation: `.Labels`, `.Value`, `.ExternalLabels`, `.ExternalURL`.
    pub fn data(&self, labels: &BTreeMap<String, String>, value: f64) -> Value {
        Value::fields(vec![
            ("Labels", Value::strings(labels.clone())),
            ("ExternalLabels", Value::strings(self.external_labels.clone())),
            ("ExternalURL", Value::text(self.external_url)),
            ("Value", Value::Float(value)),
        ])
    }
}

/// What stands before every text, as in Prometheus.
const VARIABLES: &str =
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// Names of the functions.
const NAMES: [&str; 30] = [
    "query",
    "first",
    "label",
    "value",
    "strvalue",
    "args",
    "reReplaceAll",
    "safeHtml",
    "match",
    "title",
    "toUpper",
    "toLower",
    "graphLink",
    "tableLink",
    "sortByLabel",
    "stripPort",
    "stripDomain",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "toTime",
    "toDuration",
    "now",
    "pathPrefix",
    "externalURL",
    "parseDuration",
    "toJson",
    "urlQueryEscape",
];

struct Parsing;

impl Functions for Parsing {
    fn has(&self, name: &str) -> bool {
        NAMES.contains(&name) || name == "tmpl"
    }

    fn call(&self, name: &str, _args: &[Value]) -> Result<Value, String> {
        Err(format!("{name} needs a context"))
    }
}

impl Functions for Context<'_> {
    fn has(&self, name: &str) -> bool {
        Parsing.has(name)
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        call(self, name, args)
    }
}

/// Reads the text of a label or an annotation.
///
/// # Errors
/// Where it is no template; lines are those of the text.
pub fn parse(name: &str, text: &str) -> Result<Template, TemplateError> {
    Template::parse(name, &format!("{VARIABLES}{text}"), &Parsing)
}

/// The text that comes out, or what Prometheus writes in its place where it cannot.
pub fn expand(template: &Template, data: &Value, context: &Context<'_>) -> String {
    match template.execute(data, context) {
        Ok(text) => text,
        Err(error) => format!("<error expanding template: {error}>"),
    }
}

fn call(context: &Context<'_>, name: &str, args: &[Value]) -> Result<Value, String> {
    let wrong = || {
        let got: Vec<&str> = args.iter().map(Value::type_name).collect();
        format!("{name} cannot take ({})", got.join(", "))
    };
    match (name, args) {
        ("query", [Value::Str(expr)]) => Ok(samples(context.queries.query(expr)?)),
        ("first", [Value::List(list)]) => {
            list.first().cloned().ok_or_else(|| "first() called on vector with no elements".to_owned())
        }
        ("label", [Value::Str(label), sample]) => labels(sample).map(|l| label_of(l, label)).ok_or_else(wrong),
        ("value", [sample]) => sample.field("Value").cloned().ok_or_else(wrong),
        ("strvalue", [sample]) => labels(sample).map(|l| label_of(l, "__value__")).ok_or_else(wrong),
        ("args", args) => {
            let named = args.iter().enumerate().map(|(i, arg)| (format!("arg{i}"), arg.clone()));
            Ok(Value::Map(std::sync::Arc::new(named.collect())))
        }
        ("reReplaceAll", [Value::Str(pattern), Value::Str(by), Value::Str(text)]) => {
            Ok(Value::from(strings::regex(pattern)?.replace_all(text, &**by).into_owned()))
        }
        ("safeHtml", [Value::Str(_)]) => Ok(args[0].clone()),
        ("match", [Value::Str(pattern), Value::Str(text)]) => Ok(Value::Bool(strings::regex(pattern)?.is_match(text))),
        ("title", [Value::Str(text)]) => Ok(Value::from(strings::title(text))),
        ("toUpper", [Value::Str(text)]) => Ok(Value::from(text.to_uppercase())),
        ("toLower", [Value::Str(text)]) => Ok(Value::from(text.to_lowercase())),
        ("graphLink", [Value::Str(expr)]) => Ok(Value::from(link(expr, 0))),
        ("tableLink", [Value::Str(expr)]) => Ok(Value::from(link(expr, 1))),
        ("sortByLabel", [Value::Str(label), Value::List(list)]) => {
            let key = |sample: &Value| labels(sample).and_then(|l| l.get(&**label).cloned()).unwrap_or_default();
            let mut sorted = (**list).clone();
            sorted.sort_by_key(key);
            Ok(Value::list(sorted))
        }
        ("stripPort", [Value::Str(host)]) => {
            Ok(Value::from(split_port(host).map_or_else(|| host.to_string(), |(host, _)| host.to_owned())))
        }
        ("stripDomain", [Value::Str(host)]) => Ok(Value::from(strip_domain(host))),
        ("humanize", [value]) => humanize(number(value)?),
        ("humanize1024", [value]) => humanize_1024(number(value)?),
        ("humanizeDuration", [value]) => humanize_duration(number(value)?),
        ("humanizePercentage", [value]) => Ok(Value::from(format!("{}%", short(number(value)? * 100.0)))),
        ("humanizeTimestamp", [value]) => {
            let seconds = number(value)?;
            if !seconds.is_finite() {
                return Ok(Value::from(short(seconds)));
            }
            Ok(Value::from(format::time_text(timestamp_ms(seconds)?)))
        }
        ("toTime", [value]) => Ok(Value::Time(timestamp_ms(number(value)?)?)),
        ("toDuration", [value]) => {
            let ns = number(value)? * 1e9;
            #[expect(clippy::cast_possible_truncation, reason = "saturates; what is no number is zero")]
            Ok(Value::Duration(Duration(ns as i64)))
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this era fit")]
        ("now", []) => Ok(Value::Float(context.now_ms as f64 / 1_000.0)),
        ("pathPrefix", []) => Ok(Value::from(path(context.external_url).to_owned())),
        ("externalURL", []) => Ok(Value::text(context.external_url)),
        ("parseDuration", [Value::Str(text)]) => {
            let ms = parse_duration_ms(text).ok_or_else(|| format!("not a valid duration string: {text:?}"))?;
            #[expect(clippy::cast_precision_loss, reason = "durations of this size fit")]
            Ok(Value::Float(ms as f64 / 1_000.0))
        }
        ("toJson", [value]) => Ok(Value::from(value.to_json().to_string())),
        ("urlQueryEscape", [Value::Str(text)]) => Ok(Value::from(query_escape(text))),
        _ => Err(wrong()),
    }
}

fn samples(samples: Vec<Sample>) -> Value {
    let one = |sample: Sample| {
        Value::fields(vec![("Labels", Value::strings(sample.labels)), ("Value", Value::Float(sample.value))])
    };
    Value::list(samples.into_iter().map(one).collect())
}

fn labels(sample: &Value) -> Option<&BTreeMap<String, String>> {
    match sample.field("Labels") {
        Some(Value::Strings(labels)) => Some(labels),
        _ => None,
    }
}

fn label_of(labels: &BTreeMap<String, String>, name: &str) -> Value {
    Value::text(labels.get(name).map_or("", String::as_str))
}

fn link(expr: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", query_escape(expr))
}

/// What Prometheus takes as a number.
fn number(value: &Value) -> Result<f64, String> {
    #[expect(clippy::cast_precision_loss, reason = "as Go converts")]
    match value {
        Value::Float(number) => Ok(*number),
        Value::Int(number) => Ok(*number as f64),
        Value::Duration(Duration(ns)) => Ok(*ns as f64 / 1e9),
        Value::Str(text) => {
            go_float(text).ok_or_else(|| format!("strconv.ParseFloat: parsing {}: invalid syntax", format::quote(text)))
        }
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn go_float(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    let known = lower.trim_start_matches(['+', '-']);
    if known.starts_with(|c: char| c.is_ascii_digit() || c == '.') || ["inf", "infinity", "nan"].contains(&known) {
        return lower.parse().ok();
    }
    None
}

/// `%.4g`
fn short(value: f64) -> String {
    format_float(value, 'g', Some(4))
}

fn scaled(mut value: f64, prefixes: [&str; 8], factor: f64, done: impl Fn(f64) -> bool, divide: bool) -> String {
    let mut chosen = "";
    for prefix in prefixes {
        if done(value) {
            break;
        }
        chosen = prefix;
        value = if divide { value / factor } else { value * factor };
    }
    format!("{}{chosen}", short(value))
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn humanize(value: f64) -> Result<Value, String> {
    if value == 0.0 || !value.is_finite() {
        return Ok(Value::from(short(value)));
    }
    Ok(Value::from(if value.abs() >= 1.0 {
        scaled(value, ["k", "M", "G", "T", "P", "E", "Z", "Y"], 1_000.0, |v| v.abs() < 1_000.0, true)
    } else {
        scaled(value, SMALL, 1_000.0, |v| v.abs() >= 1.0, false)
    }))
}

fn humanize_1024(value: f64) -> Result<Value, String> {
    if value.abs() <= 1.0 || !value.is_finite() {
        return Ok(Value::from(short(value)));
    }
    let prefixes = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
    Ok(Value::from(scaled(value, prefixes, 1_024.0, |v| v.abs() < 1_024.0, true)))
}

pub(crate) fn humanize_duration(value: f64) -> Result<Value, String> {
    if !value.is_finite() {
        return Ok(Value::from(short(value)));
    }
    if value == 0.0 {
        return Ok(Value::from(format!("{}s", short(value))));
    }
    if value.abs() < 1.0 {
        return Ok(Value::from(format!("{}s", scaled(value, SMALL, 1_000.0, |v| v.abs() >= 1.0, false))));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds are wanted; it saturates")]
    let whole = value as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3_600 % 24, whole / 86_400);
    Ok(Value::from(if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", short(value))
    }))
}

/// Unix seconds to milliseconds; what nanoseconds in 64 bits cannot hold is no time.
fn timestamp_ms(seconds: f64) -> Result<i64, String> {
    if !seconds.is_finite() {
        return Err("value is NaN or Inf".to_owned());
    }
    let ns = seconds * 1e9;
    if !(-9.223_372_036_854_776e18..=9.223_372_036_854_776e18).contains(&ns) {
        let shown = sprintf("%v", &[Value::Float(seconds)]);
        return Err(format!("{shown} cannot be represented as a nanoseconds timestamp since it overflows int64"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked above")]
    let ns = ns as i64;
    Ok(ns / 1_000_000)
}

/// `host:port` in its parts; `[::1]:80` without its brackets.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').map(|inner| (inner, port));
    }
    (!host.contains(':')).then_some((host, port))
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_port(text).unwrap_or((text, ""));
    if host.parse::<std::net::IpAddr>().is_ok() {
        return text.to_owned();
    }
    let first = host.split('.').next().unwrap_or(host);
    if port.is_empty() { first.to_owned() } else { format!("{first}:{port}") }
}

fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    path.split(['?', '#']).next().unwrap_or(path)
}

/// A duration as Prometheus writes it, in milliseconds.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(0);
    }
    if text.is_empty() {
        return None;
    }
    let (mut rest, mut total) = (text, 0_i64);
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let size = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let unit = &rest[..size];
        rest = &rest[size..];
        // The iterator moves on, so units can only get shorter.
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
    }
    Some(total)
}
