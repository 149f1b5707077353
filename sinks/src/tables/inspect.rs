//! What a table is made of, and what was done to it, for people: read from its Delta log, without a row of its files.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use deltalake_core::kernel::Action;
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{COVER_KEY, Cover, covers_from_json};
use serde::Serialize;
use serde_json::Value;

use super::delta::{ActiveFile, DeltaLog, expired_of, info_of};
use crate::SinkError;

/// The files of one tenant and day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredDay {
    /// Whose rows; `None` where empty.
    pub tenant: Option<String>,
    /// The day, `yyyy-mm-dd`; `None` where rows have no time.
    pub date: Option<String>,
    /// Files.
    pub files: u64,
    /// Rows in them, as their statistics say.
    pub rows: u64,
    /// Their size.
    pub size_bytes: u64,
}

/// A table as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredTable {
    /// The table.
    pub table: String,
    /// Its newest Delta version.
    pub version: u64,
    /// Its files by tenant and day.
    pub days: Vec<StoredDay>,
}

/// What one commit did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommitLine {
    /// The Delta version it made.
    pub version: u64,
    /// When, RFC 3339; empty where the commit does not say.
    pub time: String,
    /// What it calls itself: `STREAMING UPDATE`, `OPTIMIZE`, `RETENTION`, ...
    pub operation: String,
    /// Files added.
    pub added_files: u64,
    /// Rows in the files added.
    pub added_rows: u64,
    /// Size of the files added.
    pub added_bytes: u64,
    /// Files removed.
    pub removed_files: u64,
    /// Rows that retention took.
    pub expired_rows: u64,
    /// The part of the log it took in.
    pub covers: Vec<Cover>,
}

/// How many rows a file's statistics say it has.
fn rows_of(stats: Option<&str>) -> u64 {
    let stats: Option<Value> = stats.and_then(|text| serde_json::from_str(text).ok());
    stats.and_then(|stats| stats["numRecords"].as_u64()).unwrap_or(0)
}

/// A table as it is stored now.
///
/// # Errors
/// Where its Delta log cannot be read, or there is none.
pub async fn stored(storage: &Storage, table: &str) -> Result<StoredTable, SinkError> {
    let mut log = DeltaLog::attach(table, storage, 0).await?;
    let files = log.refresh_files(0).await?;
    let mut days: BTreeMap<(Option<String>, Option<String>), StoredDay> = BTreeMap::new();
    for ActiveFile { tenant, date, size_bytes, stats, .. } in files {
        let day = days.entry((tenant.clone(), date.clone())).or_insert_with(|| StoredDay {
            tenant,
            date,
            files: 0,
            rows: 0,
            size_bytes: 0,
        });
        day.files += 1;
        day.rows += rows_of(stats.as_deref());
        day.size_bytes += u64::try_from(size_bytes).unwrap_or(0);
    }
    Ok(StoredTable { table: table.to_string(), version: log.version(), days: days.into_values().collect() })
}

/// The newest `limit` commits of a table, newest first.
///
/// # Errors
/// As [`stored`].
pub async fn history(storage: &Storage, table: &str, limit: usize) -> Result<Vec<CommitLine>, SinkError> {
    let log = DeltaLog::attach(table, storage, 0).await?;
    let objects = log.log_objects().await?;
    let mut lines = Vec::new();
    for version in objects.commits.keys().rev().take(limit) {
        // Cleaned away since it was listed.
        let Some(actions) = log.actions(*version).await? else { continue };
        lines.push(line(table, *version, &actions)?);
    }
    Ok(lines)
}

fn line(table: &str, version: u64, actions: &[Action]) -> Result<CommitLine, SinkError> {
    let mut line = CommitLine {
        version,
        time: String::new(),
        operation: String::new(),
        added_files: 0,
        added_rows: 0,
        added_bytes: 0,
        removed_files: 0,
        expired_rows: 0,
        covers: Vec::new(),
    };
    if let Some(info) = info_of(actions) {
        let time = info.timestamp.and_then(DateTime::from_timestamp_millis);
        line.time = time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Millis, true));
        line.operation = info.operation.clone().unwrap_or_default();
        line.expired_rows = expired_of(info).iter().map(|expired| expired.rows).sum();
        if let Some(value) = info.info.get(COVER_KEY) {
            line.covers = covers_from_json(table, version, value)?;
        }
    }
    for action in actions {
        match action {
            Action::Add(add) => {
                line.added_files += 1;
                line.added_rows += rows_of(add.stats.as_deref());
                line.added_bytes += u64::try_from(add.size).unwrap_or(0);
            }
            Action::Remove(_) => line.removed_files += 1,
            _ => {}
        }
    }
    Ok(line)
}
