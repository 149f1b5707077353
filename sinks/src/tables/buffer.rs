//! What has been read and not yet handed to a flush.

use arrow::array::RecordBatch;
use highwater_pipeline::tables::Cover;

use super::budget::Held;

/// A piece of one partition, decoded.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The offsets it covers, in order and contiguous: more than one only where damaged ranges lie between.
    pub(super) covers: Vec<Cover>,
    /// Its rows, in log order, as the table has them.
    pub(super) batches: Vec<RecordBatch>,
    /// Bytes of the rows in memory.
    pub(super) bytes: usize,
}

/// Rows and covers of one table, from all its partitions.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    covers: Vec<Cover>,
    batches: Vec<RecordBatch>,
    rows: u64,
    bytes: usize,
    held: Vec<Held>,
}

/// A buffer's content, on its way into one commit.
#[derive(Debug)]
pub(super) struct Batch {
    /// Covers, grouped by partition, each partition's in order.
    pub(super) covers: Vec<Cover>,
    /// Rows.
    pub(super) batches: Vec<RecordBatch>,
    /// Number of rows.
    pub(super) rows: u64,
    /// The share of the memory budget; kept until the rows are gone.
    pub(super) held: Vec<Held>,
}

impl Buffer {
    pub(super) fn add(&mut self, chunk: Chunk, held: Held) {
        for cover in chunk.covers {
            self.rows += cover.rows;
            let last =
                self.covers.iter_mut().rev().find(|c| c.topic_id == cover.topic_id && c.partition == cover.partition);
            match last {
                Some(last) if last.to == cover.from && last.gap == cover.gap => {
                    last.to = cover.to;
                    last.rows += cover.rows;
                }
                _ => self.covers.push(cover),
            }
        }
        self.batches.extend(chunk.batches);
        self.bytes += chunk.bytes;
        self.held.push(held);
    }

    /// True where there is not even progress to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.covers.is_empty()
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True where it names data that the log has lost: to be committed, and so made visible, at once.
    pub(super) fn has_gap(&self) -> bool {
        self.covers.iter().any(|c| c.gap)
    }

    /// Empties it into one commit's worth.
    pub(super) fn take(&mut self) -> Batch {
        let full = std::mem::take(self);
        let mut covers = full.covers;
        covers.sort_by(|a, b| (&a.topic, a.partition, a.from).cmp(&(&b.topic, b.partition, b.from)));
        Batch { covers, batches: full.batches, rows: full.rows, held: full.held }
    }
}
