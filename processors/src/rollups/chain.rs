//! Rollups over a rollup: what the closings of the one are to the others.
//!
//! A closing of a window is all its rows in one partition, so the task that closes it is the first stage of whatever reads them: it accumulates the
//! rows of one closing into one partial per group and sends it on, as source `rollup.<name>/<partition>`, under the window's start. A pane of a reader
//! holds one start at most ([`Windows::over`](super::windows::Windows::over)). So a window that is closed again *replaces* a pane: the marker
//! `superseded` goes to every partition first, and takes back what this source had sent for the pane, then comes the new partial, if anything is left.
//! Nothing is ever subtracted, and a reader is at any time the answer over the newest rows of the rollup's table.
//!
//! Time is that of the topic below all of them: progress says how far this task has closed, once it has closed something that a reader waits for.

use std::sync::Arc;

use arrow::array::{Int32Array, Int64Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use highwater_pipeline::data::Control;
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::{Effects, ProcessorError};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::folding::Closing;
use super::groups::Groups;
use super::partials;
use super::plan::RollupPlan;
use super::prepared::Prepared;
use crate::frames;

/// The readers of a rollup, in the task that closes one partition of it.
pub(super) struct Chain {
    /// `rollup.<name>/<partition>`.
    source: Arc<str>,
    partition: i32,
    /// Of the rows that readers are given.
    schema: SchemaRef,
    readers: Vec<Arc<RollupPlan>>,
    /// The readers, those that read them, and so on: whoever waits for progress.
    waiting: Vec<Arc<RollupPlan>>,
    told: Told,
}

/// The last progress that was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    watermark_us: Option<i64>,
}

impl Chain {
    /// The chain of `plan`, if anybody reads it.
    pub(super) fn new(
        plan: &RollupPlan,
        partition: i32,
        readers: Vec<Arc<RollupPlan>>,
        all: &[Arc<RollupPlan>],
    ) -> Option<Self> {
        if readers.is_empty() {
            return None;
        }
        let above = |candidate: &&Arc<RollupPlan>| candidate.name != plan.name && candidate.stands_on(&plan.name);
        let waiting = all.iter().filter(above).map(Arc::clone).collect();
        let source = format!("{}/{partition}", plan.topic).into();
        Some(Self { source, partition, schema: plan.read_schema(), readers, waiting, told: Told::default() })
    }

    /// Sends what the rows of one closing come to.
    pub(super) fn emit(
        &self,
        closing: &Closing,
        topic: &Arc<str>,
        partitions: i32,
        effects: &mut Effects,
    ) -> Result<(), ProcessorError> {
        if closing.rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = &self.identified(closing)?;
        for reader in &self.readers {
            let partials = || -> datafusion::common::Result<Vec<RecordBatch>> {
                let (prepared, failed) = Prepared::tolerant(reader, rows)?;
                if failed > 0 {
                    metrics::counter!("highwater_rollup_failed_rows_total", "rollup" => reader.name.to_string())
                        .increment(failed as u64);
                    tracing::warn!(rollup = %reader.name, rows = failed, "rows are left out: an expression of the rollup fails for them");
                }
                let panes = prepared.all_panes()?.into_iter().map(|pane| {
                    let mut groups = Groups::new(reader)?;
                    groups.update(&pane.input)?;
                    groups.take_partial(reader, pane.pane_us)
                });
                panes.collect()
            };
            for partial in partials().map_err(|e| reader.cannot_fold(e))? {
                partials::send(reader, &partial, &self.source, topic, partitions, effects)?;
            }
        }
        Ok(())
    }

    /// Rows of one closing with what tells them apart. They get one offset in the topic or several in a row, so their order there is that of their places here.
    fn identified(&self, Closing { rows, part, .. }: &Closing) -> Result<RecordBatch, ProcessorError> {
        let count = rows.num_rows();
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(Int32Array::from(vec![self.partition; count])));
        columns.push(Arc::new(Int64Array::from(vec![*part; count])));
        columns.push(Arc::new(Int32Array::from_iter_values((0..).take(count))));
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|e| ProcessorError::caused(format!("rows of {} cannot be passed on", self.source), e))
    }

    /// The record that takes back what was sent for this window.
    pub(super) fn superseded(&self, window_start_us: i64, revision: i32) -> Control {
        Control::Superseded { source: self.source.to_string(), window_start_us, revision }
    }

    /// The progress to send now that the rollup has closed all it can at this watermark; nothing where it would close no window of anybody.
    pub(super) fn progress(&mut self, position: i64, watermark_us: i64) -> Option<Control> {
        let told_us = self.told.watermark_us;
        let news = |reader: &Arc<RollupPlan>| {
            told_us.is_none_or(|told_us| reader.closed_until_us(told_us) < reader.closed_until_us(watermark_us))
        };
        if !self.waiting.iter().any(news) {
            return None;
        }
        self.told.watermark_us = Some(watermark_us);
        let source = self.source.to_string();
        Some(Control::Progress { source, position, watermark_us: Some(watermark_us), idle: false, rules: None })
    }

    pub(super) fn write(&self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        writer.put(self.section(), self.hash(), frames::encode(&self.told, &[])?);
        Ok(())
    }

    /// Takes over what [`Self::write`] wrote, where the same rollups wait.
    pub(super) fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        if let Some(body) = state.get(&self.section(), self.hash()) {
            self.told = frames::decode::<Told>(body)?.0;
        }
        Ok(())
    }

    fn section(&self) -> String {
        format!("chain/{}", self.source)
    }

    fn hash(&self) -> u64 {
        let definitions: Vec<String> = self.waiting.iter().map(|r| format!("{:016x}", r.definition)).collect();
        XxHash64::oneshot(0, definitions.join("/").as_bytes())
    }
}
