//! Why an agent could not start or go on.

use std::io;
use std::path::{Path, PathBuf};

/// What stops an agent. A server that is away or refuses is no such thing while the agent follows files: it spools.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// An option has a value that cannot work.
    #[error("{option}: {reason}")]
    Option {
        /// The option, as the command line spells it.
        option: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file to read is not there, and the agent does not wait for it.
    #[error("{}: no such file; check the path, or quote the pattern so that the shell leaves it alone", path.display())]
    NoSuchFile {
        /// The path or pattern.
        path: PathBuf,
    },
    /// Another agent works on the same state directory.
    #[error("{}: another agent is using this state directory; give each its own with --state-dir", directory.display())]
    Locked {
        /// The state directory.
        directory: PathBuf,
    },
    /// The state directory holds something this version cannot read.
    #[error("{}: {reason}; move the file away to start anew (rows not yet shipped from it are lost)", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The input ended, but the server did not take everything. The rows are safe on disk.
    #[error(
        "{rows} rows in {batches} batches could not be delivered ({reason}); they are kept in {} and go out when the agent runs again",
        directory.display()
    )]
    Undelivered {
        /// Rows left.
        rows: u64,
        /// Batches left.
        batches: u64,
        /// Where they are.
        directory: PathBuf,
        /// The last failure, as far as known.
        reason: String,
    },
}

impl AgentError {
    /// True where the same call may succeed later (server away, disk full, another agent still running).
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Undelivered { .. } | Self::Locked { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::Interrupted | io::ErrorKind::QuotaExceeded
            ),
            Self::Option { .. } | Self::NoSuchFile { .. } | Self::State { .. } => false,
        }
    }

    /// For `map_err`: the system refused `what` on `path`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }
}
