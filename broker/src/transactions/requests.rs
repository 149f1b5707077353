//! The coordinator as handlers use it: requests in, answers once they are durable.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::machine::{Partitions, PendingOffsets, Producer, Step, TransactionMachine};
use super::{TransactionError, driver};
use crate::broker::Broker;
use crate::error::BrokerError;

/// How long the answer to EndTxn is kept back for the markers. With them written the next transaction can begin without being
/// told to try again, and readers see what was committed. The outcome is durable before.
const MARKERS_WAIT: Duration = Duration::from_secs(1);

/// The coordinator of transactions. Dropping it stops the work in its background; what was decided goes on at the next start.
pub struct Transactions {
    shared: Arc<Shared>,
    background: Option<AbortHandle>,
}

/// What requests and the background share.
pub(super) struct Shared {
    pub(super) broker: Arc<Broker>,
    /// Wakes the background: something was decided.
    pub(super) decided: Notify,
    /// Who waits for the markers of a transactional id.
    waiting: Mutex<HashMap<Arc<str>, Vec<oneshot::Sender<()>>>>,
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactions").finish_non_exhaustive()
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        if let Some(background) = &self.background {
            background.abort();
        }
    }
}

impl Transactions {
    /// Starts the coordinator on the current tokio runtime, and ends what was decided before the last stop.
    pub fn start(broker: Arc<Broker>) -> Arc<Self> {
        let shared = Arc::new(Shared::new(broker));
        let background = tokio::spawn(driver::run(Arc::clone(&shared))).abort_handle();
        Arc::new(Self { shared, background: Some(background) })
    }

    /// The coordinator without its background: nothing is completed, nothing times out.
    #[cfg(test)]
    pub(super) fn idle(broker: Arc<Broker>) -> Self {
        Self { shared: Arc::new(Shared::new(broker)), background: None }
    }

    /// The first half of [`Self::end`].
    #[cfg(test)]
    pub(super) async fn decide_only(&self, id: &str, producer: Producer, commit: bool) -> Result<(), TransactionError> {
        let (id, now_ms) = (Arc::from(id), self.now_ms());
        self.decide(move |machine| machine.end(&id, producer, commit, now_ms)).await
    }

    /// InitProducerId: makes the caller a producer. Without a transactional id its producer id is a new one. With one, whoever had
    /// it before is fenced; if a transaction of his is open, it is aborted, and the caller is told to try again meanwhile.
    /// `current` is what the caller has, where it goes on from there.
    pub async fn init_producer(
        &self,
        id: Option<&str>,
        timeout_ms: i32,
        current: Option<Producer>,
    ) -> Result<Producer, TransactionError> {
        let id: Option<Arc<str>> = id.map(Arc::from);
        let now_ms = self.now_ms();
        let answer = self.decide(move |machine| machine.init_producer(id.as_ref(), timeout_ms, current, now_ms)).await;
        self.shared.wake_if_decided();
        answer
    }

    /// AddPartitionsToTxn: from now on, until the end of the transaction, the producer may write to these partitions.
    pub async fn add_partitions(
        &self,
        id: &str,
        producer: Producer,
        partitions: Vec<(Arc<str>, i32)>,
    ) -> Result<(), TransactionError> {
        let mut all = Partitions::new();
        for (topic, partition) in partitions {
            all.entry(topic).or_default().insert(partition);
        }
        let (id, now_ms) = (Arc::from(id), self.now_ms());
        self.decide(move |machine| machine.add_partitions(&id, producer, all, now_ms)).await
    }

    /// AddOffsetsToTxn: the transaction will commit offsets of this group.
    pub async fn add_group(&self, id: &str, producer: Producer, group: &str) -> Result<(), TransactionError> {
        let (id, group, now_ms) = (Arc::from(id), Arc::from(group), self.now_ms());
        self.decide(move |machine| machine.add_group(&id, producer, &group, now_ms)).await
    }

    /// TxnOffsetCommit: these offsets count once the transaction commits. Handed over at once, answered when durable, so that a
    /// caller can hold the group still for the first part of it.
    pub(crate) fn add_offsets(
        &self,
        id: &str,
        producer: Producer,
        group: &str,
        offsets: PendingOffsets,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send + use<> {
        let (id, group, now_ms) = (Arc::from(id), Arc::from(group), self.now_ms());
        self.decide(move |machine| machine.add_offsets(&id, producer, &group, offsets, now_ms))
    }

    /// EndTxn: commits or aborts. Durable when this returns.
    pub async fn end(&self, id: &str, producer: Producer, commit: bool) -> Result<(), TransactionError> {
        let (id, now_ms): (Arc<str>, _) = (Arc::from(id), self.now_ms());
        let decide = {
            let id = Arc::clone(&id);
            move |machine: &mut TransactionMachine| machine.end(&id, producer, commit, now_ms)
        };
        self.decide(decide).await?;
        let mut patience = self.shared.broker.clock().sleep(MARKERS_WAIT);
        loop {
            // Asked for before the look, so that the end is not missed in between; looked at again after, because what is told may be
            // the end of the transaction before.
            let markers = self.shared.wait_for_markers(&id);
            if !self.shared.is_decided(&id, producer) {
                return Ok(());
            }
            self.shared.decided.notify_one();
            tokio::select! {
                biased;
                told = markers => {
                    if told.is_err() {
                        // The background has ended; the decision stands all the same.
                        return Ok(());
                    }
                }
                () = &mut patience => return Ok(()),
            }
        }
    }

    /// Partitions of which an ongoing transaction holds an offset of the group: what is committed there may soon not be. Ask before
    /// reading what is committed: a transaction that commits in between is seen by one of the two.
    pub fn pending(&self, group: &str) -> BTreeSet<(Arc<str>, i32)> {
        self.shared.broker.coordinator().with_transactions(|table| table.pending(group))
    }

    fn now_ms(&self) -> i64 {
        self.shared.broker.clock().now_ms()
    }

    /// Hands a decision over, and waits until it is durable.
    fn decide<T: Send + 'static, D: FnOnce(&mut TransactionMachine) -> Step<T> + Send + 'static>(
        &self,
        decide: D,
    ) -> impl Future<Output = Result<T, TransactionError>> + Send + use<T, D> {
        self.shared.decide(decide)
    }
}

impl Shared {
    pub(super) fn new(broker: Arc<Broker>) -> Self {
        Self { broker, decided: Notify::new(), waiting: Mutex::default() }
    }

    pub(super) fn decide<T: Send + 'static, D: FnOnce(&mut TransactionMachine) -> Step<T> + Send + 'static>(
        &self,
        decide: D,
    ) -> impl Future<Output = Result<T, TransactionError>> + Send + use<T, D> {
        let handed_over = self.broker.transact(decide);
        async move { handed_over?.await.map_err(|_| BrokerError::Closed)? }
    }

    fn is_decided(&self, id: &str, producer: Producer) -> bool {
        self.broker
            .coordinator()
            .with_transactions(|table| table.get(id).is_some_and(|t| t.phase.is_decided() && t.producer == producer))
    }

    fn wake_if_decided(&self) {
        if self.broker.coordinator().with_transactions(|table| table.decided().next().is_some()) {
            self.decided.notify_one();
        }
    }

    /// Ready when the next transaction of this id is complete.
    fn wait_for_markers(&self, id: &Arc<str>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        let of_id = waiting.entry(Arc::clone(id)).or_default();
        // Those who gave up are dropped here, so that there are never more than callers.
        of_id.retain(|sender| !sender.is_closed());
        of_id.push(sender);
        receiver
    }

    /// Tells those who wait that the transaction of this id is complete.
    pub(super) fn note_complete(&self, id: &str) {
        for sender in self.waiting.lock().remove(id).into_iter().flatten() {
            // Who no longer waits need not know.
            sender.send(()).ok();
        }
    }
}
