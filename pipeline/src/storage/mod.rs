//! The storage root: where tables and snapshots lie.
//!
//! Invariants:
//! - A put that returned `Ok` survives power loss, and so does every directory above it. A put that did not return `Ok` leaves
//!   either nothing or the whole object under its name, never a part of it.
//! - [`PutMode::Create`](object_store::PutMode::Create) succeeds for one of several writers, of this process or another.
//!
//! object_store's own local store syncs nothing, so its log of commits could lose or truncate a commit it had confirmed. [`DurableLocal`]
//! is the one used here.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

mod local;
#[cfg(test)]
mod tests;

pub use local::DurableLocal;

/// Why the storage root could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A URL with a scheme that this build does not know.
    #[error("storage {url}: scheme {scheme:?} is not supported; use a directory or a file:// URL")]
    UnknownScheme {
        /// What was given.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// Not a usable URL or directory name.
    #[error("storage {location:?} is not a directory or URL: {reason}")]
    BadLocation {
        /// What was given.
        location: String,
        /// What was wrong.
        reason: String,
    },
    /// The directory could not be made, found or synced.
    #[error("storage directory {}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl StorageError {
    /// True where trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// An opened storage root. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    url: Url,
    origin: Arc<dyn ObjectStore>,
    objects: Arc<dyn ObjectStore>,
}

impl Storage {
    /// A root over a store the caller made. `origin` is rooted where the URL's path begins (the file system's `/`, the
    /// bucket), `url` says where below it the root is.
    ///
    /// # Errors
    /// Where the URL's path cannot be an object path.
    pub fn new(origin: Arc<dyn ObjectStore>, url: Url) -> Result<Self, StorageError> {
        let mut url = url;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let prefix = Path::from_url_path(url.path())
            .map_err(|e| StorageError::BadLocation { location: url.to_string(), reason: e.to_string() })?;
        let objects: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(&origin), prefix));
        Ok(Self { url, origin, objects })
    }

    /// The root's URL; ends in `/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The store, with paths relative to the root: `tables/logs/...`, `snapshots/...`.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// The store, with paths relative to where the URL's path begins, as Delta wants it together with a table's full URL.
    pub fn origin(&self) -> &Arc<dyn ObjectStore> {
        &self.origin
    }

    /// The URL of a table's directory, ending in `/`.
    pub fn table_url(&self, name: &str) -> Url {
        crate::tables::table_url(&self.url, name)
    }
}

/// Opens a storage root: a directory (made if missing, durably) or a `file://` URL.
///
/// # Errors
/// Where the location is no directory or known URL, or the directory cannot be made.
pub fn open(location: &str) -> Result<Storage, StorageError> {
    open_as(location, true)
}

/// Opens a storage root that must exist already, and makes nothing: for tools that only read.
///
/// # Errors
/// As [`open`], and where the directory does not exist.
pub fn open_existing(location: &str) -> Result<Storage, StorageError> {
    open_as(location, false)
}

fn open_as(location: &str, create: bool) -> Result<Storage, StorageError> {
    let directory = directory_of(location)?;
    let io = |source| StorageError::Io { path: directory.clone(), source };
    if create {
        local::create_dir_durably(&directory).map_err(io)?;
    }
    let absolute = directory.canonicalize().map_err(io)?;
    if !absolute.is_dir() {
        return Err(io(std::io::Error::from(std::io::ErrorKind::NotADirectory)));
    }
    let url = Url::from_directory_path(&absolute).map_err(|()| StorageError::BadLocation {
        location: location.to_string(),
        reason: "its absolute path cannot be written as a URL".to_string(),
    })?;
    Storage::new(Arc::new(DurableLocal::new()), url)
}

fn directory_of(location: &str) -> Result<PathBuf, StorageError> {
    let bad = |reason: &str| StorageError::BadLocation { location: location.to_string(), reason: reason.to_string() };
    if location.is_empty() {
        return Err(bad("it is empty"));
    }
    if !location.contains("://") {
        return Ok(FsPath::new(location).to_path_buf());
    }
    let url = Url::parse(location).map_err(|e| bad(&e.to_string()))?;
    if url.scheme() != "file" {
        return Err(StorageError::UnknownScheme { url: location.to_string(), scheme: url.scheme().to_string() });
    }
    url.to_file_path().map_err(|()| bad("a file URL names an absolute path and no host: file:///data/highwater"))
}
