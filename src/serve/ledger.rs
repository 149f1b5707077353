//! The loss ledger as a SQL table, and its upkeep.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use highwater_broker::SystemClock;
use highwater_pipeline::data::{Tenant, dead_letter, logs, metric_metadata};
use highwater_pipeline::ledger::{Ledger, LedgerRow};
use highwater_pipeline::log::{Log, TopicPartition};
use highwater_pipeline::sources::Ingest;
use highwater_sql::{Engine, View};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::workers::WorkersView;

/// The table's name.
pub(crate) const TABLE: &str = "loss_ledger";

/// Keeps the ledger of this process.
pub(crate) struct LedgerKeeper {
    doors_closed: CancellationToken,
    keeping: JoinHandle<()>,
}

impl LedgerKeeper {
    /// Opens the ledger to queries, and writes reports from here on: of the doors, if there are any, and of the partitions whose tasks run here.
    pub(crate) fn start(
        log: &Arc<dyn Log>,
        doors: Option<&Arc<Ingest>>,
        engine: Option<&Engine>,
        workers: WorkersView,
    ) -> Self {
        let doors = doors.map(|ingest| Arc::clone(ingest.doors()));
        let ledger = Arc::new(Ledger::new(Arc::clone(log), Arc::new(SystemClock), doors));
        if let Some(engine) = engine {
            engine.register_view(TABLE, Arc::new(LedgerView(Arc::clone(&ledger))));
        }
        let doors_closed = CancellationToken::new();
        let asked = doors_closed.clone();
        let keeping = tokio::spawn(async move { ledger.keep(|place| is_counted_here(&workers, place), asked).await });
        Self { doors_closed, keeping }
    }

    /// Writes the last report. The doors are closed by now.
    pub(crate) async fn stop(self) {
        self.doors_closed.cancel();
        // What a panic left unwritten is seen in the log at the next start.
        drop(self.keeping.await);
    }
}

/// Dead letters and metadata have no task of their own; they go with the first partition of `logs`.
fn is_counted_here(workers: &WorkersView, place: &TopicPartition) -> bool {
    let has_no_task = [dead_letter::TOPIC, metric_metadata::TOPIC].contains(&&*place.topic);
    let (topic, partition) = if has_no_task { (logs::TOPIC, 0) } else { (&*place.topic, place.partition) };
    workers.tasks().iter().any(|task| &*task.topic == topic && task.partition == partition)
}

/// The ledger as queries see it. It speaks of the whole installation, so only the default tenant has rows.
pub(crate) struct LedgerView(pub(crate) Arc<Ledger>);

/// The columns that count.
const COUNTS: [&str; 8] =
    ["received", "stored", "duplicate", "rejected", "dead_lettered", "in_flight", "lost", "balance"];

#[async_trait]
impl View for LedgerView {
    fn schema(&self) -> SchemaRef {
        let texts = ["source", "signal"].map(|name| Field::new(name, DataType::Utf8, false));
        let counts = COUNTS.map(|name| Field::new(name, DataType::Int64, false));
        let reasons = Field::new("rejected_by", DataType::Utf8, false);
        Arc::new(Schema::new(texts.into_iter().chain(counts).chain([reasons]).collect::<Vec<_>>()))
    }

    async fn rows(&self, tenant: &str) -> Result<RecordBatch, Box<dyn std::error::Error + Send + Sync>> {
        let rows = if tenant == Tenant::DEFAULT { self.0.rows().await? } else { Vec::new() };
        Ok(batch(self.schema(), &rows)?)
    }
}

fn batch(schema: SchemaRef, rows: &[LedgerRow]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let text =
        |of: fn(&LedgerRow) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
    let mut columns = vec![text(|row| &row.source), text(|row| &row.signal)];
    for index in 0..COUNTS.len() {
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| counts(row)[index]))));
    }
    // Reasons as JSON, as everywhere where keys are not known beforehand.
    let reasons = rows.iter().map(|row| serde_json::to_string(&row.rejected).unwrap_or_default());
    columns.push(Arc::new(StringArray::from_iter_values(reasons)));
    RecordBatch::try_new(schema, columns)
}

/// In the order of [`COUNTS`].
fn counts(row: &LedgerRow) -> [i64; COUNTS.len()] {
    let counts =
        [row.received, row.stored, row.duplicate, row.rejected_total(), row.dead_lettered, row.in_flight, row.lost];
    let [received, stored, duplicate, rejected, dead_lettered, in_flight, lost] = counts.map(u64::cast_signed);
    [received, stored, duplicate, rejected, dead_lettered, in_flight, lost, row.balance()]
}

/// The ledger as lines of text, for `highwater verify`.
pub(crate) fn text(rows: &[LedgerRow]) -> String {
    let width = rows.iter().map(|row| row.source.len()).max().unwrap_or(0).max(6);
    let mut text = format!("{:width$}  {:8}", "source", "signal");
    for name in COUNTS {
        text.push_str(&format!("  {name:>13}"));
    }
    for row in rows {
        text.push_str(&format!("\n{:width$}  {:8}", row.source, row.signal));
        for count in counts(row) {
            text.push_str(&format!("  {count:>13}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> LedgerRow {
        LedgerRow {
            source: "http".into(),
            signal: "logs".into(),
            received: 10,
            stored: 6,
            rejected: [("too_long".to_owned(), 2)].into(),
            in_flight: 1,
            ..LedgerRow::default()
        }
    }

    #[test]
    fn a_row_has_its_counts_in_order() {
        assert_eq!(counts(&row()), [10, 6, 0, 2, 0, 1, 0, 1]);
        let ledger = Ledger::new(
            Arc::new(highwater_pipeline::log::EmbeddedLog::new(Arc::new(broker()))),
            Arc::new(highwater_broker::ManualClock::new(0)),
            None,
        );
        let batch = batch(LedgerView(Arc::new(ledger)).schema(), &[row()]).unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (1, 11));
        let text = text(&[row()]);
        let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["http", "logs", "10", "6", "0", "2", "0", "1", "0", "1"]);
    }

    fn broker() -> highwater_broker::Broker {
        let (fs, clock) = (highwater_broker::SimFs::new(), highwater_broker::ManualClock::new(0));
        highwater_broker::Broker::open(highwater_broker::BrokerConfig::new("/d"), Arc::new(fs), Arc::new(clock))
            .unwrap()
    }
}
