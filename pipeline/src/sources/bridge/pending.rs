//! Rows on their way to records: those of many foreign records share one record of ours, because a foreign topic mostly has one
//! row to a record, and an Arrow stream of one row is mostly frame.
//!
//! What keeps that exactly-once: a record of ours carries the mark of the last foreign record with rows in it, and the log keeps
//! the highest mark per output partition. A run that follows asks for those marks first and leaves out what is at or below
//! them row by row, so it does not matter that it cuts its records elsewhere. The rows of one foreign record are never cut in two,
//! unless they alone are too large for a record; then they are cut by themselves, always in the same places.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;

use super::BridgeError;
use crate::data::{content_type, ipc};
use crate::ledger::Origin;
use crate::log::{EffectMark, Record};
use crate::runtime::Effect;

/// About the largest record, before compression.
const RECORD_SIZE_BYTES: usize = 8 << 20;

/// Rows of one run that are not sent yet, and what is in the log already.
#[derive(Debug)]
pub(super) struct Pending {
    topic: Arc<str>,
    origin: Origin,
    /// By output partition, the highest mark that the log had when this run began.
    sent: BTreeMap<i32, EffectMark>,
    waiting: BTreeMap<i32, Waiting>,
    effects: Vec<Effect>,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: Vec<RecordBatch>,
    size_bytes: usize,
    position: i64,
}

impl Pending {
    pub(super) fn new(topic: &'static str, origin: Origin, sent: BTreeMap<i32, EffectMark>) -> Self {
        Self { topic: Arc::from(topic), origin, sent, waiting: BTreeMap::new(), effects: Vec::new() }
    }

    /// Adds the rows that the foreign record at `position` has for a partition.
    pub(super) fn add(&mut self, partition: i32, position: i64, batch: RecordBatch) -> Result<(), BridgeError> {
        let size_bytes = size_bytes(&batch);
        if size_bytes > RECORD_SIZE_BYTES {
            self.flush_partition(partition)?;
            let chunks = size_bytes.div_ceil(RECORD_SIZE_BYTES);
            let rows = batch.num_rows().div_ceil(chunks).max(1);
            for (index, from) in (0..).zip((0..batch.num_rows()).step_by(rows)) {
                let chunk = batch.slice(from, rows.min(batch.num_rows() - from));
                self.effect(partition, EffectMark { position, index }, &chunk)?;
            }
            return Ok(());
        }
        let mark = EffectMark { position, index: 0 };
        if self.is_sent(partition, mark) || batch.num_rows() == 0 {
            return Ok(());
        }
        let waiting = self.waiting.entry(partition).or_default();
        if waiting.size_bytes + size_bytes > RECORD_SIZE_BYTES {
            self.flush_partition(partition)?;
        }
        let waiting = self.waiting.entry(partition).or_default();
        waiting.batches.push(batch);
        waiting.size_bytes += size_bytes;
        waiting.position = position;
        Ok(())
    }

    /// Everything added so far, as effects in the order of each partition.
    pub(super) fn take(&mut self) -> Result<Vec<Effect>, BridgeError> {
        for partition in self.waiting.keys().copied().collect::<Vec<_>>() {
            self.flush_partition(partition)?;
        }
        Ok(std::mem::take(&mut self.effects))
    }

    fn flush_partition(&mut self, partition: i32) -> Result<(), BridgeError> {
        let Some(Waiting { batches, position, .. }) = self.waiting.remove(&partition) else { return Ok(()) };
        let batch = match &batches[..] {
            [] => return Ok(()),
            [batch] => batch.clone(),
            [first, ..] => concat_batches(first.schema_ref(), &batches).map_err(BridgeError::Arrow)?,
        };
        self.effect(partition, EffectMark { position, index: 0 }, &batch)
    }

    fn effect(&mut self, partition: i32, mark: EffectMark, batch: &RecordBatch) -> Result<(), BridgeError> {
        if self.is_sent(partition, mark) {
            return Ok(());
        }
        let record = Record {
            value: Some(ipc::encode(batch).map_err(BridgeError::Encode)?),
            headers: vec![
                content_type::header(content_type::ARROW),
                self.origin.header(&self.topic, batch.num_rows() as u64),
            ],
            ..Record::default()
        };
        self.effects.push(Effect { mark, topic: Arc::clone(&self.topic), partition, record });
        Ok(())
    }

    fn is_sent(&self, partition: i32, mark: EffectMark) -> bool {
        self.sent.get(&partition).is_some_and(|sent| mark <= *sent)
    }
}

/// The bytes that the rows take, and not those that their buffers may have beside them: the same rows are always cut alike.
fn size_bytes(batch: &RecordBatch) -> usize {
    // Where Arrow cannot tell, the rows count for nothing and go with others.
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}
