//! Waiting for what happens soon, with a deadline that only a broken build meets.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

/// How long anything may take. Generous: nothing here measures speed.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Awaits `future`, or fails the test saying what did not happen.
pub async fn within<T>(deadline: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(deadline, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {} s: {what}", deadline.as_secs()),
    }
}

/// Asks again and again until the answer is the expected one; fails with the last answer at the deadline.
pub async fn eventually<T, F>(what: &str, expected: T, mut ask: impl FnMut() -> F)
where
    T: PartialEq + Debug,
    F: Future<Output = T>,
{
    let mut last = None;
    let asking = async {
        loop {
            let answer = ask().await;
            if answer == expected {
                return;
            }
            last = Some(answer);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, asking).await.is_err() {
        panic!("{what}: expected {expected:?} within {} s, last answer {last:?}", DEADLINE.as_secs());
    }
}
