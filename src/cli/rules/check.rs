//! `highwater rules check FILE...`: is everything in them as it has to be.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use highwater_processors::rules::RuleFile;

use super::{glob_escape, read};
use crate::config::Config;
use crate::error::Error;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Rule files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Config file whose rollups the rules read.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode, Error> {
    let mut config = Config::load(args.config.as_deref())?;
    let mut failed = false;
    for file in &args.files {
        println!("Checking {}", file.display());
        let problems = check_file(&mut config, file);
        if problems.is_empty() {
            let file = read(file).map_err(Error::Failed)?;
            let count: usize = file.groups.iter().map(|group| group.rules.len()).sum();
            println!("  SUCCESS: {count} rules found");
            for name in file.duplicates() {
                println!("  warning: {name} is there twice with the same labels");
            }
        } else {
            failed = true;
            println!("  FAILED:");
            for problem in problems {
                println!("  {problem}");
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Everything that is wrong with a file, each with its place.
fn check_file(config: &mut Config, path: &Path) -> Vec<String> {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return vec![format!("{name}: cannot read the rule file: {error}")],
    };
    if let Err(problems) = RuleFile::read(&name, &text) {
        return problems.into_iter().map(|problem| problem.in_file(&name).to_string()).collect();
    }
    // What needs the rollups there are.
    config.rule_files = vec![glob_escape(&name)];
    crate::serve::topology::build(config).err().map(|error| error.to_string()).into_iter().collect()
}
