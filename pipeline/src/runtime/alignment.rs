//! Keeps the tasks of one topic together while they catch up.
//!
//! Live, the partitions of a topic are at the same append time, because that is now. After a downtime each has a backlog, and a task that is
//! done with an hour of its own before another has read a minute would make the other's rows look an hour late. So a task does not read a record
//! appended more than [`MAX_AHEAD_MS`] after the next record of the slowest. This is pacing and nothing else: what a task makes of its
//! records does not change.

use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How far a task may be ahead of the slowest of its topic, in milliseconds of append time. Well below the lateness of a rollup: a partition
/// that was idle before the downtime is not waited for until it speaks again.
pub(super) const MAX_AHEAD_MS: i64 = 1_000;

/// The tasks of one topic.
#[derive(Debug, Default)]
pub(super) struct Alignment {
    /// Per task: the append time up to which all effects are in the log; `i64::MIN` until it has started, `i64::MAX` at the log's end.
    reached_ms: Mutex<Vec<i64>>,
    moved: Notify,
}

/// One task's place in it. Left at the log's end when dropped, so that a task that has stopped holds nobody up.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Alignment>,
    index: usize,
}

impl Alignment {
    /// A place for one more task.
    pub(super) fn place(self: &Arc<Self>) -> Place {
        let mut reached_ms = self.reached_ms.lock();
        reached_ms.push(i64::MIN);
        Place { all: Arc::clone(self), index: reached_ms.len() - 1 }
    }
}

impl Place {
    /// True where a record appended at this time has to wait for others.
    pub(super) fn is_ahead(&self, append_time_ms: i64) -> bool {
        let reached_ms = self.all.reached_ms.lock();
        let others = reached_ms.iter().enumerate().filter(|&(index, _)| index != self.index).map(|(_, &at)| at);
        others.min().is_some_and(|slowest| append_time_ms > slowest.saturating_add(MAX_AHEAD_MS))
    }

    /// All effects of records appended before this time are in the log.
    pub(super) fn reach(&self, append_time_ms: i64) {
        self.all.reached_ms.lock()[self.index] = append_time_ms;
        self.all.moved.notify_waiters();
    }

    /// There is nothing left to read.
    pub(super) fn reach_end(&self) {
        self.reach(i64::MAX);
    }

    /// Waits until a record appended at this time may be read.
    pub(super) async fn wait_for(&self, append_time_ms: i64) {
        loop {
            // Listens before it looks, so that no move is missed in between.
            let mut moved = pin!(self.all.moved.notified());
            moved.as_mut().enable();
            if !self.is_ahead(append_time_ms) {
                return;
            }
            moved.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.reach_end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_waits_for_the_slowest_and_never_for_itself() {
        let alignment = Arc::new(Alignment::default());
        let (a, b) = (alignment.place(), alignment.place());
        assert!(a.is_ahead(0), "the other has not started");
        b.reach(1_000);
        assert!(!a.is_ahead(1_000 + MAX_AHEAD_MS));
        assert!(a.is_ahead(1_001 + MAX_AHEAD_MS));
        assert!(b.is_ahead(0));
        a.reach(1_000_000);
        assert!(!b.is_ahead(1_000));
        b.reach_end();
        assert!(!a.is_ahead(i64::MAX));
    }

    #[test]
    fn two_that_wait_at_a_gap_do_not_wait_for_ever() {
        let alignment = Arc::new(Alignment::default());
        let (a, b) = (alignment.place(), alignment.place());
        // Both stand in front of a record, and say so: the one with the earlier record may go.
        a.reach(200 * MAX_AHEAD_MS);
        b.reach(300 * MAX_AHEAD_MS);
        assert!(!a.is_ahead(200 * MAX_AHEAD_MS));
        assert!(b.is_ahead(300 * MAX_AHEAD_MS));
    }

    #[test]
    fn one_that_has_stopped_holds_nobody_up() {
        let alignment = Arc::new(Alignment::default());
        let (a, b) = (alignment.place(), alignment.place());
        b.reach(0);
        assert!(a.is_ahead(i64::MAX));
        drop(b);
        assert!(!a.is_ahead(i64::MAX));
    }
}
