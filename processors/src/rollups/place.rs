//! Where in a rollup's SQL something stands, so that an error can point at it.
//!
//! The planner keeps the places of columns, not those of functions and clauses, and analysis gives expressions new shapes. So what is refused is
//! looked up in the text's tokens by the words it was written with.

use std::fmt;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};
use highwater_pipeline::functions::HighwaterDialect;

/// A line and a column of the SQL, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(Location);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.0.line, self.0.column)
    }
}

/// The first place where these words follow each other.
pub(super) fn of_words(sql: &str, words: &[&str]) -> Option<Place> {
    find(sql, words).next()
}

/// The last one: of clauses that stand at a query's end.
pub(super) fn of_last_words(sql: &str, words: &[&str]) -> Option<Place> {
    find(sql, words).last()
}

/// The second one: of what a query may have once.
pub(super) fn of_second(sql: &str, word: &str) -> Option<Place> {
    find(sql, &[word]).nth(1)
}

/// The place of an expression: of the function it calls, the column it names, or the first of its parts that has one.
pub(super) fn of(sql: &str, expr: &Expr) -> Option<Place> {
    let mut place = None;
    let walked = expr.apply(|part| {
        place = match part {
            Expr::ScalarFunction(call) => of_call(sql, call.name(), call.func.aliases()),
            Expr::AggregateFunction(call) => of_call(sql, call.func.name(), call.func.aliases()),
            Expr::WindowFunction(call) => of_call(sql, call.fun.name(), &[]),
            Expr::Column(column) => {
                column.spans.first().map(|span| Place(Location::new(span.start.line, span.start.column)))
            }
            _ => None,
        };
        Ok(if place.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    // Without a place an error is still one.
    walked.ok().and(place)
}

/// The first place where a function of one of these names is called.
pub(super) fn of_call(sql: &str, name: &str, aliases: &[String]) -> Option<Place> {
    let names = std::iter::once(name).chain(aliases.iter().map(String::as_str));
    names.filter_map(|name| of_words(sql, &[name, "("])).min_by_key(|place| (place.0.line, place.0.column))
}

fn find<'a>(sql: &str, words: &'a [&'a str]) -> impl Iterator<Item = Place> + use<'a> {
    // What cannot be cut into tokens has not come this far.
    let mut tokens = Tokenizer::new(&HighwaterDialect, sql).tokenize_with_location().unwrap_or_default();
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    (0..tokens.len()).filter_map(move |from| {
        let here = tokens.get(from..from + words.len())?;
        let same = here.iter().zip(words).all(|(token, word)| match &token.token {
            Token::Word(found) => found.value.eq_ignore_ascii_case(word),
            other => other.to_string() == **word,
        });
        same.then(|| Place(here[0].span.start))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SQL: &str =
        "SELECT service,\n  -- median(x)\n  Median (value) AS limit_,\n 'LIMIT' FROM logs\nORDER  BY n LIMIT 5";

    #[test]
    fn comments_and_strings_are_no_places() {
        let call = of_call(SQL, "median", &[]).unwrap();
        assert_eq!(call.to_string(), "line 3, column 3");
        assert_eq!(of_words(SQL, &["LIMIT"]).unwrap().to_string(), "line 5, column 13");
        assert_eq!(of_last_words(SQL, &["order", "by"]).unwrap().to_string(), "line 5, column 1");
        assert_eq!(of_second(SQL, "select"), None);
        assert_eq!(of_call(SQL, "value", &[]), None, "a column of that name is no call");
    }
}
