//! What the journal says of transactions.
//!
//! ```text
//! producer ids  (kind 10):  kind (1), ids below this may have been given out (8)
//! transaction   (kind 11):  kind (1), transactional id, producer id (8), producer epoch (2), last epoch (2), previous producer id (8),
//!                           timeout ms (4), phase (1), started ms (8), updated ms (8),
//!                           topic count (4), then per topic: topic, partition count (4), partitions (4 each),
//!                           group count (4), then per group: group, offset count (4), then the offsets as in entries of kind 3
//! dead          (kind 12):  kind (1), transactional id
//! phase:  0 empty, 1 ongoing, 2 prepare commit, 3 prepare abort, 4 complete commit, 5 complete abort
//! ```
//!
//! A transaction of phase 2 hands its offsets to their groups: it is the decision and the commit of the offsets in one.

use std::sync::Arc;

use super::entry::CommittedOffset;
use super::wire::{put_count, put_text, take, take_i32, take_i64, take_list, take_text};
use crate::transactions::machine::{Phase, Producer, Transaction, TransactionEntry};

const PRODUCER_IDS: u8 = 10;
const TRANSACTION: u8 = 11;
const DEAD: u8 = 12;

pub(super) fn encode(entry: &TransactionEntry, out: &mut Vec<u8>) {
    match entry {
        TransactionEntry::ProducerIds { below } => {
            out.push(PRODUCER_IDS);
            out.extend_from_slice(&below.to_be_bytes());
        }
        TransactionEntry::Transaction { id, transaction } => {
            out.push(TRANSACTION);
            put_text(out, id);
            put_transaction(out, transaction);
        }
        TransactionEntry::Dead { id } => {
            out.push(DEAD);
            put_text(out, id);
        }
    }
}

/// Reads what comes after the kind; `None` where it is not an entry of that kind.
pub(super) fn decode(kind: u8, rest: &mut &[u8]) -> Option<TransactionEntry> {
    match kind {
        PRODUCER_IDS => Some(TransactionEntry::ProducerIds { below: i64::from_be_bytes(take(rest)?) }),
        TRANSACTION => {
            let id = take_text(rest)?.into();
            Some(TransactionEntry::Transaction { id, transaction: Arc::new(take_transaction(rest)?) })
        }
        DEAD => Some(TransactionEntry::Dead { id: take_text(rest)?.into() }),
        _ => None,
    }
}

fn put_transaction(out: &mut Vec<u8>, transaction: &Transaction) {
    out.extend_from_slice(&transaction.producer.id.to_be_bytes());
    out.extend_from_slice(&transaction.producer.epoch.to_be_bytes());
    out.extend_from_slice(&transaction.last_epoch.to_be_bytes());
    out.extend_from_slice(&transaction.previous_producer_id.to_be_bytes());
    out.extend_from_slice(&transaction.timeout_ms.to_be_bytes());
    out.push(match transaction.phase {
        Phase::Empty => 0,
        Phase::Ongoing => 1,
        Phase::PrepareCommit => 2,
        Phase::PrepareAbort => 3,
        Phase::CompleteCommit => 4,
        Phase::CompleteAbort => 5,
    });
    out.extend_from_slice(&transaction.started_ms.to_be_bytes());
    out.extend_from_slice(&transaction.updated_ms.to_be_bytes());
    put_count(out, transaction.partitions.len());
    for (topic, partitions) in &transaction.partitions {
        put_text(out, topic);
        put_count(out, partitions.len());
        for partition in partitions {
            out.extend_from_slice(&partition.to_be_bytes());
        }
    }
    put_count(out, transaction.offsets.len());
    for (group, offsets) in &transaction.offsets {
        put_text(out, group);
        put_count(out, offsets.len());
        for offset in offsets.values() {
            offset.encode(out);
        }
    }
}

fn take_transaction(rest: &mut &[u8]) -> Option<Transaction> {
    Some(Transaction {
        producer: Producer { id: take_i64(rest)?, epoch: take_i16(rest)? },
        last_epoch: take_i16(rest)?,
        previous_producer_id: take_i64(rest)?,
        timeout_ms: take_i32(rest)?,
        phase: take_phase(rest)?,
        started_ms: take_i64(rest)?,
        updated_ms: take_i64(rest)?,
        partitions: take_list(rest, |rest| {
            Some((take_text(rest)?.into(), take_list(rest, take_i32)?.into_iter().collect()))
        })?
        .into_iter()
        .collect(),
        offsets: take_list(rest, |rest| {
            let group: Arc<str> = take_text(rest)?.into();
            let offsets = take_list(rest, CommittedOffset::decode)?;
            let by_partition =
                offsets.into_iter().map(|offset| ((Arc::clone(&offset.topic), offset.partition), offset));
            Some((group, by_partition.collect()))
        })?
        .into_iter()
        .collect(),
    })
}

fn take_phase(rest: &mut &[u8]) -> Option<Phase> {
    match take::<1>(rest)? {
        [0] => Some(Phase::Empty),
        [1] => Some(Phase::Ongoing),
        [2] => Some(Phase::PrepareCommit),
        [3] => Some(Phase::PrepareAbort),
        [4] => Some(Phase::CompleteCommit),
        [5] => Some(Phase::CompleteAbort),
        _ => None,
    }
}

fn take_i16(rest: &mut &[u8]) -> Option<i16> {
    take(rest).map(i16::from_be_bytes)
}
