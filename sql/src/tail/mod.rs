//! The live half of a table: rows that are in the log and not yet in the Delta table.
//!
//! [`TailReader::read`] gives the rows at some offsets of one partition, decoded. What was decoded is kept (within a budget
//! over all tables) until the table has passed it, so that a dashboard that asks every second decodes each record once.
//!
//! Invariant: a segment holds every row at its offsets, of every tenant, in offset order. Who may see which of them is decided on the
//! way out; so is which rows of a rollup a later revision has superseded, in this tail ([`TailReader::superseded`]).

mod cache;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;
use futures::{Stream, StreamExt, TryStreamExt};
use highwater_pipeline::data::{Control, Decoded, Decoder, identity};
use highwater_pipeline::log::Log;
use highwater_pipeline::tables::{Superseded, TENANT_COLUMN, TableSpec, stored_batch};
use uuid::Uuid;

pub(crate) use cache::Budget;
use cache::{Marker, Segment, TailCache};

use crate::error::SqlError;

/// How much is asked of the log at once, bytes.
const READ_BYTES: usize = 1 << 20;
/// Small batches (one record each, perhaps of one row) are joined up to about this many rows.
const BATCH_ROWS: usize = 8192;
/// How often a read below the high watermark may come back empty before that is an error.
const EMPTY_READS: usize = 50;
/// How long such a read waits.
const EMPTY_WAIT: Duration = Duration::from_millis(20);

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TailPartition {
    /// Topic name.
    pub(crate) topic: Arc<str>,
    /// Topic id: a topic made anew shares no cached rows with the old one.
    pub(crate) topic_id: Uuid,
    /// Partition number.
    pub(crate) partition: i32,
}

/// Reads the tail of one table.
pub(crate) struct TailReader {
    log: Arc<dyn Log>,
    spec: TableSpec,
    schema: SchemaRef,
    decoder: Decoder,
    cache: TailCache,
}

impl TailReader {
    pub(crate) fn new(log: Arc<dyn Log>, spec: TableSpec, budget: Arc<Budget>) -> Self {
        let decoder = Decoder::new(spec.kind.clone());
        let schema = spec.table_schema();
        Self { log, spec, schema, decoder, cache: TailCache::new(budget) }
    }

    /// The table has passed `offset`: what lies below is not needed again.
    pub(crate) fn passed(&self, partition: &TailPartition, offset: i64) {
        self.cache.evict_below(partition, offset);
    }

    /// Adds what the records at these offsets supersede.
    pub(crate) async fn superseded(
        &self,
        partition: &TailPartition,
        offsets: Range<i64>,
        superseded: &mut Superseded,
    ) -> Result<(), SqlError> {
        let mut at = offsets.start;
        while at < offsets.end {
            let segment = self.segment(partition, at).await?;
            for marker in segment.markers.iter().filter(|marker| offsets.contains(&marker.offset)) {
                superseded.add(partition.partition, marker.window_start_us, marker.offset);
            }
            at = segment.next_offset;
        }
        Ok(())
    }

    /// The rows of one tenant, or of all, at these offsets that hold, in offset order, only the columns of `projection`. The offsets must not reach past the
    /// high watermark.
    pub(crate) fn read(
        self: Arc<Self>,
        partition: TailPartition,
        offsets: Range<i64>,
        tenant: Option<Arc<str>>,
        projection: Arc<[usize]>,
        superseded: Arc<Superseded>,
    ) -> impl Stream<Item = Result<RecordBatch, SqlError>> + Send {
        let to = offsets.end;
        let segments = futures::stream::try_unfold(offsets.start, {
            let reader = Arc::clone(&self);
            move |at| {
                let (reader, partition) = (Arc::clone(&reader), partition.clone());
                async move {
                    if at >= to {
                        return Ok(None);
                    }
                    let segment = reader.segment(&partition, at).await?;
                    let next = segment.next_offset;
                    Ok(Some(((at, segment), next)))
                }
            }
        });
        segments
            .map_ok(move |(at, segment)| {
                let batches: Vec<_> = segment
                    .batches
                    .iter()
                    .map(|batch| {
                        let rows = between(batch, at..to).map_err(|e| self.broken(&e.to_string()))?;
                        let rows =
                            superseded.filter(&self.spec.name, &rows).map_err(|e| self.broken(&e.to_string()))?;
                        visible(&rows, tenant.as_deref(), &projection).map_err(|e| self.broken(&e.to_string()))
                    })
                    .filter(|rows| !matches!(rows, Ok(rows) if rows.num_rows() == 0))
                    .collect();
                futures::stream::iter(batches)
            })
            .try_flatten()
            .boxed()
    }

    /// A segment that holds `offset`, from memory or from the log.
    async fn segment(&self, partition: &TailPartition, offset: i64) -> Result<Arc<Segment>, SqlError> {
        if let Some(segment) = self.cache.get(partition, offset) {
            return Ok(segment);
        }
        let mut wait = Duration::ZERO;
        for _ in 0..EMPTY_READS {
            let fetched = self
                .log
                .read(&partition.topic, partition.partition, offset, READ_BYTES, wait)
                .await
                .map_err(|source| SqlError::Log { table: self.spec.name.clone(), source })?;
            for gap in &fetched.gaps {
                tracing::error!(
                    table = self.spec.name, topic = %partition.topic, partition = partition.partition,
                    from = gap.from, to = gap.to, "the log is damaged here: these records are missing from the query"
                );
            }
            if fetched.next_offset > offset {
                let (mut batches, mut markers) = (Vec::new(), Vec::new());
                for record in &fetched.records {
                    match self.decoder.decode(partition.partition, record) {
                        Decoded::Rows { batch, .. } => {
                            let batch = stored_batch(&self.spec, &partition.topic, &batch)
                                .map_err(|e| self.broken(&e.to_string()))?;
                            batches.push(batch);
                        }
                        Decoded::Control(Control::Superseded { window_start_us, .. }) => {
                            markers.push(Marker { offset: record.offset, window_start_us });
                        }
                        Decoded::Control(_) | Decoded::Undecodable(_) => {}
                    }
                }
                let batches = self.join(batches).map_err(|e| self.broken(&e.to_string()))?;
                let segment = Segment::new(offset, fetched.next_offset, batches, markers);
                return Ok(self.cache.insert(partition, segment, |parts| self.join(parts)));
            }
            wait = EMPTY_WAIT;
        }
        Err(self.broken(&format!(
            "{}/{} gives nothing at offset {offset}, which is below its high watermark",
            partition.topic, partition.partition
        )))
    }

    /// The same rows in batches of a useful size.
    fn join(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut joined = Vec::new();
        let mut group: Vec<RecordBatch> = Vec::new();
        let mut rows = 0;
        for batch in batches {
            if batch.num_rows() == 0 {
                continue;
            }
            if rows > 0 && rows + batch.num_rows() > BATCH_ROWS {
                joined.push(concat_batches(&self.schema, &group)?);
                group.clear();
                rows = 0;
            }
            rows += batch.num_rows();
            group.push(batch);
        }
        if rows > 0 {
            joined.push(concat_batches(&self.schema, &group)?);
        }
        Ok(joined)
    }

    fn broken(&self, message: &str) -> SqlError {
        SqlError::Tail { table: self.spec.name.clone(), message: message.to_string() }
    }
}

/// The rows at these offsets.
fn between(batch: &RecordBatch, offsets: Range<i64>) -> Result<RecordBatch, ArrowError> {
    let column = column(batch, identity::OFFSET)?.as_primitive::<Int64Type>();
    // Rows are in offset order.
    let begin = column.values().partition_point(|o| *o < offsets.start);
    let end = column.values().partition_point(|o| *o < offsets.end).max(begin);
    Ok(batch.slice(begin, end - begin))
}

/// The rows that belong to the tenant, where one is named, only the columns asked for.
fn visible(batch: &RecordBatch, tenant: Option<&str>, projection: &[usize]) -> Result<RecordBatch, ArrowError> {
    let Some(tenant) = tenant else { return batch.project(projection) };
    let own: BooleanArray =
        arrow::compute::kernels::cmp::eq(column(batch, TENANT_COLUMN)?, &StringArray::new_scalar(tenant))?;
    let rows = batch.project(projection)?;
    if own.null_count() == 0 && own.true_count() == own.len() {
        return Ok(rows);
    }
    filter_record_batch(&rows, &own)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("a decoded batch has no column {name}")))
}
