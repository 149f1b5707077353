//! SIGTERM and SIGINT ask for a graceful stop; a second one ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels the token at the first SIGTERM or SIGINT; the second ends the process with the shell's code for it.
pub(crate) async fn cancel_on_stop(shutdown: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("cannot listen for signals; stop this process with SIGKILL");
        return;
    };
    let mut next = async || {
        tokio::select! {
            _ = term.recv() => 143,
            _ = int.recv() => 130,
        }
    };
    next().await;
    tracing::info!("stopping: finishing what is acknowledged (once more to stop at once)");
    shutdown.cancel();
    let code = next().await;
    std::process::exit(code);
}
