//! `highwater rules test FILE...`: unit tests of rules, in promtool's form.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use highwater_broker::{Clock, SystemClock};
use highwater_pipeline::data::time;
use highwater_processors::rollups::RollupConfig;
use highwater_processors::rules::unit_tests::{self, Case, TestFile};

use super::junit::Suite;
use super::{files, junit, read};
use crate::cli::out::say;
use crate::config::Config;
use crate::error::Error;

/// Flags of `rules test`. Exit codes: 0 all is as expected, 1 something is not.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Files of unit tests, in promtool's form, or patterns with `*`.
    #[arg(required = true)]
    files: Vec<String>,
    /// Only tests whose name matches this regular expression. May be given more than once: any of them.
    #[arg(long, value_name = "REGEX")]
    run: Vec<String>,
    /// Show where alerts differ, in colours, in place of both whole.
    #[arg(long)]
    diff: bool,
    /// Write the results to this file, as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
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
    let mut suites = Vec::new();
    for path in files(&args.files)? {
        say!("Processing test file: {}", path.display());
        let tested = test_file(&path, &rollups, only, args.diff);
        let failures: Vec<&String> = match &tested {
            Ok(cases) => cases.iter().flat_map(|case| &case.failures).collect(),
            Err(error) => vec![error],
        };
        if failures.is_empty() {
            say!("  SUCCESS");
        } else {
            eprintln!("  FAILED:");
            for failure in failures {
                eprintln!("{failure}");
                say!();
            }
        }
        say!();
        let now = time::format(SystemClock.now_ms().saturating_mul(1_000));
        suites.push(Suite { file: path.display().to_string(), at: now.chars().take(19).collect(), tested });
    }
    if let Some(path) = &args.junit {
        let written = std::fs::write(path, junit::document(&suites));
        written.map_err(|error| Error::failed(&format!("writing {}", path.display()), error))?;
    }
    let passed = |suite: &Suite| suite.tested.as_ref().is_ok_and(|cases| cases.iter().all(|c| c.failures.is_empty()));
    Ok(if suites.iter().all(passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn matching(pattern: &str) -> Result<regex::Regex, Error> {
    regex::Regex::new(pattern).map_err(|error| Error::Usage(format!("--run {pattern}: {error}")))
}

fn test_file(
    path: &Path,
    rollups: &[RollupConfig],
    only: impl Fn(&str) -> bool,
    diff: bool,
) -> Result<Vec<Case>, String> {
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
    unit_tests::run(&tests, &rules, rollups, only, diff)
}
