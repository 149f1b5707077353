//! What can go wrong when a storage root is opened.

use std::path::PathBuf;

/// Why the storage root could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A URL with a scheme that this build does not know.
    #[error("storage {url}: scheme {scheme:?} is not supported; use a directory, a file:// URL or s3://bucket/prefix")]
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
    /// An option that the store does not know, or a value it cannot use.
    #[error("storage {location}: option {key}: {reason}")]
    BadOption {
        /// What was given.
        location: String,
        /// The option.
        key: String,
        /// What was wrong with it.
        reason: String,
    },
    /// The store's client could not be made from its options.
    #[error("storage {place}: {source}. Look at storage.options and the AWS_* variables of the environment")]
    Client {
        /// Bucket and endpoint.
        place: String,
        /// What was wrong.
        source: object_store::Error,
    },
    /// The bucket is not there.
    #[error("storage {place}: the bucket does not exist: {source}. Create it, or correct storage.url")]
    NoBucket {
        /// Bucket and endpoint.
        place: String,
        /// The store's reason.
        source: object_store::Error,
    },
    /// The credentials were refused.
    #[error(
        "storage {place}: access was refused: {source}. Give credentials that may list, read, write and delete there: AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY in the environment, or access_key_id and secret_access_key in storage.options"
    )]
    Denied {
        /// Bucket and endpoint.
        place: String,
        /// The store's reason.
        source: object_store::Error,
    },
    /// The store is away, or answers with errors.
    #[error(
        "storage {place} cannot be reached or fails: {source}. Check that it runs and that the endpoint in storage.options is right"
    )]
    Unreachable {
        /// Bucket and endpoint.
        place: String,
        /// The store's reason.
        source: object_store::Error,
    },
    /// The store does not refuse to create an object that exists.
    #[error(
        "storage {place}: the store has no conditional puts: {found}. Tables would lose or double rows on it, so it is refused. Use a store \
         that honours `If-None-Match: *` (Amazon S3, MinIO, Cloudflare R2, Ceph from Squid on), or a directory"
    )]
    NoConditionalPut {
        /// Bucket and endpoint.
        place: String,
        /// What it did instead.
        found: String,
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
        matches!(self, Self::Io { .. } | Self::Unreachable { .. })
    }
}
