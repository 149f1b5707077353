//! `label_replace`, `label_join`: new labels, the same samples.

use super::string;
use crate::engine::eval::Evaluator;
use crate::engine::rows::{Row, merge_duplicates};
use crate::error::{Error, execution};
use crate::labels::{METRIC_NAME, is_label_name};
use crate::options::Steps;
use crate::parser::Expr;
use crate::regexp::compile;

pub(super) fn replace(ev: &mut Evaluator<'_>, args: &[Expr], steps: &Steps) -> Result<Vec<Row>, Error> {
    let (to, replacement, from, expression) =
        (string(&args[1])?, string(&args[2])?, string(&args[3])?, string(&args[4])?);
    let Ok(regex) = compile(expression) else {
        return execution(format!("invalid regular expression in label_replace(): {expression}"));
    };
    if !is_label_name(to) {
        return execution(format!("invalid destination label name in label_replace(): {to}"));
    }
    let mut rows = ev.vector(&args[0], steps)?;
    for row in &mut rows {
        let Some(captures) = regex.captures(row.labels.value(from)) else { continue };
        let value = expand(replacement, &captures);
        row.labels = row.labels.with(to, &value);
        if to == METRIC_NAME {
            row.drop_name = false;
        }
    }
    merge_duplicates(rows)
}

/// Go's expansion: `$1`, `${1}`, `$name`, `${name}`, `$$`; a name is as long as it can be, and what names nothing is empty.
fn expand(template: &str, captures: &regex::Captures<'_>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let word = |s: &str| s.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(s.len());
        let (name, after) = match rest.strip_prefix('{') {
            Some(inside) => match inside.find('}') {
                Some(end) if end > 0 && word(&inside[..end]) == end => (&inside[..end], &inside[end + 1..]),
                _ => ("", rest),
            },
            None => rest.split_at(word(rest)),
        };
        if name.is_empty() {
            // No name: the dollar is itself.
            out.push('$');
            continue;
        }
        let found = match name.parse::<usize>() {
            Ok(index) => captures.get(index),
            Err(_) => captures.name(name),
        };
        out.push_str(found.map_or("", |m| m.as_str()));
        rest = after;
    }
    out.push_str(rest);
    out
}

pub(super) fn join(ev: &mut Evaluator<'_>, args: &[Expr], steps: &Steps) -> Result<Vec<Row>, Error> {
    let (to, separator) = (string(&args[1])?, string(&args[2])?);
    let mut from = Vec::new();
    for arg in &args[3..] {
        let name = string(arg)?;
        if !is_label_name(name) {
            return execution(format!("invalid source label name in label_join(): {name}"));
        }
        from.push(name);
    }
    if !is_label_name(to) {
        return execution(format!("invalid destination label name in label_join(): {to}"));
    }
    let mut rows = ev.vector(&args[0], steps)?;
    for row in &mut rows {
        let value = from.iter().map(|n| row.labels.value(n)).collect::<Vec<_>>().join(separator);
        row.labels = row.labels.with(to, &value);
        if to == METRIC_NAME {
            row.drop_name = false;
        }
    }
    merge_duplicates(rows)
}
