//! One commit, from rows to group offset.

use std::sync::Arc;

use futures::future::try_join_all;
use highwater_pipeline::log::{Clock, CommittedOffset, Log, TopicPartition};
use highwater_pipeline::storage::Storage;
use highwater_pipeline::tables::{Cover, Superseded, TableSpec};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::TablesConfig;
use super::buffer::Batch;
use super::delta::{Attempt, Commit, Committed, DeltaLog};
use super::encode::{EncodedFile, encode};
use super::handle::StatusCell;
use super::maintenance::{Maintainer, Upkeep};
use super::metrics;
use super::supersede::Rewriter;
use crate::SinkError;

/// Files written at the same time.
const PARALLEL_PUTS: usize = 4;
/// Attempts at a failing step once shutdown has begun.
const ATTEMPTS_AT_SHUTDOWN: u32 = 3;

/// What brings rows into the table. It is away while it works: one flush or look at a time.
pub(super) struct Flusher {
    pub(super) spec: Arc<TableSpec>,
    pub(super) config: Arc<TablesConfig>,
    pub(super) log: Arc<dyn Log>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) storage: Storage,
    /// The store, paths relative to the table's directory.
    pub(super) files: Arc<dyn ObjectStore>,
    /// The table's Delta log, once it was opened.
    pub(super) delta: Option<DeltaLog>,
    pub(super) status: StatusCell,
    pub(super) shutdown: CancellationToken,
    /// What all tables share in keeping in shape.
    pub(super) upkeep: Upkeep,
    /// A checkpoint being written beside it.
    pub(super) checkpoint: Option<AbortOnDropHandle<()>>,
    /// A commit asked for a checkpoint that has not been begun.
    pub(super) checkpoint_due: bool,
}

/// What a flush has brought into the table.
#[derive(Debug)]
pub(super) struct Flushed {
    pub(super) version: u64,
    pub(super) covers: Vec<Cover>,
}

impl Flusher {
    /// The table's Delta log; opens it, and makes the table where it is missing, the first time.
    pub(super) async fn delta(&mut self) -> Result<&mut DeltaLog, SinkError> {
        let opened = match self.delta.take() {
            Some(opened) => opened,
            None => DeltaLog::open(&self.spec, &self.storage, self.clock.now_ms()).await?,
        };
        Ok(self.delta.insert(opened))
    }

    /// Brings a batch into the table. Storage faults are retried until they end (or a few times, during shutdown).
    pub(super) async fn flush(&mut self, batch: Batch) -> Result<Flushed, SinkError> {
        let started_ms = self.clock.now_ms();
        let Batch { covers, mut batches, superseded, rows, held } = batch;
        for batch in &mut batches {
            *batch = superseded.filter(&self.spec.name, batch)?;
        }
        batches.retain(|batch| batch.num_rows() > 0);
        let files = if batches.is_empty() { Vec::new() } else { self.encode(batches).await? };
        // The rows are gone; what remains are the encoded files, a fraction of their size.
        drop(held);
        let mut commit = self.delta().await?.begin(covers, files)?;
        self.replace(&mut commit, &superseded).await?;
        let put_ms = self.put_files(&commit).await?;
        let committed = self.commit(&mut commit, &superseded, put_ms).await?;

        let bytes: usize = commit.files().map(|f| f.bytes.len()).sum();
        let now_ms = self.clock.now_ms();
        let took = std::time::Duration::from_millis(u64::try_from(now_ms - started_ms).unwrap_or(0));
        metrics::committed(&self.spec.name, rows, bytes as u64, commit.files().count(), took, now_ms);
        tracing::debug!(
            table = %self.spec.name, version = committed.version(), rows, bytes, files = commit.files().count(),
            took_ms = took.as_millis(), "committed"
        );
        match committed {
            Committed::Written(_) => {
                self.commit_group(commit.covers().iter().map(|c| (c.topic.as_str(), c.partition, c.to))).await
            }
            // Found after an error: the store never said that it is durable. The next commit will say so for both.
            Committed::Found(version) => {
                tracing::warn!(table = %self.spec.name, version, "the commit was written although the store reported an error");
            }
        }
        self.maybe_checkpoint(committed.version());
        Ok(Flushed { version: committed.version(), covers: commit.covers().to_vec() })
    }

    /// Tells the log how far the table has come, so that it may forget. A failure costs only disk space, until the next commit.
    pub(super) async fn commit_group(&self, ends: impl Iterator<Item = (&str, i32, i64)>) {
        // Several covers of one partition come in order: the last one counts.
        let mut offsets: Vec<CommittedOffset> = Vec::new();
        for (topic, partition, offset) in ends {
            metrics::stands_at(&self.spec.name, topic, partition, offset);
            match offsets.iter_mut().find(|o| o.topic.as_ref() == topic && o.partition == partition) {
                Some(known) => known.offset = known.offset.max(offset),
                None => {
                    offsets.push(CommittedOffset { topic: topic.into(), partition, offset, metadata: String::new() })
                }
            }
        }
        if offsets.is_empty() {
            return;
        }
        if let Err(error) = self.log.commit_offsets(&self.spec.group(), &offsets, None).await {
            metrics::failed(&self.spec.name, "group_offset");
            tracing::warn!(table = %self.spec.name, %error, "the table's progress could not be told to the log; the next commit tells it");
        }
    }

    async fn encode(&self, batches: Vec<arrow::array::RecordBatch>) -> Result<Vec<EncodedFile>, SinkError> {
        let (spec, config) = (Arc::clone(&self.spec), Arc::clone(&self.config));
        let encoded = tokio::task::spawn_blocking(move || encode(&spec, &config, &batches)).await;
        encoded.unwrap_or_else(|e| Err(SinkError::Broken { table: self.spec.name.clone(), reason: e.to_string() }))
    }

    /// Writes the commit's files, all of them after the time it gives back.
    async fn put_files(&self, commit: &Commit) -> Result<i64, SinkError> {
        let mut attempt = 0;
        let files: Vec<&EncodedFile> = commit.files().collect();
        loop {
            let put_ms = self.clock.now_ms();
            match self.put_once(&files).await {
                Ok(()) => return Ok(put_ms),
                Err(e) => self.wait_after(e, "put", &mut attempt).await?,
            }
        }
    }

    async fn put_once(&self, files: &[&EncodedFile]) -> Result<(), SinkError> {
        for together in files.chunks(PARALLEL_PUTS) {
            let mut puts = Vec::with_capacity(together.len());
            for file in together {
                puts.push(self.put_file(file));
            }
            try_join_all(puts).await?;
        }
        Ok(())
    }

    async fn put_file(&self, file: &EncodedFile) -> Result<(), SinkError> {
        let object = |source| SinkError::Object { table: self.spec.name.clone(), path: file.path.clone(), source };
        let path = Path::parse(&file.path).map_err(|e| object(e.into()))?;
        self.files.put(&path, PutPayload::from_bytes(file.bytes.clone())).await.map(|_| ()).map_err(object)
    }

    async fn commit(
        &mut self,
        commit: &mut Commit,
        superseded: &Superseded,
        mut put_ms: i64,
    ) -> Result<Committed, SinkError> {
        let mut attempt = 0;
        loop {
            let replaced = self.replace(commit, superseded).await?;
            let now_ms = self.clock.now_ms();
            // Another owner's sweep may be about to take files as old as these: nobody knows the new names.
            let old = now_ms.saturating_sub(put_ms) > self.config.rewrite_age_ms();
            if old {
                commit.rename_files();
            }
            if replaced || old {
                put_ms = self.put_files(commit).await?;
            }
            match self.delta().await?.try_commit(commit, now_ms).await {
                Ok(Attempt::Done(committed)) => return Ok(committed),
                Ok(Attempt::Again { conflict: true, .. }) => {
                    metrics::conflict(&self.spec.name);
                    tokio::time::sleep(self.config.conflict_wait(random())).await;
                }
                Ok(Attempt::Again { conflict: false, reason }) => {
                    let error = SinkError::Object {
                        table: self.spec.name.clone(),
                        path: "_delta_log".to_string(),
                        source: object_store::Error::Generic { store: "commit", source: reason.into() },
                    };
                    self.wait_after(error, "commit", &mut attempt).await?;
                }
                Err(e) => self.wait_after(e, "commit", &mut attempt).await?,
            }
        }
    }

    /// Plans what the commit replaces, unless it was planned on this version of the table: another writer may have replaced the same files. True
    /// where there are other files to put.
    async fn replace(&mut self, commit: &mut Commit, superseded: &Superseded) -> Result<bool, SinkError> {
        if superseded.is_empty() {
            return Ok(false);
        }
        let (spec, config, store) = (Arc::clone(&self.spec), Arc::clone(&self.config), Arc::clone(&self.files));
        let rewriter = Rewriter { spec: &spec, config: &config, store: &store };
        let mut attempt = 0;
        loop {
            let now_ms = self.clock.now_ms();
            match rewriter.bring_up_to_date(commit, self.delta().await?, superseded, now_ms).await {
                Ok(changed) => return Ok(changed),
                Err(e) => self.wait_after(e, "supersede", &mut attempt).await?,
            }
        }
    }

    /// Waits before the next attempt, or gives the error back where there should be none.
    pub(super) async fn wait_after(
        &self,
        error: SinkError,
        step: &'static str,
        attempt: &mut u32,
    ) -> Result<(), SinkError> {
        metrics::failed(&self.spec.name, step);
        let give_up = !error.is_retryable() || (self.shutdown.is_cancelled() && *attempt >= ATTEMPTS_AT_SHUTDOWN);
        if give_up {
            return Err(error);
        }
        let wait = self.config.backoff(*attempt, random());
        tracing::warn!(table = %self.spec.name, step, attempt = *attempt, wait_ms = wait.as_millis(), %error, "will try again");
        self.status.retrying(&error);
        *attempt += 1;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // Shutdown cuts the first wait short; the attempts that remain are spaced.
            () = self.shutdown.cancelled(), if !self.shutdown.is_cancelled() => {}
        }
        Ok(())
    }

    /// Starts to keep the table in shape, if these partitions make it this writer's turn and the table is open.
    pub(super) fn start_upkeep<'a>(
        &self,
        mut given: impl Iterator<Item = &'a TopicPartition>,
    ) -> Option<AbortOnDropHandle<()>> {
        given.find(|key| is_first(&self.spec, key))?;
        self.delta.as_ref()?;
        let (spec, storage, config) = (Arc::clone(&self.spec), self.storage.clone(), Arc::clone(&self.config));
        let (clock, upkeep, stop) = (Arc::clone(&self.clock), self.upkeep.clone(), self.shutdown.clone());
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut attempt = 0;
            loop {
                let opened = Maintainer::open(
                    Arc::clone(&spec),
                    &storage,
                    Arc::clone(&config),
                    Arc::clone(&clock),
                    upkeep.clone(),
                );
                match opened.await {
                    Ok(maintainer) => return maintainer.run(stop).await,
                    Err(error) => {
                        metrics::failed(&spec.name, "upkeep");
                        tracing::warn!(table = %spec.name, %error, "the table cannot be kept in shape for now; will try again");
                    }
                }
                tokio::time::sleep(config.backoff(attempt, random())).await;
                attempt += 1;
            }
        })))
    }

    /// One that comes due while the last is still being written follows at the first commit after it.
    fn maybe_checkpoint(&mut self, version: u64) {
        self.checkpoint_due |= version > 0 && version.is_multiple_of(self.config.checkpoint_every);
        if !self.checkpoint_due || self.checkpoint.as_ref().is_some_and(|c| !c.is_finished()) {
            return;
        }
        let Some(reader) = self.delta.as_ref().map(DeltaLog::reader) else { return };
        self.checkpoint_due = false;
        let table = self.spec.name.clone();
        self.checkpoint = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = reader.checkpoint().await {
                metrics::failed(&table, "checkpoint");
                tracing::warn!(%table, version, %error, "no checkpoint was written; the table opens more slowly until the next one");
            }
        })));
    }
}

/// The first partition of the table's first topic: whoever has it keeps the table in shape.
pub(super) fn is_first(spec: &TableSpec, key: &TopicPartition) -> bool {
    key.partition == 0 && spec.topics.first().is_some_and(|first| key.topic.as_ref() == first)
}

/// Jitter needs no better source than a fresh UUID's bits.
pub(super) fn random() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}
