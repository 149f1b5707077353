//! Small files that are there whole or not at all, also after power loss.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::agents::AgentError;

/// The ending of a file that is being written; whatever has it at start is rubbish of a crash.
pub(crate) const UNFINISHED: &str = "tmp";

/// Writes `path` by way of a neighbour, synced before and after the rename.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), AgentError> {
    let unfinished = path.with_extension(UNFINISHED);
    let written = (|| {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    })();
    if let Err(source) = written {
        // A full disk must not be filled further by what could not be finished; if even this fails, start-up sweeps it.
        drop(fs::remove_file(&unfinished));
        return Err(AgentError::io("write", path)(source));
    }
    sync_parent(path)
}

/// Syncs the directory of `path`, so that a rename or removal in it survives power loss.
pub(crate) fn sync_parent(path: &Path) -> Result<(), AgentError> {
    // The parent of a name without directories is no path that can be opened.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(AgentError::io("sync", parent))
}

/// Creates the directory and its parents, synced.
pub(crate) fn create_directory(path: &Path) -> Result<(), AgentError> {
    fs::create_dir_all(path).map_err(AgentError::io("create directory", path))?;
    sync_parent(path)
}
