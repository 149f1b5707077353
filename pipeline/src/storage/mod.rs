//! The storage root: where tables and snapshots lie. A directory, or `s3://bucket/prefix` on anything that speaks S3.
//!
//! Invariants:
//! - A put that returned `Ok` survives power loss, and so does every directory above it. A put that did not return `Ok` leaves
//!   either nothing or the whole object under its name, never a part of it.
//! - [`PutMode::Create`](object_store::PutMode::Create) succeeds for one of several writers, of this process or another. Exactly-once tables rest on
//!   it, so a root that is opened for writing is tried: a store that lets a second creator through is refused ([`probe`]).
//!
//! object_store's own local store syncs nothing, so its log of commits could lose or truncate a commit it had confirmed. [`DurableLocal`]
//! is the one used here. On S3 a create is a put with `If-None-Match: *`.

use std::collections::BTreeMap;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

mod error;
mod local;
pub mod probe;
pub mod s3;
#[cfg(test)]
mod tests;

pub use error::StorageError;
pub use local::DurableLocal;

/// What an opened root is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only: nothing is made or tried, and a directory must exist.
    Read,
    /// Writing: a directory is made where it is missing, an object store has to pass [`probe::check`].
    Write,
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

/// Opens a storage root by its location: a directory, a `file://` URL or an `s3://bucket/prefix` URL. `options` are those of [`s3`]; a directory has
/// none.
///
/// # Errors
/// Where the location or an option is unusable, or the place cannot be reached or does not do what tables need of it.
pub async fn connect(
    location: &str,
    options: &BTreeMap<String, String>,
    access: Access,
) -> Result<Storage, StorageError> {
    if s3::is_location(location) {
        let bucket = s3::Bucket::parse(location)?;
        let storage = bucket.open(options, std::env::vars_os())?;
        if access == Access::Write {
            probe::check(&storage, &bucket.describe(options, std::env::vars_os())).await?;
        }
        return Ok(storage);
    }
    if let Some(key) = options.keys().next() {
        return Err(StorageError::BadOption {
            location: location.to_string(),
            key: key.clone(),
            reason: "a directory has no options; they are for s3:// URLs".to_string(),
        });
    }
    open_as(location, access)
}

/// Opens a directory (made if missing, durably) or a `file://` URL as a storage root.
///
/// # Errors
/// Where the location is no directory or `file://` URL, or the directory cannot be made.
pub fn open(location: &str) -> Result<Storage, StorageError> {
    open_as(location, Access::Write)
}

/// Opens a directory that must exist already as a storage root, and makes nothing: for tools that only read.
///
/// # Errors
/// As [`open`], and where the directory does not exist.
pub fn open_existing(location: &str) -> Result<Storage, StorageError> {
    open_as(location, Access::Read)
}

fn open_as(location: &str, access: Access) -> Result<Storage, StorageError> {
    let directory = directory_of(location)?;
    let io = |source| StorageError::Io { path: directory.clone(), source };
    if access == Access::Write {
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
