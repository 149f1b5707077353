//! The closed windows of one rollup, waiting until every stage-2 task has closed them.
//!
//! Windows are evaluated once, in order of event time. What comes for a window later (one that is closed again, or old rows loaded beside live
//! ones) is counted and left alone: last year's logs must not fire alerts as if new, nor resolve what is up now. A window that is closed again before it is
//! evaluated is evaluated as corrected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, StringArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_pipeline::runtime::ProcessorError;
use serde::{Deserialize, Serialize};

use crate::frames;
use crate::rollups::RollupPlan;

/// The rows of one rollup that are not evaluated yet, and how far it is closed.
pub(super) struct Closed {
    pub(super) plan: Arc<RollupPlan>,
    /// Per stage-2 partition: the end of its last closed window.
    closed_us: Vec<Option<i64>>,
    /// End of the last window that was evaluated, or passed over because nothing could come of it.
    evaluated_us: Option<i64>,
    /// Rows by window start, then by the stage-2 partition they came from.
    windows: BTreeMap<i64, BTreeMap<usize, Vec<RecordBatch>>>,
    /// Every tenant that ever had a row evaluated: absence is evaluated for them.
    tenants: BTreeSet<String>,
    /// Rows that came for windows evaluated before, since the start of the log.
    late_rows: u64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    closed_us: Vec<Option<i64>>,
    evaluated_us: Option<i64>,
    tenants: BTreeSet<String>,
    late_rows: u64,
    /// Per batch: window start and the stage-2 partition it came from.
    batches: Vec<(i64, usize)>,
}

/// A window to evaluate.
pub(super) struct Evaluation {
    pub(super) window_start_us: i64,
    pub(super) window_end_us: i64,
    /// The rows of each tenant that has any.
    pub(super) rows: BTreeMap<String, Vec<RecordBatch>>,
}

impl Closed {
    pub(super) fn new(plan: Arc<RollupPlan>, partitions: i32) -> Self {
        let partitions = usize::try_from(partitions).unwrap_or(1);
        Self {
            plan,
            closed_us: vec![None; partitions],
            evaluated_us: None,
            windows: BTreeMap::new(),
            tenants: BTreeSet::new(),
            late_rows: 0,
        }
    }

    /// The tenants it has seen.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.iter().map(String::as_str)
    }

    /// Takes rows of one closed window.
    pub(super) fn add(
        &mut self,
        partition: usize,
        window_start_us: i64,
        batch: RecordBatch,
    ) -> Result<(), ProcessorError> {
        if self.is_evaluated(window_start_us) {
            self.late_rows += batch.num_rows() as u64;
            // Absolute, and a function of the log: replay does not count twice.
            metrics::counter!("highwater_rules_late_rows_total", "rollup" => self.plan.name().to_owned())
                .absolute(self.late_rows);
            return Ok(());
        }
        for tenant in tenant_column(&batch)?.iter().flatten() {
            if !self.tenants.contains(tenant) {
                self.tenants.insert(tenant.to_owned());
            }
        }
        self.windows.entry(window_start_us).or_default().entry(partition).or_default().push(batch);
        Ok(())
    }

    /// A stage-2 partition has closed a window again: its rows so far do not hold, others follow.
    pub(super) fn supersede(&mut self, partition: usize, window_start_us: i64) {
        if let Some(sources) = self.windows.get_mut(&window_start_us) {
            sources.remove(&partition);
            if sources.is_empty() {
                self.windows.remove(&window_start_us);
            }
        }
    }

    fn is_evaluated(&self, window_start_us: i64) -> bool {
        self.evaluated_us
            .is_some_and(|evaluated_us| window_start_us.saturating_add(self.plan.width_us()) <= evaluated_us)
    }

    /// A stage-2 partition has closed its windows up to here.
    pub(super) fn close(&mut self, partition: usize, until_us: i64) {
        if let Some(closed) = self.closed_us.get_mut(partition) {
            *closed = (*closed).max(Some(until_us));
        }
    }

    /// The end of the last window that every partition has closed. `None` is less than any time: one partition that has not reported holds back all.
    pub(super) fn closed_until_us(&self) -> Option<i64> {
        self.closed_us.iter().copied().min().flatten()
    }

    /// The next window that all partitions have closed. Without `every`, windows without rows are passed over.
    pub(super) fn next(&mut self, every: bool) -> Result<Option<Evaluation>, ProcessorError> {
        let Some(closed_us) = self.closed_until_us() else { return Ok(None) };
        let width_us = self.plan.width_us();
        let with_rows = self.windows.first_key_value().map(|(start, _)| start + width_us);
        let next = match self.evaluated_us {
            Some(evaluated_us) if every => Some(evaluated_us + self.plan.slide_us().unwrap_or(width_us)),
            // The first window ever; before it there was nothing to be absent.
            _ => with_rows,
        };
        let Some(window_end_us) = next.filter(|&end| end <= closed_us) else {
            self.evaluated_us = self.evaluated_us.max(Some(closed_us));
            return Ok(None);
        };
        self.evaluated_us = self.evaluated_us.max(Some(window_end_us));
        let window_start_us = window_end_us - width_us;
        let mut rows: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
        for batch in self.windows.remove(&window_start_us).into_iter().flat_map(BTreeMap::into_values).flatten() {
            for (tenant, part) in by_tenant(&batch)? {
                rows.entry(tenant).or_default().push(part);
            }
        }
        for batches in rows.values_mut() {
            let one = concat_batches(&self.plan.output_schema(), &*batches)
                .map_err(|e| ProcessorError::caused("rows of a closed window do not fit together", e))?;
            *batches = vec![one];
        }
        Ok(Some(Evaluation { window_start_us, window_end_us, rows }))
    }

    pub(super) fn section(&self) -> String {
        format!("closed/{}", self.plan.name())
    }

    pub(super) fn write(&self) -> Result<bytes::Bytes, ProcessorError> {
        let mut manifest = Manifest {
            closed_us: self.closed_us.clone(),
            evaluated_us: self.evaluated_us,
            tenants: self.tenants.clone(),
            late_rows: self.late_rows,
            batches: Vec::new(),
        };
        let mut batches = Vec::new();
        for (&window_us, sources) in &self.windows {
            for (&partition, parts) in sources {
                manifest.batches.extend(parts.iter().map(|_| (window_us, partition)));
                batches.extend(parts.iter().cloned());
            }
        }
        frames::encode(&manifest, &batches)
    }

    pub(super) fn restore(&mut self, body: &bytes::Bytes) -> Result<(), ProcessorError> {
        let (manifest, batches): (Manifest, Vec<RecordBatch>) = frames::decode(body)?;
        if manifest.closed_us.len() != self.closed_us.len() || manifest.batches.len() != batches.len() {
            return Err(ProcessorError::new(format!(
                "state of the closed windows of {} is incomplete",
                self.plan.name()
            )));
        }
        (self.closed_us, self.evaluated_us, self.tenants) =
            (manifest.closed_us, manifest.evaluated_us, manifest.tenants);
        self.late_rows = manifest.late_rows;
        for ((window_us, partition), batch) in manifest.batches.into_iter().zip(batches) {
            self.windows.entry(window_us).or_default().entry(partition).or_default().push(batch);
        }
        Ok(())
    }
}

/// Splits a batch by tenant, keeping the order of rows.
fn by_tenant(batch: &RecordBatch) -> Result<BTreeMap<String, RecordBatch>, ProcessorError> {
    let mut rows: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (row, tenant) in (0..).zip(tenant_column(batch)?) {
        rows.entry(tenant.unwrap_or_default()).or_default().push(row);
    }
    let split = rows.into_iter().map(|(tenant, rows)| {
        let part = take_record_batch(batch, &UInt32Array::from(rows))?;
        Ok((tenant.to_owned(), part))
    });
    let split: Result<_, ArrowError> = split.collect();
    split.map_err(|e| ProcessorError::caused("rows of a closed window cannot be split by tenant", e))
}

fn tenant_column(batch: &RecordBatch) -> Result<&StringArray, ProcessorError> {
    let column = batch.column_by_name("tenant").and_then(|c| c.as_string_opt::<i32>());
    column.ok_or_else(|| ProcessorError::new("rows of a closed window have no column tenant"))
}
