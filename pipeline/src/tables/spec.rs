//! What a table is made of.

use arrow::datatypes::SchemaRef;

use super::columns::stored_schema;
use super::promoted::with_columns;
use super::superseded::{REVISION_COLUMN, WINDOW_START_COLUMN};
use super::{TableError, path};
use crate::data::{RowKind, alerts, dead_letter, logs, metric_metadata, metrics, spans};

/// The columns by which a table's files are partitioned, in order.
pub const PARTITION_COLUMNS: [&str; 2] = ["tenant", "date"];

/// What a table keeps of each tenant's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Rows go once the later of their event's day and their append is this long ago; `None`: never for their age.
    pub age_ms: Option<u64>,
    /// The oldest files go where all of them come to more; `None`: however large.
    pub size_bytes: Option<u64>,
}

/// How long logs are kept where nothing else is said, milliseconds.
pub const DEFAULT_LOG_AGE_MS: u64 = 31 * 24 * 60 * 60 * 1000;

/// A table: where its rows come from and how they lie in its files.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Name, as SQL and the directory have it.
    pub name: String,
    /// The topics it consumes.
    pub topics: Vec<String>,
    /// How records of those topics become rows.
    pub kind: RowKind,
    /// The column whose UTC day is `date`.
    pub time_column: String,
    /// The columns by which rows are sorted inside a file, ascending, NULLs first.
    pub sort_columns: Vec<String>,
    /// What is kept where the settings of tables say nothing about it.
    pub retention: Retention,
    /// Attributes that have columns of their own, which bear their names ([`Self::promote`]).
    pub promoted: Vec<String>,
}

impl TableSpec {
    /// The columns a record of its topics decodes to.
    pub fn row_schema(&self) -> SchemaRef {
        match &self.kind {
            RowKind::Logs => logs::schema(),
            RowKind::Metrics => metrics::schema(),
            RowKind::Spans => spans::schema(),
            RowKind::Alerts => alerts::schema(),
            RowKind::DeadLetter => dead_letter::schema(),
            RowKind::Arrow(schema) => SchemaRef::clone(schema),
        }
    }

    /// The table's columns: [`Self::row_schema`], `_topic` where it has several topics, `date`, promoted attributes.
    pub fn table_schema(&self) -> SchemaRef {
        with_columns(stored_schema(&self.row_schema(), self.topics.len() > 1), &self.promoted)
    }

    /// True where later revisions of a row replace earlier ones, as in a rollup's table.
    pub fn is_revised(&self) -> bool {
        matches!(&self.kind, RowKind::Arrow(schema) if schema.column_with_name(REVISION_COLUMN).is_some())
    }

    /// The consumer group of its progress.
    pub fn group(&self) -> String {
        super::table_group(&self.name)
    }
}

/// The tables every Highwater has: `logs`, `metrics`, `spans`, `metric_metadata`, `alerts`, `dead_letter`.
pub fn built_in_tables() -> Vec<TableSpec> {
    vec![
        TableSpec {
            retention: Retention { age_ms: Some(DEFAULT_LOG_AGE_MS), size_bytes: None },
            ..table("logs", "logs", RowKind::Logs, "timestamp", &["service", "timestamp"])
        },
        TableSpec {
            topics: vec![metrics::TOPIC.to_string(), metrics::RECORDED_TOPIC.to_string()],
            ..table("metrics", metrics::TOPIC, RowKind::Metrics, "timestamp", &["name", "series_id", "timestamp"])
        },
        table("spans", "spans", RowKind::Spans, "timestamp", &["service", "timestamp"]),
        table(
            metric_metadata::TABLE,
            metric_metadata::TOPIC,
            RowKind::Arrow(metric_metadata::schema()),
            "timestamp",
            &["name", "timestamp"],
        ),
        table("alerts", "alerts", RowKind::Alerts, "timestamp", &["timestamp"]),
        table("dead_letter", "dead-letter", RowKind::DeadLetter, "timestamp", &["topic", "timestamp"]),
    ]
}

/// The table of a rollup: fed by topic `rollup.<name>`, dated by `window_start`. `schema` is the full table schema
/// as its decoder gives it, identity columns included.
///
/// # Errors
/// Where the name cannot be a directory, a topic and a SQL table at once, or is a built-in table's.
pub fn rollup_table(name: &str, schema: SchemaRef) -> Result<TableSpec, TableError> {
    path::check_name(name)?;
    if built_in_tables().iter().any(|t| t.name == name) {
        return Err(TableError::BadName { name: name.to_string() });
    }
    let spec =
        table(name, &format!("rollup.{name}"), RowKind::Arrow(schema), WINDOW_START_COLUMN, &[WINDOW_START_COLUMN]);
    super::columns::check_time_column(name, &spec.table_schema(), &spec.time_column)?;
    Ok(spec)
}

fn table(name: &str, topic: &str, kind: RowKind, time_column: &str, sort_columns: &[&str]) -> TableSpec {
    TableSpec {
        name: name.to_string(),
        topics: vec![topic.to_string()],
        kind,
        time_column: time_column.to_string(),
        sort_columns: sort_columns.iter().map(|c| (*c).to_string()).collect(),
        retention: Retention::default(),
        promoted: Vec::new(),
    }
}
