//! Time as an injected thing: the broker asks a [`Clock`] and nobody else, so a test or a simulation owns time.

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Tells the wall-clock time, and lets it pass.
pub trait Clock: Send + Sync + 'static {
    /// Now, in Unix milliseconds. May go backwards, as the wall clock of a real machine may.
    fn now_ms(&self) -> i64;

    /// Milliseconds that have passed since some moment that stays the same while the process runs: what timeouts count by. Never goes
    /// back, as the wall clock may; a clock that is moved by hand says what it says.
    fn elapsed_ms(&self) -> i64 {
        self.now_ms()
    }

    /// Completes after this much time, whatever the wall clock does meanwhile. Needs a tokio runtime with timers, unless the clock is
    /// one of a simulation.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "this is the one real clock behind the trait")]
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn elapsed_ms(&self) -> i64 {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "this is the one real clock behind the trait")]
        let now = std::time::Instant::now();
        i64::try_from(now.duration_since(*START.get_or_init(|| now)).as_millis()).unwrap_or(i64::MAX)
    }
}

/// A clock that moves only when told to.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now_ms` (Unix milliseconds).
    pub fn new(now_ms: i64) -> Self {
        Self { now_ms: AtomicI64::new(now_ms) }
    }

    /// Sets the time, forward or back.
    pub fn set_ms(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }

    /// Moves the time by `delta_ms`, which may be negative.
    pub fn advance_ms(&self, delta_ms: i64) {
        self.now_ms.fetch_add(delta_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}
