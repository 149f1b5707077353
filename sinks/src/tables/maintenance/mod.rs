//! What keeps a table in shape beside its writers: small files merged, rows whose time is over removed, files and commits that nobody reads
//! deleted.
//!
//! | step | what it does | commit |
//! |---|---|---|
//! | [`compact`](Maintainer::compact) | merges sorted files of one tenant and day into larger ones | remove + add, no change of data |
//! | [`retain`](Maintainer::retain) | removes files whose rows are all past the table's age or size | remove, and which rows they were |
//! | [`vacuum`](Maintainer::vacuum) | deletes files out of the table for longer than any query runs, and files that never came in | `FENCE` before the latter |
//! | [`clean_history`](Maintainer::clean_history) | deletes old commits behind a checkpoint, their covers folded into one commit | `HISTORY` |
//!
//! The process that writes the first partition of the table's first topic does it. Two at once do no harm: a rewrite goes in only where all its
//! files are still there, and a correction that rewrote one of them meanwhile wins ([`delta::rewrite`](super::delta)). A reader on an older version
//! keeps its files until the grace is over. Killed anywhere, what is left is files that no commit names.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_pipeline::log::Clock;
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{TableSpec, table_path};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::delta::{DeltaLog, Rewrite, RewriteAttempt};
use super::flush::random;
use super::{TablesConfig, metrics};
use crate::SinkError;

mod clean;
mod compact;
mod facts;
mod merge;
mod plan;
mod retention;
mod vacuum;

use compact::Merged;
use facts::Facts;
pub use plan::Eagerness;
use plan::{Group, Sizes, plan};

/// Attempts at a commit that other writers keep getting ahead of.
const COMMIT_ATTEMPTS: u32 = 50;
/// Merges that may be given up before everything there is to merge is left to the next turn.
const MAX_OVERTAKEN: u64 = 10;
/// A rollup's files are written anew by corrections, whole: they stay smaller by this factor.
const REVISED_SHARE: u64 = 4;

/// What all tables of a process share: one merge at a time, and not too fast.
#[derive(Debug, Clone)]
pub struct Upkeep {
    merges: Arc<Semaphore>,
    bytes_per_s: u64,
}

impl Upkeep {
    /// `bytes_per_s`: how much of files is read in a second, at most; 0 for no limit.
    pub fn new(bytes_per_s: u64) -> Self {
        Self { merges: Arc::new(Semaphore::new(1)), bytes_per_s }
    }

    /// Waits as long as reading so much may take.
    async fn pay(&self, bytes: u64) {
        match bytes.saturating_mul(1_000_000).checked_div(self.bytes_per_s) {
            Some(us) if us > 0 => tokio::time::sleep(Duration::from_micros(us)).await,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Keeps one table in shape.
pub struct Maintainer {
    spec: Arc<TableSpec>,
    config: Arc<TablesConfig>,
    clock: Arc<dyn Clock>,
    /// The store, paths relative to the table's directory.
    files: Arc<dyn ObjectStore>,
    delta: DeltaLog,
    upkeep: Upkeep,
}

/// What compacting has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files merged.
    pub merged_files: u64,
    /// Their size.
    pub merged_bytes: u64,
    /// Files they were merged into.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
    /// Merges given up because another commit replaced one of their files.
    pub overtaken: u64,
}

impl Maintainer {
    /// For a table that exists.
    ///
    /// # Errors
    /// Where its Delta log cannot be read.
    pub async fn open(
        spec: Arc<TableSpec>,
        storage: &Storage,
        config: Arc<TablesConfig>,
        clock: Arc<dyn Clock>,
        upkeep: Upkeep,
    ) -> Result<Self, SinkError> {
        let files = Arc::new(PrefixStore::new(Arc::clone(storage.objects()), table_path(&spec.name)));
        let delta = DeltaLog::attach(&spec.name, storage, clock.now_ms()).await?;
        Ok(Self { spec, config, clock, files, delta, upkeep })
    }

    /// Keeps the table in shape until `stop`. What fails is tried again at the next turn.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut next_round_ms = i64::MIN;
        loop {
            let work = async {
                if self.clock.now_ms() >= next_round_ms {
                    next_round_ms = self.clock.now_ms().saturating_add(jittered(self.config.upkeep_interval_ms));
                    self.tidy().await;
                }
                if self.config.compaction {
                    let compacted = self.compact(Eagerness::Steady).await;
                    self.report("compact", compacted);
                }
                let wait = jittered(self.config.compaction_interval_ms);
                tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = work => {}
            }
        }
    }

    /// Everything but compaction.
    async fn tidy(&mut self) {
        let retained = self.retain().await;
        self.report("retain", retained);
        let vacuumed = self.vacuum().await;
        self.report("sweep", vacuumed);
        let cleaned = self.clean_history().await;
        self.report("history", cleaned);
    }

    fn report<T>(&self, step: &'static str, result: Result<T, SinkError>) {
        if let Err(error) = result {
            metrics::failed(&self.spec.name, step);
            tracing::warn!(table = %self.spec.name, step, %error, "the table was not kept in shape this time; the next turn tries again");
        }
    }

    /// Merges files, as many as there are to merge.
    ///
    /// # Errors
    /// Where files or the Delta log cannot be read or written. What was merged before stays so.
    pub async fn compact(&mut self, eagerness: Eagerness) -> Result<Compacted, SinkError> {
        let mut total = Compacted::default();
        let mut unfit: HashSet<String> = HashSet::new();
        loop {
            let before = total;
            for group in self.plan(eagerness, &unfit).await? {
                let Ok(_turn) = Arc::clone(&self.upkeep.merges).acquire_owned().await else { return Ok(total) };
                self.merge_one(group, &mut unfit, &mut total).await?;
            }
            let merged = total.merged_files > before.merged_files;
            let overtaken = total.overtaken > before.overtaken;
            let again = match eagerness {
                Eagerness::Steady => merged && !overtaken,
                Eagerness::Everything => merged || (overtaken && total.overtaken <= MAX_OVERTAKEN),
            };
            if !again {
                return Ok(total);
            }
        }
    }

    async fn plan(&mut self, eagerness: Eagerness, unfit: &HashSet<String>) -> Result<Vec<Group>, SinkError> {
        let now_ms = self.clock.now_ms();
        let files = self.delta.refresh_files(now_ms).await?;
        let facts = files.into_iter().filter(|file| !unfit.contains(&file.path));
        let facts = facts.map(|file| Facts::new(file, &self.spec.time_column)).collect();
        Ok(plan(facts, self.sizes(), eagerness, now_ms))
    }

    async fn merge_one(
        &mut self,
        group: Group,
        unfit: &mut HashSet<String>,
        total: &mut Compacted,
    ) -> Result<(), SinkError> {
        let paths: Vec<String> = group.iter().map(|facts| facts.file.path.clone()).collect();
        let (count, size_bytes) = (paths.len() as u64, group.iter().map(|facts| facts.size_bytes).sum::<u64>());
        let (files, columns) = self.delta.refresh_table(&self.spec, self.clock.now_ms()).await?;
        let active: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        if !paths.iter().all(|path| active.contains(path.as_str())) {
            total.overtaken += 1;
            return Ok(());
        }
        let started_ms = self.clock.now_ms();
        match self.merge_group(group, &columns).await? {
            Merged::Unfit => unfit.extend(paths),
            Merged::Overtaken => {
                metrics::overtaken(&self.spec.name);
                total.overtaken += 1;
            }
            Merged::Committed { version, files } => {
                let bytes = files.iter().map(|file| file.size_bytes).sum::<u64>();
                let rows = files.iter().map(|file| file.rows).sum::<u64>();
                metrics::compacted(&self.spec.name, count, files.len() as u64, rows, size_bytes);
                tracing::debug!(
                    table = %self.spec.name, version, merged_files = count, merged_bytes = size_bytes, files = files.len(), bytes, rows,
                    took_ms = self.clock.now_ms() - started_ms, "compacted"
                );
                total.merged_files += count;
                total.merged_bytes += size_bytes;
                total.files += files.len() as u64;
                total.bytes += bytes;
                total.rows += rows;
            }
        }
        Ok(())
    }

    /// Tries a commit until it is in, void, or too often overtaken; not after `until_ms`.
    async fn commit(&mut self, rewrite: &Rewrite, until_ms: i64) -> Result<RewriteAttempt, SinkError> {
        let mut attempt = 0;
        loop {
            if self.clock.now_ms() > until_ms {
                return Ok(RewriteAttempt::Again { conflict: false, reason: "it took too long".to_string() });
            }
            let outcome = self.delta.try_rewrite(rewrite, self.clock.now_ms()).await?;
            let RewriteAttempt::Again { conflict, .. } = &outcome else { return Ok(outcome) };
            attempt += 1;
            if attempt >= COMMIT_ATTEMPTS {
                return Ok(outcome);
            }
            let wait = if *conflict {
                metrics::conflict(&self.spec.name);
                self.config.conflict_wait(random())
            } else {
                self.config.backoff(attempt - 1, random())
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn sizes(&self) -> Sizes {
        let share = if self.spec.is_revised() { REVISED_SHARE } else { 1 };
        let target_bytes = (self.config.compaction_target_bytes / share).max(1);
        let quiet_ms = i64::try_from(self.config.compaction_quiet_ms).unwrap_or(i64::MAX);
        Sizes { target_bytes, max_bytes: target_bytes.saturating_mul(2), quiet_ms }
    }
}

/// A time give or take a quarter, so that processes do not march in step.
fn jittered(ms: u64) -> i64 {
    let quarter = ms / 4;
    i64::try_from(ms - quarter + random() % (2 * quarter + 1)).unwrap_or(i64::MAX)
}
