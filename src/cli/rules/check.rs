//! `highwater rules check FILE...`: is everything in them as it has to be, and does what they select exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use highwater_processors::ProcessorsConfig;
use highwater_processors::rules::{RuleFile, Selector};

use super::files;
use super::stored::Series;
use crate::cli::ServerArg;
use crate::cli::out::say;
use crate::cli::sql::Source;
use crate::config::Config;
use crate::error::Error;

/// Exit code where there are only warnings and they are not allowed, as promtool's.
const LINT_FATAL: u8 = 3;

/// What is warned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lint {
    /// Everything.
    All,
    /// Rules that are written twice.
    DuplicateRules,
    /// Nothing.
    None,
}

/// Flags of `rules check`. Exit codes: 0 fine, or warnings only; 1 something is wrong; 3 warnings with --lint-fatal.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Rule files, or patterns with `*`. None, or `-`: standard input.
    files: Vec<String>,
    /// Config file whose rollups the rules read.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
    /// What to warn of; several with commas between.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all")]
    lint: Vec<Lint>,
    /// End with 3 where there is anything to warn of.
    #[arg(long)]
    lint_fatal: bool,
    /// Compare metrics and labels that rules select with those of this data directory.
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data_dir: Option<PathBuf>,
    /// Compare metrics and labels that rules select with those of this server.
    #[arg(long, value_name = "URL", alias = "url")]
    server: Option<String>,
    /// API key, where the server asks for one.
    #[arg(long, value_name = "KEY", env = "HIGHWATER_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Whose data to compare with.
    #[arg(long)]
    tenant: Option<String>,
    /// Authorities that vouch for the server's certificate (PEM), besides those of this machine.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CA_FILE")]
    ca_file: Option<PathBuf>,
}

impl CheckArgs {
    /// True where this is warned of: `none` is none, whatever else is named.
    fn warns_of(&self, what: Lint) -> bool {
        !self.lint.contains(&Lint::None) && (self.lint.contains(&what) || self.lint.contains(&Lint::All))
    }
}

/// A file that can be read.
struct Checked {
    file: RuleFile,
    selectors: Vec<Selector>,
}

pub(super) async fn run(args: &CheckArgs) -> Result<ExitCode, Error> {
    let mut config = Config::load(args.config.as_deref())?;
    config.rule_files.clear();
    let config = crate::serve::topology::processors(&config)?;
    let mut checked = Vec::new();
    if args.files.is_empty() {
        checked.push(check_input(&config));
    }
    for pattern in &args.files {
        match pattern.as_str() {
            "-" => checked.push(check_input(&config)),
            _ => checked.extend(files(std::slice::from_ref(pattern))?.iter().map(|path| check_file(&config, path))),
        }
    }
    let good = || checked.iter().filter_map(|(_, checked)| checked.as_ref().ok());
    let stored = match source(args).await? {
        Some(source) if args.warns_of(Lint::All) => {
            Some(Series::load(&source, good().flat_map(|checked| &checked.selectors)).await?)
        }
        _ => None,
    };
    // What one of the files records is known to all of them.
    let rules = good().flat_map(|checked| &checked.file.groups).flat_map(|group| &group.rules);
    let recorded: BTreeSet<&str> = rules.map(|rule| rule.record.as_str()).filter(|name| !name.is_empty()).collect();
    let (mut failed, mut warned) = (false, false);
    for (name, checked) in &checked {
        say!("Checking {name}");
        let checked = match checked {
            Ok(checked) => checked,
            Err(problems) => {
                failed = true;
                say!("  FAILED:");
                for problem in problems {
                    say!("  {problem}");
                }
                say!();
                continue;
            }
        };
        let count: usize = checked.file.groups.iter().map(|group| group.rules.len()).sum();
        say!("  SUCCESS: {count} rules found");
        let mut warnings = Vec::new();
        if args.warns_of(Lint::DuplicateRules) {
            let twice = checked.file.duplicates().into_iter();
            warnings.extend(twice.map(|name| format!("{name} is there twice with the same labels")));
        }
        if args.warns_of(Lint::All) {
            warnings.extend(checked.file.lints());
        }
        if let Some(stored) = &stored {
            let of_file = stored.warnings(&checked.selectors, &recorded).into_iter();
            warnings.extend(of_file.map(|(place, text)| format!("{name}:{place}: {text}")));
        }
        warned |= !warnings.is_empty();
        for warning in warnings {
            say!("  warning: {warning}");
        }
        say!();
    }
    Ok(match (failed, warned && args.lint_fatal) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(LINT_FATAL),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Where to look for metrics and labels, if anywhere.
async fn source(args: &CheckArgs) -> Result<Option<Source>, Error> {
    if let Some(dir) = &args.data_dir {
        return Source::data_dir(dir, args.tenant.as_deref()).await.map(Some);
    }
    let Some(server) = &args.server else { return Ok(None) };
    let server = ServerArg {
        server: server.clone(),
        api_key: args.api_key.clone(),
        tenant: args.tenant.clone(),
        ca_file: args.ca_file.clone(),
    };
    Source::server(&server).map(Some)
}

/// The name of what was checked, and what came of it: a file, or everything that is wrong with it, each with its place.
type Outcome = (String, Result<Checked, Vec<String>>);

fn check_file(config: &ProcessorsConfig, path: &Path) -> Outcome {
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| vec![format!("{name}: cannot read the rule file: {error}")]);
    let checked = text.and_then(|text| check(config, &name, &text));
    (name, checked)
}

fn check_input(config: &ProcessorsConfig) -> Outcome {
    let name = "standard input";
    let text = std::io::read_to_string(std::io::stdin()).map_err(|error| vec![format!("{name}: {error}")]);
    (name.to_owned(), text.and_then(|text| check(config, name, &text)))
}

fn check(config: &ProcessorsConfig, name: &str, text: &str) -> Result<Checked, Vec<String>> {
    let read = RuleFile::read_with_selectors(name, text);
    let (file, selectors) = read.map_err(|problems| {
        problems.into_iter().map(|problem| problem.in_file(name).to_string()).collect::<Vec<_>>()
    })?;
    // What needs the rollups there are.
    let mut config = config.clone();
    config.rule_files.push(file.clone());
    crate::serve::topology::plan(&config).map_err(|error| vec![error.to_string()])?;
    Ok(Checked { file, selectors })
}
