//! `highwater rules check|test|backtest FILE...`: rule files checked, their unit tests run, and what they would have said, before they are deployed.

mod backtest;
mod check;
mod junit;
mod stored;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use highwater_processors::rules::RuleFile;

use crate::error::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Check rule files: syntax, PromQL, SQL, labels and templates.
    Check(check::CheckArgs),
    /// Run unit tests of rules, as `promtool test rules` does.
    Test(test::TestArgs),
    /// Show what rules would have said over what is stored, or what an edit changes.
    Backtest(backtest::BacktestArgs),
}

pub(super) async fn run(command: RulesCommand) -> Result<ExitCode, Error> {
    match command {
        RulesCommand::Check(args) => check::run(&args).await,
        RulesCommand::Test(args) => test::run(&args),
        RulesCommand::Backtest(args) => backtest::run(args).await,
    }
}

/// The files that patterns match, in order. What is written without `*` has to be there.
fn files(patterns: &[String]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for pattern in patterns {
        let literal = PathBuf::from(pattern);
        if literal.exists() || !pattern.contains(['*', '?', '[']) {
            found.push(literal);
            continue;
        }
        let before = found.len();
        for path in glob::glob(pattern).map_err(|error| Error::Usage(format!("{pattern}: {error}")))? {
            found.push(path.map_err(|error| Error::Failed(error.to_string()))?);
        }
        if found.len() == before {
            return Err(Error::Failed(format!("no file matches {pattern}")));
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<RuleFile, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: cannot read the rule file: {error}"))?;
    RuleFile::parse(&name, &text).map_err(|error| error.to_string())
}

/// A path given by name is that path, even where it holds a `*`.
fn glob_escape(path: &str) -> String {
    path.chars().map(|c| if matches!(c, '*' | '?' | '[') { format!("[{c}]") } else { c.to_string() }).collect()
}
