//! Which partitions this process works on.
//!
//! Workers of one group share the partitions of all topics. Whoever owns a partition runs the task that reads it and writes its rows into
//! the tables that consume it. Ownership is a hint for who should work, not a lock: two processes may believe for a while that they own the
//! same partition (a paused one that was given up on). That the slower one does no harm is the business of epochs, of the generation in a
//! commit, and of the offset at which a table stands.

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{LogError, TopicPartition};

/// A change of what this process owns.
#[derive(Debug)]
pub enum Change {
    /// These are now ours, besides what was already.
    Assigned(Vec<TopicPartition>),
    /// These are to be given up: finish or abandon what is at work on them, then drop `done`. Their next owner waits for it, within bounds.
    Revoked {
        /// The partitions.
        partitions: Vec<TopicPartition>,
        /// Held while they are still being worked on.
        done: Done,
    },
    /// These have been ours, and somebody else's they may be already: abandon them at once.
    Lost(Vec<TopicPartition>),
}

/// Dropped once revoked partitions are no longer worked on.
#[derive(Debug)]
pub struct Done(#[expect(dead_code, reason = "it is its drop that is heard")] Option<oneshot::Sender<()>>);

impl Done {
    /// A token, and what hears it dropped (as an error of the receiver).
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }
}

/// This process's place in the group of workers. Dropped: the place is given up as by a crash.
#[async_trait]
pub trait Membership: Send {
    /// Waits for the next change. Cancel-safe.
    ///
    /// # Errors
    /// Where the place is lost for good (not retryable: join again). What the log gets over by itself is not reported.
    async fn next(&mut self) -> Result<Change, LogError>;

    /// Shares in these topics from now on, in place of those given before.
    ///
    /// # Errors
    /// Where the log refuses.
    async fn subscribe(&mut self, topics: Vec<String>) -> Result<(), LogError>;

    /// Leaves the group, so that others take over without waiting for a timeout. Stop the work first.
    async fn leave(self: Box<Self>);
}
