//! The way of a transaction's decision: to the commit thread, into the journal, and back once it is synced.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Broker, committer};
use crate::clock::Clock;
use crate::coordinator::{Coordinator, CoordinatorView};
use crate::error::BrokerError;
use crate::log::{KnownProducer, PartitionId, PartitionLog};
use crate::transactions::machine::{Step, TransactionMachine};
use crate::transactions::{Producer, TransactionError, TransactionSettings};

/// What becomes of a decision once the sync behind it is done.
pub(crate) type Decided<T> = oneshot::Receiver<Result<T, TransactionError>>;

/// A transaction that is open in a partition, but that the coordinator knows nothing of: its journal was damaged or lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) id: PartitionId,
    pub(crate) producer: Producer,
}

/// Compares what partitions remember of producers with what the coordinator knows. An id that one of them has seen is not given out
/// again; a transaction that nobody would ever end is an orphan.
pub(super) fn find_orphans(coordinator: &mut Coordinator, logs: &[Vec<PartitionLog>]) -> Vec<Orphan> {
    let mut orphans = Vec::new();
    for log in logs.iter().flatten() {
        for KnownProducer { id, epoch, has_open_transaction } in log.producers() {
            coordinator.raise_producer_id(id);
            let PartitionId { topic, partition } = log.id();
            let will_end = || coordinator.view().with_transactions(|table| table.will_end(id, topic, *partition));
            if has_open_transaction && !will_end() {
                orphans.push(Orphan { id: log.id().clone(), producer: Producer { id, epoch } });
            }
        }
    }
    orphans
}

impl Broker {
    /// Transactions that are open in partitions and that nobody would end, once.
    pub(crate) fn take_orphans(&self) -> Vec<Orphan> {
        std::mem::take(&mut *self.inner.orphans.lock())
    }

    /// Has the coordinator of transactions decide. What is handed over first is decided first; the answer comes when it is durable.
    pub(crate) fn transact<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut TransactionMachine) -> Step<T> + Send + 'static,
    ) -> Result<Decided<T>, BrokerError> {
        let (reply, answer) = oneshot::channel();
        let stage: committer::Stage = Box::new(move |coordinator| {
            let staged = coordinator.transact(decide);
            // A caller that no longer waits is no concern of ours.
            Box::new(move |synced| drop(reply.send(synced.map_err(TransactionError::from).and(staged))))
        });
        self.inner.send_commit(committer::Command::Transact { stage })?;
        Ok(answer)
    }

    /// What is durable of groups and transactions.
    pub(crate) fn coordinator(&self) -> &Arc<CoordinatorView> {
        &self.inner.coordinator
    }

    /// The broker's clock.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Limits and times of transactions.
    pub(crate) fn transaction_settings(&self) -> TransactionSettings {
        self.inner.config.transactions
    }
}
