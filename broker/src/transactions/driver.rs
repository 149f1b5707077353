//! What goes on without a request: markers of what was decided are written until all are durable, and the clock is watched.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};

use super::TransactionError;
use super::machine::{Phase, Producer, Transaction, needs_tick};
use super::requests::Shared;
use crate::broker::Orphan;
use crate::error::BrokerError;
use crate::raw::TransactionMarker;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(500);
/// After a failure, the first wait before the next try; it doubles.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// The coordinator is never moved, so its epoch never changes.
const COORDINATOR_EPOCH: i32 = 0;

/// Works until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    // Dropped with this, and with them the tasks.
    let mut orphans = abort_orphans(&shared);
    let mut completions = Completions::default();
    let mut tick = shared.broker.clock().sleep(TICK);
    loop {
        completions.start_new(&shared);
        tokio::select! {
            // In this order, so that a simulation repeats itself and the clock is not passed over.
            biased;
            () = &mut tick => {
                end_overdue(&shared).await;
                tick = shared.broker.clock().sleep(TICK);
            }
            () = completions.one_done() => {}
            Some(_) = orphans.join_next() => {}
            () = shared.decided.notified() => {}
        }
    }
}

/// Aborts what is open in partitions and what the journal knows nothing of, so that it does not hold readers up for ever. Whether it was to
/// be committed nobody knows any more.
fn abort_orphans(shared: &Arc<Shared>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for Orphan { id, producer } in shared.broker.take_orphans() {
        tracing::error!(
            partition = %id, producer_id = producer.id,
            "a transaction is open here that the coordinator's journal does not have, so the journal was damaged; it is aborted"
        );
        metrics::counter!("highwater_broker_transactions_orphaned_total").increment(1);
        let marker = marker(producer, false);
        tasks.spawn(write_marker(Arc::clone(shared), id.topic, id.partition, marker));
    }
    tasks
}

fn marker(producer: Producer, commit: bool) -> TransactionMarker {
    TransactionMarker {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        commit,
        coordinator_epoch: COORDINATOR_EPOCH,
    }
}

/// Aborts what takes too long and forgets ids that are not used.
async fn end_overdue(shared: &Shared) {
    let (now_ms, elapsed_ms) = (shared.broker.clock().now_ms(), shared.broker.clock().elapsed_ms());
    let settings = shared.broker.transaction_settings();
    let needed = shared.broker.coordinator().with_transactions(|table| {
        metrics::gauge!("highwater_broker_transactions_ongoing").set(table.ongoing().count() as f64);
        needs_tick(table, &settings, now_ms)
    });
    if !needed {
        return;
    }
    match shared.decide(move |machine| machine.tick(now_ms, elapsed_ms)).await {
        Ok(0) => {}
        Ok(aborted) => {
            metrics::counter!("highwater_broker_transactions_timed_out_total").increment(aborted as u64);
            tracing::warn!(
                aborted,
                "transactions took longer than their timeout; they are aborted, their producers fenced"
            );
        }
        Err(error) if is_closed(&error) => {}
        Err(error) => tracing::warn!(%error, "overdue transactions could not be aborted; trying again"),
    }
}

/// The transactions whose markers are being written, one task each.
#[derive(Default)]
struct Completions {
    tasks: JoinSet<()>,
    by_task: HashMap<Id, Arc<str>>,
    ids: BTreeSet<Arc<str>>,
}

impl Completions {
    /// Takes on what was decided since the last look.
    fn start_new(&mut self, shared: &Arc<Shared>) {
        let new: Vec<(Arc<str>, Arc<Transaction>)> = shared.broker.coordinator().with_transactions(|table| {
            let decided = table.decided().filter(|(id, _)| !self.ids.contains(*id));
            decided.map(|(id, transaction)| (Arc::clone(id), Arc::clone(transaction))).collect()
        });
        for (id, transaction) in new {
            let task = self.tasks.spawn(complete(Arc::clone(shared), Arc::clone(&id), transaction));
            self.by_task.insert(task.id(), Arc::clone(&id));
            self.ids.insert(id);
        }
    }

    /// Ready when one has ended; never while there is none.
    async fn one_done(&mut self) {
        let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let task = match ended {
            Ok((task, ())) => task,
            Err(error) => {
                tracing::error!(%error, "a task that writes transaction markers failed; it is started again");
                error.id()
            }
        };
        if let Some(id) = self.by_task.remove(&task) {
            self.ids.remove(&id);
        }
    }
}

/// Writes all markers of a decided transaction, then that it is complete.
async fn complete(shared: Arc<Shared>, id: Arc<str>, transaction: Arc<Transaction>) {
    let commit = transaction.phase == Phase::PrepareCommit;
    let producer = transaction.producer;
    let marker = marker(producer, commit);
    let mut markers = JoinSet::new();
    for (topic, partitions) in &transaction.partitions {
        for partition in partitions {
            markers.spawn(write_marker(Arc::clone(&shared), Arc::clone(topic), *partition, marker));
        }
    }
    while let Some(written) = markers.join_next().await {
        if let Err(error) = written {
            tracing::error!(id = %id, %error, "a task that writes a transaction marker failed; all are written again");
            return;
        }
    }
    let mut retry = Retry::new(&shared);
    loop {
        let (entry_id, now_ms) = (Arc::clone(&id), shared.broker.clock().now_ms());
        let Err(error) = shared.decide(move |machine| machine.complete(&entry_id, producer, now_ms)).await else {
            break;
        };
        if !is_closed(&error) {
            tracing::warn!(id = %id, %error, "the end of a transaction could not be noted; trying again");
        }
        retry.pause().await;
    }
    let outcome = if commit { "commit" } else { "abort" };
    metrics::counter!("highwater_broker_transactions_total", "outcome" => outcome).increment(1);
    shared.note_complete(&id);
}

/// Writes one marker, until it is durable or there is no such partition any more.
async fn write_marker(shared: Arc<Shared>, topic: Arc<str>, partition: i32, marker: TransactionMarker) {
    let mut retry = Retry::new(&shared);
    loop {
        match shared.broker.end_transaction(&topic, partition, marker).await {
            Ok(_) | Err(BrokerError::UnknownTopicOrPartition { .. }) => return,
            // A later epoch wrote there, so nothing of this one is open there.
            Err(error @ BrokerError::ProducerFenced { .. }) => {
                tracing::warn!(topic = %topic, partition, %error, "a transaction marker was not needed");
                return;
            }
            // A topic that is being deleted says so as well; the next try knows.
            Err(BrokerError::Closed) => {}
            Err(error) => {
                tracing::warn!(topic = %topic, partition, %error, "a transaction marker could not be written; trying again");
            }
        }
        retry.pause().await;
    }
}

/// Waits between tries, longer each time.
struct Retry<'a> {
    shared: &'a Shared,
    wait: Duration,
}

impl<'a> Retry<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self { shared, wait: FIRST_RETRY }
    }

    async fn pause(&mut self) {
        self.shared.broker.clock().sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LAST_RETRY);
    }
}

fn is_closed(error: &TransactionError) -> bool {
    matches!(error, TransactionError::Broker(BrokerError::Closed))
}
