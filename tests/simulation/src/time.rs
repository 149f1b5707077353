//! Time that passes only when nobody has anything to do.
//!
//! All of a history runs on one thread. When every task waits, the earliest timer fires: of several due at once one, chosen by the
//! seed, and what it wakes runs before the next. So a minute takes no longer than the work in it, and the same seed gives the same order. The
//! runtime has no timers of its own: code that does not ask the injected [`Clock`] for its pauses fails at once.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use highwater_broker::Clock;
use parking_lot::Mutex;

use crate::random::Random;

/// When every history begins, Unix milliseconds (2024-05-06 12:00 UTC).
pub const START_MS: i64 = 1_714_996_800_000;
/// More timers than any history needs: past it, tasks keep each other awake for ever.
const MAX_TIMERS: u64 = 3_000_000;

/// The clock of one history. Clones share it.
#[derive(Clone)]
pub struct Time {
    state: Arc<Mutex<State>>,
}

struct State {
    /// Milliseconds since the start; never goes back.
    elapsed_ms: i64,
    /// What the wall clock is off by, as an administrator or a bad time server would have it.
    offset_ms: i64,
    /// By due time, then by chance.
    timers: BTreeMap<TimerKey, Waker>,
    next_id: u64,
    random: Random,
    /// Woken where nobody will ever do anything again.
    stuck: bool,
    watcher: Option<Waker>,
}

type TimerKey = (i64, u64, u64);

impl Time {
    /// A clock at the start.
    pub fn new(random: Random) -> Self {
        let state = State {
            elapsed_ms: 0,
            offset_ms: 0,
            timers: BTreeMap::new(),
            next_id: 0,
            random,
            stuck: false,
            watcher: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Milliseconds since the start, whatever the wall clock says.
    pub fn elapsed_ms(&self) -> i64 {
        self.state.lock().elapsed_ms
    }

    /// Sets the wall clock forward or back.
    pub fn jump_ms(&self, by_ms: i64) {
        self.state.lock().offset_ms += by_ms;
    }

    /// Completes after so many milliseconds.
    pub fn pause_ms(&self, ms: i64) -> Pause {
        let due_ms = self.elapsed_ms() + ms.max(0);
        Pause { state: Arc::clone(&self.state), due_ms, key: None }
    }

    /// Runs a history to its end.
    ///
    /// # Errors
    /// Where everybody waits for something that will not happen.
    pub fn run<T>(&self, history: impl Future<Output = T>) -> Result<T, String> {
        let time = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || time.advance())
            .build()
            .expect("a runtime without drivers needs nothing of the system");
        let mut history = pin!(history);
        runtime.block_on(poll_fn(|context| {
            if let Poll::Ready(result) = history.as_mut().poll(context) {
                return Poll::Ready(Ok(result));
            }
            let mut state = self.state.lock();
            if state.stuck {
                return Poll::Ready(Err(format!("after {} ms everybody waits for ever", state.elapsed_ms)));
            }
            state.watcher = Some(context.waker().clone());
            Poll::Pending
        }))
    }

    /// Nobody has anything to do: lets the next timer fire.
    fn advance(&self) {
        let waker = {
            let mut state = self.state.lock();
            match state.timers.pop_first() {
                Some(((due_ms, ..), waker)) if state.next_id < MAX_TIMERS => {
                    state.elapsed_ms = state.elapsed_ms.max(due_ms);
                    Some(waker)
                }
                _ => {
                    state.stuck = true;
                    state.watcher.take()
                }
            }
        };
        // Outside the lock: whoever is woken may ask for the time.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Clock for Time {
    fn now_ms(&self) -> i64 {
        let state = self.state.lock();
        START_MS + state.elapsed_ms + state.offset_ms
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.pause_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)))
    }
}

/// See [`Time::pause_ms`].
pub struct Pause {
    state: Arc<Mutex<State>>,
    due_ms: i64,
    key: Option<TimerKey>,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.state);
        let mut state = shared.lock();
        match self.key {
            None => {
                let chance = state.random.bits();
                let key = (self.due_ms, chance, state.next_id);
                state.next_id += 1;
                state.timers.insert(key, context.waker().clone());
                self.key = Some(key);
                Poll::Pending
            }
            Some(key) => match state.timers.get_mut(&key) {
                Some(waker) => {
                    waker.clone_from(context.waker());
                    Poll::Pending
                }
                None => Poll::Ready(()),
            },
        }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.state.lock().timers.remove(&key);
        }
    }
}
