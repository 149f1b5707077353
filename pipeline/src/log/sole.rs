//! Membership where there is one process: it owns everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::membership::{Change, Done, Membership};
use super::{Log, LogError, TopicPartition};

/// The only member: every partition of every topic it shares in is its own, from the first moment.
pub struct SoleMember {
    log: Arc<dyn Log>,
    owned: BTreeSet<TopicPartition>,
    pending: Vec<Change>,
}

impl SoleMember {
    /// Shares in these topics of the log, which must exist.
    ///
    /// # Errors
    /// Where the log cannot say how many partitions a topic has, or there is no such topic.
    pub async fn join(log: Arc<dyn Log>, topics: Vec<String>) -> Result<Self, LogError> {
        let mut member = Self { log, owned: BTreeSet::new(), pending: Vec::new() };
        member.subscribe(topics).await?;
        Ok(member)
    }
}

#[async_trait]
impl Membership for SoleMember {
    async fn next(&mut self) -> Result<Change, LogError> {
        if self.pending.is_empty() {
            std::future::pending::<()>().await;
        }
        Ok(self.pending.remove(0))
    }

    async fn subscribe(&mut self, topics: Vec<String>) -> Result<(), LogError> {
        let mut wanted = BTreeSet::new();
        for topic in topics {
            let info = self.log.topic(&topic).await?;
            let info = info.ok_or(LogError::UnknownTopicOrPartition { topic, partition: 0 })?;
            wanted.extend(
                (0..info.config.partitions)
                    .map(|partition| TopicPartition { topic: Arc::clone(&info.name), partition }),
            );
        }
        let gone: Vec<_> = self.owned.difference(&wanted).cloned().collect();
        if !gone.is_empty() {
            self.pending.push(Change::Revoked { partitions: gone, done: Done::new().0 });
        }
        let new: Vec<_> = wanted.difference(&self.owned).cloned().collect();
        if !new.is_empty() {
            self.pending.push(Change::Assigned(new));
        }
        self.owned = wanted;
        Ok(())
    }

    async fn leave(self: Box<Self>) {}
}
