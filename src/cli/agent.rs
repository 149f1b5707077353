//! `highwater agent logs|metrics`: ship log files or host metrics to a server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use highwater_pipeline::agents::logs::{Dates, Input, LogsOptions, Multiline, MultilineLimits, StartAt, Wrapping};
use highwater_pipeline::agents::metrics::MetricsOptions;
use highwater_pipeline::agents::{
    AgentConfig, AgentError, Report, ShippingOptions, Source, WhenFull, default_state_dir, logs, metrics,
};
use highwater_pipeline::server::{HttpServer, ServerLimits};
use tokio_util::sync::CancellationToken;

use super::{OutputArgs, ServerArg};
use crate::config::{ConfigError, parse_duration, substitute};
use crate::error::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Several sources from a file: logs and metrics, each with a spool of its own.
    ///
    /// `docs/guides/agents.md` has its keys. `--check` reads it and ends.
    Run(RunArgs),
    /// Tail log files, or read stdin, and ship every line once.
    ///
    /// Positions and undelivered batches are kept in a state directory, so neither a restart of the agent nor of the server
    /// loses or doubles a line. Level and time are read from the line where its format is known (syslog, ISO, Apache, nginx, log4j,
    /// HDFS, JSON, logfmt, klog).
    Logs(Box<LogsArgs>),
    /// Measure this host (CPU, memory, swap, disks, network) and ship it.
    Metrics(Box<MetricsArgs>),
}

/// What both agents take.
#[derive(Debug, Args)]
struct ShipArgs {
    /// The `service` of everything shipped.
    #[arg(long)]
    service: String,
    /// The `host` of everything shipped [default: this host's name].
    #[arg(long)]
    host: Option<String>,
    /// Added to every row, may repeat.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    server: ServerArg,
    /// Where positions and undelivered batches are kept [default: ./highwater-agent/logs/SERVICE].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// A batch closes at this many rows ...
    #[arg(long, default_value_t = 100)]
    batch_rows: usize,
    /// ... or this long after its first.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    batch_wait: Duration,
    /// Most bytes of undelivered batches kept on disk.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    spool_size: u64,
    /// What happens when the spool is full and the server still away.
    #[arg(long, value_enum, default_value = "drop-oldest")]
    when_full: WhenFullArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhenFullArg {
    /// Oldest batches are dropped, counted and reported.
    DropOldest,
    /// Reading waits.
    Wait,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    /// Whatever a line has around it: CRI's prefix, Docker's object, or nothing.
    Auto,
    /// Lines are what programs wrote.
    Plain,
    /// CRI (containerd, CRI-O).
    Cri,
    /// Docker's json-file.
    Docker,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The file (YAML).
    #[arg(long, value_name = "FILE", env = "HIGHWATER_AGENT_CONFIG")]
    config: PathBuf,
    /// Read the file, say what is wrong with it, and end.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    ship: ShipArgs,
    /// File or glob pattern (quote it), may repeat.
    #[arg(long = "file", value_name = "PATH", num_args = 1.., required_unless_present = "stdin")]
    files: Vec<String>,
    /// File or glob pattern that is not read although a --file leads to it; without a folder, names of files. May repeat.
    #[arg(long, value_name = "PATH")]
    exclude: Vec<String>,
    /// What lines come in: what container runtimes put around them is taken off.
    #[arg(long, value_enum, default_value = "auto")]
    format: FormatArg,
    /// Read stdin to its end instead.
    #[arg(long, conflicts_with = "files")]
    stdin: bool,
    /// Read what is there now, ship it, and end.
    #[arg(long)]
    no_follow: bool,
    /// Begin new files at their end: only what is written from now on.
    #[arg(long)]
    from_end: bool,
    /// Year of lines that state none [default: the latest that is not in the future].
    #[arg(long)]
    year: Option<i32>,
    /// Join stack traces to the line before them.
    #[arg(long, conflicts_with = "multiline_start")]
    multiline: bool,
    /// Join lines: one that matches this regular expression begins an event, the others continue it.
    #[arg(long, value_name = "REGEX")]
    multiline_start: Option<String>,
    /// Longest line or joined event in bytes; a longer one is cut and marked.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10)]
    max_line: usize,
}

#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    #[command(flatten)]
    ship: ShipArgs,
    /// How often to measure.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    interval: Duration,
    /// Each CPU core too.
    #[arg(long)]
    per_core: bool,
    /// Measure once, ship, and end.
    #[arg(long)]
    once: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

impl ShipArgs {
    fn shipping(&self, kind: &str) -> ShippingOptions {
        let state_dir = self.state_dir.clone().unwrap_or_else(|| default_state_dir(kind, &self.service));
        ShippingOptions {
            tenant: self.server.tenant.clone(),
            api_key: self.server.api_key.clone(),
            ca_file: self.server.ca_file.clone(),
            batch_rows: self.batch_rows,
            batch_wait: self.batch_wait,
            spool_size_bytes: self.spool_size,
            when_full: match self.when_full {
                WhenFullArg::DropOldest => WhenFull::DropOldest,
                WhenFullArg::Wait => WhenFull::Wait,
            },
            ..ShippingOptions::new(self.server.url(), state_dir)
        }
    }

    fn host(&self) -> String {
        self.host.clone().unwrap_or_else(highwater_pipeline::agents::host_name)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }
}

impl LogsArgs {
    fn options(self) -> LogsOptions {
        let input = if self.stdin {
            Input::Stdin
        } else {
            let start = if self.from_end { StartAt::End } else { StartAt::Beginning };
            Input::Files { patterns: self.files, exclude: self.exclude, start, follow: !self.no_follow }
        };
        let multiline = match (self.multiline, self.multiline_start) {
            (_, Some(pattern)) => Multiline::Start(pattern, MultilineLimits::default()),
            (true, None) => Multiline::Traces(MultilineLimits::default()),
            (false, None) => Multiline::Off,
        };
        let options = LogsOptions::new(self.ship.shipping("logs"), &self.ship.service, self.ship.host(), input);
        LogsOptions {
            labels: self.ship.labels(),
            multiline,
            wrapping: match self.format {
                FormatArg::Auto => Wrapping::Auto,
                FormatArg::Plain => Wrapping::Plain,
                FormatArg::Cri => Wrapping::Cri,
                FormatArg::Docker => Wrapping::Docker,
            },
            dates: Dates { year: self.year, ..Dates::default() },
            line_size_bytes: self.max_line,
            ..options
        }
    }
}

impl MetricsArgs {
    fn options(self) -> MetricsOptions {
        let mut options = MetricsOptions::new(self.ship.shipping("metrics"), &self.ship.service, self.ship.host());
        options.collect.labels = self.ship.labels();
        options.collect.per_core = self.per_core;
        options.interval = self.interval;
        options.once = self.once;
        options
    }
}

/// Runs an agent until its input ends or SIGTERM or SIGINT asks it to stop.
pub(super) fn run(command: AgentCommand, output: &OutputArgs) -> Result<ExitCode, Error> {
    crate::logging::init::<tracing_subscriber::layer::Identity>(output.log_format, &output.log_level, None)?;
    super::runtime()?.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(crate::serve::signals::cancel_on_stop(shutdown.clone()));
        let report = match command {
            AgentCommand::Logs(args) => logs::run(args.options(), shutdown).await,
            AgentCommand::Metrics(args) => metrics::run(args.options(), shutdown).await,
            AgentCommand::Run(args) => return run_all(&args, shutdown).await,
        };
        finish(report)
    })
}

/// Runs all sources of a file side by side. One that cannot go on leaves the others at work, and is told at the end.
async fn run_all(args: &RunArgs, shutdown: CancellationToken) -> Result<ExitCode, Error> {
    let config = read(&args.config)?;
    let sources =
        config.sources().map_err(|error| Error::Config(ConfigError::in_key(place(args), error.to_string())))?;
    if args.check {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(listen) = config.metrics_listen {
        serve_metrics(listen, shutdown.clone()).await?;
    }
    let mut running = tokio::task::JoinSet::new();
    for (name, source) in sources {
        let shutdown = shutdown.clone();
        running.spawn(async move {
            let report = match source {
                Source::Logs(options) => logs::run(*options, shutdown).await,
                Source::Metrics(options) => metrics::run(*options, shutdown).await,
            };
            if let Err(error) = &report {
                tracing::error!(source = name, %error, "a source has ended; the others go on");
            }
            (name, report)
        });
    }
    let mut code = ExitCode::SUCCESS;
    while let Some(ended) = running.join_next().await {
        let (name, report) = ended.map_err(|error| Error::failed("running a source", error))?;
        tracing::info!(source = name, "source finished");
        match report {
            Ok(report) => {
                if finish(Ok(report))? != ExitCode::SUCCESS {
                    code = ExitCode::FAILURE;
                }
            }
            Err(_) => code = ExitCode::FAILURE,
        }
    }
    Ok(code)
}

fn place(args: &RunArgs) -> String {
    args.config.display().to_string()
}

fn read(file: &Path) -> Result<AgentConfig, Error> {
    let place = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError::in_key(&place, format!("cannot read the config file: {error}")))?;
    let text = substitute(&text, &place, |name| std::env::var(name).ok())?;
    AgentConfig::parse(&text, &place).map_err(|error| Error::Config(ConfigError::said(error)))
}

/// `GET /metrics`: lag of each file, size of the spools, counts.
async fn serve_metrics(listen: SocketAddr, shutdown: CancellationToken) -> Result<(), Error> {
    let prometheus = metrics_exporter_prometheus::PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Error::failed("starting the metrics recorder", error))?;
    let server = HttpServer::bind("agent", listen, None, ServerLimits::default())
        .await
        .map_err(|error| Error::failed("metrics_listen", error))?;
    tracing::info!(address = %server.address(), "the agent's own metrics");
    let page = axum::Router::new().route("/metrics", axum::routing::get(async move || prometheus.render()));
    tokio::spawn(server.serve(page, shutdown));
    Ok(())
}

/// Says what was done; rows that did not reach the server are a failure a script can see.
fn finish(report: Result<Report, AgentError>) -> Result<ExitCode, Error> {
    let report = report.map_err(|error| Error::Failed(error.to_string()))?;
    tracing::info!(
        lines = report.lines_read,
        blank = report.lines_blank,
        excluded = report.rows_excluded,
        sampled_out = report.rows_sampled_out,
        rate_limited = report.rows_rate_limited,
        shipped = report.rows_shipped,
        refused = report.rows_refused,
        dropped = report.rows_dropped,
        left_in_spool = report.rows_spooled,
        "agent finished"
    );
    let incomplete = report.rows_refused + report.rows_dropped + report.rows_spooled > 0;
    Ok(if incomplete { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
