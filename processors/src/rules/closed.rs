//! The closed windows of one rollup, waiting until every stage-2 task has closed them, and those evaluated a while ago, which late rows may change.
//!
//! Windows are evaluated in order of event time. One that is closed again before it is evaluated is evaluated as corrected; one that is closed again
//! afterwards is *dirty*, and evaluated again with all that followed it, for as long as its rows are kept: a day of event time at most, and
//! [`MAX_KEPT_ROWS`]. What comes for older windows (last year's logs, loaded beside live ones) is counted and left alone: it must not fire alerts as if new, nor
//! resolve what is up now.

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

/// Longest time that evaluated windows are kept, in event time; less where the rollup's horizon is shorter.
const KEPT_US: i64 = 24 * 60 * 60 * 1_000_000;
/// Most rows of evaluated windows that are kept, and about so many windows. One with lines of a log counts as many.
const MAX_KEPT_ROWS: usize = 20_000;
const WEIGHT_OF_LINES: usize = 20;

/// Batches by the stage-2 partition they came from.
type Parts = BTreeMap<usize, Vec<RecordBatch>>;

/// The rows of one rollup that are not evaluated yet or may be again, and how far it is closed.
pub(super) struct Closed {
    pub(super) plan: Arc<RollupPlan>,
    /// Per stage-2 partition: the end of its last closed window.
    closed_us: Vec<Option<i64>>,
    /// End of the last window that was evaluated, or passed over because nothing could come of it.
    evaluated_us: Option<i64>,
    /// Rows by window start.
    windows: BTreeMap<i64, Parts>,
    /// Rows of evaluated windows, by window end.
    kept: BTreeMap<i64, Parts>,
    /// Windows that end here or before are not evaluated again.
    settled_us: i64,
    /// Ends of evaluated windows that have changed since.
    dirty: BTreeSet<i64>,
    /// Every tenant that ever had a row evaluated: absence is evaluated for them.
    tenants: BTreeSet<String>,
    /// Rows that came for windows that are settled, since the start of the log.
    late_rows: u64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    closed_us: Vec<Option<i64>>,
    evaluated_us: Option<i64>,
    tenants: BTreeSet<String>,
    late_rows: u64,
    #[serde(default)]
    settled_us: Option<i64>,
    #[serde(default)]
    dirty: BTreeSet<i64>,
    /// Ends of all windows that are kept: there are some without rows.
    #[serde(default)]
    kept: BTreeSet<i64>,
    /// Per batch: window start and the stage-2 partition it came from. Which windows are evaluated follows from `evaluated_us`.
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
            kept: BTreeMap::new(),
            settled_us: i64::MAX,
            dirty: BTreeSet::new(),
            tenants: BTreeSet::new(),
            late_rows: 0,
        }
    }

    /// The tenants it has seen.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.iter().map(String::as_str)
    }

    /// The end of the last window that all partitions have closed.
    pub(super) fn closed_us(&self) -> Option<i64> {
        // `None` is less than any time: one partition that has not reported holds back all.
        self.closed_us.iter().copied().min().flatten()
    }

    /// The end of the last window that was evaluated, or passed over because nothing could come of it.
    pub(super) fn evaluated_us(&self) -> Option<i64> {
        self.evaluated_us
    }

    /// From one window's end to the next.
    pub(super) fn slide_us(&self) -> i64 {
        self.plan.slide_us().unwrap_or(self.plan.width_us())
    }

    /// Takes rows of one closed window.
    pub(super) fn add(
        &mut self,
        partition: usize,
        window_start_us: i64,
        batch: RecordBatch,
    ) -> Result<(), ProcessorError> {
        let end_us = self.end_us(window_start_us);
        let is_evaluated = self.is_evaluated(end_us);
        if is_evaluated && end_us <= self.settled_us {
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
        let parts = if is_evaluated {
            self.dirty.insert(end_us);
            self.kept.entry(end_us).or_default()
        } else {
            self.windows.entry(window_start_us).or_default()
        };
        parts.entry(partition).or_default().push(batch);
        Ok(())
    }

    /// A stage-2 partition has closed a window again: its rows so far do not hold, others follow.
    pub(super) fn supersede(&mut self, partition: usize, window_start_us: i64) {
        let end_us = self.end_us(window_start_us);
        if self.is_evaluated(end_us) {
            if let Some(parts) = self.kept.get_mut(&end_us)
                && parts.remove(&partition).is_some()
            {
                self.dirty.insert(end_us);
            }
        } else if let Some(parts) = self.windows.get_mut(&window_start_us) {
            parts.remove(&partition);
            if parts.is_empty() {
                self.windows.remove(&window_start_us);
            }
        }
    }

    fn end_us(&self, window_start_us: i64) -> i64 {
        window_start_us.saturating_add(self.plan.width_us())
    }

    fn is_evaluated(&self, end_us: i64) -> bool {
        self.evaluated_us.is_some_and(|evaluated_us| end_us <= evaluated_us)
    }

    /// A stage-2 partition has closed its windows up to here.
    pub(super) fn close(&mut self, partition: usize, until_us: i64) {
        if let Some(closed) = self.closed_us.get_mut(partition) {
            *closed = (*closed).max(Some(until_us));
        }
    }

    /// The next window that all partitions have closed. Without `every`, windows without rows are passed over.
    pub(super) fn next(&mut self, every: bool) -> Result<Option<Evaluation>, ProcessorError> {
        let Some(closed_us) = self.closed_us() else { return Ok(None) };
        let with_rows = self.windows.first_key_value().map(|(start, _)| self.end_us(*start));
        let next = match self.evaluated_us {
            Some(evaluated_us) if every => Some(evaluated_us + self.slide_us()),
            // The first window ever; before it there was nothing to be absent.
            _ => with_rows,
        };
        let Some(window_end_us) = next.filter(|&end| end <= closed_us) else {
            self.reach(closed_us, closed_us);
            return Ok(None);
        };
        self.reach(window_end_us, window_end_us - 1);
        let parts = self.windows.remove(&(window_end_us - self.plan.width_us())).unwrap_or_default();
        self.kept.insert(window_end_us, parts);
        self.evaluation(window_end_us).map(Some)
    }

    /// Evaluated up to here; the first time, all before `first_us` is settled.
    fn reach(&mut self, evaluated_us: i64, first_us: i64) {
        if self.evaluated_us.is_none() {
            self.settled_us = first_us;
        }
        self.evaluated_us = self.evaluated_us.max(Some(evaluated_us));
    }

    /// An evaluated window, as it is now.
    pub(super) fn evaluation(&self, window_end_us: i64) -> Result<Evaluation, ProcessorError> {
        let mut rows: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
        for batch in self.kept.get(&window_end_us).into_iter().flat_map(BTreeMap::values).flatten() {
            for (tenant, part) in by_tenant(batch)? {
                rows.entry(tenant).or_default().push(part);
            }
        }
        for batches in rows.values_mut() {
            let one = concat_batches(&self.plan.output_schema(), &*batches)
                .map_err(|e| ProcessorError::caused("rows of a closed window do not fit together", e))?;
            *batches = vec![one];
        }
        Ok(Evaluation { window_start_us: window_end_us - self.plan.width_us(), window_end_us, rows })
    }

    /// The end of the first evaluated window that has changed since, and of the last one that was evaluated.
    pub(super) fn take_dirty(&mut self) -> Option<(i64, i64)> {
        let first_us = std::mem::take(&mut self.dirty).first().copied()?;
        Some((first_us, self.evaluated_us?))
    }

    /// The end of the first window behind `after_us` that is kept.
    pub(super) fn kept_after(&self, after_us: i64) -> Option<i64> {
        self.kept.range(after_us.saturating_add(1)..).next().map(|(end_us, _)| *end_us)
    }

    /// Forgets what is too old to change, or too much. Returns up to where windows are settled.
    pub(super) fn settle(&mut self) -> i64 {
        let Some(evaluated_us) = self.evaluated_us else { return i64::MIN };
        let kept_us = self.plan.horizon_us().min(KEPT_US);
        self.settled_us = self.settled_us.max(evaluated_us.saturating_sub(kept_us));
        let settled_us = self.settled_us;
        self.kept.retain(|end_us, _| *end_us > settled_us);
        let has_lines = self.plan.output_schema().column_with_name(super::over_topic::LINES).is_some();
        let weight = |parts: &Parts| {
            let rows: usize = parts.values().flatten().map(RecordBatch::num_rows).sum();
            1 + if has_lines { rows * WEIGHT_OF_LINES } else { rows }
        };
        let mut left: usize = self.kept.values().map(weight).sum();
        while left > MAX_KEPT_ROWS && self.kept.len() > 1 {
            let Some((end_us, parts)) = self.kept.pop_first() else { break };
            left -= weight(&parts);
            self.settled_us = end_us;
        }
        self.settled_us
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
            settled_us: Some(self.settled_us),
            dirty: self.dirty.clone(),
            kept: self.kept.keys().copied().collect(),
            batches: Vec::new(),
        };
        let mut batches = Vec::new();
        let width_us = self.plan.width_us();
        let kept = self.kept.iter().map(|(end_us, parts)| (end_us - width_us, parts));
        for (window_us, sources) in kept.chain(self.windows.iter().map(|(start_us, parts)| (*start_us, parts))) {
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
        // A snapshot of an earlier version kept nothing that was evaluated.
        self.settled_us = manifest.settled_us.or(self.evaluated_us).unwrap_or(i64::MAX);
        self.dirty = manifest.dirty;
        self.kept = manifest.kept.into_iter().map(|end_us| (end_us, Parts::new())).collect();
        for ((window_us, partition), batch) in manifest.batches.into_iter().zip(batches) {
            let end_us = self.end_us(window_us);
            let parts = if self.is_evaluated(end_us) {
                self.kept.entry(end_us).or_default()
            } else {
                self.windows.entry(window_us).or_default()
            };
            parts.entry(partition).or_default().push(batch);
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
