//! The rows of a table, against its covers and against the log.
//!
//! Rows of many commits lie in one file once it was compacted, so rows are not looked up by commit but by offset: the covers are taken some at a time,
//! as many as hold [`BAND_ROWS`] rows, and of each file that may hold rows of theirs those rows are read. What a file holds beyond all covers is
//! found at the end, by counting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::error::ArrowError;
use futures::TryStreamExt;
use highwater_pipeline::data::{Decoded, Decoder, identity};
use highwater_pipeline::log::{Log, LogError, TopicInfo};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{
    Cover, DATE_COLUMN, Superseded, TENANT_COLUMN, TOPIC_COLUMN, TableSpec, date_text, stored_batch, table_path,
};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, RowFilter};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::history::{Covered, History};
use super::report::{FindingKind, TableReport};
use super::revisions::{self, Revisions};
use crate::SinkError;
use crate::tables::delta::{ActiveFile, Expired};
use crate::tables::read::{FileColumns, open_file, stream};

const FETCH_SIZE_BYTES: usize = 4 << 20;
/// How many differing rows of one cover are named.
const NAMED_ROWS: usize = 3;
/// Rows looked at together, more or less: what is in memory at a time.
const BAND_ROWS: u64 = 256 << 10;

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
    let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(storage.objects()), table_path(&spec.name)));
    let files = Files { spec, store, files: history.files.iter().map(File::new).collect() };
    let (pieces, shared) = pieces(history);
    for topic in &shared {
        report.note(format!("{topic}: it was made anew, and its rows lie at the same offsets as those of the one before: they were counted together"));
    }
    let mut check =
        Check { spec, files, report, revisions: Revisions::default(), found: vec![0; history.covers.len()] };
    for band in bands(&pieces) {
        let rows = check.files.read(band).await?;
        check.count(history, &rows, band)?;
        let Some(log) = log else { continue };
        for piece in band {
            let Covered { version, cover } = &history.covers[piece.cover];
            if cover.gap || shared.contains(&cover.topic) {
                continue;
            }
            let part = Cover { from: piece.from, to: piece.to, ..cover.clone() };
            compare(spec, log, (*version, &part), &superseded, &history.expired, &rows, check.report).await?;
        }
    }
    check.finish(history, &shared).await
}

/// A part of a cover.
#[derive(Debug, Clone)]
struct Piece {
    /// Which cover, of the history's.
    cover: usize,
    topic: String,
    partition: i32,
    from: i64,
    to: i64,
    /// About how many rows it has.
    rows: u64,
}

/// A topic of some name by its id, and the offsets it has been at.
type Incarnation = (Uuid, i64, i64);

/// The covers in pieces of at most [`BAND_ROWS`] rows, by their number. And the topics of which several were at work at the same offsets.
fn pieces(history: &History) -> (Vec<Piece>, BTreeSet<String>) {
    let mut pieces = Vec::new();
    let mut shared = BTreeSet::new();
    // Of each topic of a name, the offsets it has been at.
    let mut taken: BTreeMap<(&str, i32), Vec<Incarnation>> = BTreeMap::new();
    for (i, Covered { cover, .. }) in history.covers.iter().enumerate() {
        let topics = taken.entry((&cover.topic, cover.partition)).or_default();
        if topics.iter().any(|(id, from, to)| *id != cover.topic_id && *from < cover.to && cover.from < *to) {
            shared.insert(cover.topic.clone());
        }
        match topics.iter_mut().find(|(id, _, _)| *id == cover.topic_id) {
            Some((_, from, to)) => (*from, *to) = ((*from).min(cover.from), (*to).max(cover.to)),
            None => topics.push((cover.topic_id, cover.from, cover.to)),
        }
        let parts =
            i64::try_from(cover.rows.div_ceil(BAND_ROWS)).unwrap_or(i64::MAX).clamp(1, (cover.to - cover.from).max(1));
        let width = (cover.to - cover.from + parts - 1) / parts.max(1);
        for part in 0..parts {
            let from = cover.from + part * width;
            let to = cover.to.min(from + width);
            if from < to {
                let (topic, partition) = (cover.topic.clone(), cover.partition);
                let rows = cover.rows / u64::try_from(parts).unwrap_or(1);
                pieces.push(Piece { cover: i, topic, partition, from, to, rows });
            }
        }
    }
    (pieces, shared)
}

/// Neighbouring pieces that are looked at together.
fn bands(pieces: &[Piece]) -> Vec<&[Piece]> {
    let mut bands = Vec::new();
    let (mut first, mut rows) = (0, 0);
    for (i, piece) in pieces.iter().enumerate() {
        if i > first && rows + piece.rows > BAND_ROWS {
            bands.push(&pieces[first..i]);
            (first, rows) = (i, 0);
        }
        rows += piece.rows;
    }
    if first < pieces.len() {
        bands.push(&pieces[first..]);
    }
    bands
}

/// A data file, and what was found of it.
struct File<'a> {
    file: &'a ActiveFile,
    partitions: std::ops::RangeInclusive<i64>,
    offsets: std::ops::RangeInclusive<i64>,
    /// Rows that lie in a cover.
    covered_rows: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stats {
    num_records: Option<u64>,
    min_values: Map<String, Value>,
    max_values: Map<String, Value>,
}

fn stats(file: &ActiveFile) -> Stats {
    file.stats.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

impl<'a> File<'a> {
    fn new(file: &'a ActiveFile) -> Self {
        let stats = stats(file);
        let range = |column: &str| {
            let bound = |values: &Map<String, Value>| values.get(column).and_then(Value::as_i64);
            bound(&stats.min_values).unwrap_or(i64::MIN)..=bound(&stats.max_values).unwrap_or(i64::MAX)
        };
        Self { file, partitions: range(identity::PARTITION), offsets: range(identity::OFFSET), covered_rows: 0 }
    }

    fn may_hold(&self, piece: &Piece) -> bool {
        self.partitions.contains(&i64::from(piece.partition))
            && *self.offsets.start() < piece.to
            && piece.from <= *self.offsets.end()
    }
}

struct Files<'a> {
    spec: &'a TableSpec,
    store: Arc<dyn ObjectStore>,
    files: Vec<File<'a>>,
}

impl Files<'_> {
    /// The rows of these pieces.
    async fn read(&mut self, band: &[Piece]) -> Result<Rows, SinkError> {
        let columns = FileColumns::of(self.spec);
        let first = self.spec.topics.first().cloned().unwrap_or_default();
        let mut batches = Vec::new();
        for file in self.files.iter_mut().filter(|file| band.iter().any(|piece| file.may_hold(piece))) {
            let builder = open_file(&self.spec.name, &self.store, file.file).await?;
            let names = [TOPIC_COLUMN, identity::PARTITION, identity::OFFSET];
            let mask = ProjectionMask::columns(builder.parquet_schema(), names);
            let wanted: Vec<Piece> = band.iter().filter(|piece| file.may_hold(piece)).cloned().collect();
            let unnamed = first.clone();
            let filter = ArrowPredicateFn::new(mask, move |rows| Ok(in_pieces(&rows, &wanted, &unnamed)));
            let builder = builder.with_row_filter(RowFilter::new(vec![Box::new(filter)]));
            let mut rows = stream(&self.spec.name, &columns, file.file, builder)?;
            while let Some(batch) = rows.try_next().await? {
                file.covered_rows += batch.num_rows() as u64;
                batches.push(
                    with_topic(batch, &first)
                        .map_err(|source| SinkError::Arrow { table: self.spec.name.clone(), source })?,
                );
            }
        }
        let arrow = |source| SinkError::Arrow { table: self.spec.name.clone(), source };
        let all = concat_batches(&columns.schema, &batches).map_err(arrow)?;
        Ok(Rows { batch: sort(&all).map_err(arrow)? })
    }
}

/// Rows with a topic each: those that name none were written when the table had its first topic only.
fn with_topic(rows: RecordBatch, first: &str) -> Result<RecordBatch, ArrowError> {
    let Ok(index) = rows.schema().index_of(TOPIC_COLUMN) else { return Ok(rows) };
    let mut columns = rows.columns().to_vec();
    if let Some(topics) = columns[index].as_string_opt::<i32>().filter(|topics| topics.null_count() > 0) {
        let named: StringArray = topics.iter().map(|topic| Some(topic.unwrap_or(first))).collect();
        columns[index] = Arc::new(named);
    }
    RecordBatch::try_new(rows.schema(), columns)
}

/// Which rows lie in one of the pieces; those that name no topic are of the `first` of the table.
fn in_pieces(rows: &RecordBatch, pieces: &[Piece], first: &str) -> BooleanArray {
    let partitions = rows.column_by_name(identity::PARTITION).and_then(|c| c.as_primitive_opt::<Int32Type>());
    let offsets = rows.column_by_name(identity::OFFSET).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let topics = rows.column_by_name(TOPIC_COLUMN).and_then(|c| c.as_string_opt::<i32>());
    let (Some(partitions), Some(offsets)) = (partitions, offsets) else {
        return BooleanArray::from(vec![false; rows.num_rows()]);
    };
    let holds = |i: usize| {
        let (partition, offset) = (partitions.value(i), offsets.value(i));
        let topic = topics.filter(|topics| topics.is_valid(i)).map_or(first, |topics| topics.value(i));
        pieces.iter().any(|piece| {
            piece.partition == partition && (piece.from..piece.to).contains(&offset) && topic == piece.topic
        })
    };
    (0..rows.num_rows()).map(|i| Some(holds(i))).collect()
}

struct Check<'a> {
    spec: &'a TableSpec,
    files: Files<'a>,
    report: &'a mut TableReport,
    revisions: Revisions,
    /// Rows found of each cover.
    found: Vec<u64>,
}

impl Check<'_> {
    /// No row is there twice; how many each cover has.
    fn count(&mut self, history: &History, table: &Rows, band: &[Piece]) -> Result<(), SinkError> {
        if self.spec.is_revised() {
            self.revisions.count(self.spec, &table.batch)?;
        }
        for piece in band {
            let Covered { version, cover } = &history.covers[piece.cover];
            let range = table.range(&piece.topic, piece.partition, piece.from, piece.to);
            self.found[piece.cover] += range.len() as u64;
            for i in range.skip(1) {
                if table.identity(i) == table.identity(i - 1) {
                    let at = Cover { from: table.offset(i), to: table.offset(i) + 1, ..cover.clone() };
                    let message = format!("row {} is there twice", table.row(i));
                    self.report.find(FindingKind::Duplicate, *version, &at, message);
                }
            }
        }
        Ok(())
    }

    async fn finish(mut self, history: &History, shared: &BTreeSet<String>) -> Result<(), SinkError> {
        self.revisions.check(self.report);
        if !self.spec.is_revised() {
            self.check_counts(history, shared);
        }
        for File { file, covered_rows, .. } in &self.files.files {
            let footer = open_file(&self.spec.name, &self.files.store, file).await?;
            let rows = u64::try_from(footer.metadata().file_metadata().num_rows()).unwrap_or(0);
            self.report.files += 1;
            self.report.rows += rows;
            let stated = stats(file).num_records;
            if stated != Some(rows) {
                let stated = stated.map_or_else(|| "no number of".to_string(), |n| n.to_string());
                let message = format!("file {} holds {rows} rows, but its statistics say {stated} rows", file.path);
                self.report.find_in_commit(FindingKind::Mismatch, self.report.version, message);
            }
            if *covered_rows < rows {
                let outside = rows - covered_rows;
                if history.is_whole {
                    let message = format!("{outside} rows of file {} lie outside what the commits cover", file.path);
                    self.report.find_in_commit(FindingKind::Mismatch, self.report.version, message);
                } else {
                    self.report.note(format!("{outside} rows of file {} came with commits that are gone", file.path));
                }
            }
        }
        Ok(())
    }

    /// Each cover has as many rows as it says, less those that retention took: which of the covers those were of is known by their offsets, how many
    /// they were in all by the commits that took them.
    fn check_counts(&mut self, history: &History, shared: &BTreeSet<String>) {
        let mut missing: BTreeMap<(&str, i32), u64> = BTreeMap::new();
        let by_right = |cover: &Cover| {
            history.expired.iter().any(|e| {
                e.topic == cover.topic && e.partition == cover.partition && e.from < cover.to && cover.from < e.to
            })
        };
        for (Covered { version, cover }, found) in history.covers.iter().zip(&self.found) {
            if shared.contains(&cover.topic) {
                continue;
            }
            let message = format!("the commit says {} rows, the table holds {found}", cover.rows);
            if *found > cover.rows || (*found < cover.rows && !by_right(cover)) {
                self.report.find(FindingKind::Mismatch, *version, cover, message);
            } else {
                *missing.entry((&cover.topic, cover.partition)).or_default() += cover.rows - found;
            }
        }
        if !history.is_whole {
            return;
        }
        for ((topic, partition), missing) in missing {
            let of_partition = || history.expired.iter().filter(|e| e.topic == topic && e.partition == partition);
            let taken: u64 = of_partition().map(|e| e.rows).sum();
            if taken != missing {
                let cover = history.covers.iter().find(|c| c.cover.topic == topic && c.cover.partition == partition);
                let Some(Covered { cover, .. }) = cover else { continue };
                let from = of_partition().map(|e| e.from).min().unwrap_or(cover.from);
                let to = of_partition().map(|e| e.to).max().unwrap_or(cover.to);
                let message = format!("{missing} rows are not there any more, of which retention took {taken}");
                let at = Cover { from, to, ..cover.clone() };
                self.report.find(FindingKind::Mismatch, self.report.version, &at, message);
            }
        }
    }
}

/// Rows of a table, sorted by topic, partition, offset and row.
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

    fn identity(&self, i: usize) -> (&str, i32, i64, i32) {
        (self.topic(i), self.partition(i), self.offset(i), self.row(i))
    }

    fn filter(&self, kept: &BooleanArray) -> Result<Self, ArrowError> {
        Ok(Self { batch: filter_record_batch(&self.batch, kept)? })
    }

    /// Those whose records have these offsets.
    fn at(&self, offsets: &BTreeSet<i64>) -> Result<Self, ArrowError> {
        self.filter(&(0..self.len()).map(|i| Some(offsets.contains(&self.offset(i)))).collect())
    }

    /// Those that are in `stored` or that retention has not taken.
    fn without_expired(&self, stored: &Self, expired: &[&Expired]) -> Result<Self, ArrowError> {
        if expired.is_empty() {
            return Ok(Self { batch: self.batch.clone() });
        }
        let tenants = self.batch.column_by_name(TENANT_COLUMN).and_then(|c| c.as_string_opt::<i32>());
        let dates =
            self.batch.column_by_name(DATE_COLUMN).and_then(|c| c.as_primitive_opt::<arrow::datatypes::Date32Type>());
        let taken = |i: usize| {
            let tenant = tenants.filter(|t| t.is_valid(i)).map(|t| t.value(i)).filter(|t| !t.is_empty());
            let date = dates.filter(|d| d.is_valid(i)).map(|d| date_text(d.value(i)));
            expired.iter().any(|e| {
                let same = |of: &crate::tables::delta::Origin| of.tenant.as_deref() == tenant && of.date == date;
                (e.from..e.to).contains(&self.offset(i)) && e.of.as_ref().is_none_or(same)
            })
        };
        let mut next = 0;
        let kept = (0..self.len()).map(|i| {
            while next < stored.len() && (stored.offset(next), stored.row(next)) < (self.offset(i), self.row(i)) {
                next += 1;
            }
            let is_there =
                next < stored.len() && (stored.offset(next), stored.row(next)) == (self.offset(i), self.row(i));
            Some(is_there || !taken(i))
        });
        let kept: BooleanArray = kept.collect();
        self.filter(&kept)
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

fn sort(all: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let keys: Vec<SortColumn> = [TOPIC_COLUMN, identity::PARTITION, identity::OFFSET, identity::ROW]
        .iter()
        .filter_map(|name| all.column_by_name(name))
        .map(|values| SortColumn { values: Arc::clone(values), options: None })
        .collect();
    let order: UInt32Array = lexsort_to_indices(&keys, None)?;
    take_record_batch(all, &order)
}

/// What the log still holds of a cover, decoded anew and without what does not hold any more, against the table.
async fn compare(
    spec: &TableSpec,
    log: &dyn Log,
    (version, cover): (u64, &Cover),
    superseded: &Superseded,
    expired: &[Expired],
    table: &Rows,
    report: &mut TableReport,
) -> Result<(), SinkError> {
    let arrow = |source| SinkError::Arrow { table: spec.name.clone(), source };
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
        stored = stored.at(&offsets).map_err(arrow)?;
    }
    let of_partition = |e: &&Expired| e.topic == cover.topic && e.partition == cover.partition;
    let expired: Vec<&Expired> = expired.iter().filter(of_partition).collect();
    let fresh = fresh.without_expired(&stored, &expired).map_err(arrow)?;
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
