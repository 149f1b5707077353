//! Waiting out a log or a storage that is full, busy or away.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use highwater_broker::Clock;
use tokio_util::sync::CancellationToken;
use twox_hash::XxHash64;

use super::error::RuntimeError;
use crate::definitions::DefinitionsError;
use crate::log::LogError;

/// What came of a call that was retried.
pub(crate) enum Retried<T, E = LogError> {
    /// It succeeded.
    Done(T),
    /// It failed for good.
    Failed(E),
    /// The task is to stop; the call may or may not have been carried out.
    Stopped,
}

/// An error that says whether the same call may succeed later.
pub(crate) trait MayPass: std::fmt::Display {
    fn may_pass(&self) -> bool;
}

impl MayPass for LogError {
    fn may_pass(&self) -> bool {
        self.is_retryable()
    }
}

impl MayPass for RuntimeError {
    fn may_pass(&self) -> bool {
        self.is_retryable()
    }
}

impl MayPass for DefinitionsError {
    fn may_pass(&self) -> bool {
        self.is_retryable()
    }
}

/// Calls until it succeeds, fails for good, or the task is to stop. Waits 50 ms at first and 5 s at most, each task a little
/// differently, so that not all come back at once.
pub(crate) async fn retry<T, E, F, Fut>(
    task: &str,
    what: &str,
    clock: &dyn Clock,
    stop: &CancellationToken,
    mut call: F,
) -> Retried<T, E>
where
    E: MayPass,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut delays = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .with_jitter_seed(XxHash64::oneshot(0, task.as_bytes()))
        .without_max_times()
        .build();
    loop {
        match call().await {
            Ok(value) => return Retried::Done(value),
            Err(error) if error.may_pass() => {
                let delay = delays.next().unwrap_or(Duration::from_secs(5));
                metrics::counter!("highwater_task_log_retries_total", "task" => task.to_owned()).increment(1);
                tracing::warn!(task, what, %error, delay_ms = delay.as_millis(), "not ready; trying again");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Retried::Stopped,
                    () = clock.sleep(delay) => {}
                }
            }
            Err(error) => return Retried::Failed(error),
        }
    }
}
