//! Queries come after ingest where there is not enough of the processor for both, and queries that run for long come last.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

/// How much a query gives way: with 10 of Linux's 19, a thread of a query has about a tenth of what a thread that takes rows in has, where
/// both want all of a core, and all of it where nobody else wants it.
const NICENESS: i32 = 10;
/// The same of one that has run for [`LONG`]: a seventieth each, for there may be many threads of them.
const NICENESS_OF_LONG: i32 = 19;
/// What a dashboard or a person waits for has been answered by then.
const LONG: Duration = Duration::from_secs(2);

/// The threads of one query, and how much they give way to the process's others. Elsewhere than on Linux, where a thread has no niceness of its
/// own, they do not.
#[derive(Debug, Default)]
pub(crate) struct Rank(Mutex<Threads>);

#[derive(Debug, Default)]
struct Threads {
    /// Those that run, by the kernel's number for them.
    running: Vec<u32>,
    is_long: bool,
}

impl Rank {
    /// A rank that falls once the query is a long one. Whoever starts it is in a runtime of Tokio, which is not the query's.
    pub(crate) fn falling() -> Arc<Self> {
        let rank = Arc::new(Self::default());
        let waiting = Arc::downgrade(&rank);
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn(async move {
                tokio::time::sleep(LONG).await;
                if let Some(rank) = waiting.upgrade() {
                    rank.fall();
                }
            }));
        }
        rank
    }

    /// The calling thread is the query's from here on.
    pub(crate) fn enter(&self) {
        let mut threads = self.0.lock();
        let thread = kernel::current();
        kernel::set_niceness(thread, if threads.is_long { NICENESS_OF_LONG } else { NICENESS });
        threads.running.push(thread);
    }

    /// The calling thread is about to end.
    pub(crate) fn leave(&self) {
        let thread = kernel::current();
        self.0.lock().running.retain(|running| *running != thread);
    }

    /// All threads, and those to come, give way as those of a long query do.
    fn fall(&self) {
        // Under the lock none of them ends, so that each number still is its thread's.
        let mut threads = self.0.lock();
        threads.is_long = true;
        for thread in &threads.running {
            kernel::set_niceness(*thread, NICENESS_OF_LONG);
        }
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    /// The kernel's number for the calling thread.
    pub(super) fn current() -> u32 {
        #[expect(unsafe_code, reason = "a system call that takes nothing and touches no memory")]
        let thread = unsafe { libc::gettid() };
        thread.cast_unsigned()
    }

    /// At least so nice.
    pub(super) fn set_niceness(thread: u32, niceness: i32) {
        // On Linux these are of one thread and not of its process, see setpriority(2).
        #[expect(unsafe_code, reason = "system calls that take numbers and touch no memory")]
        let _done = unsafe {
            let is = libc::getpriority(libc::PRIO_PROCESS, thread);
            libc::setpriority(libc::PRIO_PROCESS, thread, niceness.max(is))
        };
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    pub(super) fn current() -> u32 {
        0
    }

    pub(super) fn set_niceness(_thread: u32, _niceness: i32) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    /// The niceness of a thread of ours, as the kernel tells it.
    fn niceness(thread: u32) -> i32 {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        // Fields are counted from behind the name, which may hold anything: state is the third, niceness the nineteenth.
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn threads_of_a_query_give_way_and_no_other_does() {
        let rank = super::Rank::default();
        let before = niceness(super::kernel::current());
        let (say, said) = mpsc::channel();
        std::thread::scope(|scope| {
            let (end, ended) = mpsc::channel::<()>();
            let (rank, say) = (&rank, &say);
            let early = scope.spawn(move || {
                rank.enter();
                say.send(super::kernel::current()).unwrap();
                // Until its other end is dropped.
                assert!(ended.recv().is_err());
                rank.leave();
            });
            let thread = said.recv().unwrap();
            assert_eq!(niceness(thread), super::NICENESS.max(before));
            rank.fall();
            assert_eq!(niceness(thread), super::NICENESS_OF_LONG);
            drop(end);
            early.join().unwrap();
            assert!(rank.0.lock().running.is_empty());
            let late = scope.spawn(|| {
                rank.enter();
                niceness(super::kernel::current())
            });
            assert_eq!(late.join().unwrap(), super::NICENESS_OF_LONG);
        });
        assert_eq!(niceness(super::kernel::current()), before);
    }
}
