//! Tables, as far as writers and readers of them must agree: which tables there are, which topics feed them, where
//! their files lie, which columns they have, and how a commit says which part of the log it holds.
//!
//! A table is a consumer of topics. It is a Delta table (protocol reader 1, writer 2) of Parquet files:
//!
//! ```text
//! <storage>/tables/<name>/_delta_log/00000000000000000000.json
//! <storage>/tables/<name>/tenant=<tenant>/date=<yyyy-mm-dd>/<uuid>.parquet
//! ```
//!
//! Invariants:
//! - A table's columns are those its topic decodes to (in the types Delta has, [`stored_type`]), then `_topic` where it has several topics, then `date`: the UTC
//!   day of its time column. `tenant` and `date` are the partition columns; their values live in the Delta log, not in
//!   the files.
//! - An attribute that is promoted ([`TableSpec::promote`]) is a further column at the end, whole in each file that has it.
//! - Every commit that holds rows names, per topic partition, the offsets `[from, to)` it covers ([`Cover`], under
//!   [`COVER_KEY`] of `commitInfo`), and carries a Delta application transaction with `appId` = [`app_id`] and
//!   `version` = `to`. The covers of one partition follow each other without gap or overlap.
//! - A rollup's table holds the newest revision of each row only: the commit that takes in a marker removes the rows it supersedes ([`Superseded`]).
//! - Whatever a writer has committed it also commits, afterwards, as offset of the consumer group [`table_group`], which holds
//!   retention of the log back.
//!
//! The format is drawn in `docs/formats/tables.md`.

mod columns;
mod cover;
mod path;
mod promoted;
mod spec;
mod superseded;

#[cfg(test)]
mod tests;

pub use columns::{
    DATE_COLUMN, TENANT_COLUMN, TOPIC_COLUMN, date_of_us, date_text, stored_batch, stored_schema, stored_type,
};
pub use cover::{COMMIT_ID_KEY, COVER_KEY, Cover, covers_from_json, covers_to_json};
pub use path::{data_file_path, encode_path_value, is_data_file_path, table_path, table_url};
pub use promoted::{ATTRIBUTE_KEY, ATTRIBUTES_COLUMN, attribute_column};
pub use spec::{DEFAULT_LOG_AGE_MS, PARTITION_COLUMNS, Retention, TableSpec, built_in_tables, rollup_table};
pub use superseded::{REVISION_COLUMN, Superseded, WINDOW_START_COLUMN};

/// Why a table's description or a commit's cover could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A name that cannot be a table's.
    #[error(
        "table name {name:?} is not usable: use 1 to 200 of the letters, digits, `_`, `-` and `.`, beginning with a letter or `_`"
    )]
    BadName {
        /// The name refused.
        name: String,
    },
    /// A column the table needs is missing or has the wrong type.
    #[error("table {table}: column {column} must be {expected}, but is {found}")]
    BadColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// An attribute that cannot have a column of its own.
    #[error("attribute {attribute:?} of table {table} cannot be promoted to a column: {reason}")]
    BadPromotion {
        /// The table.
        table: String,
        /// The attribute.
        attribute: String,
        /// Why not.
        reason: String,
    },
    /// The cover in a commit is not one of ours.
    #[error("commit {version} of table {table} has no readable `{COVER_KEY}`: {reason}")]
    BadCover {
        /// The table.
        table: String,
        /// The Delta version.
        version: u64,
        /// What was wrong with it.
        reason: String,
    },
    /// Arrow refused to build a batch.
    #[error("table {table}: {source}")]
    Arrow {
        /// The table.
        table: String,
        /// Arrow's reason.
        source: arrow::error::ArrowError,
    },
}

impl TableError {
    /// Never: a table's description does not mend itself.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// The Delta application id under which a table keeps how far it has come in one partition: `<topic id>/<partition>`.
/// The id, not the name: a topic deleted and made anew starts again at offset 0.
pub fn app_id(topic_id: uuid::Uuid, partition: i32) -> String {
    format!("{topic_id}/{partition}")
}

/// The consumer group whose offsets say how far a table has come: `__highwater.table.<name>`.
pub fn table_group(name: &str) -> String {
    format!("__highwater.table.{name}")
}
