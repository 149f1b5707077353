//! The definitions in the log (`__highwater.config`) as this process uses them. What runs is made from the log's newest version, never from the
//! file: the file is a proposal, made at start and at reload.

use std::sync::Arc;

use highwater_pipeline::definitions::Definitions;
use highwater_pipeline::log::Log;
use highwater_pipeline::runtime::TaskSpec;
use highwater_processors::{ProcessorsConfig, definitions as stored};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::topology::{self, Topology};
use crate::config::{Config, LogKind, Role};
use crate::error::Error;

/// What a process may write into the log, of its file's rollups and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// At start and at reload: it is alone.
    Always,
    /// At reload; at start only where no version ever had them. Else, of several workers, this one has an old file: while others are being
    /// given the new one, say.
    UnlessOld,
    /// Never: it runs no tasks, and its file need not have their rollups.
    Never,
}

impl Writes {
    /// What a process with this config may write.
    pub(crate) fn of(config: &Config) -> Self {
        match (config.roles.has(Role::Worker), config.log.kind == LogKind::Embedded) {
            (false, _) => Self::Never,
            (true, true) => Self::Always,
            (true, false) => Self::UnlessOld,
        }
    }
}

/// The definitions in the log.
#[derive(Clone)]
pub(crate) struct LogDefinitions {
    definitions: Arc<Definitions>,
    partitions: i32,
    rule_partitions: i32,
    writes: Writes,
}

impl LogDefinitions {
    /// Reads what is in the log, and writes the file's definitions where that is this process's to do. The topics that they read and
    /// write must be there.
    pub(crate) async fn start(log: &Arc<dyn Log>, file: &ProcessorsConfig, writes: Writes) -> Result<Self, Error> {
        let (partitions, rule_partitions) = (file.partitions, file.rule_partitions);
        let inputs = highwater_processors::input_topics(partitions, rule_partitions);
        let inputs = inputs.into_iter().map(|(name, _)| name.into());
        let definitions = Definitions::open(Arc::clone(log), inputs)
            .await
            .map_err(|error| Error::failed("reading the definitions in the log", error))?;
        let this = Self { definitions, partitions, rule_partitions, writes };
        let wanted = this.wanted(file)?;
        match writes {
            Writes::Always => this.write(&wanted).await?,
            Writes::UnlessOld if !this.definitions.knows(&wanted) => this.write(&wanted).await?,
            Writes::UnlessOld if !this.definitions.is_newest(&wanted) => tracing::warn!(
                version = this.version(),
                "the rollups and rules of the config file are those of an older version; this process follows the newest one in the log. \
                 To go back to the file's, reload (SIGHUP or POST /-/reload)"
            ),
            Writes::UnlessOld | Writes::Never => {}
        }
        Ok(this)
    }

    /// Makes the file's definitions the newest, where they are not and this process may.
    pub(crate) async fn propose(&self, file: &ProcessorsConfig) -> Result<(), Error> {
        let wanted = self.wanted(file)?;
        if self.may_write() {
            return self.write(&wanted).await;
        }
        if !self.definitions.is_newest(&wanted) {
            tracing::warn!(
                "the rollups and rules of the config file are not those in the log; to change them, reload a worker"
            );
        }
        Ok(())
    }

    /// Has a rollup begin anew, filled with what is stored: where it reads another, the one that reads stored rows, and with it all that stand on it.
    /// False where there is none of this name.
    pub(crate) async fn begin_anew(&self, rollup: &str) -> Result<bool, Error> {
        if !self.may_write() {
            return Err(Error::Failed(
                "this process runs no tasks and changes no definitions; ask a worker".to_owned(),
            ));
        }
        let Some(mut config) = self.newest()? else { return Ok(false) };
        let planned = highwater_processors::topology(&config);
        let planned = planned.map_err(|error| Error::failed("planning the rollups in the log", error))?;
        let Some(mut plan) = planned.rollups.iter().find(|plan| plan.name() == rollup) else { return Ok(false) };
        while let Some(below) = plan.upstream() {
            plan = below;
        }
        let Some(found) = config.rollups.iter_mut().find(|found| found.name == plan.name()) else { return Ok(false) };
        found.generation = found.generation.saturating_add(1);
        found.backfill = true;
        self.write(&to_definitions(&config)?).await.map(|()| true)
    }

    /// The rollups and rules of the newest version, as they are written. `None` where there is none yet.
    pub(crate) fn newest(&self) -> Result<Option<ProcessorsConfig>, Error> {
        let Some(version) = self.definitions.newest() else { return Ok(None) };
        let read = stored::from_definitions(&version.definitions);
        read.map(Some).map_err(|error| Error::failed("reading the definitions in the log", error))
    }

    /// The file's definitions, with what only the log knows.
    fn wanted(&self, file: &ProcessorsConfig) -> Result<serde_json::Value, Error> {
        let mut file = file.clone();
        // Definitions of a newer format are not ours to carry on: whoever applies them says so.
        if let Ok(Some(newest)) = self.newest() {
            stored::keep_generations(&mut file, &newest);
        }
        to_definitions(&file)
    }

    /// True where [`Self::propose`] writes.
    pub(crate) fn may_write(&self) -> bool {
        self.writes != Writes::Never
    }

    async fn write(&self, wanted: &serde_json::Value) -> Result<(), Error> {
        self.definitions
            .propose(wanted)
            .await
            .map(drop)
            .map_err(|error| Error::failed("writing the definitions into the log", error))
    }

    /// The number of the newest version; 0 where there is none.
    pub(crate) fn version(&self) -> u32 {
        self.definitions.newest().map_or(0, |version| version.number)
    }

    /// The rollups and rules of the newest version; `None` where there is none yet.
    pub(crate) fn processors(&self) -> Result<Option<ProcessorsConfig>, Error> {
        let Some(version) = self.definitions.newest() else { return Ok(None) };
        let read = stored::from_definitions(&version.definitions);
        read.map(Some).map_err(|error| Error::failed("reading the definitions in the log", error))
    }

    /// The newest version, planned: its tables, topics and rules. `None` where there is none yet.
    pub(crate) fn topology(&self) -> Result<Option<Topology>, Error> {
        let Some(version) = self.definitions.newest() else { return Ok(None) };
        let failed = |error: &dyn std::error::Error| {
            Error::Failed(format!(
                "version {} of the definitions in the log cannot be run here: {error}",
                version.number
            ))
        };
        let processors = stored::from_definitions(&version.definitions).map_err(|error| failed(&error))?;
        topology::plan(&processors).map(Some).map_err(|error| failed(&error))
    }

    /// The tasks. They follow the log's versions by themselves, each at its offsets, so there is one set of them for as long as the process lives.
    pub(crate) fn tasks(&self) -> Vec<TaskSpec> {
        let versions = stored::versions(Arc::clone(&self.definitions));
        highwater_processors::tasks(self.partitions, self.rule_partitions, &versions)
    }

    /// The number of the newest version, whenever it changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u32> {
        self.definitions.changes()
    }

    /// Notices what other processes write, until `stop`.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        self.definitions.follow(stop).await;
    }
}

fn to_definitions(file: &ProcessorsConfig) -> Result<serde_json::Value, Error> {
    stored::to_definitions(file).map_err(|error| Error::failed("writing the definitions down", error))
}
