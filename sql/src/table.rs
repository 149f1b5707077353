//! A table as queries see it: stored files and live tail, cut at one place.
//!
//! ```text
//! offsets of one partition   log start          stored end            high watermark
//!                                |                   |                      |
//!                          ------+-------------------+----------------------+------ not yet durable
//!                     in Delta files at version V     read from the log
//! ```
//!
//! **The order of looking matters.** The Delta version is read first, the high watermark after it. The version fixes the stored end `e`
//! of each partition; the high watermark `h` is looked at later and so is never below `e`. The query reads the files of that version and the log at `[e, h)`:
//! no row is in both, since the files of version V hold exactly the offsets below `e`, and none between is missing, however many commits happen
//! meanwhile: a commit after V is not looked at, and its rows are still in the log. Were the watermark read first, a commit in between
//! could hold rows past it, and a query over two partitions would mix moments more than it needs to. An acknowledged row is below the high
//! watermark, so the next query sees it.
//!
//! The log keeps what the table has not committed. Should a commit and retention both pass between the two looks (`e` below the log's
//! start), the version was simply old: it is looked at again. Where it is still so, the log was forced to drop records that no table had read; the query answers
//! with what there is and says so in [`PartitionCut::lost`].

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::DeltaTableError;
use highwater_pipeline::log::Log;
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{DATE_COLUMN, Superseded, TENANT_COLUMN, TableSpec, app_id};
use serde::Serialize;

use crate::as_of::AsOf;
use crate::delta::{DeltaReader, Past, TableSnapshot, VersionAt};
use crate::error::SqlError;
use crate::tail::{Budget, TailPartition, TailReader};

/// How often a stale Delta version is looked at again before records count as lost.
const CUT_ATTEMPTS: usize = 3;

/// A table, shared by all queries.
pub(crate) struct Table {
    pub(crate) spec: TableSpec,
    /// All columns, in the order in which SQL shows them.
    pub(crate) schema: SchemaRef,
    /// The columns that lie in the files: all but the partition columns.
    pub(crate) file_schema: SchemaRef,
    pub(crate) tail: Arc<TailReader>,
    delta: DeltaReader,
    log: Arc<dyn Log>,
}

/// The place at which one query sees one table.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The stored half; `None` where there is no Delta table yet.
    pub(crate) snapshot: Option<Arc<TableSnapshot>>,
    /// The live half, a range of offsets per partition.
    pub(crate) tails: Vec<(TailPartition, Range<i64>)>,
    /// The same for people.
    pub(crate) info: TableCut,
}

/// Which part of a table a query saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableCut {
    /// The table.
    pub table: String,
    /// The version of its Delta table; `None` where there is none yet.
    pub delta_version: Option<u64>,
    /// Its partitions, by topic and number.
    pub partitions: Vec<PartitionCut>,
}

/// Which part of a partition a query saw: everything below `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionCut {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Offsets below this came from the table's files.
    pub stored_to: i64,
    /// Offsets from `stored_to` to here came from the log.
    pub to: i64,
    /// Offsets that the log dropped before the table had stored them; they are missing from the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Range<i64>>,
}

impl Table {
    pub(crate) fn new(spec: TableSpec, storage: &Storage, log: Arc<dyn Log>, budget: Arc<Budget>) -> Self {
        let schema = spec.table_schema();
        let in_files = |name: &str| name != TENANT_COLUMN && name != DATE_COLUMN;
        let file_fields: Vec<_> = schema.fields().iter().filter(|f| in_files(f.name())).map(Arc::clone).collect();
        let file_schema: SchemaRef = Arc::new(Schema::new(file_fields));
        let delta = DeltaReader::new(storage, &spec, SchemaRef::clone(&file_schema));
        let tail = Arc::new(TailReader::new(Arc::clone(&log), spec.clone(), budget));
        Self { spec, schema, file_schema, tail, delta, log }
    }

    /// Where a query that starts now sees this table, or sees it as of a moment.
    pub(crate) async fn cut(&self, as_of: Option<AsOf>) -> Result<Cut, SqlError> {
        match as_of {
            None => self.cut_now().await,
            // Rows appended since then are left out by the scan.
            Some(AsOf::Time(_)) if !self.spec.is_revised() => self.cut_now().await,
            Some(AsOf::Time(us)) => self.cut_then(us).await,
            Some(AsOf::Version(version)) => self.cut_version(version).await,
        }
    }

    async fn cut_now(&self) -> Result<Cut, SqlError> {
        let mut attempt = 1;
        loop {
            let cut = self.look().await?;
            let stale = cut.info.partitions.iter().any(|p| p.lost.is_some());
            if !stale || attempt == CUT_ATTEMPTS {
                self.settle(&cut);
                return Ok(cut);
            }
            attempt += 1;
        }
    }

    /// What the tail of a cut supersedes: windows of a rollup that were closed again behind the stored end. A file of the version may still hold their
    /// earlier rows, and so may the tail; the query shows neither.
    pub(crate) async fn superseded(&self, cut: &Cut) -> Result<Arc<Superseded>, SqlError> {
        let mut superseded = Superseded::default();
        if self.spec.is_revised() {
            for (place, offsets) in &cut.tails {
                self.tail.superseded(place, offsets.clone(), &mut superseded).await?;
            }
        }
        Ok(Arc::new(superseded))
    }

    /// The files of a Delta version, and nothing of the log.
    async fn cut_version(&self, version: u64) -> Result<Cut, SqlError> {
        let places = self.places().await?;
        let snapshot = self.snapshot_at(version, &places).await?;
        let partitions = places.into_iter().map(|place| {
            let end = snapshot.end(&app_id(place.topic_id, place.partition)).unwrap_or(0);
            PartitionCut {
                topic: place.topic.to_string(),
                partition: place.partition,
                stored_to: end,
                to: end,
                lost: None,
            }
        });
        let info = TableCut {
            table: self.spec.name.clone(),
            delta_version: Some(snapshot.version),
            partitions: partitions.collect(),
        };
        Ok(Cut { snapshot: Some(snapshot), tails: Vec::new(), info })
    }

    /// The Delta version of a moment, and the log from it up to then: what a query of that moment saw.
    async fn cut_then(&self, us: i64) -> Result<Cut, SqlError> {
        let places = self.places().await?;
        let then_ms = us.div_euclid(1000);
        let snapshot = match self.delta.version_at(then_ms).await.map_err(|e| unreadable(&self.spec, e))? {
            VersionAt::Is(version) => Some(self.snapshot_at(version, &places).await?),
            VersionAt::BeforeTheFirst => None,
            VersionAt::Forgotten { oldest } => {
                return Err(gone(&self.spec, &format!("version {oldest} is the oldest that is left, and is younger")));
            }
        };
        let failed = |source| SqlError::Log { table: self.spec.name.clone(), source };
        let (mut tails, mut partitions) = (Vec::with_capacity(places.len()), Vec::with_capacity(places.len()));
        for place in places {
            let log = self.log.offsets(&place.topic, place.partition).await.map_err(failed)?;
            let end = snapshot.as_ref().and_then(|s| s.end(&app_id(place.topic_id, place.partition)));
            let after = self.log.offset_for_time(&place.topic, place.partition, then_ms.saturating_add(1)).await;
            let from = end.unwrap_or(0);
            let to = after.map_err(failed)?.unwrap_or(log.high_watermark).max(from);
            if from < to && from < log.log_start {
                let place = format!("{}/{}", place.topic, place.partition);
                return Err(gone(
                    &self.spec,
                    &format!("the log of {place} from offset {from} on is needed, and begins at {}", log.log_start),
                ));
            }
            let topic = place.topic.to_string();
            partitions.push(PartitionCut { topic, partition: place.partition, stored_to: from, to, lost: None });
            tails.push((place, from..to));
        }
        let delta_version = snapshot.as_ref().map(|s| s.version);
        let info = TableCut { table: self.spec.name.clone(), delta_version, partitions };
        Ok(Cut { snapshot, tails, info })
    }

    async fn snapshot_at(&self, version: u64, places: &[TailPartition]) -> Result<Arc<TableSnapshot>, SqlError> {
        let app_ids: Vec<String> = places.iter().map(|p| app_id(p.topic_id, p.partition)).collect();
        match self.delta.at(version, &app_ids).await.map_err(|e| unreadable(&self.spec, e))? {
            Past::Found(snapshot) => Ok(snapshot),
            Past::NoTable => Err(gone(&self.spec, "nothing has been stored yet")),
            Past::NotYet { newest } => Err(gone(&self.spec, &format!("version {newest} is the newest"))),
            Past::Forgotten { oldest } => {
                Err(gone(&self.spec, &format!("version {oldest} is the oldest that is left")))
            }
            Past::Vacuumed { file } => Err(gone(
                &self.spec,
                &format!(
                    "files of version {version} have been merged into others or expired, and are deleted ({file})"
                ),
            )),
        }
    }

    /// The partitions of its topics. A topic that nobody has made yet is an empty one.
    async fn places(&self) -> Result<Vec<TailPartition>, SqlError> {
        let failed = |source| SqlError::Log { table: self.spec.name.clone(), source };
        let mut places = Vec::new();
        for name in &self.spec.topics {
            let Some(topic) = self.log.topic(name).await.map_err(failed)? else { continue };
            for partition in 0..topic.config.partitions {
                places.push(TailPartition { topic: Arc::clone(&topic.name), topic_id: topic.id, partition });
            }
        }
        Ok(places)
    }

    async fn look(&self) -> Result<Cut, SqlError> {
        let failed = |source| SqlError::Log { table: self.spec.name.clone(), source };
        let places = self.places().await?;
        let app_ids: Vec<String> = places.iter().map(|p| app_id(p.topic_id, p.partition)).collect();
        // The version first, the high watermarks after it: see the module's head.
        let snapshot = self.delta.latest(&app_ids).await.map_err(|e| unreadable(&self.spec, e))?;
        let mut tails = Vec::with_capacity(places.len());
        let mut partitions = Vec::with_capacity(places.len());
        for (place, app_id) in places.into_iter().zip(&app_ids) {
            let log = self.log.offsets(&place.topic, place.partition).await.map_err(failed)?;
            // A partition of which the table holds nothing begins where the log does, as the table itself will begin there.
            let stored_to = snapshot.as_ref().and_then(|s| s.end(app_id)).unwrap_or(log.log_start);
            let from = stored_to.max(log.log_start);
            let to = log.high_watermark.max(from);
            partitions.push(PartitionCut {
                topic: place.topic.to_string(),
                partition: place.partition,
                stored_to,
                to,
                lost: (stored_to < log.log_start).then_some(stored_to..log.log_start),
            });
            tails.push((place, from..to));
        }
        let delta_version = snapshot.as_ref().map(|s| s.version);
        let info = TableCut { table: self.spec.name.clone(), delta_version, partitions };
        Ok(Cut { snapshot, tails, info })
    }

    /// What follows from a cut that a query will use.
    fn settle(&self, cut: &Cut) {
        for (place, range) in &cut.tails {
            self.tail.passed(place, range.start);
        }
        for partition in &cut.info.partitions {
            if let Some(lost) = &partition.lost {
                metrics::counter!("highwater_sql_queries_over_lost_records_total", "table" => self.spec.name.clone())
                    .increment(1);
                tracing::warn!(
                    table = self.spec.name,
                    topic = partition.topic,
                    partition = partition.partition,
                    from = lost.start,
                    to = lost.end,
                    "the log dropped these records before the table had stored them: queries do not see them"
                );
            }
        }
    }
}

/// A moment that nobody can look back to.
fn gone(spec: &TableSpec, why: &str) -> SqlError {
    let message = format!(
        "table {} cannot be seen as of then: {why}; `highwater table history {}` lists its versions",
        spec.name, spec.name
    );
    SqlError::Invalid { message, at: None }
}

fn unreadable(spec: &TableSpec, source: DeltaTableError) -> SqlError {
    SqlError::Storage { table: spec.name.clone(), source: Box::new(source) }
}
