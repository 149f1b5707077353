//! What can go wrong in a sink.

use deltalake_core::DeltaTableError;
use highwater_pipeline::log::LogError;
use highwater_pipeline::storage::StorageError;
use highwater_pipeline::tables::TableError;

/// Why a sink failed.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The log refused or failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The storage root could not be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A table's description or a commit's cover is wrong.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Reading or writing a Delta log failed.
    #[error("table {table}: {source}")]
    Delta {
        /// The table.
        table: String,
        /// The library's reason.
        source: Box<DeltaTableError>,
    },
    /// Reading or writing a file failed.
    #[error("table {table}, {path}: {source}")]
    Object {
        /// The table.
        table: String,
        /// Path of the file, relative to the table.
        path: String,
        /// The store's reason.
        source: object_store::Error,
    },
    /// Parquet could not be written or read.
    #[error("table {table}: {source}")]
    Parquet {
        /// The table.
        table: String,
        /// The library's reason.
        source: parquet::errors::ParquetError,
    },
    /// Arrow refused an operation on a batch.
    #[error("table {table}: {source}")]
    Arrow {
        /// The table.
        table: String,
        /// Arrow's reason.
        source: arrow::error::ArrowError,
    },
    /// The table does not stand where this writer left it, and not where it meant to bring it.
    #[error(
        "table {table}: another owner of {topic}/{partition} is at work: the partition was at {expected} for this writer, and version {version} of \
         the table has it at {found}. Nothing of this commit went in. Where it goes on, look for two processes that own the same partitions"
    )]
    AnotherOwner {
        /// The table.
        table: String,
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// Where this writer had it, `nothing` where it had not begun.
        expected: String,
        /// Where the table has it.
        found: String,
        /// The Delta version looked at.
        version: u64,
    },
    /// The table is further than the log.
    #[error(
        "table {table} stands at offset {stands_at} of {topic}/{partition}, but the log ends at {high_watermark}: the log was \
         replaced or cut. Restore it, or remove the table's directory to build it anew"
    )]
    AheadOfLog {
        /// The table.
        table: String,
        /// Topic name.
        topic: String,
        /// Partition number.
        partition: i32,
        /// Where the table stands.
        stands_at: i64,
        /// Where the log ends.
        high_watermark: i64,
    },
    /// The table on storage has a column that does not fit what is to be written.
    #[error(
        "table {table}: column {column} is {in_table} in the table on storage and {wanted} in what is to be written. Only new \
         nullable columns can be added; give the rollup another name, or move the table's directory away"
    )]
    SchemaConflict {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type in the table.
        in_table: String,
        /// The type wanted.
        wanted: String,
    },
    /// Somebody raised the table's protocol.
    #[error(
        "table {table} needs Delta reader {reader} / writer {writer}; this writer speaks reader 1 / writer 2 and would damage it. \
         Undo what turned those features on"
    )]
    Protocol {
        /// The table.
        table: String,
        /// Reader version needed.
        reader: i32,
        /// Writer version needed.
        writer: i32,
    },
    /// A part of the work panicked or was cancelled.
    #[error("table {table}: a background step did not finish: {reason}")]
    Broken {
        /// The table.
        table: String,
        /// What happened.
        reason: String,
    },
    /// The writer has stopped, so it cannot do what was asked.
    #[error("table {table}: its writer has stopped: {reason}")]
    Stopped {
        /// The table.
        table: String,
        /// Why it stopped.
        reason: String,
    },
}

impl SinkError {
    /// True where the same step may succeed later: the store or the log is away, or full. False where a person has to act.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Log(e) => e.is_retryable(),
            Self::Storage(e) => e.is_retryable(),
            // The library names few causes apart; what is surely no passing fault is listed.
            Self::Delta { source, .. } => !matches!(
                source.as_ref(),
                DeltaTableError::InvalidJsonLog { .. }
                    | DeltaTableError::NotATable(_)
                    | DeltaTableError::InvalidTableLocation(_)
                    | DeltaTableError::SerializeLogJson { .. }
            ),
            Self::Object { source, .. } => {
                !matches!(source, object_store::Error::NotImplemented { .. } | object_store::Error::InvalidPath { .. })
            }
            Self::Table(_)
            | Self::Parquet { .. }
            | Self::Arrow { .. }
            | Self::AnotherOwner { .. }
            | Self::AheadOfLog { .. }
            | Self::SchemaConflict { .. }
            | Self::Protocol { .. }
            | Self::Broken { .. }
            | Self::Stopped { .. } => false,
        }
    }
}
