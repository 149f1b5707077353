//! `highwater rules check|test FILE...`: rule files checked, and their unit tests run, before they are deployed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use highwater_processors::rules::RuleFile;
use highwater_processors::rules::unit_tests::{self, TestFile};

use crate::config::Config;
use crate::error::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Check rule files: syntax, PromQL, SQL, labels and templates.
    Check(CheckArgs),
    /// Run unit tests of rules, as `promtool test rules` does.
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Rule files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Config file whose rollups the rules read.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Files of unit tests, in promtool's form.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only tests whose name matches this regular expression.
    #[arg(long, value_name = "REGEX")]
    run: Vec<String>,
}

pub(super) async fn run(command: RulesCommand) -> Result<ExitCode, Error> {
    match command {
        RulesCommand::Check(args) => check(&args),
        RulesCommand::Test(args) => test(&args),
    }
}

fn check(args: &CheckArgs) -> Result<ExitCode, Error> {
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

fn test(args: &TestArgs) -> Result<ExitCode, Error> {
    let chosen = args.run.iter().map(|pattern| matching(pattern)).collect::<Result<Vec<_>, _>>()?;
    let mut failed = false;
    for path in &args.files {
        println!("Unit Testing:  {}", path.display());
        let failures =
            match test_file(path, |name| chosen.is_empty() || chosen.iter().any(|regex| regex.is_match(name))) {
                Ok(failures) => failures,
                Err(error) => vec![format!("    {error}")],
            };
        if failures.is_empty() {
            println!("  SUCCESS\n");
        } else {
            failed = true;
            println!("  FAILED:");
            for failure in failures {
                println!("{failure}");
            }
            println!();
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn matching(pattern: &str) -> Result<regex::Regex, Error> {
    regex::Regex::new(pattern).map_err(|error| Error::Failed(format!("--run {pattern}: {error}")))
}

fn test_file(path: &Path, only: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
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
            println!("  WARNING: no file match pattern {pattern}");
        }
    }
    Ok(unit_tests::run(&tests, &rules, only))
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
