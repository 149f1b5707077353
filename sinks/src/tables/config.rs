//! Settings of the table writers.

use std::time::Duration;

use highwater_pipeline::tables::{Retention, TableSpec};
use serde::Deserialize;

const MAX_CONFLICT_WAIT_MS: u64 = 30;

/// How tables are written. In the config file: `tables:`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TablesConfig {
    /// Milliseconds between commits of a table that has rows waiting.
    pub commit_interval_ms: u64,
    /// Bytes of decoded rows at which a table commits without waiting for the interval.
    pub commit_size_bytes: usize,
    /// Milliseconds after which progress without rows (clock records only) is committed by itself.
    pub empty_commit_interval_ms: u64,
    /// Bytes of decoded rows that all tables together may hold in memory before they stop reading.
    pub memory_limit_bytes: usize,
    /// Bytes asked of the log per read.
    pub fetch_size_bytes: usize,
    /// Rows per Parquet row group.
    pub row_group_rows: usize,
    /// Zstandard level of the files, 1 to 22.
    pub compression_level: i32,
    /// Whether floats are stored byte by byte of one significance (`BYTE_STREAM_SPLIT`), which saves a third of most. Apache Spark reads that only with
    /// `spark.sql.parquet.enableVectorizedReader=false`.
    pub byte_stream_split: bool,
    /// A checkpoint of the Delta log is written every so many commits.
    pub checkpoint_every: u64,
    /// Milliseconds after which a file that no commit names may be removed.
    pub sweep_age_ms: u64,
    /// Longest wait between two attempts at a failing step, milliseconds.
    pub max_backoff_ms: u64,
    /// Milliseconds that a partition which is taken away may keep the group waiting while its rows are committed. What is not committed by then
    /// the next owner reads again.
    pub revoke_timeout_ms: u64,
    /// Whether small files are merged.
    pub compaction: bool,
    /// Milliseconds between two looks for files to merge.
    pub compaction_interval_ms: u64,
    /// A file of this size is left alone; none is made of more than twice as much. A rollup's are a quarter of it, because corrections rewrite them.
    pub compaction_target_bytes: u64,
    /// Milliseconds without a new file after which a day is quiet, and what is left of it is merged.
    pub compaction_quiet_ms: u64,
    /// Bytes of decoded rows that a merge holds. Compressed pieces of its files come on top.
    pub compaction_memory_bytes: usize,
    /// Bytes of files that merges read in a second, at most; 0: as fast as it goes.
    pub compaction_bytes_per_s: u64,
    /// Milliseconds between two looks at retention, at files to delete and at old commits.
    pub upkeep_interval_ms: u64,
    /// Milliseconds for which a file stays after it was taken out of the table. Queries on older versions need them; none may run for longer.
    pub vacuum_after_ms: u64,
    /// Milliseconds for which commits stay in the Delta log.
    pub history_ms: u64,
    /// What is kept, where it is not what the table says of itself.
    pub retention: Vec<RetentionRule>,
}

/// What is kept of a table, or of one tenant's rows in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    /// The table.
    pub table: String,
    /// The tenant; all of them where it is missing. A rule that names one goes before a rule that does not.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Rows older than this go, milliseconds; `None`: never for their age.
    #[serde(default)]
    pub age_ms: Option<u64>,
    /// The oldest files go where a tenant's come to more; `None`: however large.
    #[serde(default)]
    pub size_bytes: Option<u64>,
}

/// Shortest history of a Delta log: readers and writers look at it at least every ten minutes.
pub const MIN_HISTORY_MS: u64 = 60 * 60 * 1000;

impl Default for TablesConfig {
    fn default() -> Self {
        Self {
            commit_interval_ms: 10_000,
            commit_size_bytes: 128 << 20,
            empty_commit_interval_ms: 60_000,
            memory_limit_bytes: 512 << 20,
            fetch_size_bytes: 4 << 20,
            row_group_rows: 128 << 10,
            compression_level: 1,
            byte_stream_split: true,
            checkpoint_every: 100,
            sweep_age_ms: 60 * 60 * 1000,
            max_backoff_ms: 10_000,
            revoke_timeout_ms: 20_000,
            compaction: true,
            compaction_interval_ms: 30_000,
            compaction_target_bytes: 128 << 20,
            compaction_quiet_ms: 60 * 60 * 1000,
            compaction_memory_bytes: 64 << 20,
            compaction_bytes_per_s: 32 << 20,
            upkeep_interval_ms: 10 * 60 * 1000,
            vacuum_after_ms: 60 * 60 * 1000,
            history_ms: 24 * 60 * 60 * 1000,
            retention: Vec::new(),
        }
    }
}

impl TablesConfig {
    /// Names the first setting that cannot be used, and why.
    pub fn problem(&self) -> Option<String> {
        let zero = [
            ("commit_interval_ms", self.commit_interval_ms == 0),
            ("commit_size_bytes", self.commit_size_bytes == 0),
            ("empty_commit_interval_ms", self.empty_commit_interval_ms == 0),
            ("memory_limit_bytes", self.memory_limit_bytes == 0),
            ("fetch_size_bytes", self.fetch_size_bytes == 0),
            ("row_group_rows", self.row_group_rows == 0),
            ("checkpoint_every", self.checkpoint_every == 0),
            ("max_backoff_ms", self.max_backoff_ms == 0),
            ("revoke_timeout_ms", self.revoke_timeout_ms == 0),
            ("compaction_interval_ms", self.compaction_interval_ms == 0),
            ("compaction_target_bytes", self.compaction_target_bytes == 0),
            ("compaction_memory_bytes", self.compaction_memory_bytes == 0),
            ("upkeep_interval_ms", self.upkeep_interval_ms == 0),
        ];
        if let Some((key, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
            return Some(format!("tables.{key} is 0; it must be at least 1"));
        }
        if !(1..=22).contains(&self.compression_level) {
            return Some(format!(
                "tables.compression_level is {}; Zstandard levels are 1 to 22",
                self.compression_level
            ));
        }
        if self.history_ms < MIN_HISTORY_MS {
            return Some(format!("tables.history_ms is {}; it must be at least {MIN_HISTORY_MS}", self.history_ms));
        }
        None
    }

    /// What is kept of a tenant's rows in a table: the rule that names both, or the table, or what the table says of itself.
    pub(super) fn retention_of(&self, spec: &TableSpec, tenant: Option<&str>) -> Retention {
        let of_table = || self.retention.iter().filter(|rule| rule.table == spec.name);
        let rule = of_table()
            .find(|rule| rule.tenant.is_some() && rule.tenant.as_deref() == tenant)
            .or_else(|| of_table().find(|rule| rule.tenant.is_none()));
        rule.map_or(spec.retention, |rule| Retention { age_ms: rule.age_ms, size_bytes: rule.size_bytes })
    }

    pub(super) fn commit_interval(&self) -> Duration {
        Duration::from_millis(self.commit_interval_ms)
    }

    pub(super) fn empty_commit_interval(&self) -> Duration {
        Duration::from_millis(self.empty_commit_interval_ms)
    }

    pub(super) fn revoke_timeout(&self) -> Duration {
        Duration::from_millis(self.revoke_timeout_ms)
    }

    /// Age at which files that wait for their commit are written again under new names: well before another owner may sweep them.
    pub(super) fn rewrite_age_ms(&self) -> i64 {
        i64::try_from(self.sweep_age_ms / 2).unwrap_or(i64::MAX)
    }

    /// The wait after another writer took the version. Short and without growth: who lost has its files in place already and is ahead
    /// of whoever won, who has to encode the next ones first. `random` is any number.
    pub(super) fn conflict_wait(&self, random: u64) -> Duration {
        Duration::from_millis(random % (MAX_CONFLICT_WAIT_MS.min(self.max_backoff_ms) + 1))
    }

    /// The wait before attempt `attempt` (0 is the first repetition): doubling from 50 ms, with jitter of half of it. `random` is any number.
    pub(super) fn backoff(&self, attempt: u32, random: u64) -> Duration {
        let full = 50_u64.saturating_mul(1 << attempt.min(20)).min(self.max_backoff_ms).max(2);
        Duration::from_millis(full / 2 + random % (full / 2 + 1))
    }
}
