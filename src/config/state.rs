//! `state:` how much memory the state of tasks may take, and where the rest of it goes.

use std::path::{Path, PathBuf};

use highwater_pipeline::runtime::ScratchDirectory;
use serde::Deserialize;

use super::error::ConfigError;

/// What windows may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StateSection {
    /// How much packed state one task keeps in memory; beyond, it is put aside on disk.
    pub(crate) memory_bytes: usize,
    /// How much all tasks together put aside.
    pub(crate) disk_limit_bytes: u64,
    /// Where; `state-aside` in the data directory when absent. It is emptied at the start: nothing in it has to last.
    pub(crate) directory: Option<PathBuf>,
}

impl Default for StateSection {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, disk_limit_bytes: 16 << 30, directory: None }
    }
}

impl StateSection {
    /// Opens the place where state is put aside.
    pub(crate) fn open(&self, data_dir: &Path) -> Result<ScratchDirectory, ConfigError> {
        let directory = self.directory.clone().unwrap_or_else(|| data_dir.join("state-aside"));
        let opened = ScratchDirectory::open(&directory, self.memory_bytes, self.disk_limit_bytes);
        opened.map_err(|error| {
            ConfigError::in_key("state.directory", format!("{} cannot be used: {error}", directory.display()))
        })
    }

    /// A relative path is taken from the folder of the config file.
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(directory) = &mut self.directory {
            *directory = folder.join(&*directory);
        }
    }
}
