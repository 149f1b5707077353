//! What becomes of an event before it is a row: left out, thinned out, or without what nobody should see.
//!
//! In this order: exclude, include, sampling, rate, redaction. What is left out is counted by reason, and its place in the file counts as read.

use std::borrow::Cow;

use regex::Regex;
use serde::Deserialize;

use crate::agents::AgentError;

/// Settings of one source.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FilterOptions {
    /// Regular expressions: an event that none of them matches is left out. Empty: all are kept.
    pub include: Vec<String>,
    /// Regular expressions: an event that one of them matches is left out.
    pub exclude: Vec<String>,
    /// Keeps this part of the events, evenly: 0.1 is every tenth.
    pub sample: Option<f64>,
    /// Keeps so many rows a second, and as many again at once; others are left out.
    pub rows_per_s: Option<f64>,
    /// What is replaced in every event.
    pub redact: Vec<Redaction>,
}

/// Something to replace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redaction {
    /// A regular expression, or the name of a well-known kind: `email`, `ipv4`, `credit_card`, `bearer_token`, `password`.
    pub pattern: String,
    /// With `$1` and `${name}` for groups; `[REDACTED]` where nothing is said.
    #[serde(default = "default_replacement")]
    pub replacement: String,
}

fn default_replacement() -> String {
    "[REDACTED]".to_owned()
}

/// Kinds of secrets by name. What stands before a secret stays, in the first group.
const KNOWN: [(&str, &str); 5] = [
    ("email", r"(?P<keep>)[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"),
    ("ipv4", r"(?P<keep>)\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b"),
    ("credit_card", r"(?P<keep>)\b(?:\d{4}[ -]?){3}\d{1,4}\b|\b3[47]\d{2}[ -]?\d{6}[ -]?\d{5}\b"),
    ("bearer_token", r"(?i)(?P<keep>\bbearer\s+)[A-Za-z0-9._~+/=-]+"),
    (
        "password",
        r#"(?i)(?P<keep>\b(?:password|passwd|pwd|secret|token|api[_-]?key)\\?"?\s*[=:]\s*\\?"?)[^\s"',;&\\]+"#,
    ),
];

/// Why an event is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// By `include` or `exclude`.
    Excluded,
    /// By `sample`.
    Sampled,
    /// By `rows_per_s`.
    Limited,
}

/// The filters of one source's file.
#[derive(Debug)]
pub(crate) struct Filters {
    include: Vec<Regex>,
    exclude: Vec<Regex>,
    sample: Option<f64>,
    /// What sampling has left over.
    owed: f64,
    rate: Option<Rate>,
    redact: Vec<(Regex, String)>,
}

/// So many a second, and as many at once.
#[derive(Debug)]
struct Rate {
    per_s: f64,
    left: f64,
    at_ms: i64,
}

impl Filters {
    pub(crate) fn new(options: &FilterOptions) -> Result<Self, AgentError> {
        let regex = |option: &'static str, pattern: &str| {
            Regex::new(pattern).map_err(|error| AgentError::Option { option, reason: format!("{pattern:?}: {error}") })
        };
        let all = |option, patterns: &[String]| {
            patterns.iter().map(|pattern| regex(option, pattern)).collect::<Result<Vec<_>, _>>()
        };
        let wrong = |option, reason: &str| Err(AgentError::Option { option, reason: reason.to_owned() });
        if options.sample.is_some_and(|part| !(0.0..=1.0).contains(&part)) {
            return wrong("sample", "expected 0 to 1: the part of events to keep");
        }
        if options.rows_per_s.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            return wrong("rows_per_s", "expected a number above 0");
        }
        let redact = options.redact.iter().map(|redaction| {
            let known = KNOWN.iter().find(|(name, _)| *name == redaction.pattern);
            let (pattern, replacement) = match known {
                Some((_, pattern)) => (*pattern, format!("${{keep}}{}", redaction.replacement)),
                None => (redaction.pattern.as_str(), redaction.replacement.clone()),
            };
            Ok((regex("redact", pattern)?, replacement))
        });
        Ok(Self {
            include: all("include", &options.include)?,
            exclude: all("exclude", &options.exclude)?,
            sample: options.sample.filter(|part| *part < 1.0),
            owed: 0.0,
            rate: options.rows_per_s.map(|per_s| Rate { per_s, left: per_s.max(1.0), at_ms: i64::MIN }),
            redact: redact.collect::<Result<_, AgentError>>()?,
        })
    }

    /// Whether the event is kept.
    pub(crate) fn admit(&mut self, text: &str, now_ms: i64) -> Result<(), LeftOut> {
        let matches = |patterns: &[Regex]| patterns.iter().any(|pattern| pattern.is_match(text));
        if matches(&self.exclude) || (!self.include.is_empty() && !matches(&self.include)) {
            return Err(LeftOut::Excluded);
        }
        if let Some(part) = self.sample {
            self.owed += part;
            if self.owed < 1.0 {
                return Err(LeftOut::Sampled);
            }
            self.owed -= 1.0;
        }
        let has_room = self.rate.as_mut().is_none_or(|rate| rate.take(now_ms));
        if has_room { Ok(()) } else { Err(LeftOut::Limited) }
    }

    /// The event without what is redacted.
    pub(crate) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut redacted = Cow::Borrowed(text);
        for (pattern, replacement) in &self.redact {
            if let Cow::Owned(changed) = pattern.replace_all(&redacted, replacement.as_str()) {
                redacted = Cow::Owned(changed);
            }
        }
        redacted
    }
}

impl Rate {
    fn take(&mut self, now_ms: i64) -> bool {
        let elapsed_ms = if self.at_ms == i64::MIN { 0 } else { (now_ms - self.at_ms).max(0) };
        self.at_ms = now_ms;
        self.left = (self.left + self.per_s * elapsed_ms as f64 / 1000.0).min(self.per_s.max(1.0));
        let has_room = self.left >= 1.0;
        if has_room {
            self.left -= 1.0;
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(options: FilterOptions) -> Filters {
        Filters::new(&options).unwrap()
    }

    #[test]
    fn patterns_keep_and_leave_out() {
        let mut filters = filters(FilterOptions {
            include: vec!["ERROR".into(), "WARN".into()],
            exclude: vec!["healthz".into()],
            ..FilterOptions::default()
        });
        assert_eq!(filters.admit("ERROR boom", 0), Ok(()));
        assert_eq!(filters.admit("INFO fine", 0), Err(LeftOut::Excluded));
        assert_eq!(filters.admit("WARN GET /healthz", 0), Err(LeftOut::Excluded));
    }

    #[test]
    fn a_sample_is_even_and_a_rate_holds() {
        let mut sampled = filters(FilterOptions { sample: Some(0.25), ..FilterOptions::default() });
        let kept: Vec<_> = (0..12).map(|_| sampled.admit("x", 0).is_ok()).collect();
        assert_eq!(kept.iter().filter(|kept| **kept).count(), 3);
        assert_eq!(kept[..4], [false, false, false, true]);
        let mut limited = filters(FilterOptions { rows_per_s: Some(2.0), ..FilterOptions::default() });
        let mut at = |now_ms| limited.admit("x", now_ms).is_ok();
        assert_eq!(
            [at(0), at(0), at(0), at(499), at(500), at(1_500), at(1_500), at(1_500)],
            [true, true, false, false, true, true, true, false]
        );
    }

    #[test]
    fn secrets_are_replaced() {
        let redact = |pattern: &str, replacement: &str, text: &str| {
            let redact = vec![Redaction { pattern: pattern.into(), replacement: replacement.into() }];
            filters(FilterOptions { redact, ..FilterOptions::default() }).redact(text).into_owned()
        };
        for (pattern, text, expected) in [
            ("email", "mail to jo.doe+x@example.co.uk now", "mail to [R] now"),
            ("ipv4", "from 10.0.0.255:80, not 1.2.3", "from [R]:80, not 1.2.3"),
            ("credit_card", "card 4111 1111 1111 1111 or 378282246310005 id 12345", "card [R] or [R] id 12345"),
            ("bearer_token", "Authorization: Bearer abc.def-1 x", "Authorization: Bearer [R] x"),
            (
                "password",
                r#"password=hunter2&x=1 {"api_key": "k1", "n": 2}"#,
                r#"password=[R]&x=1 {"api_key": "[R]", "n": 2}"#,
            ),
        ] {
            assert_eq!(redact(pattern, "[R]", text), expected, "{pattern}");
        }
        assert_eq!(redact(r"user=(\w)\w*", "user=$1***", "user=alice"), "user=a***");
        assert_eq!(redact("nothing", "x", "as it is"), "as it is");
    }

    #[test]
    fn mistakes_are_named() {
        let error = |options| Filters::new(&options).unwrap_err().to_string();
        assert!(
            error(FilterOptions { include: vec!["(".into()], ..FilterOptions::default() }).starts_with("include: ")
        );
        assert!(error(FilterOptions { sample: Some(2.0), ..FilterOptions::default() }).starts_with("sample: "));
        assert!(error(FilterOptions { rows_per_s: Some(0.0), ..FilterOptions::default() }).starts_with("rows_per_s: "));
    }
}
