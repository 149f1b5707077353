//! `highwater tail TOPIC`: what arrives on a topic, as it arrives, one JSON object a line.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::ServerArg;
use crate::client::Client;
use crate::error::Error;

/// Flags of `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Topic: logs, metrics, spans, alerts, dead-letter or rollup.<name>.
    topic: String,
    #[command(flatten)]
    follow: FollowArgs,
    #[command(flatten)]
    server: ServerArg,
}

/// Where to begin and when to stop.
#[derive(Debug, Clone, Args)]
pub(crate) struct FollowArgs {
    /// Begin at `latest`, at `earliest`, or at an event id printed before (`partition:offset`).
    #[arg(long, default_value = "latest")]
    pub(crate) from: String,
    /// Stop after this many.
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<u64>,
}

/// Follows an event stream onto stdout.
pub(super) async fn follow(server: &ServerArg, path: &str, follow: &FollowArgs) -> Result<ExitCode, Error> {
    let client = Client::new(server)?;
    let separator = if path.contains('?') { '&' } else { '?' };
    let mut left = follow.limit.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let path = format!("{path}{separator}from={}", follow.from);
    client
        .events(&path, |_, data| {
            let mut out = std::io::stdout().lock();
            if writeln!(out, "{data}").and_then(|()| out.flush()).is_err() {
                // The reader of our pipe has gone; that is how `| head` ends us.
                return Ok(false);
            }
            left -= 1;
            Ok(left > 0)
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn run(args: TailArgs) -> Result<ExitCode, Error> {
    follow(&args.server, &format!("/api/v1/topics/{}/stream", args.topic), &args.follow).await
}
