//! Logs of the process itself: to stderr, human or JSON, and optionally into itself (see `serve::self_monitoring`).

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::error::Error;

/// How log lines look on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For eyes.
    Human,
    /// One JSON object a line.
    Json,
}

/// Directives a filter starts from: ours at the level asked for, libraries only when something is wrong.
fn filter(level: &str) -> Result<EnvFilter, Error> {
    let directives = if level.contains('=') || level.contains(',') {
        level.to_owned()
    } else {
        format!(
            "warn,highwater={level},highwater_broker={level},highwater_pipeline={level},highwater_processors={level},\
             highwater_sinks={level},highwater_sql={level}"
        )
    };
    EnvFilter::try_new(directives).map_err(|error| {
        Error::Usage(format!(
            "--log-level {level}: {error}; give error, warn, info, debug, trace, or tracing directives"
        ))
    })
}

/// Sends this process's events to stderr, and to `extra` (another subscriber layer) where given.
pub(crate) fn init<L>(format: LogFormat, level: &str, extra: Option<L>) -> Result<(), Error>
where
    L: Layer<tracing_subscriber::Registry> + Send + Sync + 'static,
{
    let stderr = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let base = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(stderr);
    let shown: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Human => base.with_target(false).with_filter(filter(level)?).boxed(),
        LogFormat::Json => base.json().flatten_event(true).with_filter(filter(level)?).boxed(),
    };
    tracing_subscriber::registry()
        .with(extra)
        .with(shown)
        .try_init()
        .map_err(|error| Error::failed("starting the log output", error))
}
