//! The order in which things that take longer or shorter to prepare are done: first come, first done.
//!
//! Whoever comes takes a [`Turn`], prepares, waits until it has [come](Turn::come), does what has to be in order, and [ends](Turn::end) it. A
//! turn that is dropped ends, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Gives out turns.
#[derive(Debug)]
pub(in crate::kafka) struct Turns {
    taken: AtomicU64,
    ended: Arc<watch::Sender<u64>>,
}

/// A place in the order.
#[derive(Debug)]
pub(in crate::kafka) struct Turn {
    number: u64,
    ended: Arc<watch::Sender<u64>>,
}

impl Turns {
    pub(in crate::kafka) fn new() -> Self {
        Self { taken: AtomicU64::new(0), ended: Arc::new(watch::Sender::new(0)) }
    }

    /// The next turn.
    pub(in crate::kafka) fn take(&self) -> Turn {
        Turn { number: self.taken.fetch_add(1, Ordering::Relaxed), ended: Arc::clone(&self.ended) }
    }
}

impl Turn {
    /// Waits until every earlier turn has ended.
    pub(in crate::kafka) async fn come(&self) {
        // The sender is ours, so the channel does not close meanwhile.
        let mut ended = self.ended.subscribe();
        ended.wait_for(|ended| *ended >= self.number).await.map(drop).unwrap_or_default();
    }

    /// Lets the next one come.
    pub(in crate::kafka) fn end(self) {
        drop(self);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // One that is given up before it came ends those before it as well: they are given up together, with their connection.
        self.ended.send_modify(|ended| *ended = (*ended).max(self.number + 1));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn turns_come_in_the_order_they_were_taken_however_long_the_preparation() {
        let turns = Turns::new();
        let done = Mutex::new(Vec::new());
        let tasks = [30, 1, 20, 0, 10].into_iter().enumerate().map(|(index, prepare_ms)| {
            let (turn, done) = (turns.take(), &done);
            async move {
                tokio::time::sleep(Duration::from_millis(prepare_ms)).await;
                turn.come().await;
                done.lock().push(index);
                turn.end();
            }
        });
        join_all(tasks).await;
        assert_eq!(*done.lock(), [0, 1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn a_turn_that_is_dropped_holds_nobody_up() {
        let turns = Turns::new();
        let (first, second) = (turns.take(), turns.take());
        assert!(tokio::time::timeout(Duration::from_millis(20), second.come()).await.is_err());
        drop(first);
        second.come().await;
    }
}
