//! Commands of the shell, which begin with a backslash.

use std::path::{Path, PathBuf};
use std::time::Instant;

use highwater_sql::output::Format;

use super::printer::Output;
use super::source::Source;
use crate::error::Error;

const HELP: &str = "\
\\d             list tables and views          \\d NAME    columns of one
\\dt            list tables                    \\dv        list views
\\df            list functions
\\x [on|off]    a line for each value          \\timing [on|off]    say how long queries take
\\f FORMAT      table, json, ndjson, csv or arrow
\\o [FILE]      send answers to a file, or back to the screen
\\i FILE        run the statements of a file
\\conninfo      who answers                    \\? \\h      this
\\q             leave (as does Ctrl-D)
A statement ends with a semicolon and may have many lines. Ctrl-C ends the query that runs, or drops what is typed.";

/// What the shell is set to.
pub(super) struct Settings {
    pub(super) format: Format,
    pub(super) is_expanded: bool,
    pub(super) tells_time: bool,
    pub(super) output: Output,
    /// Where `\o` sends answers; the screen where nowhere.
    pub(super) output_file: Option<PathBuf>,
}

/// What is to be done after a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Quit,
    /// Run this query.
    Ask(String),
    /// Run the statements of this file.
    Include(PathBuf),
}

impl Settings {
    pub(super) fn new(format: Format) -> Self {
        Self { format, is_expanded: false, tells_time: false, output: Output::stdout(), output_file: None }
    }

    /// Now, for [`Settings::tell_time`].
    #[expect(clippy::disallowed_methods, reason = "times a person's query on that person's screen")]
    pub(super) fn clock(&self) -> Instant {
        Instant::now()
    }

    /// Says how long it took, where that is wanted.
    pub(super) fn tell_time(&self, began: Instant) {
        if self.tells_time {
            eprintln!("Time: {:.3} ms", began.elapsed().as_secs_f64() * 1e3);
        }
    }
}

/// Does a command.
pub(super) fn run(line: &str, settings: &mut Settings, source: &Source) -> Result<After, Error> {
    let (command, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim().trim_end_matches(';').trim();
    Ok(match command.trim_end_matches(';') {
        "\\q" | "\\quit" | "\\exit" => After::Quit,
        "\\?" | "\\h" | "\\help" => {
            eprintln!("{HELP}");
            After::Nothing
        }
        "\\d" | "\\d+" if !argument.is_empty() => After::Ask(columns(argument)),
        "\\d" | "\\d+" => After::Ask(tables("")),
        "\\dt" | "\\dt+" => After::Ask(tables(" AND table_type = 'BASE TABLE'")),
        "\\dv" | "\\dv+" => After::Ask(tables(" AND table_type = 'VIEW'")),
        "\\df" => After::Ask("SHOW FUNCTIONS".to_string()),
        "\\x" => {
            settings.is_expanded = switched(argument, settings.is_expanded)?;
            eprintln!("Expanded display is {}.", on_off(settings.is_expanded));
            After::Nothing
        }
        "\\timing" => {
            settings.tells_time = switched(argument, settings.tells_time)?;
            eprintln!("Timing is {}.", on_off(settings.tells_time));
            After::Nothing
        }
        "\\f" | "\\format" => {
            settings.format = argument.parse().map_err(|error| Error::failed("\\f", error))?;
            After::Nothing
        }
        "\\o" => {
            settings.output = match argument {
                "" => Output::stdout(),
                file => Output::file(Path::new(file))?,
            };
            settings.output_file = (!argument.is_empty()).then(|| PathBuf::from(argument));
            After::Nothing
        }
        "\\i" if !argument.is_empty() => After::Include(PathBuf::from(argument)),
        "\\conninfo" => {
            eprintln!("{} answers.", source.place());
            After::Nothing
        }
        "\\echo" => {
            settings.output.put(format!("{argument}\n").as_bytes())?;
            After::Nothing
        }
        other => return Err(Error::Failed(format!("there is no command {other}; \\? lists them"))),
    })
}

fn tables(more: &str) -> String {
    format!(
        "SELECT table_name AS name, CASE table_type WHEN 'VIEW' THEN 'view' ELSE 'table' END AS type \
         FROM information_schema.tables WHERE table_schema = 'public'{more} ORDER BY 1"
    )
}

fn columns(table: &str) -> String {
    let table = table.trim_matches('"').rsplit('.').next().unwrap_or(table).replace('\'', "''");
    format!(
        "SELECT column_name AS \"column\", data_type AS type, is_nullable AS nullable FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name = '{table}' ORDER BY ordinal_position"
    )
}

fn switched(argument: &str, now: bool) -> Result<bool, Error> {
    match argument {
        "" => Ok(!now),
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(Error::Failed(format!("{other} is neither on nor off"))),
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
