//! Values as Go's `fmt` prints them.

use std::fmt::Write as _;

use crate::value::{Duration, Value};

/// Go's zero time, the first day of year 1.
pub(crate) const ZERO_TIME_MS: i64 = -62_135_596_800_000;
/// Widest that a verb may pad.
const MAX_WIDTH: usize = 10_000;

/// Prints a value as an action does.
pub(crate) fn print_value(value: &Value, out: &mut String) {
    match value {
        Value::Nil => out.push_str("<no value>"),
        other => plain(other, out),
    }
}

/// A value as `%v` has it.
pub(crate) fn to_text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Nil => out.push_str("<nil>"),
        other => plain(other, &mut out),
    }
    out
}

fn plain(value: &Value, out: &mut String) {
    let list = |items: &mut dyn Iterator<Item = (Option<&str>, String)>, open: &str, close: char, out: &mut String| {
        out.push_str(open);
        for (index, (key, item)) in items.enumerate() {
            if index > 0 {
                out.push(' ');
            }
            if let Some(key) = key {
                out.push_str(key);
                out.push(':');
            }
            out.push_str(&item);
        }
        out.push(close);
    };
    match value {
        Value::Nil => out.push_str("<nil>"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(number) => {
            out.push_str(&number.to_string());
        }
        Value::Float(number) => out.push_str(&format_float(*number, 'g', None)),
        Value::Str(text) => out.push_str(text),
        Value::List(items) => list(&mut items.iter().map(|v| (None, to_text(v))), "[", ']', out),
        Value::Strings(map) => list(&mut map.iter().map(|(k, v)| (Some(k.as_str()), v.clone())), "map[", ']', out),
        Value::Map(map) => list(&mut map.iter().map(|(k, v)| (Some(k.as_str()), to_text(v))), "map[", ']', out),
        Value::Struct(fields) => list(&mut fields.iter().map(|(_, v)| (None, to_text(v))), "{", '}', out),
        Value::Time(ms) => out.push_str(&time_text(*ms)),
        Value::Duration(Duration(ns)) => out.push_str(&duration_text(*ns)),
    }
}

/// `fmt.Sprint`: spaces between operands when neither is a string.
pub(crate) fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    for (index, arg) in args.iter().enumerate() {
        let spaced = index > 0 && !matches!(arg, Value::Str(_)) && !matches!(args[index - 1], Value::Str(_));
        if spaced {
            out.push(' ');
        }
        out.push_str(&to_text(arg));
    }
    out
}

/// A float as `strconv.FormatFloat` writes it: format `e`, `E`, `f`, `g` or `G`; as many digits as it needs without a precision.
pub fn format_float(number: f64, verb: char, precision: Option<usize>) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let exponent = |text: String, upper: bool| {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        format!("{mantissa}{}{sign}{digits:0>2}", if upper { 'E' } else { 'e' })
    };
    match verb {
        'e' | 'E' => {
            let text = match precision {
                Some(precision) => format!("{number:.precision$e}"),
                None => format!("{number:e}"),
            };
            exponent(text, verb == 'E')
        }
        'f' | 'F' => match precision {
            Some(precision) => format!("{number:.precision$}"),
            None => format!("{number}"),
        },
        _ => {
            let upper = verb == 'G';
            // The exponent decides between the two forms; it is that of the rounded number.
            let scientific = match precision {
                Some(precision) => format!("{number:.*e}", precision.max(1) - 1),
                None => format!("{number:e}"),
            };
            let (mantissa, exp) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            let exp: i32 = exp.parse().unwrap_or(0);
            let threshold = match precision {
                None => SHORTEST_THRESHOLD,
                // Trailing zeros do not count: they are not printed.
                Some(precision) => {
                    let significant = mantissa.replace(['-', '.'], "").trim_end_matches('0').len().max(1);
                    let precision = precision.max(1);
                    let point = usize::try_from(exp + 1).unwrap_or(0);
                    let few = precision > significant && significant >= point;
                    i32::try_from(if few { significant } else { precision }).unwrap_or(i32::MAX)
                }
            };
            let trimmed = |text: &str| {
                if text.contains('.') {
                    text.trim_end_matches('0').trim_end_matches('.').to_owned()
                } else {
                    text.to_owned()
                }
            };
            if exp < -4 || exp >= threshold {
                return exponent(format!("{}e{exp}", trimmed(mantissa)), upper);
            }
            match precision {
                None => format!("{number}"),
                Some(precision) => {
                    let decimals = i64::try_from(precision.max(1)).unwrap_or(0) - 1 - i64::from(exp);
                    let decimals = usize::try_from(decimals).unwrap_or(0);
                    trimmed(&format!("{number:.decimals$}"))
                }
            }
        }
    }
}

/// The exponent from which the shortest form is written with an exponent.
const SHORTEST_THRESHOLD: i32 = 6;

/// `fmt.Sprintf`.
pub fn sprintf(verbs: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = verbs.chars().peekable();
    let mut next = 0;
    let mut reordered = false;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.peek().copied().filter(|c| "+-# 0".contains(*c)) {
            match flag {
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
            chars.next();
        }
        let mut explicit = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, next: &mut usize| {
            if chars.peek() == Some(&'[') {
                chars.next();
                let number: String = std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).collect();
                chars.next_if_eq(&']');
                *next = number.parse::<usize>().unwrap_or(1).saturating_sub(1);
                reordered = true;
            }
        };
        explicit(&mut chars, &mut next);
        if chars.next_if_eq(&'*').is_some() {
            match args.get(next) {
                Some(Value::Int(width)) => {
                    spec.minus |= *width < 0;
                    spec.width = usize::try_from(width.unsigned_abs()).ok();
                }
                _ => out.push_str("%!(BADWIDTH)"),
            }
            next += 1;
        } else {
            let digits: String = std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).collect();
            spec.width = digits.parse().ok();
        }
        if chars.next_if_eq(&'.').is_some() {
            if chars.next_if_eq(&'*').is_some() {
                match args.get(next) {
                    Some(Value::Int(precision)) => spec.precision = usize::try_from(*precision).ok(),
                    _ => out.push_str("%!(BADPREC)"),
                }
                next += 1;
            } else {
                let digits: String = std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).collect();
                spec.precision = Some(digits.parse().unwrap_or(0));
            }
        }
        explicit(&mut chars, &mut next);
        spec.width = spec.width.map(|width| width.min(MAX_WIDTH));
        spec.precision = spec.precision.map(|precision| precision.min(MAX_WIDTH));
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.get(next) {
                None => {
                    let _infallible = write!(out, "%!{verb}(MISSING)");
                }
                Some(arg) => {
                    out.push_str(&verb_text(verb, arg, &spec));
                    next += 1;
                }
            },
        }
    }
    if !reordered && next < args.len() {
        let extra = args[next..].iter().map(|arg| match arg {
            Value::Nil => "<nil>".to_owned(),
            other => format!("{}={}", other.type_name(), to_text(other)),
        });
        let _infallible = write!(out, "%!(EXTRA {})", extra.collect::<Vec<_>>().join(", "));
    }
    out
}

#[derive(Debug, Default)]
struct Spec {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

impl Spec {
    fn pad(&self, text: String, numeric: bool) -> String {
        let Some(width) = self.width else { return text };
        let missing = width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        if self.minus {
            return format!("{text}{}", " ".repeat(missing));
        }
        if self.zero && numeric {
            let (sign, digits) = match text.strip_prefix(['+', '-', ' ']) {
                Some(digits) => (&text[..1], digits),
                None => ("", text.as_str()),
            };
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        format!("{}{text}", " ".repeat(missing))
    }

    fn signed(&self, text: String) -> String {
        if text.starts_with(['-', '+']) {
            return text;
        }
        if self.plus {
            format!("+{text}")
        } else if self.space {
            format!(" {text}")
        } else {
            text
        }
    }
}

fn verb_text(verb: char, arg: &Value, spec: &Spec) -> String {
    let bad = || match arg {
        Value::Nil => format!("%!{verb}(<nil>)"),
        other => format!("%!{verb}({}={})", other.type_name(), to_text(other)),
    };
    match (verb, arg) {
        ('T', _) => spec.pad(arg.type_name().to_owned(), false),
        ('v', Value::Float(number)) => {
            spec.pad(spec.signed(format_float(*number, 'g', spec.precision)), number.is_finite())
        }
        ('v' | 'd', Value::Int(number)) => {
            spec.pad(spec.signed(precise(number.to_string(), spec)), spec.precision.is_none())
        }
        ('v', Value::Str(text)) if spec.sharp => spec.pad(quote(text), false),
        ('v', Value::Str(text)) => spec.pad(cut(text, spec), false),
        ('v', _) => spec.pad(to_text(arg), false),
        ('s', Value::Str(text)) => spec.pad(cut(text, spec), false),
        (
            's',
            Value::List(_) | Value::Strings(_) | Value::Map(_) | Value::Time(_) | Value::Duration(_) | Value::Struct(_),
        ) => spec.pad(cut(&to_text(arg), spec), false),
        ('q', Value::Str(text)) => {
            let text = cut(text, spec);
            let raw = spec.sharp && !text.contains('`');
            spec.pad(if raw { format!("`{text}`") } else { quote(&text) }, false)
        }
        ('q' | 'c', Value::Int(number)) => {
            let c = u32::try_from(*number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            spec.pad(if verb == 'c' { c.to_string() } else { format!("'{c}'") }, false)
        }
        ('x' | 'X', Value::Str(text)) => {
            let hex: String = text.bytes().map(|b| format!("{b:02x}")).collect();
            spec.pad(if verb == 'X' { hex.to_uppercase() } else { hex }, false)
        }
        ('x' | 'X' | 'o' | 'O' | 'b', Value::Int(number)) => {
            let magnitude = number.unsigned_abs();
            let digits = match verb {
                'x' => format!("{}{magnitude:x}", if spec.sharp { "0x" } else { "" }),
                'X' => format!("{}{magnitude:X}", if spec.sharp { "0X" } else { "" }),
                'o' => format!("{}{magnitude:o}", if spec.sharp { "0" } else { "" }),
                'O' => format!("0o{magnitude:o}"),
                _ => format!("{magnitude:b}"),
            };
            let signed = if *number < 0 { format!("-{digits}") } else { digits };
            spec.pad(spec.signed(signed), true)
        }
        ('U', Value::Int(number)) => spec.pad(format!("U+{number:04X}"), false),
        ('d', Value::Duration(Duration(ns))) => spec.pad(spec.signed(ns.to_string()), true),
        ('t', Value::Bool(flag)) => spec.pad(flag.to_string(), false),
        ('e' | 'E' | 'f' | 'F', Value::Float(number)) => {
            let text = format_float(*number, verb, Some(spec.precision.unwrap_or(6)));
            spec.pad(spec.signed(text), number.is_finite())
        }
        ('g' | 'G', Value::Float(number)) => {
            spec.pad(spec.signed(format_float(*number, verb, spec.precision)), number.is_finite())
        }
        _ => bad(),
    }
}

/// An integer with at least as many digits as the precision.
fn precise(text: String, spec: &Spec) -> String {
    let Some(precision) = spec.precision else { return text };
    match text.strip_prefix('-') {
        Some(digits) => format!("-{digits:0>precision$}"),
        None => format!("{text:0>precision$}"),
    }
}

fn cut(text: &str, spec: &Spec) -> String {
    match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    }
}

/// A string as Go quotes it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || c == '\x7f' => {
                let _infallible = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A time as Go's `String` has it: `2015-06-05 09:47:41.62 +0000 UTC`.
pub(crate) fn time_text(ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(ms) {
        None => "<time out of range>".to_owned(),
        Some(time) => format!("{}{} +0000 UTC", time.format("%Y-%m-%d %H:%M:%S"), fraction(ms)),
    }
}

/// RFC 3339 in UTC, with as many digits as there are.
pub(crate) fn rfc3339(ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(ms) {
        None => String::new(),
        Some(time) => format!("{}{}Z", time.format("%Y-%m-%dT%H:%M:%S"), fraction(ms)),
    }
}

fn fraction(ms: i64) -> String {
    match ms.rem_euclid(1_000) {
        0 => String::new(),
        millis => format!(".{millis:03}").trim_end_matches('0').to_owned(),
    }
}

/// A time in a layout of Go's reference time, `2006-01-02 15:04:05`.
pub(crate) fn go_time(ms: i64, layout: &str) -> String {
    const PARTS: [(&str, &str); 28] = [
        ("January", "%B"),
        ("Jan", "%b"),
        ("Monday", "%A"),
        ("Mon", "%a"),
        ("MST", "UTC"),
        ("2006", "%Y"),
        ("-07:00", "+00:00"),
        ("-0700", "+0000"),
        ("-07", "+00"),
        ("Z07:00", "Z"),
        ("Z0700", "Z"),
        (".000000", "%.6f"),
        (".000", "%.3f"),
        (".999999999", "~"),
        (".999", "~"),
        ("002", "%j"),
        ("01", "%m"),
        ("02", "%d"),
        ("03", "%I"),
        ("04", "%M"),
        ("05", "%S"),
        ("06", "%y"),
        ("15", "%H"),
        ("PM", "%p"),
        ("pm", "%P"),
        ("_2", "%e"),
        ("1", "%-m"),
        ("2", "%-d"),
    ];
    let Some(time) = chrono::DateTime::from_timestamp_millis(ms) else { return "<time out of range>".to_owned() };
    let mut out = String::new();
    let mut rest = layout;
    'parts: while !rest.is_empty() {
        for (part, code) in PARTS {
            if let Some(after) = rest.strip_prefix(part) {
                match code {
                    "~" => out.push_str(&fraction(ms)),
                    "UTC" | "+00:00" | "+0000" | "+00" | "Z" => out.push_str(code),
                    code => out.push_str(&time.format(code).to_string()),
                }
                rest = after;
                continue 'parts;
            }
        }
        for (part, code) in [("3", "%-I"), ("4", "%-M"), ("5", "%-S")] {
            if let Some(after) = rest.strip_prefix(part) {
                out.push_str(&time.format(code).to_string());
                rest = after;
                continue 'parts;
            }
        }
        let Some(c) = rest.chars().next() else { break };
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// A span as Go's `String` has it: `1h2m3.5s`, `1.5ms`, `0s`.
pub(crate) fn duration_text(ns: i64) -> String {
    if ns == 0 {
        return "0s".to_owned();
    }
    let sign = if ns < 0 { "-" } else { "" };
    let size = ns.unsigned_abs();
    let decimal = |whole: u64, part: u64, digits: usize, unit: &str| {
        let part = format!("{part:0digits$}");
        let part = part.trim_end_matches('0');
        if part.is_empty() { format!("{whole}{unit}") } else { format!("{whole}.{part}{unit}") }
    };
    let text = if size < 1_000 {
        format!("{size}ns")
    } else if size < 1_000_000 {
        decimal(size / 1_000, size % 1_000, 3, "µs")
    } else if size < 1_000_000_000 {
        decimal(size / 1_000_000, size % 1_000_000, 6, "ms")
    } else {
        let seconds = size / 1_000_000_000;
        let last = decimal(seconds % 60, size % 1_000_000_000, 9, "s");
        let (minutes, hours) = (seconds / 60 % 60, seconds / 3_600);
        if hours > 0 {
            format!("{hours}h{minutes}m{last}")
        } else if minutes > 0 {
            format!("{minutes}m{last}")
        } else {
            last
        }
    };
    format!("{sign}{text}")
}
