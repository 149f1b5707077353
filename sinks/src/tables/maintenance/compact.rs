//! One merge, from the files it reads to its commit.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use parquet::file::metadata::ParquetMetaData;

use super::Maintainer;
use super::merge::{Input, Output, Pace, discard, merge};
use super::plan::Group;
use crate::SinkError;
use crate::tables::delta::{ActiveFile, Rewrite, RewriteAttempt, WrittenFile};
use crate::tables::encode::sorting;
use crate::tables::read::{FileBuilder, FileColumns, open_file, stream};
use crate::tables::sort::Sorted;

/// The operation of a commit that merges files.
pub(crate) const COMPACTION: &str = "OPTIMIZE";
/// Rows of a batch that is read, at most.
const BATCH_ROWS: usize = 8_192;
/// A file whose rows are in another order is sorted in memory where it is no larger, decoded.
const MAX_SORTED_IN_MEMORY_BYTES: i64 = 256 << 20;
/// Rows copied at a time where a file is sorted in memory.
const COPIED_ROWS: usize = 1_024;

/// What came of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Merged {
    /// Committed at this version.
    Committed { version: u64, files: Vec<WrittenFile> },
    /// Another commit has taken one of its files meanwhile: nothing was changed.
    Overtaken,
    /// Its files are left as they are: too few of them can be merged.
    Unfit,
}

impl Maintainer {
    /// Merges the files of a group and commits, unless one of them is replaced meanwhile. `delta` knows a version at which all of them are there.
    pub(super) async fn merge_group(&mut self, group: Group, columns: &FileColumns) -> Result<Merged, SinkError> {
        // Another process may sweep files that wait for their commit for longer than twice this.
        let until_ms = self.clock.now_ms().saturating_add(self.config.rewrite_age_ms());
        let size_bytes: u64 = group.iter().map(|facts| facts.size_bytes).sum();
        let files: Vec<ActiveFile> = group.into_iter().map(|facts| facts.file).collect();
        let (inputs, merged) = self.inputs(&files, columns).await?;
        if merged.len() < 2 {
            return Ok(Merged::Unfit);
        }
        let output = Output {
            spec: &self.spec,
            config: &self.config,
            columns,
            store: Arc::clone(&self.files),
            tenant: merged[0].tenant.clone(),
            date: merged[0].date.clone(),
            file_size_bytes: self.sizes().max_bytes,
            piece_rows: inputs.batch_rows,
        };
        let pace = Pace { upkeep: self.upkeep.clone(), size_bytes, rows: inputs.rows, paid_bytes: 0 };
        let written = merge(inputs.streams, &output, pace).await?;
        if written.iter().map(|file| file.rows).sum::<u64>() != inputs.rows {
            discard(self.files.as_ref(), &self.spec.name, &written).await;
            let reason = format!("merging {} rows gave another number of them", inputs.rows);
            return Err(SinkError::Broken { table: self.spec.name.clone(), reason });
        }
        self.commit_merge(merged, written, until_ms).await
    }

    async fn commit_merge(
        &mut self,
        merged: Vec<ActiveFile>,
        written: Vec<WrittenFile>,
        until_ms: i64,
    ) -> Result<Merged, SinkError> {
        let rewrite = Rewrite::new(COMPACTION, false).remove(merged).add(written.clone());
        match self.commit(&rewrite, until_ms).await? {
            RewriteAttempt::Done(version) => Ok(Merged::Committed { version, files: written }),
            RewriteAttempt::Void { path } => {
                tracing::debug!(table = %self.spec.name, path, "a file was replaced while it was being compacted; its merge is dropped");
                discard(self.files.as_ref(), &self.spec.name, &written).await;
                Ok(Merged::Overtaken)
            }
            RewriteAttempt::Again { reason, .. } => {
                // It may be in, for all we know: its files stay until they are swept.
                let reason = format!("a merge could not be committed: {reason}");
                Err(SinkError::Broken { table: self.spec.name.clone(), reason })
            }
        }
    }

    /// The files' rows in order, and which of the files they are of: one that is neither sorted nor small is left out.
    async fn inputs(
        &self,
        files: &[ActiveFile],
        columns: &FileColumns,
    ) -> Result<(Inputs, Vec<ActiveFile>), SinkError> {
        let mut opened: Vec<(FileBuilder, &ActiveFile)> = Vec::with_capacity(files.len());
        let (mut rows, mut decoded_bytes) = (0_i64, 0_i64);
        for file in files {
            let builder = open_file(&self.spec.name, &self.files, file).await?;
            let size_bytes = decoded_size(builder.metadata());
            if !self.is_sorted(builder.metadata()) && size_bytes > MAX_SORTED_IN_MEMORY_BYTES {
                tracing::debug!(table = %self.spec.name, path = %file.path, "in another order and too large to sort: not compacted");
                continue;
            }
            rows += builder.metadata().file_metadata().num_rows();
            decoded_bytes += size_bytes;
            opened.push((builder, file));
        }
        let row_bytes = usize::try_from(decoded_bytes / rows.max(1)).unwrap_or(usize::MAX).max(1);
        // Half for the batches that wait, half for the piece made of them.
        let batch_rows = self.config.compaction_memory_bytes / 2 / row_bytes / opened.len().max(1);
        let batch_rows = batch_rows.clamp(1, BATCH_ROWS);
        let mut streams: Vec<Input> = Vec::with_capacity(opened.len());
        let mut merged = Vec::with_capacity(opened.len());
        for (builder, file) in opened {
            let is_sorted = self.is_sorted(builder.metadata());
            let rows = stream(&self.spec.name, columns, file, builder.with_batch_size(batch_rows))?;
            streams.push(if is_sorted { rows } else { self.sorted(rows).await? });
            merged.push(file.clone());
        }
        let piece_rows = self.config.compaction_memory_bytes / 2 / row_bytes;
        let rows = u64::try_from(rows).unwrap_or(0);
        Ok((Inputs { streams, rows, batch_rows: piece_rows.clamp(1, BATCH_ROWS) }, merged))
    }

    /// Whether a file says that its rows are in the order the table has now.
    fn is_sorted(&self, footer: &ParquetMetaData) -> bool {
        let descriptor = footer.file_metadata().schema_descr();
        let in_order = sorting(&self.spec.sort_columns, |name| {
            descriptor.columns().iter().position(|leaf| leaf.path().parts() == [name])
        });
        let Some(in_order) = in_order else { return false };
        footer.row_groups().iter().all(|group| {
            // Further columns behind those we need do no harm.
            group.sorting_columns().is_some_and(|columns| columns.starts_with(&in_order))
        })
    }

    /// The same rows in the table's order, all in memory.
    async fn sorted(&self, rows: Input) -> Result<Input, SinkError> {
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        let table = self.spec.name.clone();
        let arrow = move |source| SinkError::Arrow { table: table.clone(), source };
        let sorted = Sorted::of_one_file(&self.spec, batches).map_err(&arrow)?;
        let mut copies = Vec::new();
        for group in &sorted.groups {
            for places in group.places.chunks(COPIED_ROWS) {
                copies.push(sorted.copy(places).map_err(&arrow)?);
            }
        }
        Ok(futures::stream::iter(copies.into_iter().map(Ok)).boxed())
    }
}

struct Inputs {
    streams: Vec<Input>,
    rows: u64,
    /// Rows of the pieces that are written.
    batch_rows: usize,
}

/// Bytes of a file's columns before they were compressed.
fn decoded_size(footer: &ParquetMetaData) -> i64 {
    footer.row_groups().iter().map(|group| group.total_byte_size()).sum()
}
