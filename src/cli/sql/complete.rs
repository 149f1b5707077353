//! Completion: keywords, tables, columns, commands.

use std::collections::BTreeSet;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::script;

const KEYWORDS: &[&str] = &[
    "AND",
    "ANALYZE",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CROSS",
    "DATE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXISTS",
    "EXPLAIN",
    "EXTRACT",
    "FALSE",
    "FILTER",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RIGHT",
    "SELECT",
    "SHOW",
    "TABLES",
    "THEN",
    "TIMESTAMP",
    "TRUE",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
    "ago",
    "approx_distinct",
    "approx_percentile",
    "avg",
    "count",
    "date_bin",
    "date_trunc",
    "histogram_quantile",
    "humanize_bytes",
    "humanize_duration",
    "increase",
    "max",
    "min",
    "now",
    "quantile",
    "rate",
    "regexp_extract",
    "regexp_like",
    "string_agg",
    "sum",
    "time_bucket",
    "tumble",
];
const COMMANDS: &[&str] =
    &["\\?", "\\conninfo", "\\d", "\\df", "\\dt", "\\dv", "\\echo", "\\f", "\\i", "\\o", "\\q", "\\timing", "\\x"];

/// What the line editor asks.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Tables, views and columns.
    names: BTreeSet<String>,
}

impl Words {
    pub(super) fn with(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().collect() }
    }

    /// Where the word before the cursor begins, and how it may go on.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let begin = line
            .char_indices()
            .rev()
            .find(|(_, c)| !(c.is_alphanumeric() || matches!(c, '_' | '\\' | '?')))
            .map_or(0, |(at, c)| at + c.len_utf8());
        let word = &line[begin..];
        if word.starts_with('\\') {
            return (begin, COMMANDS.iter().filter(|c| c.starts_with(word)).map(ToString::to_string).collect());
        }
        if word.is_empty() {
            return (begin, Vec::new());
        }
        let lower = word.to_lowercase();
        let is_lower = word.chars().all(|c| !c.is_uppercase());
        let keywords = KEYWORDS
            .iter()
            .filter(|k| k.to_lowercase().starts_with(&lower))
            .map(|k| if is_lower { k.to_lowercase() } else { k.to_uppercase() });
        let names = self.names.iter().filter(|n| n.to_lowercase().starts_with(&lower)).cloned();
        let all: BTreeSet<String> = names.chain(keywords).collect();
        (begin, all.into_iter().collect())
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (begin, words) = self.candidates(&line[..cursor]);
        Ok((begin, words.into_iter().map(|word| Pair { display: word.clone(), replacement: word }).collect()))
    }
}

impl Validator for Words {
    /// Return ends a statement where it has its semicolon, and a command always.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let is_whole = text.trim_start().starts_with('\\')
            || script::is_blank(text)
            || script::is_blank(&script::statements(text).1);
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Highlighter for Words {}

impl Hinter for Words {
    type Hint = String;
}

impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_on_as_keywords_tables_columns_and_commands() {
        let words = Words::with(["logs", "message", "metrics"].map(str::to_string));
        assert_eq!(words.candidates("SELECT me"), (7, vec!["message".to_string(), "metrics".to_string()]));
        assert_eq!(words.candidates("SEL"), (0, vec!["SELECT".to_string()]));
        assert_eq!(words.candidates("select count(*) fro"), (16, vec!["from".to_string()]));
        assert_eq!(words.candidates("\\ti"), (0, vec!["\\timing".to_string()]));
        assert_eq!(words.candidates("SELECT logs.mess").1, ["message"]);
        assert!(words.candidates("SELECT ").1.is_empty());
    }
}
