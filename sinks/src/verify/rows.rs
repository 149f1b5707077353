//! The rows of each commit, against its covers and against the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::error::ArrowError;
use highwater_pipeline::data::{Decoded, Decoder, identity};
use highwater_pipeline::log::{Log, LogError, TopicInfo};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{Cover, Superseded, TOPIC_COLUMN, TableSpec, stored_batch, table_path};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::history::{Commit, History};
use super::report::{FindingKind, TableReport};
use super::revisions::{self, Revisions};
use crate::SinkError;
use crate::tables::delta::ActiveFile;
use crate::tables::read::read_file;

const FETCH_SIZE_BYTES: usize = 4 << 20;
/// How many differing rows of one cover are named.
const NAMED_ROWS: usize = 3;

/// Steps 2 and 3 of [`super`].
pub(super) async fn check(
    spec: &TableSpec,
    storage: &Storage,
    log: Option<&dyn Log>,
    history: &History,
    report: &mut TableReport,
) -> Result<(), SinkError> {
    if log.is_none() {
        report.note("no log at hand: rows were counted, not compared".to_string());
    }
    let superseded = match log {
        Some(log) if spec.is_revised() => revisions::markers(spec, log, history).await?,
        _ => Superseded::default(),
    };
    let mut revisions = Revisions::default();
    for commit in &history.commits {
        if commit.lost_files > 0 {
            let (version, lost) = (commit.version, commit.lost_files);
            report.note(format!("version {version}: {lost} of its files were replaced since; its rows were not read"));
            continue;
        }
        let table = read_commit(spec, storage, commit, report).await?;
        check_counts(spec, &table, commit, report);
        if spec.is_revised() {
            revisions.count(spec, &table.batch)?;
        }
        let Some(log) = log else { continue };
        for cover in commit.covers.iter().filter(|c| !c.gap) {
            compare(spec, log, (commit.version, cover), &superseded, &table, report).await?;
        }
    }
    revisions.check(report);
    Ok(())
}

/// The rows of a commit, sorted by topic, partition, offset and row.
struct Rows {
    batch: RecordBatch,
}

impl Rows {
    fn len(&self) -> usize {
        self.batch.num_rows()
    }

    fn partition(&self, i: usize) -> i32 {
        self.batch.column_by_name(identity::PARTITION).map_or(-1, |c| c.as_primitive::<Int32Type>().value(i))
    }

    fn offset(&self, i: usize) -> i64 {
        self.batch.column_by_name(identity::OFFSET).map_or(-1, |c| c.as_primitive::<Int64Type>().value(i))
    }

    fn row(&self, i: usize) -> i32 {
        self.batch.column_by_name(identity::ROW).map_or(-1, |c| c.as_primitive::<Int32Type>().value(i))
    }

    fn topic(&self, i: usize) -> &str {
        self.batch.column_by_name(TOPIC_COLUMN).map_or("", |c| c.as_string::<i32>().value(i))
    }

    /// Those whose records have these offsets.
    fn at(&self, offsets: &BTreeSet<i64>) -> Result<Self, ArrowError> {
        let kept: BooleanArray = (0..self.len()).map(|i| Some(offsets.contains(&self.offset(i)))).collect();
        Ok(Self { batch: filter_record_batch(&self.batch, &kept)? })
    }

    /// The indexes of the rows of `topic`/`partition` at `from..to`.
    fn range(&self, topic: &str, partition: i32, from: i64, to: i64) -> std::ops::Range<usize> {
        // In a table of one topic the rows do not name it.
        let topic = if self.batch.column_by_name(TOPIC_COLUMN).is_some() { topic } else { "" };
        let first = |offset: i64| {
            let (mut low, mut high) = (0, self.len());
            while low < high {
                let middle = low.midpoint(high);
                if (self.topic(middle), self.partition(middle), self.offset(middle)) < (topic, partition, offset) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        first(from)..first(to)
    }
}

async fn read_commit(
    spec: &TableSpec,
    storage: &Storage,
    commit: &Commit,
    report: &mut TableReport,
) -> Result<Rows, SinkError> {
    let schema = spec.table_schema();
    let mut batches = Vec::new();
    for file in &commit.files {
        let read = read(spec, storage, file).await?;
        let rows: usize = read.iter().map(RecordBatch::num_rows).sum();
        report.files += 1;
        report.rows += rows as u64;
        let stats: Option<serde_json::Value> = file.stats.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let stated = stats.and_then(|stats| stats["numRecords"].as_i64());
        if stated != i64::try_from(rows).ok() {
            let stated = stated.map_or_else(|| "no number of".to_string(), |n| n.to_string());
            let message = format!("file {} holds {rows} rows, but its statistics say {stated} rows", file.path);
            report.find_in_commit(FindingKind::Mismatch, commit.version, message);
        }
        batches.extend(read);
    }
    let arrow = |source| SinkError::Arrow { table: spec.name.clone(), source };
    let all = concat_batches(&schema, &batches).map_err(arrow)?;
    Ok(Rows { batch: sort(&all).map_err(arrow)? })
}

fn sort(all: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let keys: Vec<SortColumn> = [TOPIC_COLUMN, identity::PARTITION, identity::OFFSET, identity::ROW]
        .iter()
        .filter_map(|name| all.column_by_name(name))
        .map(|values| SortColumn { values: Arc::clone(values), options: None })
        .collect();
    let order: UInt32Array = lexsort_to_indices(&keys, None)?;
    take_record_batch(all, &order)
}

/// A file's rows with all columns of the table.
async fn read(spec: &TableSpec, storage: &Storage, file: &ActiveFile) -> Result<Vec<RecordBatch>, SinkError> {
    let object = |source| SinkError::Object { table: spec.name.clone(), path: file.path.clone(), source };
    let mut path = table_path(&spec.name);
    path.extend(Path::parse(&file.path).map_err(|e| object(e.into()))?.parts());
    let bytes = storage.objects().get(&path).await.map_err(object)?.bytes().await.map_err(object)?;
    read_file(spec, file.tenant.as_deref(), file.date.as_deref(), bytes)
}

/// Every row lies in a cover, none is there twice, each cover has as many rows as it says; fewer where later revisions have replaced some.
fn check_counts(spec: &TableSpec, table: &Rows, commit: &Commit, report: &mut TableReport) {
    let mut counted = 0;
    for cover in &commit.covers {
        let range = table.range(&cover.topic, cover.partition, cover.from, cover.to);
        counted += range.len();
        let rows = range.len() as u64;
        if rows > cover.rows || rows < cover.rows && !spec.is_revised() {
            let message = format!("the commit says {} rows, its files hold {}", cover.rows, range.len());
            report.find(FindingKind::Mismatch, commit.version, cover, message);
        }
        for i in range.skip(1) {
            let same = (table.topic(i), table.partition(i), table.offset(i), table.row(i))
                == (table.topic(i - 1), table.partition(i - 1), table.offset(i - 1), table.row(i - 1));
            if same {
                let at = Cover { from: table.offset(i), to: table.offset(i) + 1, ..cover.clone() };
                report.find(
                    FindingKind::Duplicate,
                    commit.version,
                    &at,
                    format!("row {} is there twice", table.row(i)),
                );
            }
        }
    }
    if counted < table.len() {
        let message = format!("{} rows lie outside what the commit covers", table.len() - counted);
        report.find_in_commit(FindingKind::Mismatch, commit.version, message);
    }
}

/// What the log still holds of a cover, decoded anew and without what does not hold any more, against the table.
async fn compare(
    spec: &TableSpec,
    log: &dyn Log,
    (version, cover): (u64, &Cover),
    superseded: &Superseded,
    table: &Rows,
    report: &mut TableReport,
) -> Result<(), SinkError> {
    let Some(topic) = log.topic(&cover.topic).await?.filter(|t| t.id == cover.topic_id) else {
        report.note(format!(
            "topic {} ({}) is not in the log any more: its rows were not compared",
            cover.topic, cover.topic_id
        ));
        return Ok(());
    };
    let Some(Held { from, offsets, rows }) = read_log(spec, log, &topic, cover, report).await? else { return Ok(()) };
    let fresh = Rows { batch: superseded.filter(&spec.name, &rows.batch)? };
    let stored = table.range(&cover.topic, cover.partition, from, cover.to);
    let mut stored = Rows { batch: table.batch.slice(stored.start, stored.len()) };
    if topic.config.cleanup.compacts() {
        // Of the records of a key the log keeps the newest, the table all.
        stored = stored.at(&offsets).map_err(|source| SinkError::Arrow { table: spec.name.clone(), source })?;
    }
    report.partition(cover).compared_rows += stored.len() as u64;
    if stored.batch.columns() == fresh.batch.columns() {
        return Ok(());
    }
    if stored.len() != fresh.len() {
        let at = Cover { from, ..cover.clone() };
        let message = format!("the table has {} rows, the log {}", stored.len(), fresh.len());
        report.find(FindingKind::Mismatch, version, &at, message);
    }
    let differing = (0..stored.len().min(fresh.len()))
        .filter(|&i| stored.batch.slice(i, 1).columns() != fresh.batch.slice(i, 1).columns());
    for i in differing.take(NAMED_ROWS) {
        let at = Cover { from: fresh.offset(i), to: fresh.offset(i) + 1, ..cover.clone() };
        let names = differing_columns(spec, &stored.batch, &fresh.batch, i);
        report.find(
            FindingKind::Mismatch,
            version,
            &at,
            format!("row {} differs from the log in {names}", fresh.row(i)),
        );
    }
    Ok(())
}

fn differing_columns(spec: &TableSpec, stored: &RecordBatch, fresh: &RecordBatch, row: usize) -> String {
    let schema = spec.table_schema();
    let names: Vec<&str> = schema
        .fields()
        .iter()
        .zip(stored.columns().iter().zip(fresh.columns()))
        .filter(|(_, (a, b))| a.slice(row, 1).as_ref() != b.slice(row, 1).as_ref())
        .map(|(field, _)| field.name().as_str())
        .collect();
    names.join(", ")
}

/// What the log still holds of a cover.
struct Held {
    /// From here on.
    from: i64,
    /// The offsets that have a record, where the topic is compacted.
    offsets: BTreeSet<i64>,
    rows: Rows,
}

/// The rows of the records of a cover that the log still holds; `None` where it holds none.
async fn read_log(
    spec: &TableSpec,
    log: &dyn Log,
    topic: &TopicInfo,
    cover: &Cover,
    report: &mut TableReport,
) -> Result<Option<Held>, SinkError> {
    let arrow = |source| SinkError::Arrow { table: spec.name.clone(), source };
    let decoder = Decoder::new(spec.kind.clone());
    let mut from = cover.from.max(log.offsets(&topic.name, cover.partition).await?.log_start);
    let mut next = from;
    let (mut batches, mut offsets): (Vec<RecordBatch>, _) = (Vec::new(), BTreeSet::new());
    while next < cover.to {
        let fetched = match log.read(&topic.name, cover.partition, next, FETCH_SIZE_BYTES, Duration::ZERO).await {
            Ok(fetched) => fetched,
            // Retention beside us: what was read so far is compared with nothing.
            Err(LogError::OffsetOutOfRange { log_start, .. }) if log_start > next => {
                from = log_start;
                next = log_start;
                batches.clear();
                offsets.clear();
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        if fetched.next_offset <= next {
            let missing = Cover { from: next, ..cover.clone() };
            report.find(
                FindingKind::Mismatch,
                report.version,
                &missing,
                "the table covers records the log does not have",
            );
            break;
        }
        next = fetched.next_offset;
        for record in fetched.records.iter().filter(|r| r.offset < cover.to) {
            if topic.config.cleanup.compacts() {
                offsets.insert(record.offset);
            }
            if let Decoded::Rows { batch, .. } = decoder.decode(cover.partition, record)
                && batch.num_rows() > 0
            {
                batches.push(stored_batch(spec, &topic.name, &batch)?);
            }
        }
    }
    if from >= cover.to {
        return Ok(None);
    }
    let all = concat_batches(&spec.table_schema(), &batches).map_err(arrow)?;
    Ok(Some(Held { from, offsets, rows: Rows { batch: sort(&all).map_err(arrow)? } }))
}
