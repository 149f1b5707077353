//! Proof that the tables hold what the log held: every record in exactly one commit, every row as it was. And that the topics themselves
//! are whole: see [`verify_topics`].
//!
//! For each table under the storage root:
//! 1. its Delta history is read commit by commit: per partition the covers follow each other without hole or overlap, and each commit's
//!    application transaction says where its covers end;
//! 2. its files are read: every row lies in one of the covers, none is there twice, and each cover has as many rows as it says, less those that
//!    retention took and says it took;
//! 3. what the log still holds of each cover is decoded anew and compared with the table, value by value. In a rollup's table that is the newest
//!    revision of each window, and nothing else.
//!
//! Nothing is written and no lock is taken, so it runs beside a server as well as on a data directory alone. It holds some 250,000 rows in memory
//! at a time, whatever files they lie in: compaction merges the rows of many commits. What commits said that were cleaned away is in the summary that the
//! cleaner wrote.

mod history;
mod report;
mod revisions;
mod rows;
mod topics;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod topics_tests;

use std::sync::Arc;

use futures::TryStreamExt;
use highwater_pipeline::log::Log;
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{DATE_COLUMN, TOPIC_COLUMN, TableSpec, built_in_tables, rollup_table};
use object_store::path::Path;

pub use report::{Finding, FindingKind, PartitionReport, TableReport, VerifyReport};

pub use topics::{Guards, TopicChecks, TopicFinding, TopicPartitionReport, TopicsReport, verify_topics};

use crate::SinkError;
use history::History;

/// Verifies every table under the storage root. `rollups` describes rollup tables that are configured; others are taken as their own schema
/// describes them. `open_log` gives the log that the tables were made from, read-only if need be, or `None` where it is not at hand. It is
/// called once the tables' histories are read: a log opened earlier, beside a running server, could end before the tables do.
///
/// # Errors
/// Where storage or log cannot be read. What is wrong with the tables is in the report, not an error.
pub async fn verify(
    storage: &Storage,
    rollups: &[TableSpec],
    open_log: impl FnOnce() -> Result<Option<Arc<dyn Log>>, SinkError>,
) -> Result<VerifyReport, SinkError> {
    let mut histories = Vec::new();
    for name in table_names(storage).await? {
        let mut report = TableReport::new(&name);
        let history = History::read(&name, storage, &mut report).await?;
        histories.push((history, report));
    }
    let log = open_log()?;
    let mut verified = VerifyReport::default();
    for (history, mut report) in histories {
        match spec_of(&report.table, rollups, &history) {
            Some(spec) => rows::check(&spec, storage, log.as_deref(), &history, &mut report).await?,
            None => report.note("its columns are not those of a Highwater table: rows were not read".to_string()),
        }
        verified.tables.push(report);
    }
    Ok(verified)
}

/// The tables under a storage root, sorted: the directories of `tables/` that have a Delta log.
///
/// # Errors
/// Where storage cannot be listed.
pub async fn table_names(storage: &Storage) -> Result<Vec<String>, SinkError> {
    let tables = Path::from("tables");
    let object = |source| SinkError::Object { table: "(all)".to_string(), path: "tables".to_string(), source };
    let listed = match storage.objects().list_with_delimiter(Some(&tables)).await {
        Ok(listed) => listed,
        Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
        Err(e) if !local_directory_exists(storage) => {
            tracing::debug!(error = %e, "no tables yet");
            return Ok(Vec::new());
        }
        Err(e) => return Err(object(e)),
    };
    let mut names = Vec::new();
    for directory in listed.common_prefixes {
        let log = directory.clone().join("_delta_log");
        let has_log = storage.objects().list(Some(&log)).try_next().await.is_ok_and(|found| found.is_some());
        if let (true, Some(name)) = (has_log, directory.filename()) {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}

/// Descriptions of the tables under a storage root, for readers that have no configuration at hand: the built-in ones, written or not, and for each
/// other table found a rollup's, as its own schema describes it.
///
/// # Errors
/// Where storage or a table's history cannot be read.
pub async fn stored_tables(storage: &Storage) -> Result<Vec<TableSpec>, SinkError> {
    let mut specs = built_in_tables();
    for name in table_names(storage).await? {
        if specs.iter().all(|spec| spec.name != name) {
            let history = History::read(&name, storage, &mut TableReport::new(&name)).await?;
            specs.extend(spec_of(&name, &[], &history));
        }
    }
    Ok(specs)
}

/// A local store reports a missing directory as a failure to walk it.
fn local_directory_exists(storage: &Storage) -> bool {
    storage.url().to_file_path().map_or(true, |root| root.join("tables").exists())
}

/// The table's description; one that no configuration describes is taken for a rollup's, with the columns it has.
fn spec_of(name: &str, rollups: &[TableSpec], history: &History) -> Option<TableSpec> {
    let known = rollups.iter().cloned().chain(built_in_tables()).find(|s| s.name == name);
    known.or_else(|| {
        let fields: Vec<_> = history
            .schema
            .fields()
            .iter()
            .filter(|f| ![DATE_COLUMN, TOPIC_COLUMN].contains(&f.name().as_str()))
            .map(Arc::clone)
            .collect();
        rollup_table(name, Arc::new(arrow::datatypes::Schema::new(fields))).ok()
    })
}
