//! `COPY ... TO STDOUT`: what a statement asks for, and rows in its three formats. There is no way in: rows come by the doors for telemetry.

use bytes::{BufMut, BytesMut};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::command::Words;
use super::error::{PgError, code};

/// A `COPY ... TO STDOUT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CopyOut {
    /// The query whose rows are copied.
    pub(crate) query: String,
    /// How they are written.
    pub(crate) style: Style,
}

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) format: Format,
    pub(crate) delimiter: u8,
    pub(crate) null: String,
    pub(crate) header: bool,
    quote: u8,
    escape: u8,
    /// Every value that is not NULL stands in quotes.
    force_quote: bool,
}

/// The formats there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Csv,
    Binary,
}

/// What the binary format begins with, flags and the length of nothing more included, and ends in.
pub(crate) const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
pub(crate) const BINARY_TRAILER: &[u8] = &[0xff, 0xff];

/// Reads a statement past its `COPY`.
///
/// # Errors
/// `25006` for one that would write, `42501` for one that names a file, `42601` and `0A000` for what it does not say right, or asks in vain.
pub(super) fn parse(w: &mut Words<'_>) -> Result<CopyOut, PgError> {
    let wrong = || PgError::new(code::SYNTAX, "syntax error in COPY");
    let query = if w.take_token(&Token::LParen) {
        let (query, depth) = (in_parentheses(w.text).ok_or_else(wrong)?, &mut 1);
        while *depth > 0 {
            match w.next_token().ok_or_else(wrong)? {
                Token::LParen => *depth += 1,
                Token::RParen => *depth -= 1,
                _ => {}
            }
        }
        query
    } else {
        let mut table = w.ident().ok_or_else(wrong)?;
        while w.take_token(&Token::Period) {
            table = format!("{table}.{}", w.ident().ok_or_else(wrong)?);
        }
        let mut columns = Vec::new();
        if w.take_token(&Token::LParen) {
            loop {
                columns.push(w.ident().ok_or_else(wrong)?);
                if w.take_token(&Token::RParen) {
                    break;
                }
                w.take_token(&Token::Comma).then_some(()).ok_or_else(wrong)?;
            }
        }
        let columns = if columns.is_empty() { "*".to_string() } else { columns.join(", ") };
        format!("SELECT {columns} FROM {table}")
    };
    if w.take("from") {
        return Err(PgError::new(code::READ_ONLY, "cannot execute COPY FROM in a read-only transaction")
            .with_hint("Rows come in by the doors for telemetry."));
    }
    w.take("to").then_some(()).ok_or_else(wrong)?;
    if !w.take("stdout") {
        return Err(PgError::new(
            code::NOT_ALLOWED,
            "COPY goes to STDOUT only, and to no file or program of the server",
        )
        .with_hint("psql's \\copy writes a file where psql runs."));
    }
    Ok(CopyOut { query, style: style(w)? })
}

/// The text between the first parenthesis and the one that closes it.
fn in_parentheses(text: &str) -> Option<String> {
    let begin = text.find('(')? + 1;
    let (mut depth, mut quote) = (1, None);
    for (at, byte) in text.bytes().enumerate().skip(begin) {
        match (quote, byte) {
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'(') => depth += 1,
            (None, b')') => {
                depth -= 1;
                if depth == 0 {
                    return Some(text[begin..at].to_string());
                }
            }
            (None, _) => {}
        }
    }
    None
}

/// `[WITH] (FORMAT csv, HEADER, ...)`, or the older `[WITH] CSV HEADER DELIMITER AS ','`.
fn style(w: &mut Words<'_>) -> Result<Style, PgError> {
    let _optional = w.take("with");
    let listed = w.take_token(&Token::LParen);
    let mut given = Given::default();
    loop {
        if if listed { w.take_token(&Token::RParen) } else { w.at_end() } {
            break;
        }
        let Some(option) = w.name() else {
            return Err(PgError::new(code::SYNTAX, "syntax error in the options of COPY"));
        };
        given.take(w, &option, listed)?;
        if listed {
            let _more = w.take_token(&Token::Comma);
        }
    }
    if !w.at_end() {
        return Err(PgError::new(code::SYNTAX, "syntax error behind the options of COPY"));
    }
    given.style()
}

/// Options as they are said.
#[derive(Default)]
struct Given {
    format: Option<Format>,
    delimiter: Option<String>,
    null: Option<String>,
    header: bool,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: bool,
}

impl Given {
    fn take(&mut self, w: &mut Words<'_>, option: &str, listed: bool) -> Result<(), PgError> {
        let invalid = |message: String| PgError::new(code::SYNTAX, message);
        let text = |w: &mut Words<'_>| {
            let _as = w.take("as");
            w.text_value().ok_or_else(|| invalid(format!("option \"{option}\" of COPY requires a value")))
        };
        match option {
            "format" => {
                let name = w.name().or_else(|| w.text_value()).unwrap_or_default();
                self.format = Some(match name.to_lowercase().as_str() {
                    "text" => Format::Text,
                    "csv" => Format::Csv,
                    "binary" => Format::Binary,
                    _ => {
                        return Err(PgError::new(
                            code::INVALID_VALUE,
                            format!("COPY format \"{name}\" not recognized"),
                        ));
                    }
                });
            }
            "csv" if !listed => self.format = Some(Format::Csv),
            "binary" if !listed => self.format = Some(Format::Binary),
            "header" => {
                self.header = listed.then(|| w.boolean()).flatten().unwrap_or(true);
            }
            "delimiter" => self.delimiter = Some(text(w)?),
            "null" => self.null = Some(text(w)?),
            "quote" => self.quote = Some(text(w)?),
            "escape" => self.escape = Some(text(w)?),
            "encoding" => {
                let encoding = text(w)?;
                if !["utf8", "utf-8"].contains(&encoding.to_lowercase().as_str()) {
                    return Err(PgError::new(code::INVALID_VALUE, "COPY is in UTF8"));
                }
            }
            "force_quote" | "force" => {
                let _quote = w.take("quote");
                self.force_quote = w.take_token(&Token::Mul);
                if !self.force_quote {
                    return Err(PgError::new(code::UNSUPPORTED, "COPY knows FORCE_QUOTE *, and not of single columns"));
                }
            }
            _ => return Err(invalid(format!("option \"{option}\" of COPY not recognized"))),
        }
        Ok(())
    }

    fn style(self) -> Result<Style, PgError> {
        let format = self.format.unwrap_or(Format::Text);
        let byte = |name: &str, given: Option<String>, default: u8| match given.as_deref().map(str::as_bytes) {
            None => Ok(default),
            Some([byte]) if !matches!(byte, b'\n' | b'\r') => Ok(*byte),
            Some(_) => {
                Err(PgError::new(code::INVALID_VALUE, format!("COPY {name} must be a single one-byte character")))
            }
        };
        if format == Format::Binary && (self.header || self.delimiter.is_some() || self.null.is_some()) {
            return Err(PgError::new(code::SYNTAX, "COPY in binary has no header, delimiter or null string"));
        }
        let quote = byte("quote", self.quote, b'"')?;
        Ok(Style {
            format,
            delimiter: byte("delimiter", self.delimiter, if format == Format::Csv { b',' } else { b'\t' })?,
            null: self.null.unwrap_or_else(|| if format == Format::Csv { String::new() } else { "\\N".to_string() }),
            header: self.header,
            quote,
            escape: byte("escape", self.escape, quote)?,
            force_quote: self.force_quote,
        })
    }
}

impl Style {
    /// Makes the value that begins here in `out` one of this format.
    pub(crate) fn finish(&self, begin: usize, out: &mut BytesMut) {
        match self.format {
            Format::Binary => {}
            Format::Text => self.escape_text(begin, out),
            Format::Csv => self.quote_csv(begin, out),
        }
    }

    fn escape_text(&self, begin: usize, out: &mut BytesMut) {
        let special = |b: u8| b == self.delimiter || matches!(b, b'\\' | b'\n' | b'\r' | b'\t' | 8 | 11 | 12);
        if !out[begin..].iter().any(|b| special(*b)) {
            return;
        }
        let value = out.split_off(begin);
        for byte in value {
            let letter = match byte {
                8 => b'b',
                b'\t' => b't',
                b'\n' => b'n',
                11 => b'v',
                12 => b'f',
                b'\r' => b'r',
                byte if byte == b'\\' || byte == self.delimiter => byte,
                byte => {
                    out.put_u8(byte);
                    continue;
                }
            };
            out.put_slice(&[b'\\', letter]);
        }
    }

    fn quote_csv(&self, begin: usize, out: &mut BytesMut) {
        let value = &out[begin..];
        let special = |b: u8| b == self.delimiter || b == self.quote || matches!(b, b'\n' | b'\r');
        let is_end = value == b"\\.";
        if !self.force_quote && !is_end && value != self.null.as_bytes() && !value.iter().any(|b| special(*b)) {
            return;
        }
        let value = out.split_off(begin);
        out.put_u8(self.quote);
        for byte in value {
            if byte == self.quote || byte == self.escape {
                out.put_u8(self.escape);
            }
            out.put_u8(byte);
        }
        out.put_u8(self.quote);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::super::command::{Command, command};
    use super::*;

    fn copy(sql: &str) -> CopyOut {
        match command(sql).unwrap() {
            Command::Copy(copy) => *copy,
            other => panic!("{other:?}"),
        }
    }

    fn written(style: &Style, value: &str) -> String {
        let mut out = BytesMut::from(value.as_bytes());
        style.finish(0, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_table_or_a_query() {
        assert_eq!(copy("COPY logs TO STDOUT").query, "SELECT * FROM logs");
        assert_eq!(copy("copy public.\"Logs\" (a, \"B c\") to stdout").query, "SELECT a, \"B c\" FROM public.\"Logs\"");
        let nested = copy("COPY (SELECT f(')', x) FROM (SELECT 1) t) TO STDOUT WITH CSV HEADER");
        assert_eq!(nested.query, "SELECT f(')', x) FROM (SELECT 1) t");
        assert_eq!((nested.style.format, nested.style.header), (Format::Csv, true));
        for (sql, code) in [
            ("COPY logs FROM STDIN", code::READ_ONLY),
            ("COPY logs TO '/tmp/x'", code::NOT_ALLOWED),
            ("COPY (SELECT 1) TO PROGRAM 'sh'", code::NOT_ALLOWED),
            ("COPY logs TO STDOUT (FORMAT nosuch)", code::INVALID_VALUE),
            ("COPY logs TO STDOUT (NOSUCH)", code::SYNTAX),
            ("COPY logs TO STDOUT (DELIMITER 'ab')", code::INVALID_VALUE),
            ("COPY (SELECT 1 TO STDOUT", code::SYNTAX),
            ("COPY", code::SYNTAX),
        ] {
            assert_eq!(command(sql).unwrap_err().code, code, "{sql}");
        }
    }

    #[test]
    fn options_in_both_forms() {
        let new =
            copy("COPY t TO STDOUT WITH (FORMAT csv, HEADER true, DELIMITER ';', NULL 'x', QUOTE '''', FORCE_QUOTE *)")
                .style;
        let old = copy("COPY t TO STDOUT WITH CSV HEADER DELIMITER AS ';' NULL AS 'x' QUOTE '''' FORCE QUOTE *").style;
        assert_eq!(new, old);
        assert_eq!((new.delimiter, new.null.as_str(), new.quote, new.escape), (b';', "x", b'\'', b'\''));
        let of_a_driver = copy("COPY t (\"a\") TO stdout WITH DELIMITER AS E'\\t' NULL AS E'\\\\N'").style;
        assert_eq!(of_a_driver, copy("COPY t TO STDOUT").style);
        assert!(!copy("COPY t TO STDOUT (HEADER false)").style.header);
        assert_eq!(copy("COPY t TO STDOUT BINARY").style.format, Format::Binary);
    }

    #[test]
    fn values_in_text_and_csv() {
        let text = copy("COPY t TO STDOUT").style;
        assert_eq!(written(&text, "a\tb\\c\nd"), "a\\tb\\\\c\\nd");
        assert_eq!(written(&text, "plain, \"x\""), "plain, \"x\"");
        let csv = copy("COPY t TO STDOUT CSV").style;
        for (value, expected) in [
            ("a", "a"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("", "\"\""),
            ("a\nb", "\"a\nb\""),
            ("\\.", "\"\\.\""),
        ] {
            assert_eq!(written(&csv, value), expected, "{value:?}");
        }
        let piped = copy("COPY t TO STDOUT (DELIMITER '|')").style;
        assert_eq!(written(&piped, "a|b"), "a\\|b");
    }
}
