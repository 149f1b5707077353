//! The shell: a line editor with history and completion, and queries that can be stopped.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use arrow::array::AsArray;
use highwater_sql::output::Format;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use super::complete::Words;
use super::meta::{self, After, Settings};
use super::printer::{Output, Printer};
use super::script;
use super::source::Source;
use crate::error::Error;

/// Statements that the history keeps.
const HISTORY: usize = 10_000;
/// A query that takes this long says how far it is, and again each time.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The names of all tables and columns.
const NAMES: &str =
    "SELECT DISTINCT unnest([table_name, column_name]) FROM information_schema.columns WHERE table_schema = 'public'";

/// Reads and answers until the end of input.
pub(super) async fn run(source: Source, format: Format) -> Result<ExitCode, Error> {
    let config = Config::builder().auto_add_history(true).max_history_size(HISTORY).map_err(unusable)?.build();
    let mut editor: Editor<Words, FileHistory> = Editor::with_config(config).map_err(unusable)?;
    // Without names there are keywords; a server that does not answer says so at the first query.
    editor.set_helper(Some(Words::with(names(&source).await.unwrap_or_default())));
    let history = history_file();
    if let Some(file) = &history {
        // There is none yet at the first start.
        drop(editor.load_history(file));
    }
    eprintln!("highwater {} at {}. \\? lists commands.", env!("CARGO_PKG_VERSION"), source.place());
    let mut settings = Settings::new(format);
    loop {
        let read = tokio::task::block_in_place(|| editor.readline("highwater> "));
        let line = match read {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(unusable(error)),
        };
        match typed(&line, &mut settings, &source).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => eprintln!("{error}"),
        }
    }
    if let Some(file) = &history
        && let Err(error) = editor.save_history(file)
    {
        eprintln!("the history is not kept: {}: {error}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn unusable(error: ReadlineError) -> Error {
    Error::failed("reading from the terminal", error)
}

/// Where the history is: `$HIGHWATER_HISTORY`, or `.highwater_history` at home.
fn history_file() -> Option<PathBuf> {
    let named = std::env::var_os("HIGHWATER_HISTORY").map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".highwater_history")))
}

async fn names(source: &Source) -> Result<Vec<String>, Error> {
    let mut rows = source.ask(NAMES).await?;
    let mut names = Vec::new();
    while let Some(batch) = rows.next().await? {
        if let Some(column) = batch.columns().first().and_then(|c| c.as_string_opt::<i32>()) {
            names.extend(column.iter().flatten().map(str::to_string));
        }
    }
    Ok(names)
}

/// Does what was typed. False where that was to leave.
async fn typed(text: &str, settings: &mut Settings, source: &Source) -> Result<bool, Error> {
    if !text.trim_start().starts_with('\\') {
        let (whole, rest) = script::statements(text);
        for query in whole.iter().chain((!script::is_blank(&rest)).then_some(&rest)) {
            answer(query, settings, source).await?;
        }
        return Ok(true);
    }
    match meta::run(text.trim(), settings, source)? {
        After::Nothing => {}
        After::Quit => return Ok(false),
        After::Ask(query) => answer(&query, settings, source).await?,
        After::Include(file) => {
            let script = std::fs::read_to_string(&file)
                .map_err(|error| Error::failed(&format!("reading {}", file.display()), error))?;
            let (whole, rest) = script::statements(&script);
            for query in whole.iter().chain((!script::is_blank(&rest)).then_some(&rest)) {
                answer(query, settings, source).await?;
            }
        }
    }
    Ok(true)
}

/// Runs a query and prints what it answers, until Ctrl-C.
async fn answer(query: &str, settings: &mut Settings, source: &Source) -> Result<(), Error> {
    let began = settings.clock();
    let progress = Progress { began, is_shown: std::io::stderr().is_terminal() };
    let work = async {
        let mut rows = progress.during(source.ask(query), 0).await?;
        let mut printer = Printer::new(settings.format, settings.is_expanded, rows.schema())?;
        let mut seen = 0;
        while let Some(batch) = progress.during(rows.next(), seen).await? {
            seen += batch.num_rows();
            printer.batch(&batch, &mut settings.output)?;
        }
        printer.finish(&mut settings.output)
    };
    let rows = tokio::select! {
        rows = work => rows?,
        // The answer is dropped, and with it the query.
        stopped = tokio::signal::ctrl_c() => {
            stopped.map_err(|error| Error::failed("waiting for Ctrl-C", error))?;
            progress.clear();
            return Err(Error::Failed("stopped".into()));
        }
    };
    if matches!(settings.output, Output::Stdout) && settings.format == Format::Table {
        eprintln!("({rows} row{})", if rows == 1 { "" } else { "s" });
    }
    settings.tell_time(began);
    Ok(())
}

/// Says on the terminal how long a query has been running.
struct Progress {
    began: std::time::Instant,
    is_shown: bool,
}

impl Progress {
    async fn during<T>(&self, work: impl Future<Output = T>, rows: usize) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(PROGRESS_EVERY);
        ticks.tick().await;
        let mut is_told = false;
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    if is_told {
                        self.clear();
                    }
                    return done;
                }
                _ = ticks.tick() => {
                    if self.is_shown {
                        is_told = true;
                        let seconds = self.began.elapsed().as_secs();
                        eprint!("\r{seconds} s, {rows} rows so far; Ctrl-C stops it");
                        drop(std::io::stderr().flush());
                    }
                }
            }
        }
    }

    fn clear(&self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
        }
    }
}
