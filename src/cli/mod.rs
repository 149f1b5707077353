//! The command line: one file per subcommand. With no subcommand Highwater serves.
//!
//! Data goes to stdout, logs to stderr. Exit codes: 0 done, 1 failed, 2 usage, 78 bad config.

mod agent;
mod alerts;
mod api_key;
mod graph;
mod groups;
mod kafka;
mod out;
mod promql;
mod rollup;
mod rules;
mod serve;
mod sql;
mod status;
mod table;
mod tail;
mod text_table;
mod topic;
mod validate;
mod verify;

pub(crate) use rollup::RollupDescription;
pub(crate) use serve::ServeArgs;
pub(crate) use status::{MemberLine, Status, TableLine, TaskLine};
pub(crate) use topic::{PartitionDescription, TopicDescription};

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::error::Error;
use crate::logging::LogFormat;

/// Streaming processor for logs and metrics on an embedded log broker.
///
/// Logs, metrics and spans come in by the protocols that senders speak already (OTLP, Prometheus,
/// Loki, Kafka, JSON, files), are appended to a durable log, rolled up in event-time windows,
/// watched by alert rules, and written to Parquet tables that answer SQL and PromQL. Nothing needs configuring to begin:
///
///   highwater                          start the server (data in ./highwater-data)
///   highwater sql "SELECT count(*) FROM metrics"
///   highwater promql 'rate(requests_total[5m])' -o graph
///   highwater agent logs --service web --file '/var/log/web/*.log'
///   highwater topic tail logs          what arrives, as any Kafka client sees it (127.0.0.1:9092)
#[derive(Debug, Parser)]
#[command(name = "highwater", version, verbatim_doc_comment, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

/// How this process talks about itself.
#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArgs {
    /// Look of this process's own log lines on stderr.
    #[arg(long, global = true, value_enum, default_value = "human", env = "HIGHWATER_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Least level of this process's own log lines: error, warn, info, debug or trace (or tracing directives).
    #[arg(long, global = true, default_value = "info", env = "HIGHWATER_LOG_LEVEL")]
    pub(crate) log_level: String,
}

/// A running server to talk to.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArg {
    /// The server to talk to.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "HIGHWATER_SERVER")]
    pub(crate) server: String,
    /// API key, where the server asks for one.
    #[arg(long, value_name = "KEY", env = "HIGHWATER_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// Whose data, where the key speaks for any tenant, or there are no keys.
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Authorities that vouch for the server's certificate (PEM), besides those of this machine.
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl ServerArg {
    /// The server's URL.
    pub(crate) fn url(&self) -> String {
        let server = self.server.trim_end_matches('/');
        if server.contains("://") { server.to_owned() } else { format!("http://{server}") }
    }

    /// The certificates of `--ca-file`.
    pub(crate) fn authorities(&self) -> Result<Vec<reqwest::Certificate>, Error> {
        let Some(file) = &self.ca_file else { return Ok(Vec::new()) };
        let failed = |error: String| Error::Usage(format!("--ca-file {}: {error}", file.display()));
        let pem = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
        reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (what no subcommand does too).
    Serve(serve::ServeArgs),
    /// Ship log files or host metrics to a server.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Run a SQL query over history and live data.
    Sql(sql::SqlArgs),
    /// Run a PromQL query over history and live data; `-o graph` draws it.
    Promql(promql::PromqlArgs),
    /// Watch, list or show alerts.
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    /// Print what arrives on a topic: logs, metrics, alerts, rollup.<name>, ...
    Tail(tail::TailArgs),
    /// List, describe or explain rollups, or compute one anew.
    #[command(subcommand)]
    Rollup(rollup::RollupCommand),
    /// Check rule files.
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// List, describe, create, delete, tail or write topics, over Kafka.
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// List, describe or reset consumer groups, over Kafka.
    #[command(subcommand)]
    Groups(groups::GroupsCommand),
    /// Make API keys.
    #[command(subcommand)]
    ApiKey(api_key::ApiKeyCommand),
    /// List or describe tables.
    #[command(subcommand)]
    Table(table::TableCommand),
    /// Show what a running server is doing: tasks, offsets, lag, watermarks.
    Status(status::StatusArgs),
    /// Check a config file, its rollups and its rules, without starting anything.
    Validate(validate::ValidateArgs),
    /// Prove that every table holds exactly what the log held, with neither gap nor double.
    Verify(verify::VerifyArgs),
}

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Error> {
    let Cli { output, command, serve } = cli;
    match command {
        None => serve::run(serve, &output),
        Some(Command::Serve(args)) => serve::run(args, &output),
        Some(Command::Agent(command)) => agent::run(command, &output),
        Some(other) => {
            crate::logging::init::<tracing_subscriber::layer::Identity>(output.log_format, &output.log_level, None)?;
            let runtime = runtime()?;
            runtime.block_on(async {
                match other {
                    Command::Sql(args) => sql::run(args).await,
                    Command::Promql(args) => promql::run(args).await,
                    Command::Alerts(command) => alerts::run(command).await,
                    Command::Tail(args) => tail::run(args).await,
                    Command::Rollup(command) => rollup::run(command).await,
                    Command::Rules(command) => rules::run(command).await,
                    Command::Topic(command) => topic::run(command).await,
                    Command::Groups(command) => groups::run(command).await,
                    Command::ApiKey(command) => api_key::run(command),
                    Command::Table(command) => table::run(command).await,
                    Command::Status(args) => status::run(args).await,
                    Command::Validate(args) => validate::run(&args).await,
                    Command::Verify(args) => verify::run(args).await,
                    Command::Serve(_) | Command::Agent(_) => Ok(ExitCode::SUCCESS),
                }
            })
        }
    }
}

/// The async runtime of a command.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failed("starting the runtime", error))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_subcommand_takes_the_flags_of_serve() {
        let cli = Cli::parse_from(["highwater", "--data-dir", "/tmp/d", "--log-level", "warn"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.data_dir.as_deref(), Some(std::path::Path::new("/tmp/d")));
    }
}
