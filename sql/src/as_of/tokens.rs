//! The ways in which people write it, made into the one that the parser knows.
//!
//! | written | by |
//! |---|---|
//! | `logs AS OF VERSION 12`, `logs AS OF TIMESTAMP '...'`, `logs AS OF SYSTEM TIME '...'` | people, CockroachDB |
//! | `logs FOR VERSION AS OF 12`, `logs FOR TIMESTAMP AS OF '...'`, `logs FOR SYSTEM_TIME AS OF '...'` | Trino, Spark, Iceberg |
//! | `logs VERSION AS OF 12`, `logs TIMESTAMP AS OF '...'` | Delta on Spark |
//! | `logs AT (VERSION => 12)`, `logs AT (TIMESTAMP => ...)` | DuckDB, Snowflake |
//!
//! Told from the tokens: no two words in a row as here mean anything else. `at`, `before` and `changes` stay the plain names they have been, for
//! which the parser takes them no longer where tables have versions.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Version,
    Timestamp,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Version => "VERSION",
            Self::Timestamp => "TIMESTAMP",
        }
    }
}

/// The tokens with every form made into `VERSION AS OF n` or `TIMESTAMP AS OF t`.
pub(crate) fn normalise(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out = Vec::with_capacity(tokens.len());
    // Parentheses still open around the value of `AT (VERSION => n)`, which go.
    let mut dropped = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < tokens.len() {
        if let Some((kind, from)) = clause(&tokens, at) {
            match bare_word(&tokens, at) {
                Some((word, _)) if !is_one_of(word, &["AS", "FOR"]) => out.extend_from_slice(&tokens[at..from]),
                _ => {
                    let span = tokens[at].span;
                    out.extend(
                        [kind.word(), "AS", "OF"].map(|w| TokenWithSpan { token: Token::make_keyword(w), span }),
                    );
                }
            }
            at = from;
            continue;
        }
        if let Some((kind, from)) = function(&tokens, at) {
            let span = tokens[at].span;
            out.extend([kind.word(), "AS", "OF"].map(|w| TokenWithSpan { token: Token::make_keyword(w), span }));
            if kind == Kind::Timestamp {
                out.push(TokenWithSpan { token: Token::LParen, span });
            } else {
                dropped.push(depth);
            }
            depth += 1;
            at = from;
            continue;
        }
        let mut token = tokens[at].clone();
        at += 1;
        match &mut token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth = depth.saturating_sub(1);
                if dropped.last() == Some(&depth) {
                    dropped.pop();
                    continue;
                }
            }
            Token::Word(word) if word.quote_style.is_none() => {
                let is_zone = || matches!(word_at(&tokens, at), Some((word, _)) if word.eq_ignore_ascii_case("time"));
                match word.keyword {
                    Keyword::AT if !is_zone() => word.keyword = Keyword::NoKeyword,
                    Keyword::BEFORE | Keyword::CHANGES => word.keyword = Keyword::NoKeyword,
                    _ => {}
                }
            }
            _ => {}
        }
        out.push(token);
    }
    out
}

/// A clause that begins here, and where its value does.
fn clause(tokens: &[TokenWithSpan], at: usize) -> Option<(Kind, usize)> {
    let (first, next) = bare_word(tokens, at)?;
    let words = |from: usize, wanted: &[&str]| {
        wanted.iter().try_fold(from, |at, wanted| {
            let (word, next) = word_at(tokens, at)?;
            word.eq_ignore_ascii_case(wanted).then_some(next)
        })
    };
    match first.to_ascii_uppercase().as_str() {
        "AS" => {
            let of = words(next, &["OF"])?;
            if let Some(time) = words(of, &["SYSTEM", "TIME"]) {
                return Some((Kind::Timestamp, time));
            }
            let (word, value) = word_at(tokens, of)?;
            Some((kind_of(word)?, value))
        }
        "FOR" => {
            let (word, next) = word_at(tokens, next)?;
            Some((kind_of(word)?, words(next, &["AS", "OF"])?))
        }
        word => {
            let kind = match word {
                "VERSION" => Kind::Version,
                "TIMESTAMP" => Kind::Timestamp,
                _ => return None,
            };
            Some((kind, words(next, &["AS", "OF"])?))
        }
    }
}

/// `AT (VERSION => ` or `AT (TIMESTAMP => `, and what comes after it.
fn function(tokens: &[TokenWithSpan], at: usize) -> Option<(Kind, usize)> {
    let (first, next) = bare_word(tokens, at)?;
    if !first.eq_ignore_ascii_case("at") {
        return None;
    }
    let next = symbol(tokens, next, &Token::LParen)?;
    let (word, next) = word_at(tokens, next)?;
    Some((kind_of(word)?, symbol(tokens, next, &Token::RArrow)?))
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|w| w.eq_ignore_ascii_case(word))
}

fn kind_of(word: &str) -> Option<Kind> {
    match word.to_ascii_uppercase().as_str() {
        "VERSION" | "SYSTEM_VERSION" => Some(Kind::Version),
        "TIMESTAMP" | "SYSTEM_TIME" => Some(Kind::Timestamp),
        _ => None,
    }
}

fn bare_word(tokens: &[TokenWithSpan], at: usize) -> Option<(&str, usize)> {
    match &tokens.get(at)?.token {
        Token::Word(word) if word.quote_style.is_none() => Some((word.value.as_str(), at + 1)),
        _ => None,
    }
}

/// The word that comes next, and the place after it.
fn word_at(tokens: &[TokenWithSpan], at: usize) -> Option<(&str, usize)> {
    bare_word(tokens, past_blanks(tokens, at))
}

fn symbol(tokens: &[TokenWithSpan], at: usize, wanted: &Token) -> Option<usize> {
    let at = past_blanks(tokens, at);
    (tokens.get(at)?.token == *wanted).then_some(at + 1)
}

fn past_blanks(tokens: &[TokenWithSpan], from: usize) -> usize {
    let blanks = tokens.iter().skip(from).take_while(|t| matches!(t.token, Token::Whitespace(_))).count();
    from + blanks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use datafusion::sql::sqlparser::parser::Parser;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;
    use highwater_pipeline::functions::HighwaterDialect;

    use super::*;

    fn parsed(sql: &str) -> String {
        let tokens = Tokenizer::new(&HighwaterDialect, sql).tokenize_with_location().unwrap();
        let mut parser = Parser::new(&HighwaterDialect).with_tokens_with_locations(normalise(tokens));
        parser.parse_statement().unwrap_or_else(|e| panic!("{sql}: {e}")).to_string()
    }

    #[test]
    fn every_form_means_the_same() {
        // As the tree is printed, which is not as it is read.
        let version = "SELECT * FROM logs AS l VERSION AS OF 12 WHERE x";
        for sql in [
            "SELECT * FROM logs AS OF VERSION 12 AS l WHERE x",
            "SELECT * FROM logs  as  of version 12 l WHERE x",
            "SELECT * FROM logs FOR VERSION AS OF 12 AS l WHERE x",
            "SELECT * FROM logs FOR SYSTEM_VERSION AS OF 12 AS l WHERE x",
            "SELECT * FROM logs VERSION AS OF 12 AS l WHERE x",
            "SELECT * FROM logs AT (VERSION => 12) AS l WHERE x",
        ] {
            assert_eq!(parsed(sql).replace("logs l", "logs AS l"), version, "{sql}");
        }
        let time = "SELECT * FROM a TIMESTAMP AS OF '2026-01-01', b";
        for sql in [
            "SELECT * FROM a AS OF TIMESTAMP '2026-01-01', b",
            "SELECT * FROM a FOR TIMESTAMP AS OF '2026-01-01', b",
            "SELECT * FROM a FOR SYSTEM_TIME AS OF '2026-01-01', b",
            "SELECT * FROM a TIMESTAMP AS OF '2026-01-01', b",
            "SELECT * FROM a AS OF SYSTEM TIME '2026-01-01', b",
        ] {
            assert_eq!(parsed(sql), time, "{sql}");
        }
        assert_eq!(
            parsed("SELECT * FROM (SELECT 1 FROM a AT (TIMESTAMP => now() - INTERVAL '1 hour')) AS t"),
            "SELECT * FROM (SELECT 1 FROM a TIMESTAMP AS OF (now() - INTERVAL '1 hour')) AS t"
        );
    }

    #[test]
    fn what_means_something_else_stays() {
        for sql in [
            "SELECT at, before, changes FROM logs AS at WHERE at.x = 1",
            "SELECT * FROM logs before",
            "SELECT * FROM logs changes JOIN logs at ON true",
            "SELECT timestamp AT TIME ZONE 'UTC' FROM logs",
            "SELECT version AS of, timestamp AS of FROM logs",
            "SELECT TIMESTAMP '2026-01-01' FROM logs",
            "SELECT at(1), (2) FROM logs",
        ] {
            let plain = Parser::parse_sql(&datafusion::sql::sqlparser::dialect::GenericDialect {}, sql).unwrap();
            assert_eq!(parsed(sql), plain[0].to_string(), "{sql}");
        }
    }
}
