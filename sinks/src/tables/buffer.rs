//! What has been read and not yet handed to a flush.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use highwater_pipeline::log::TopicPartition;
use highwater_pipeline::tables::{Cover, Superseded};

use super::budget::Held;

/// A piece of one partition, decoded.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// The offsets it covers, in order and contiguous: more than one only where damaged ranges lie between.
    pub(super) covers: Vec<Cover>,
    /// Its rows, in log order, as the table has them.
    pub(super) batches: Vec<RecordBatch>,
    /// The markers among its records.
    pub(super) superseded: Superseded,
    /// Bytes of the rows in memory.
    pub(super) bytes: usize,
}

/// Rows and covers of one table, by partition: each can be dropped without the others.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    parts: BTreeMap<TopicPartition, Part>,
}

#[derive(Debug, Default)]
struct Part {
    covers: Vec<Cover>,
    batches: Vec<RecordBatch>,
    superseded: Superseded,
    rows: u64,
    bytes: usize,
    held: Vec<Held>,
}

/// A buffer's content, on its way into one commit.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Covers, grouped by partition, each partition's in order.
    pub(super) covers: Vec<Cover>,
    /// Rows: partition after partition, each in log order.
    pub(super) batches: Vec<RecordBatch>,
    /// What does not hold any more, of these rows and of those in the table.
    pub(super) superseded: Superseded,
    /// Number of rows.
    pub(super) rows: u64,
    /// The share of the memory budget; kept until the rows are gone.
    pub(super) held: Vec<Held>,
}

impl Buffer {
    pub(super) fn add(&mut self, key: &TopicPartition, chunk: Chunk, held: Held) {
        let part = self.parts.entry(key.clone()).or_default();
        for cover in chunk.covers {
            part.rows += cover.rows;
            match part.covers.last_mut() {
                Some(last) if last.to == cover.from && last.gap == cover.gap => {
                    last.to = cover.to;
                    last.rows += cover.rows;
                }
                _ => part.covers.push(cover),
            }
        }
        part.batches.extend(chunk.batches);
        part.superseded.extend(&chunk.superseded);
        part.bytes += chunk.bytes;
        part.held.push(held);
    }

    /// Forgets what was read of a partition.
    pub(super) fn drop_partition(&mut self, key: &TopicPartition) {
        self.parts.remove(key);
    }

    /// True where there is something of this partition.
    pub(super) fn has(&self, key: &TopicPartition) -> bool {
        self.parts.contains_key(key)
    }

    /// The partitions of which there is something.
    pub(super) fn keys(&self) -> impl Iterator<Item = &TopicPartition> {
        self.parts.keys()
    }

    /// True where there is not even progress to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn rows(&self) -> u64 {
        self.parts.values().map(|p| p.rows).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.values().map(|p| p.bytes).sum()
    }

    /// True where it names data that the log has lost: to be committed, and so made visible, at once.
    pub(super) fn has_gap(&self) -> bool {
        self.parts.values().any(|p| p.covers.iter().any(|c| c.gap))
    }

    /// Empties it into one commit's worth.
    pub(super) fn take(&mut self) -> Batch {
        let mut batch = Batch::default();
        for part in std::mem::take(&mut self.parts).into_values() {
            batch.covers.extend(part.covers);
            batch.batches.extend(part.batches);
            batch.superseded.extend(&part.superseded);
            batch.rows += part.rows;
            batch.held.extend(part.held);
        }
        batch
    }
}
