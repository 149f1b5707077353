//! From entries to records: rows are dealt to partitions, and each partition's rows become records of about 8 MiB.

use bytes::Bytes;

use super::report::{EntryError, IngestReport};
use crate::data::json::{EntrySink, Limits, read_entries};
use crate::data::signal::Signal;
use crate::data::{Refusal, Tenant, ipc, partitioner};

use super::IngestError;

/// Columns of a partition become a record once they hold this much, so that no record is much larger.
const RECORD_SIZE_BYTES: usize = 8 << 20;

/// One record to append.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EncodedRecord {
    /// Its Arrow stream.
    pub(super) value: Bytes,
    /// How many rows it holds.
    pub(super) rows: u64,
}

/// A request, read and encoded.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Records by partition, in order.
    pub(super) partitions: Vec<Vec<EncodedRecord>>,
    /// What to tell the sender.
    pub(super) report: IngestReport,
    /// How many entries were refused, by [`Refusal::code`].
    pub(super) rejected_by: Vec<(&'static str, u64)>,
}

impl Batch {
    /// Reads a body into records. `lines` says that the sender declared one entry per line.
    pub(super) fn read<S: Signal>(
        body: &[u8],
        lines: bool,
        tenant: &Tenant,
        partitions: i32,
        limits: &Limits,
    ) -> Result<Self, IngestError> {
        let mut batcher = Batcher::<S>::new(tenant, partitions);
        read_entries::<S>(body, lines, limits, &mut batcher)?;
        batcher.finish()
    }
}

struct Batcher<'t, S: Signal> {
    tenant: &'t Tenant,
    columns: Vec<S::Columns>,
    rows: Vec<u64>,
    batch: Batch,
    key: Vec<u8>,
    failed: Option<IngestError>,
}

impl<'t, S: Signal> Batcher<'t, S> {
    fn new(tenant: &'t Tenant, partitions: i32) -> Self {
        let count = usize::try_from(partitions).unwrap_or_default().max(1);
        let batch = Batch { partitions: vec![Vec::new(); count], ..Batch::default() };
        let columns = (0..count).map(|_| S::Columns::default()).collect();
        Self { tenant, columns, rows: vec![0; count], batch, key: Vec::new(), failed: None }
    }

    fn close(&mut self, partition: usize) -> Result<(), IngestError> {
        let rows = std::mem::take(&mut self.rows[partition]);
        if rows > 0 {
            let batch = S::finish(&mut self.columns[partition], self.tenant.as_str()).map_err(ipc::IpcError::Encode)?;
            self.batch.partitions[partition].push(EncodedRecord { value: ipc::encode(&batch)?, rows });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Batch, IngestError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        for partition in 0..self.columns.len() {
            self.close(partition)?;
        }
        Ok(self.batch)
    }
}

impl<'a, S: Signal> EntrySink<'a, S> for Batcher<'_, S> {
    fn row(&mut self, _index: i32, row: &S::Row<'a>) {
        self.key.clear();
        self.key.extend_from_slice(self.tenant.as_str().as_bytes());
        self.key.push(0);
        S::partition_key(row, &mut self.key);
        // At least one partition, at most an Int32 of them, and the index is not negative.
        let count = i32::try_from(self.columns.len()).unwrap_or(i32::MAX);
        let partition = usize::try_from(partitioner::partition(&self.key, count)).unwrap_or_default();
        S::append(&mut self.columns[partition], row);
        self.rows[partition] += 1;
        self.batch.report.accepted += 1;
        if S::size_bytes(&self.columns[partition]) >= RECORD_SIZE_BYTES
            && let Err(error) = self.close(partition)
        {
            self.failed.get_or_insert(error);
        }
    }

    fn refused(&mut self, index: i32, refusal: Refusal, _bytes: &'a [u8]) {
        let report = &mut self.batch.report;
        report.rejected += 1;
        if report.errors.len() < IngestReport::MAX_ERRORS {
            report.errors.push(EntryError { index, reason: refusal.to_string() });
        }
        match self.batch.rejected_by.iter_mut().find(|(code, _)| *code == refusal.code()) {
            Some((_, count)) => *count += 1,
            None => self.batch.rejected_by.push((refusal.code(), 1)),
        }
    }
}
