//! The way of a transaction's decision: to the commit thread, into the journal, and back once it is synced.

use tokio::sync::oneshot;

use super::{Broker, committer};
use crate::error::BrokerError;
use crate::transactions::{TransactionError, TransactionSettings};
use crate::transactions::machine::{Step, TransactionMachine};

/// What becomes of a decision once the sync behind it is done.
pub(crate) type Decided<T> = oneshot::Receiver<Result<T, TransactionError>>;

impl Broker {
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

    /// Limits and times of transactions.
    pub(crate) fn transaction_settings(&self) -> TransactionSettings {
        self.inner.config.transactions
    }
}
