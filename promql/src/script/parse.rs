//! Scripts to commands.

use regex::Regex;

use crate::error::Error;
use crate::labels::{Labels, Quoted};
use crate::options::{ParserOptions, Steps};
use crate::parser::{SequenceValue, SeriesDescription, parse_duration_ms, parse_series_with};
use crate::query::Query;

/// A command, and the line it is on, from 1.
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

pub(super) struct Load {
    pub(super) interval_ms: i64,
    pub(super) with_nhcb: bool,
    /// Series, their values, and the offsets of their start times in milliseconds.
    pub(super) series: Vec<(Labels, Vec<SequenceValue>, Vec<Option<i64>>)>,
}

/// What an annotation or an error must look like.
pub(super) enum Pattern {
    Any,
    Exactly(String),
    Matching(Regex),
}

impl Pattern {
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Any => true,
            // Prometheus's own guide writes them in quotes.
            Pattern::Exactly(wanted) => {
                wanted == text
                    || wanted.strip_prefix('"').and_then(|w| w.strip_suffix('"')).is_some_and(|wanted| wanted == text)
            }
            Pattern::Matching(regex) => regex.is_match(text),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Pattern::Any => "anything".to_owned(),
            Pattern::Exactly(text) => format!("{}", Quoted(text)),
            Pattern::Matching(regex) => format!("/{regex}/"),
        }
    }
}

#[derive(Default)]
pub(super) struct Expected {
    pub(super) fail: Option<Pattern>,
    /// `expect fail` lines so far.
    fail_lines: usize,
    pub(super) ordered: bool,
    /// At least one warning, whatever it says.
    pub(super) some_warning: bool,
    pub(super) some_info: bool,
    pub(super) warnings: Vec<Pattern>,
    pub(super) infos: Vec<Pattern>,
    pub(super) no_warning: bool,
    pub(super) no_info: bool,
    pub(super) scalar: Option<f64>,
    pub(super) string: Option<String>,
    /// Series in the order in which they are written.
    pub(super) series: Vec<(Labels, Vec<SequenceValue>)>,
    /// The times that an instant query's range vector has.
    pub(super) range_vector: Option<Steps>,
}

pub(super) struct Eval {
    pub(super) text: String,
    /// The query; an error of the parser only where a failure is expected.
    pub(super) query: Result<Query, Error>,
    pub(super) steps: Steps,
    pub(super) expected: Expected,
}

/// Lines without spaces around them. A comment ends a command, as an empty line does; only where what follows it is no command
/// of its own, which Prometheus would refuse, is it passed over.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.split('\n').map(str::trim).collect();
    for i in (0..lines.len()).rev() {
        if lines[i].starts_with('#') {
            let goes_on =
                lines.get(i + 1).is_some_and(|next| *next == PASSED_OVER || !(next.is_empty() || is_command(next)));
            lines[i] = if goes_on { PASSED_OVER } else { "" };
        }
    }
    lines
}

/// Stands for a comment inside a command.
const PASSED_OVER: &str = "#";

/// Whether a line begins a command.
fn is_command(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
    word == "clear" || word.starts_with("load") || word.starts_with("eval")
}

/// Parses a script; of each command that is wrong its line and what is wrong with it.
pub(super) fn parse(text: &str) -> Vec<Result<Command, (usize, String)>> {
    let lines = lines(text);
    let mut out = Vec::new();
    let mut i = 0;
    while i < lines.len() {
        if lines[i].is_empty() || lines[i] == PASSED_OVER {
            i += 1;
            continue;
        }
        let begin = i;
        // A command goes up to the next empty line. `clear` stands alone.
        let word = lines[i].split_whitespace().next().unwrap_or("").to_ascii_lowercase();
        let mut end = i + 1;
        if word != "clear" {
            while end < lines.len() && !lines[end].is_empty() {
                end += 1;
            }
        }
        i = end;
        let kind = if word == "clear" {
            Ok(Kind::Clear)
        } else if word.starts_with("load") {
            load(&lines[begin..end]).map(Kind::Load).map_err(|(at, e)| (begin + at, e))
        } else if word.starts_with("eval") {
            match eval(&lines[begin..end]) {
                // What follows an expected number or an expected failure is a command of its own.
                Ok((eval, used)) => {
                    i = begin + used;
                    Ok(Kind::Eval(Box::new(eval)))
                }
                Err((at, e)) => Err((begin + at, e)),
            }
        } else {
            Err((begin, format!("invalid command {}", Quoted(lines[begin]))))
        };
        out.push(match kind {
            Ok(kind) => Ok(Command { line: begin + 1, kind }),
            Err((at, e)) => Err((at + 1, e)),
        });
    }
    out
}

type Parsed<T> = Result<T, (usize, String)>;

fn duration(text: &str) -> Result<i64, String> {
    match text.strip_prefix('-') {
        Some(positive) => parse_duration_ms(positive).map(|ms| -ms),
        None => parse_duration_ms(text),
    }
}

fn series(text: &str) -> Result<SeriesDescription, Error> {
    parse_series_with(text, ParserOptions::all())
}

fn load(lines: &[&str]) -> Parsed<Load> {
    let mut words = lines[0].splitn(2, char::is_whitespace);
    let command = words.next().unwrap_or("");
    let with_nhcb = command.eq_ignore_ascii_case("load_with_nhcb");
    if !with_nhcb && !command.eq_ignore_ascii_case("load") {
        return Err((0, "invalid load command. (load[_with_nhcb] <step:duration>)".to_owned()));
    }
    let interval_ms = duration(words.next().unwrap_or("").trim()).map_err(|e| (0, e))?;
    let mut load = Load { interval_ms, with_nhcb, series: Vec::new() };
    let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
    for (at, line) in lines.iter().enumerate().skip(1).filter(|(_, line)| **line != PASSED_OVER) {
        if let Some(space) = line.find([' ', '\t'])
            && let Some(metric) = line[..space].strip_suffix("@st")
        {
            if starts.is_some() {
                return Err((at - 1, "@st line has no following sample line".to_owned()));
            }
            let series = series(metric).map_err(|e| (at, e.to_string()))?;
            starts = Some((series.labels, start_offsets(line[space..].trim()).map_err(|e| (at, e))?));
            continue;
        }
        let series = series(line).map_err(|e| (at, e.to_string()))?;
        let offsets = match starts.take() {
            Some((labels, offsets)) if labels == series.labels && offsets.len() == series.values.len() => offsets,
            Some(_) => return Err((at, "@st line does not fit the following sample line".to_owned())),
            None => Vec::new(),
        };
        // Of lines for one series the last counts.
        load.series.retain(|(labels, _, _)| *labels != series.labels);
        load.series.push((series.labels, series.values, offsets));
    }
    if starts.is_some() {
        return Err((lines.len() - 1, "@st line has no following sample line".to_owned()));
    }
    Ok(load)
}

/// Offsets of start times: `_`, `_x3`, `-1m`, `-1mx3`, `-30s-1mx2`.
fn start_offsets(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut out = Vec::new();
    for item in text.split_whitespace() {
        let invalid = || format!("invalid ST item {}", Quoted(item));
        let (values, count) = match item.split_once('x') {
            Some((values, count)) => (values, Some(count.parse::<usize>().map_err(|_| invalid())?)),
            None => (item, None),
        };
        if values == "_" {
            out.extend((0..count.unwrap_or(1)).map(|_| None));
            continue;
        }
        let second = values[1..].find(['+', '-']).map(|at| at + 1);
        let (base, step) = second.map_or((values, None), |at| (&values[..at], Some(&values[at..])));
        let signed = |text: &str| duration(text.trim_start_matches('+')).map_err(|_| invalid());
        let mut value = signed(base)?;
        let step = step.map_or(Ok(0), signed)?;
        for _ in 0..=count.unwrap_or(0) {
            out.push(Some(value));
            value += step;
        }
    }
    Ok(out)
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|e| format!("invalid regular expression {}: {e}", Quoted(pattern)))
}

/// Splits at the first run of white space.
fn split_word(text: &str) -> (&str, &str) {
    let at = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..at], text[at..].trim_start())
}

fn eval(lines: &[&str]) -> Parsed<(Eval, usize)> {
    const USAGE: &str = "invalid evaluation command. Must be either 'eval[_fail|_warn|_ordered|_info] instant [at <offset:duration>] <query>' \
                         or 'eval[_fail|_warn|_info] range from <from> to <to> step <step> <query>'";
    let usage = || (0, USAGE.to_owned());
    let (command, rest) = split_word(lines[0]);
    let (kind, rest) = split_word(rest);
    let mut expected = Expected::default();
    let modifier = command.get(4..).unwrap_or("").trim_start_matches('_');
    match modifier {
        "" => {}
        "fail" => expected.fail = Some(Pattern::Any),
        "warn" => expected.some_warning = true,
        "info" => expected.some_info = true,
        "ordered" if kind == "instant" => expected.ordered = true,
        _ => return Err(usage()),
    }
    let (steps, text) = match kind {
        "instant" => {
            let (time, text) = match split_word(rest) {
                ("at", rest) => split_word(rest),
                _ => ("0", rest),
            };
            let time =
                duration(time).map_err(|e| (0, format!("invalid timestamp definition {}: {e}", Quoted(time))))?;
            (Steps::instant(time), text)
        }
        "range" => {
            let (word, rest) = split_word(rest);
            let (from, rest) = split_word(rest);
            let (to_word, rest) = split_word(rest);
            let (to, rest) = split_word(rest);
            let (step_word, rest) = split_word(rest);
            let (step, text) = split_word(rest);
            if (word, to_word, step_word) != ("from", "to", "step") {
                return Err(usage());
            }
            (range(from, to, step).map_err(|e| (0, e))?, text)
        }
        _ => return Err(usage()),
    };
    let query = Query::parse(text, &ParserOptions::all());
    let mut at = 1;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        if line == PASSED_OVER {
            continue;
        }
        if expected.fail.is_some()
            && let Some(message) = line.strip_prefix("expected_fail_message")
        {
            expected.fail = Some(Pattern::Exactly(message.trim().to_owned()));
            break;
        }
        if expected.fail.is_some()
            && let Some(pattern) = line.strip_prefix("expected_fail_regexp")
        {
            expected.fail = Some(Pattern::Matching(regex(pattern.trim()).map_err(|e| (at - 1, e))?));
            break;
        }
        if line == "expect" || line.starts_with("expect ") {
            expect(line[6..].trim(), &mut expected).map_err(|e| (at - 1, e))?;
            continue;
        }
        if let Ok(number) = number(line) {
            expected.scalar = Some(number);
            break;
        }
        let series = series(line).map_err(|e| (at - 1, e.to_string()))?;
        if kind == "instant" && series.values.len() > 1 && expected.range_vector.is_none() {
            return Err((at - 1, "expecting multiple values in instant evaluation not allowed".to_owned()));
        }
        expected.series.push((series.labels, series.values));
    }
    if let Err(e) = &query
        && expected.fail.is_none()
    {
        return Err((0, format!("{e} in {text}")));
    }
    Ok((Eval { text: text.to_owned(), query, steps, expected }, at))
}

fn range(from: &str, to: &str, step: &str) -> Result<Steps, String> {
    Steps::range(duration(from)?, duration(to)?, duration(step)?).map_err(|e| e.to_string())
}

fn expect(text: &str, expected: &mut Expected) -> Result<(), String> {
    let (what, rest) = split_word(text);
    if what == "range" {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let ["vector", "from", from, "to", to, "step", step] = words.as_slice() else {
            return Err(format!("invalid range vector definition {}", Quoted(text)));
        };
        expected.range_vector = Some(range(from, to, step)?);
        return Ok(());
    }
    if what == "string" {
        if rest.len() < 2 || !rest.starts_with(['"', '\'', '`']) {
            return Err("expected string literal not valid - a quoted string literal is required".to_owned());
        }
        let Ok(query) = Query::parse(rest, &ParserOptions::all()) else {
            return Err("expected string literal not valid - check that the string is correctly quoted".to_owned());
        };
        let crate::parser::Expr::String { value, .. } = query.expr() else {
            return Err("expected string literal not valid - a quoted string literal is required".to_owned());
        };
        expected.string = Some(value.clone());
        return Ok(());
    }
    let pattern = if let Some(message) = rest.strip_prefix("msg:") {
        Pattern::Exactly(message.trim().to_owned())
    } else if let Some(pattern) = rest.strip_prefix("regex:") {
        Pattern::Matching(regex(pattern.trim())?)
    } else if rest.is_empty() {
        Pattern::Any
    } else {
        return Err(format!(
            "invalid expect statement, must match `expect <type> <match_type>: <string>` format: {}",
            Quoted(text)
        ));
    };
    match what {
        "ordered" => expected.ordered = true,
        "fail" if expected.fail_lines > 0 => {
            return Err("invalid expect lines, multiple expect fail lines are not allowed".to_owned());
        }
        "fail" => {
            expected.fail = Some(pattern);
            expected.fail_lines += 1;
        }
        "warn" => expected.warnings.push(pattern),
        "info" => expected.infos.push(pattern),
        "no_warn" => expected.no_warning = true,
        "no_info" => expected.no_info = true,
        other => return Err(format!("invalid expected error/annotation type {other}")),
    }
    if expected.no_info && !expected.infos.is_empty() {
        return Err("invalid expect lines, info and no_info cannot be used together".to_owned());
    }
    if expected.no_warning && !expected.warnings.is_empty() {
        return Err("invalid expect lines, warn and no_warn cannot be used together".to_owned());
    }
    Ok(())
}

fn number(text: &str) -> Result<f64, ()> {
    if text.starts_with('{') || text.contains(char::is_whitespace) {
        return Err(());
    }
    let (negative, plain) = match text.strip_prefix('-') {
        Some(plain) => (true, plain),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = crate::parser::parse_number(plain).ok_or(())?;
    Ok(if negative { -value } else { value })
}
