//! Queries come after ingest where there is not enough of the processor for both.

/// How much a query gives way: with 10 of Linux's 19, a thread of a query has about a tenth of what a thread that takes rows in has, where
/// both want all of a core, and all of it where nobody else wants it.
#[cfg(target_os = "linux")]
const NICENESS: libc::c_int = 10;

/// Makes the calling thread give way to the process's others. Elsewhere than on Linux, where a thread has no niceness of its own, nothing.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    {
        // On Linux that is the calling thread and not its process, see nice(2). More than there is comes to the most there is.
        #[expect(unsafe_code, reason = "a system call that takes a number and touches no memory")]
        let _niceness = unsafe { libc::nice(NICENESS) };
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    /// The niceness of the calling thread, as the kernel tells it.
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // Fields are counted from behind the name, which may hold anything: state is the third, niceness the nineteenth.
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn the_thread_gives_way_and_no_other_does() {
        let before = niceness();
        let inside = std::thread::spawn(|| {
            super::give_way();
            niceness()
        });
        assert_eq!(inside.join().unwrap(), (before + super::NICENESS).min(19));
        assert_eq!(niceness(), before);
    }
}
