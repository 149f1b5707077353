//! `highwater rules test FILE...`: unit tests of rules, in promtool's form.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use highwater_processors::rollups::RollupConfig;
use highwater_processors::rules::unit_tests::{self, TestFile};

use super::{files, read};
use crate::cli::out::say;
use crate::config::Config;
use crate::error::Error;

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Files of unit tests, in promtool's form, or patterns with `*`.
    #[arg(required = true)]
    files: Vec<String>,
    /// Only tests whose name matches this regular expression.
    #[arg(long, value_name = "REGEX")]
    run: Vec<String>,
    /// Config file whose rollups rules in SQL read, besides those that the tests name.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &TestArgs) -> Result<ExitCode, Error> {
    let chosen = args.run.iter().map(|pattern| matching(pattern)).collect::<Result<Vec<_>, _>>()?;
    let mut config = Config::load(args.config.as_deref())?;
    config.rule_files.clear();
    let rollups = crate::serve::topology::processors(&config)?.rollups;
    let only = |name: &str| chosen.is_empty() || chosen.iter().any(|regex| regex.is_match(name));
    let mut failed = false;
    for path in files(&args.files)? {
        say!("Processing test file: {}", path.display());
        let failures = match test_file(&path, &rollups, only) {
            Ok(failures) => failures,
            Err(error) => vec![error],
        };
        if failures.is_empty() {
            say!("  SUCCESS");
        } else {
            failed = true;
            eprintln!("  FAILED:");
            for failure in failures {
                eprintln!("{failure}");
                say!();
            }
        }
        say!();
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn matching(pattern: &str) -> Result<regex::Regex, Error> {
    regex::Regex::new(pattern).map_err(|error| Error::Usage(format!("--run {pattern}: {error}")))
}

fn test_file(path: &Path, rollups: &[RollupConfig], only: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let tests = TestFile::parse(&name, &text)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut rules = Vec::new();
    for pattern in &tests.rule_files {
        let pattern = folder.join(pattern).display().to_string();
        let before = rules.len();
        for found in glob::glob(&pattern).map_err(|error| format!("{pattern}: {error}"))? {
            rules.push(read(&found.map_err(|error| error.to_string())?)?);
        }
        if rules.len() == before {
            eprintln!("  WARNING: no file match pattern {pattern}");
        }
    }
    Ok(unit_tests::run(&tests, &rules, rollups, only))
}
