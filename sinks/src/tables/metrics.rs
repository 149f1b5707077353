//! The numbers a table writer shows. Every name carries the label `table`.

use std::time::Duration;

pub(super) fn committed(table: &str, rows: u64, file_bytes: u64, files: usize, took: Duration, unix_ms: i64) {
    let label = table.to_string();
    metrics::counter!("highwater_table_rows_total", "table" => label.clone()).increment(rows);
    metrics::counter!("highwater_table_bytes_total", "table" => label.clone()).increment(file_bytes);
    metrics::counter!("highwater_table_files_total", "table" => label.clone()).increment(files as u64);
    metrics::counter!("highwater_table_commits_total", "table" => label.clone()).increment(1);
    metrics::histogram!("highwater_table_commit_duration_seconds", "table" => label.clone()).record(took.as_secs_f64());
    metrics::gauge!("highwater_table_last_commit_timestamp_seconds", "table" => label).set(unix_ms as f64 / 1000.0);
}

pub(super) fn stands_at(table: &str, topic: &str, partition: i32, offset: i64) {
    metrics::gauge!("highwater_table_committed_offset", "table" => table.to_string(), "topic" => topic.to_string(), "partition" => partition.to_string())
        .set(offset as f64);
}

pub(super) fn lag(table: &str, records: i64) {
    metrics::gauge!("highwater_table_lag_records", "table" => table.to_string()).set(records as f64);
}

pub(super) fn buffered(table: &str, bytes: usize) {
    metrics::gauge!("highwater_table_buffered_bytes", "table" => table.to_string()).set(bytes as f64);
}

pub(super) fn failed(table: &str, step: &'static str) {
    metrics::counter!("highwater_table_errors_total", "table" => table.to_string(), "step" => step).increment(1);
}

pub(super) fn conflict(table: &str) {
    metrics::counter!("highwater_table_conflicts_total", "table" => table.to_string()).increment(1);
}

pub(super) fn displaced(table: &str) {
    metrics::counter!("highwater_table_displaced_total", "table" => table.to_string()).increment(1);
}

pub(super) fn partitions(table: &str, owned: usize) {
    metrics::gauge!("highwater_table_partitions", "table" => table.to_string()).set(owned as f64);
}

pub(super) fn lost(table: &str, from: i64, to: i64) {
    metrics::counter!("highwater_table_lost_records_total", "table" => table.to_string())
        .increment(u64::try_from(to.saturating_sub(from)).unwrap_or(0));
}

pub(super) fn swept(table: &str, files: u64) {
    metrics::counter!("highwater_table_swept_files_total", "table" => table.to_string()).increment(files);
}

pub(super) fn vacuumed(table: &str, files: u64) {
    metrics::counter!("highwater_table_vacuumed_files_total", "table" => table.to_string()).increment(files);
}

pub(super) fn compacted(table: &str, merged: u64, files: u64, rows: u64, merged_bytes: u64) {
    let label = table.to_string();
    metrics::counter!("highwater_table_compactions_total", "table" => label.clone()).increment(1);
    metrics::counter!("highwater_table_compaction_read_files_total", "table" => label.clone()).increment(merged);
    metrics::counter!("highwater_table_compaction_written_files_total", "table" => label.clone()).increment(files);
    metrics::counter!("highwater_table_compaction_rows_total", "table" => label.clone()).increment(rows);
    metrics::counter!("highwater_table_compaction_read_bytes_total", "table" => label).increment(merged_bytes);
}

pub(super) fn overtaken(table: &str) {
    metrics::counter!("highwater_table_compactions_overtaken_total", "table" => table.to_string()).increment(1);
}

pub(super) fn expired(table: &str, files: u64, rows: u64) {
    let label = table.to_string();
    metrics::counter!("highwater_table_expired_files_total", "table" => label.clone()).increment(files);
    metrics::counter!("highwater_table_expired_rows_total", "table" => label).increment(rows);
}

pub(super) fn cleaned(table: &str, commits: u64) {
    metrics::counter!("highwater_table_cleaned_commits_total", "table" => table.to_string()).increment(commits);
}

pub(super) fn up(table: &str, up: bool) {
    metrics::gauge!("highwater_table_writer_up", "table" => table.to_string()).set(if up { 1.0 } else { 0.0 });
}
