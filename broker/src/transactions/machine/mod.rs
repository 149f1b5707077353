//! What the coordinator of transactions decides: pure, with the time as an argument.
//!
//! A request is answered with a [`Step`]: entries for the journal, and what to tell the client once they are synced. Nothing
//! changes before [`TransactionMachine::apply`] has the entries, so an entry that could not be written leaves nothing behind.
//!
//! Invariants:
//! - No producer id is given out twice: they come from blocks that are in the journal before the first of them is used.
//! - Of a transactional id one producer (id and epoch) is in charge. Whoever asks without being it is fenced.
//! - Epochs of a producer id only rise. Clients get them up to [`LAST_CLIENT_EPOCH`]; then comes a new producer id.
//! - What was decided does not change: after `Prepare*` only the `Complete*` of the same outcome follows.
//! - An entry of a decision is not larger than the last one before it, so a transaction that could be written can be ended.

use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(test)]
mod model_tests;
mod table;
#[cfg(test)]
mod tests;
mod transaction;

pub use transaction::Producer;

pub(crate) use table::{TransactionEntry, TransactionTable};
pub(crate) use transaction::{Partitions, PendingOffsets, Phase, Transaction};

use transaction::{LAST_CLIENT_EPOCH, NO_EPOCH};

use super::{TransactionError, TransactionSettings};

/// Producer ids that one journal entry puts aside.
const PRODUCER_ID_BLOCK: i64 = 1000;
/// How far ahead of the ids given out an id found in a partition may lie: more than any number of producers there ever was.
const MAX_PRODUCER_ID_LEAP: i64 = 1 << 40;
/// Limit of a transactional id and of a group's name, in bytes.
const MAX_NAME_SIZE_BYTES: usize = 1024;
/// Transactions and ids that one pass over the clock ends or forgets; the next pass takes the others.
const MAX_PER_TICK: usize = 1000;

/// What is to be written, and what is to be answered after it is synced.
#[derive(Debug)]
pub(crate) struct Step<T> {
    pub(crate) entries: Vec<TransactionEntry>,
    pub(crate) answer: Result<T, TransactionError>,
}

impl<T> Step<T> {
    fn answer(answer: T) -> Self {
        Self { entries: Vec::new(), answer: Ok(answer) }
    }

    fn refuse(error: TransactionError) -> Self {
        Self { entries: Vec::new(), answer: Err(error) }
    }

    fn write(id: &Arc<str>, transaction: Transaction, answer: Result<T, TransactionError>) -> Self {
        let entry = TransactionEntry::Transaction { id: Arc::clone(id), transaction: Arc::new(transaction) };
        Self { entries: vec![entry], answer }
    }
}

pub(crate) struct TransactionMachine {
    /// All that was written, synced or not.
    table: TransactionTable,
    next_producer_id: i64,
    /// How long the transactions have been open that [`Self::tick`] has seen open.
    running: BTreeMap<Arc<str>, Running>,
    settings: TransactionSettings,
}

/// An open transaction and since when it runs.
struct Running {
    producer: Producer,
    started_ms: i64,
    /// In elapsed time.
    since_ms: i64,
}

impl Running {
    /// First seen now. What the clock says of the time before counts, within reason: that is up to the last tick, or over a restart.
    fn since(transaction: &Transaction, now_ms: i64, elapsed_ms: i64) -> Self {
        let before_ms = now_ms.saturating_sub(transaction.started_ms).clamp(0, i64::from(transaction.timeout_ms));
        let Transaction { producer, started_ms, .. } = *transaction;
        Self { producer, started_ms, since_ms: elapsed_ms.saturating_sub(before_ms) }
    }

    fn is_that_of(&self, transaction: &Transaction) -> bool {
        transaction.is_open_for(self.producer) && transaction.started_ms == self.started_ms
    }
}

impl TransactionMachine {
    /// Goes on from what the journal had.
    pub(crate) fn new(table: TransactionTable, settings: TransactionSettings) -> Self {
        Self { next_producer_id: table.producer_ids_below(), running: BTreeMap::new(), table, settings }
    }

    /// Takes in what was written.
    pub(crate) fn apply(&mut self, entry: TransactionEntry) {
        // The offsets of a commit are the concern of whoever keeps the groups.
        drop(self.table.apply(entry));
    }

    #[cfg(test)]
    pub(crate) fn table(&self) -> &TransactionTable {
        &self.table
    }

    /// What is known, for changes that are not of transactions: topics and groups that are deleted take pending offsets with them.
    pub(crate) fn table_mut(&mut self) -> &mut TransactionTable {
        &mut self.table
    }

    /// Gives out no producer id up to this one: a partition has seen it. One far ahead of all that were given out was made up by a client,
    /// and says nothing.
    pub(crate) fn raise_producer_id(&mut self, seen: i64) {
        if seen < self.next_producer_id.saturating_add(MAX_PRODUCER_ID_LEAP) {
            self.next_producer_id = self.next_producer_id.max(seen.saturating_add(1));
        }
    }

    /// InitProducerId. Without a transactional id: a new producer id. With one: its holder from now on, who fences the one
    /// before. `current` is what the producer has, where it wants to go on from there (KIP-360).
    pub(crate) fn init_producer(
        &mut self,
        id: Option<&Arc<str>>,
        timeout_ms: i32,
        current: Option<Producer>,
        now_ms: i64,
    ) -> Step<Producer> {
        let Some(id) = id else {
            return match self.take_producer_id() {
                Ok((id, block)) => Step { entries: block.into_iter().collect(), answer: Ok(Producer { id, epoch: 0 }) },
                Err(error) => Step::refuse(error),
            };
        };
        if let Err(error) = check_name("transactional id", id) {
            return Step::refuse(error);
        }
        let limit_ms = self.settings.max_timeout_ms;
        if !(1..=limit_ms).contains(&timeout_ms) {
            return Step::refuse(TransactionError::InvalidTimeout { timeout_ms, limit_ms });
        }
        let Some(known) = self.table.get(id).cloned() else {
            let limit = self.settings.max_ids;
            if self.table.len() >= limit {
                return Step::refuse(TransactionError::TooManyIds { limit });
            }
            return self.with_new_producer_id(id, |producer_id| Transaction::new(producer_id, timeout_ms, now_ms));
        };
        let holder = known.producer;
        // Asked with the epoch before, it did not hear what it got, or that its wish for a new epoch ended its transaction.
        let is_retry = |current: Producer| {
            current.epoch == known.last_epoch
                && (current.id == holder.id
                    || (current.id == known.previous_producer_id && current.epoch >= LAST_CLIENT_EPOCH))
        };
        if let Some(current) = current
            && current != holder
            && !is_retry(current)
        {
            return Step::refuse(fenced(id, current, holder));
        }
        match known.phase {
            Phase::PrepareCommit | Phase::PrepareAbort => Step::refuse(concurrent(id)),
            Phase::Ongoing => {
                let fenced = known.fenced(current == Some(holder), now_ms);
                Step::write(id, fenced, Err(concurrent(id)))
            }
            Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => {
                if current.is_some_and(|current| current != holder) {
                    return Step::write(id, known.held_again(timeout_ms, now_ms), Ok(holder));
                }
                let last_epoch = if current.is_some() { holder.epoch } else { NO_EPOCH };
                if known.is_exhausted() {
                    return self.with_new_producer_id(id, |producer_id| {
                        known.held_by(Producer { id: producer_id, epoch: 0 }, last_epoch, timeout_ms, now_ms)
                    });
                }
                let next = Producer { id: holder.id, epoch: holder.epoch + 1 };
                Step::write(id, known.held_by(next, last_epoch, timeout_ms, now_ms), Ok(next))
            }
        }
    }

    fn with_new_producer_id(&mut self, id: &Arc<str>, make: impl FnOnce(i64) -> Transaction) -> Step<Producer> {
        match self.take_producer_id() {
            Ok((producer_id, block)) => {
                let transaction = make(producer_id);
                let producer = transaction.producer;
                let mut step = Step::write(id, transaction, Ok(producer));
                step.entries.splice(0..0, block);
                step
            }
            Err(error) => Step::refuse(error),
        }
    }

    /// The next producer id, with the entry that puts its block aside where it is the first of one.
    fn take_producer_id(&mut self) -> Result<(i64, Option<TransactionEntry>), TransactionError> {
        let id = self.next_producer_id;
        let below = id.checked_add(PRODUCER_ID_BLOCK).ok_or_else(|| TransactionError::InvalidRequest {
            reason: "all producer ids have been given out".into(),
        })?;
        self.next_producer_id = id + 1;
        let block = (id >= self.table.producer_ids_below()).then_some(TransactionEntry::ProducerIds { below });
        Ok((id, block))
    }

    /// AddPartitionsToTxn.
    pub(crate) fn add_partitions(
        &self,
        id: &Arc<str>,
        producer: Producer,
        partitions: Partitions,
        now_ms: i64,
    ) -> Step<()> {
        let known = match self.taking_more(id, producer) {
            Ok(known) => known,
            Err(error) => return Step::refuse(error),
        };
        let mut all = partitions.iter().flat_map(|(topic, numbers)| numbers.iter().map(move |n| (topic, *n)));
        if known.phase == Phase::Ongoing && all.all(|(topic, number)| known.has_partition(topic, number)) {
            return Step::answer(());
        }
        Step::write(id, known.with_partitions(partitions, now_ms), Ok(()))
    }

    /// AddOffsetsToTxn.
    pub(crate) fn add_group(&self, id: &Arc<str>, producer: Producer, group: &Arc<str>, now_ms: i64) -> Step<()> {
        if let Err(error) = check_name("group", group) {
            return Step::refuse(error);
        }
        match self.taking_more(id, producer) {
            Ok(known) if known.phase == Phase::Ongoing && known.offsets.contains_key(group) => Step::answer(()),
            Ok(known) => Step::write(id, known.with_offsets(group, BTreeMap::new(), now_ms), Ok(())),
            Err(error) => Step::refuse(error),
        }
    }

    /// TxnOffsetCommit, after the group has agreed.
    pub(crate) fn add_offsets(
        &self,
        id: &Arc<str>,
        producer: Producer,
        group: &Arc<str>,
        offsets: PendingOffsets,
        now_ms: i64,
    ) -> Step<()> {
        match self.taking_more(id, producer) {
            Ok(known) if known.phase != Phase::Ongoing => Step::refuse(invalid(id, "commit offsets", known.phase)),
            Ok(known) if !known.offsets.contains_key(group) => Step::refuse(TransactionError::InvalidState {
                id: id.to_string(),
                action: "commit offsets",
                state: "of a group that was not added to the transaction",
            }),
            Ok(_) if offsets.is_empty() => Step::answer(()),
            Ok(known) => Step::write(id, known.with_offsets(group, offsets, now_ms), Ok(())),
            Err(error) => Step::refuse(error),
        }
    }

    /// EndTxn. Answers once it is decided; the markers follow.
    pub(crate) fn end(&self, id: &Arc<str>, producer: Producer, commit: bool, now_ms: i64) -> Step<()> {
        let known = match self.held(id, producer) {
            Ok(known) => known,
            Err(error) => return Step::refuse(error),
        };
        match (known.phase, commit) {
            (Phase::Ongoing, _) => Step::write(id, known.decided(commit, now_ms), Ok(())),
            (Phase::PrepareCommit, true) | (Phase::PrepareAbort, false) => Step::refuse(concurrent(id)),
            // Its answer got lost.
            (Phase::CompleteCommit, true) | (Phase::CompleteAbort, false) => Step::answer(()),
            (phase, true) => Step::refuse(invalid(id, "commit", phase)),
            (phase, false) => Step::refuse(invalid(id, "abort", phase)),
        }
    }

    /// All markers of what was decided under this producer are durable.
    pub(crate) fn complete(&self, id: &Arc<str>, producer: Producer, now_ms: i64) -> Step<()> {
        match self.table.get(id) {
            Some(known) if known.phase.is_decided() && known.producer == producer => {
                Step::write(id, known.completed(now_ms), Ok(()))
            }
            // Completed already.
            _ => Step::answer(()),
        }
    }

    /// What is due: transactions that take too long are aborted, ids that nobody used for long are forgotten. Answers with how many
    /// transactions it aborted. To be called from time to time while there are any: how long a transaction has been open is counted in
    /// `elapsed_ms`, which passes whatever is done to the clock that `now_ms` is read from.
    pub(crate) fn tick(&mut self, now_ms: i64, elapsed_ms: i64) -> Step<usize> {
        self.running.retain(|id, running| self.table.get(id).is_some_and(|t| running.is_that_of(t)));
        for (id, transaction) in self.table.ongoing() {
            let running = || Running::since(transaction, now_ms, elapsed_ms);
            self.running.entry(Arc::clone(id)).or_insert_with(running);
        }
        let entry = |id: &Arc<str>, transaction| TransactionEntry::Transaction {
            id: Arc::clone(id),
            transaction: Arc::new(transaction),
        };
        let is_overdue = |id: &Arc<str>, t: &Transaction| {
            let running = self.running.get(id);
            running.is_some_and(|r| elapsed_ms >= r.since_ms.saturating_add(i64::from(t.timeout_ms)))
        };
        let overdue = self.table.ongoing().filter(|(id, t)| is_overdue(id, t));
        let mut entries: Vec<_> =
            overdue.map(|(id, t)| entry(id, t.fenced(false, now_ms))).take(MAX_PER_TICK).collect();
        let aborted = entries.len();
        let expiration_ms = self.settings.id_expiration_ms;
        let unused = self.table.all().filter(|(_, t)| is_unused(t, expiration_ms, now_ms));
        entries.extend(unused.map(|(id, _)| TransactionEntry::Dead { id: Arc::clone(id) }).take(MAX_PER_TICK));
        Step { entries, answer: Ok(aborted) }
    }

    /// The transactional id, where this producer is in charge of it.
    fn held(&self, id: &Arc<str>, producer: Producer) -> Result<&Transaction, TransactionError> {
        let known = self.table.get(id).filter(|known| known.producer.id == producer.id);
        let known = known.ok_or_else(|| TransactionError::InvalidProducerIdMapping {
            id: id.to_string(),
            producer_id: producer.id,
        })?;
        if known.producer.epoch == producer.epoch { Ok(known) } else { Err(fenced(id, producer, known.producer)) }
    }

    /// As [`Self::held`], where its transaction takes more or can begin.
    fn taking_more(&self, id: &Arc<str>, producer: Producer) -> Result<&Transaction, TransactionError> {
        let known = self.held(id, producer)?;
        if known.phase.is_decided() { Err(concurrent(id)) } else { Ok(known) }
    }
}

/// True where [`TransactionMachine::tick`] has something to look at; for readers, who know what is synced.
pub(crate) fn needs_tick(table: &TransactionTable, settings: &TransactionSettings, now_ms: i64) -> bool {
    table.ongoing().next().is_some() || table.all().any(|(_, t)| is_unused(t, settings.id_expiration_ms, now_ms))
}

fn is_unused(transaction: &Transaction, expiration_ms: i64, now_ms: i64) -> bool {
    let at_rest = !transaction.phase.is_decided() && transaction.phase != Phase::Ongoing;
    at_rest && now_ms >= transaction.updated_ms.saturating_add(expiration_ms)
}

fn fenced(id: &Arc<str>, producer: Producer, current: Producer) -> TransactionError {
    TransactionError::ProducerFenced { id: id.to_string(), epoch: producer.epoch, current: current.epoch }
}

fn concurrent(id: &Arc<str>) -> TransactionError {
    TransactionError::ConcurrentTransactions { id: id.to_string() }
}

fn invalid(id: &Arc<str>, action: &'static str, phase: Phase) -> TransactionError {
    let state = match phase {
        Phase::Empty => "where no transaction has begun",
        Phase::Ongoing => "an ongoing transaction",
        Phase::PrepareCommit => "a transaction that is being committed",
        Phase::PrepareAbort => "a transaction that is being aborted",
        Phase::CompleteCommit => "a transaction that was committed",
        Phase::CompleteAbort => "a transaction that was aborted",
    };
    TransactionError::InvalidState { id: id.to_string(), action, state }
}

fn check_name(what: &str, name: &str) -> Result<(), TransactionError> {
    if name.is_empty() || name.len() > MAX_NAME_SIZE_BYTES {
        let reason = format!("a {what} has 1 to {MAX_NAME_SIZE_BYTES} bytes, not {}", name.len());
        return Err(TransactionError::InvalidRequest { reason });
    }
    Ok(())
}
