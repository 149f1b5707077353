//! From entries to records: rows are dealt to partitions, and each partition's rows become records of about 8 MiB.

use arrow::array::{AsArray, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use super::IngestError;
use super::report::{EntryError, IngestReport};
use crate::access::SeriesGate;
use crate::data::json::{EntrySink, Limits, read_entries};
use crate::data::signal::{Columnar, Signal};
use crate::data::{Refusal, Tenant, ipc, partitioner};

/// Columns of a partition become a record once they hold this much, so that no record is much larger.
pub(super) const RECORD_SIZE_BYTES: usize = 8 << 20;
/// Rows repeat what their sender wrote once (labels, a resource). This many times the largest body is what they may come to: in columns, and,
/// with [`MAX_ENCODED`], as records. A few records are always allowed.
const MAX_EXPANSION: usize = 16;
const MAX_ENCODED: usize = 2;
const MIN_LIMIT_BYTES: usize = 4 * RECORD_SIZE_BYTES;

/// The column that samples have, and nothing else.
const SERIES_ID: &str = "series_id";

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
    /// Bytes of all records.
    pub(super) encoded_size_bytes: usize,
}

/// Deals the rows of one request to partitions.
pub(super) struct Dealer<'t, S: Columnar> {
    limits: Limits,
    tenant: &'t Tenant,
    columns: Vec<S::Columns>,
    rows: Vec<u64>,
    batch: Batch,
    key: Vec<u8>,
    /// Bytes of columns that have become records.
    closed_size_bytes: usize,
    max_body_size_bytes: usize,
    failed: Option<IngestError>,
    /// Tells which series of the tenant may have samples, where not all may.
    gate: Option<SeriesGate>,
}

impl<'t, S: Columnar> Dealer<'t, S> {
    /// For rows of this tenant, out of a body of at most so many bytes.
    pub(super) fn new(tenant: &'t Tenant, partitions: i32, limits: Limits, max_body_size_bytes: usize) -> Self {
        let count = usize::try_from(partitions).unwrap_or_default().max(1);
        let batch = Batch { partitions: vec![Vec::new(); count], ..Batch::default() };
        let columns = (0..count).map(|_| S::Columns::default()).collect();
        Self {
            limits,
            tenant,
            columns,
            rows: vec![0; count],
            batch,
            key: Vec::new(),
            closed_size_bytes: 0,
            max_body_size_bytes,
            failed: None,
            gate: None,
        }
    }

    /// Leaves samples out that this does not admit.
    pub(super) fn with_gate(mut self, gate: Option<SeriesGate>) -> Self {
        self.gate = gate;
        self
    }

    /// What one entry may be at most.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// The partition of rows with this topic key, which `write` appends behind the tenant and a NUL.
    pub(super) fn partition(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        self.key.clear();
        self.key.extend_from_slice(self.tenant.as_str().as_bytes());
        self.key.push(0);
        write(&mut self.key);
        // At least one partition, at most an Int32 of them, and the index is not negative.
        let count = i32::try_from(self.columns.len()).unwrap_or(i32::MAX);
        usize::try_from(partitioner::partition(&self.key, count)).unwrap_or_default()
    }

    /// Adds one row to a partition. Where that fails, [`Self::finish`] says why; [`Self::is_failed`] tells early.
    pub(super) fn add(&mut self, partition: usize, append: impl FnOnce(&mut S::Columns)) {
        if self.failed.is_some() {
            return;
        }
        append(&mut self.columns[partition]);
        self.rows[partition] += 1;
        self.batch.report.accepted += 1;
        if S::size_bytes(&self.columns[partition]) >= RECORD_SIZE_BYTES
            && let Err(error) = self.close(partition)
        {
            self.failed = Some(error);
        }
    }

    /// True once nothing more is taken.
    pub(super) fn is_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Says that `rows` rows of an entry were refused.
    pub(super) fn refuse(&mut self, index: i32, refusal: &Refusal, rows: u64) {
        let report = &mut self.batch.report;
        if report.errors.len() < IngestReport::MAX_ERRORS {
            report.errors.push(EntryError { index, reason: refusal.to_string() });
        }
        self.leave_out(refusal.code(), rows);
    }

    /// Counts rows that are refused for a reason that needs no word to the sender beyond their number.
    pub(super) fn leave_out(&mut self, code: &'static str, rows: u64) {
        self.batch.report.rejected += rows;
        match self.batch.rejected_by.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += rows,
            None => self.batch.rejected_by.push((code, rows)),
        }
    }

    /// The records, or why there are none.
    pub(super) fn finish(mut self) -> Result<Batch, IngestError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        for partition in 0..self.columns.len() {
            self.close(partition)?;
        }
        Ok(self.batch)
    }

    fn close(&mut self, partition: usize) -> Result<(), IngestError> {
        let rows = std::mem::take(&mut self.rows[partition]);
        if rows > 0 {
            self.closed_size_bytes += S::size_bytes(&self.columns[partition]);
            let batch = S::finish(&mut self.columns[partition], self.tenant.as_str()).map_err(ipc::IpcError::Encode)?;
            let batch = self.admitted(batch)?;
            let rows = batch.num_rows() as u64;
            if rows == 0 {
                return Ok(());
            }
            let value = ipc::encode(&batch)?;
            self.batch.encoded_size_bytes += value.len();
            self.batch.partitions[partition].push(EncodedRecord { value, rows });
            let limit_bytes = |times| self.max_body_size_bytes.saturating_mul(times).max(MIN_LIMIT_BYTES);
            if self.closed_size_bytes > limit_bytes(MAX_EXPANSION)
                || self.batch.encoded_size_bytes > limit_bytes(MAX_ENCODED)
            {
                return Err(IngestError::Expanded { limit_bytes: limit_bytes(MAX_EXPANSION) });
            }
        }
        Ok(())
    }
}

impl<S: Columnar> Dealer<'_, S> {
    /// The rows without samples of series that are too many for their tenant.
    fn admitted(&mut self, batch: RecordBatch) -> Result<RecordBatch, IngestError> {
        let Some(gate) = &self.gate else { return Ok(batch) };
        let Some(ids) = batch.column_by_name(SERIES_ID) else { return Ok(batch) };
        let ids = ids.as_primitive::<Int64Type>().values();
        let mask = BooleanArray::from(BooleanBuffer::collect_bool(ids.len(), |row| gate.admit(ids[row])));
        let refused = (mask.len() - mask.true_count()) as u64;
        gate.asked(refused);
        if refused == 0 {
            return Ok(batch);
        }
        let refusal = Refusal::TooManySeries { limit: gate.limit() };
        self.batch.report.accepted -= refused;
        self.batch.report.series_refused += refused;
        // Which entries they were is not known any more; that there were some is said once.
        if self.batch.report.series_refused == refused {
            self.batch.report.errors.push(EntryError { index: EntryError::SEVERAL, reason: refusal.to_string() });
        }
        self.leave_out(refusal.code(), refused);
        Ok(filter_record_batch(&batch, &mask).map_err(ipc::IpcError::Encode)?)
    }
}

/// Reads a JSON body. `lines` says that the sender declared one entry per line.
pub(super) fn read_json<S: Signal>(body: &[u8], lines: bool, dealer: &mut Dealer<'_, S>) -> Result<(), IngestError> {
    let limits = dealer.limits();
    Ok(read_entries::<S>(body, lines, &limits, dealer)?)
}

impl<'a, S: Signal> EntrySink<'a, S> for Dealer<'_, S> {
    fn row(&mut self, _index: i32, row: &S::Row<'a>) {
        let partition = self.partition(|key| S::partition_key(row, key));
        self.add(partition, |columns| S::append(columns, row));
    }

    fn refused(&mut self, index: i32, refusal: Refusal, _bytes: &'a [u8]) {
        self.refuse(index, &refusal, 1);
    }
}
