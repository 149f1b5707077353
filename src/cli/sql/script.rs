//! Statements one after the other, from a file or a pipe.

use std::process::ExitCode;

use highwater_sql::output::Format;

use super::meta::{self, After, Settings};
use super::printer::Printer;
use super::source::Source;
use crate::error::Error;

/// Runs a script up to the first statement that fails. Lines that begin with a backslash are commands, as in the shell.
pub(super) async fn run(source: &Source, script: &str, format: Format) -> Result<ExitCode, Error> {
    let mut settings = Settings::new(format);
    let mut statement = String::new();
    for line in script.lines() {
        if statement.trim().is_empty() && line.trim_start().starts_with('\\') {
            match meta::run(line.trim(), &mut settings, source)? {
                After::Quit => return Ok(ExitCode::SUCCESS),
                After::Ask(query) => answer(source, &query, &mut settings).await?,
                After::Include(_) => return Err(Error::Failed("\\i is for the shell; name the file with -f".into())),
                After::Nothing => {}
            }
            continue;
        }
        statement.push_str(line);
        statement.push('\n');
        let (whole, rest) = statements(&statement);
        for query in whole {
            answer(source, &query, &mut settings).await?;
        }
        statement = rest;
    }
    // The last one needs no semicolon.
    if !is_blank(&statement) {
        answer(source, &statement, &mut settings).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn answer(source: &Source, query: &str, settings: &mut Settings) -> Result<(), Error> {
    let began = settings.clock();
    let mut rows = source.ask(query).await?;
    let mut printer = Printer::new(settings.format, settings.is_expanded, rows.schema())?;
    while let Some(batch) = rows.next().await? {
        printer.batch(&batch, &mut settings.output)?;
    }
    printer.finish(&mut settings.output)?;
    settings.tell_time(began);
    Ok(())
}

/// The whole statements of a text, without their semicolons, and what stands behind the last of them.
pub(super) fn statements(text: &str) -> (Vec<String>, String) {
    let mut whole = Vec::new();
    let mut begin = 0;
    for end in semicolons(text) {
        let statement = &text[begin..end];
        if !is_blank(statement) {
            whole.push(statement.trim().to_string());
        }
        begin = end + 1;
    }
    (whole, text[begin..].to_string())
}

/// True where nothing is in it but blanks and comments.
pub(super) fn is_blank(text: &str) -> bool {
    let mut is_blank = true;
    scan(text, |_, c| is_blank &= c.is_whitespace() || c == ';');
    is_blank
}

/// Where statements end.
fn semicolons(text: &str) -> Vec<usize> {
    let mut places = Vec::new();
    scan(text, |at, c| {
        if c == ';' {
            places.push(at);
        }
    });
    places
}

/// Calls for each character outside of strings and comments, and for the quote that begins a string.
fn scan(text: &str, mut each: impl FnMut(usize, char)) {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, c)| *c);
        match (c, next) {
            ('\'' | '"', _) => {
                each(at, c);
                for (_, inner) in chars.by_ref() {
                    if inner == c {
                        break;
                    }
                }
            }
            ('-', Some('-')) => {
                for (_, inner) in chars.by_ref() {
                    if inner == '\n' {
                        break;
                    }
                }
            }
            ('/', Some('*')) => {
                chars.next();
                let mut depth = 1;
                while depth > 0 {
                    match (chars.next(), chars.peek().map(|(_, c)| *c)) {
                        (Some((_, '*')), Some('/')) => {
                            chars.next();
                            depth -= 1;
                        }
                        (Some((_, '/')), Some('*')) => {
                            chars.next();
                            depth += 1;
                        }
                        (Some(_), _) => {}
                        (None, _) => return,
                    }
                }
            }
            _ => each(at, c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_outside_of_strings_and_comments() {
        let (whole, rest) = statements("SELECT ';'; -- a; b\nSELECT \"x;y\" /* ; /* ; */ */;;\nSELECT 3");
        assert_eq!(whole, ["SELECT ';'", "-- a; b\nSELECT \"x;y\" /* ; /* ; */ */"]);
        assert_eq!(rest, "\nSELECT 3");
        assert!(is_blank(" -- x\n/* y */ ;") && !is_blank("x"));
        assert_eq!(statements("SELECT 'open;").0.len(), 0);
    }
}
