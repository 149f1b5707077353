//! Series descriptions, as test scripts and rule tests have them: `up{job="a"} 1 2x3 _ stale 0+5x10 {{schema:0 count:1}}`.

use std::sync::Arc;

use super::grammar::Parser;
use super::numbers::{parse_duration_ms, parse_number};
use crate::error::{Error, ParseError, Span};
use crate::histogram::{BucketSpan, CounterResetHint, Histogram};
use crate::labels::{Labels, Quoted};
use crate::options::ParserOptions;
use crate::value::STALE_NAN;

/// One value of a series description.
#[derive(Debug, Clone, PartialEq)]
pub enum SequenceValue {
    /// `_`: no sample.
    Omitted,
    /// A number; `stale` is the staleness marker.
    Float(f64),
    /// `{{...}}`, and whether its counter reset hint was written.
    Histogram(Arc<Histogram>, bool),
}

/// A series and its values, one per interval.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesDescription {
    /// Its labels.
    pub labels: Labels,
    /// Its values.
    pub values: Vec<SequenceValue>,
}

/// Values that a description may have.
const MAX_VALUES: u64 = 10_000_000;

/// Parses a series description.
///
/// # Errors
/// `bad_data` where it is none.
pub fn parse_series(text: &str) -> Result<SeriesDescription, Error> {
    parse_series_with(text, ParserOptions::default())
}

/// The same with parts of the language switched on.
pub(crate) fn parse_series_with(text: &str, options: ParserOptions) -> Result<SeriesDescription, Error> {
    let split = metric_end(text);
    let labels = Parser::new(&text[..split], options).metric()?;
    let mut values = Values { text, at: split, out: Vec::new() };
    values.parse()?;
    Ok(SeriesDescription { labels, values: values.out })
}

/// Where the metric ends and its values begin.
fn metric_end(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let mut braces = false;
    for (i, c) in text.char_indices() {
        if let Some(q) = quote {
            if escaped {
                escaped = false;
            } else if c == '\\' && q != '`' {
                escaped = true;
            } else if c == q {
                quote = None;
            }
            continue;
        }
        match c {
            '"' | '\'' | '`' if braces => quote = Some(c),
            '{' => braces = true,
            '}' => return i + 1,
            c if c.is_ascii_whitespace() && !braces => {
                // `name {labels}` has a space before its braces.
                let rest = text[i..].trim_start();
                if rest.starts_with('{') && !rest.starts_with("{{") {
                    continue;
                }
                return i;
            }
            _ => {}
        }
    }
    text.len()
}

struct Values<'a> {
    text: &'a str,
    at: usize,
    out: Vec<SequenceValue>,
}

type Result2<T> = Result<T, Error>;

impl<'a> Values<'a> {
    fn error<T>(&self, message: impl Into<String>) -> Result2<T> {
        let span = Span { start: self.at, end: self.text.len() };
        Err(ParseError::new(self.text, span, message).into())
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn accept(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn spaces(&mut self) -> bool {
        let count = self.rest().bytes().take_while(u8::is_ascii_whitespace).count();
        self.at += count;
        count > 0
    }

    fn unexpected<T>(&self, context: &str, expected: &str) -> Result2<T> {
        let token: String = self.rest().chars().take_while(|c| !c.is_whitespace()).take(10).collect();
        let expected = if expected.is_empty() { String::new() } else { format!(", expected {expected}") };
        self.error(format!(
            "unexpected {} in {context}{expected}",
            if token.is_empty() { "end of input".to_owned() } else { Quoted(&token).to_string() }
        ))
    }

    fn parse(&mut self) -> Result2<()> {
        while !self.rest().is_empty() {
            if !self.spaces() {
                return self.unexpected("series values", "");
            }
            if self.rest().is_empty() {
                return Ok(());
            }
            self.item()?;
            if self.out.len() as u64 > MAX_VALUES {
                return self.error(format!("more than {MAX_VALUES} values in a series"));
            }
        }
        Ok(())
    }

    fn item(&mut self) -> Result2<()> {
        if self.accept("_") {
            let count = if self.accept("x") { self.times()? } else { 1 };
            self.out.extend((0..count).map(|_| SequenceValue::Omitted));
            return Ok(());
        }
        if self.rest().starts_with("{{") {
            return self.histogram_item();
        }
        let mut value =
            if self.accept("stale") { STALE_NAN } else { self.signed("series values", "number or \"stale\"")? };
        if self.accept("x") {
            let count = self.times()?;
            self.out.extend((0..=count).map(|_| SequenceValue::Float(value)));
        } else if self.rest().starts_with(['+', '-']) {
            let step = self.signed("series values", "number")?;
            if !self.accept("x") {
                return self.unexpected("series values", "\"x\"");
            }
            for _ in 0..=self.times()? {
                self.out.push(SequenceValue::Float(value));
                value += step;
            }
        } else {
            self.out.push(SequenceValue::Float(value));
        }
        Ok(())
    }

    fn times(&mut self) -> Result2<u64> {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let number = &self.rest()[..digits];
        match number.parse::<u64>() {
            Ok(n) if n <= MAX_VALUES => {
                self.at += digits;
                Ok(n)
            }
            _ => self.error(format!("invalid repetition in series values: {}", Quoted(number))),
        }
    }

    fn signed(&mut self, context: &str, expected: &str) -> Result2<f64> {
        let negative = self.rest().starts_with('-');
        if negative || self.rest().starts_with('+') {
            self.at += 1;
        }
        let bytes = self.rest().as_bytes();
        let mut length = 0;
        if bytes.first().is_some_and(u8::is_ascii_alphabetic) {
            while length < bytes.len() && bytes[length].is_ascii_alphabetic() && bytes[length] != b'x' {
                length += 1;
            }
        } else {
            while length < bytes.len() {
                let c = bytes[length];
                let exponent_sign = matches!(c, b'+' | b'-') && length > 0 && matches!(bytes[length - 1], b'e' | b'E');
                if c.is_ascii_digit()
                    || matches!(c, b'.' | b'_' | b'e' | b'E')
                    || exponent_sign
                    || b"smhdwy".contains(&c)
                {
                    length += 1;
                } else {
                    break;
                }
            }
        }
        let token = &self.rest()[..length];
        let value = parse_number(token).or_else(|| parse_duration_ms(token).ok().map(|ms| ms as f64 / 1000.0));
        match value {
            Some(value) if length > 0 => {
                self.at += length;
                Ok(if negative { -value } else { value })
            }
            _ => self.unexpected(context, expected),
        }
    }

    fn histogram_item(&mut self) -> Result2<()> {
        let (first, mut hinted) = self.histogram()?;
        if self.accept("x") {
            let first = Arc::new(first);
            let count = self.times()?;
            self.out.extend((0..=count).map(|_| SequenceValue::Histogram(Arc::clone(&first), hinted)));
            return Ok(());
        }
        let add = self.accept("+");
        if !add && !self.accept("-") {
            self.out.push(SequenceValue::Histogram(Arc::new(first), hinted));
            return Ok(());
        }
        let (step, step_hinted) = self.histogram()?;
        hinted = step_hinted;
        if !self.accept("x") {
            return self.unexpected("series values", "\"x\"");
        }
        let count = self.times()?;
        let mut current = first;
        self.out.push(SequenceValue::Histogram(Arc::new(current.clone()), hinted));
        for _ in 0..count {
            if current.schema > step.schema {
                let (from, to) = (step.schema, current.schema);
                return self.error(format!("error combining histograms: cannot merge from schema {from} to {to}"));
            }
            let combined = if add { current.add(&step) } else { current.sub(&step) };
            if let Err(e) = combined {
                return self.error(e.to_string());
            }
            self.out.push(SequenceValue::Histogram(Arc::new(current.clone()), hinted));
        }
        Ok(())
    }

    fn histogram(&mut self) -> Result2<(Histogram, bool)> {
        const EXPECTED: &str = "histogram description key, e.g. buckets:[5 10 7]";
        if !self.accept("{{") {
            return self.unexpected("series values", "");
        }
        let mut h = Histogram::default();
        let mut hinted = false;
        let (mut offset, mut negative_offset) = (0, 0);
        let mut seen: Vec<&str> = Vec::new();
        loop {
            self.spaces();
            if self.accept("}}") {
                break;
            }
            let length = self.rest().bytes().take_while(|b| b.is_ascii_alphabetic() || *b == b'_').count();
            let key = &self.rest()[..length];
            if length == 0 {
                return self.unexpected("histogram description", EXPECTED);
            }
            if seen.contains(&key) {
                return self.error(format!("duplicate key \"{key}\" in histogram"));
            }
            seen.push(key);
            self.at += length;
            if !self.accept(":") {
                return self.error("missing `:` for histogram descriptor");
            }
            match key {
                "schema" => h.schema = self.integer()?,
                "sum" => h.sum = self.signed("histogram description", "number")?,
                "count" => h.count = self.signed("histogram description", "number")?,
                "z_bucket" => h.zero_count = self.signed("histogram description", "number")?,
                "z_bucket_w" => h.zero_threshold = self.signed("histogram description", "number")?,
                "custom_values" => h.custom_values = self.numbers()?,
                "buckets" => h.positive_buckets = self.numbers()?,
                "n_buckets" => h.negative_buckets = self.numbers()?,
                "offset" => offset = self.integer()?,
                "n_offset" => negative_offset = self.integer()?,
                "counter_reset_hint" => {
                    hinted = true;
                    let length = self.rest().bytes().take_while(|b| b.is_ascii_alphabetic() || *b == b'_').count();
                    h.counter_reset_hint = match &self.rest()[..length] {
                        "unknown" => CounterResetHint::Unknown,
                        "reset" => CounterResetHint::CounterReset,
                        "not_reset" => CounterResetHint::NotCounterReset,
                        "gauge" => CounterResetHint::Gauge,
                        other => return self.error(format!("bad histogram descriptor found: {}", Quoted(other))),
                    };
                    self.at += length;
                }
                other => return self.error(format!("bad histogram descriptor found: {}", Quoted(other))),
            }
        }
        let span = |offset, buckets: &Vec<f64>| {
            if buckets.is_empty() { Vec::new() } else { vec![BucketSpan { offset, length: buckets.len() as u32 }] }
        };
        h.positive_spans = span(offset, &h.positive_buckets);
        h.negative_spans = span(negative_offset, &h.negative_buckets);
        Ok((h, hinted))
    }

    fn integer(&mut self) -> Result2<i32> {
        let length =
            self.rest().bytes().enumerate().take_while(|(i, b)| b.is_ascii_digit() || (*i == 0 && *b == b'-')).count();
        match self.rest()[..length].parse() {
            Ok(n) => {
                self.at += length;
                Ok(n)
            }
            Err(_) => self.unexpected("histogram description", "whole number"),
        }
    }

    fn numbers(&mut self) -> Result2<Vec<f64>> {
        if !self.accept("[") {
            return self.unexpected("histogram description", "\"[\"");
        }
        let mut numbers = Vec::new();
        loop {
            self.spaces();
            if self.accept("]") {
                return Ok(numbers);
            }
            numbers.push(self.signed("histogram description", "number or \"]\"")?);
        }
    }
}
