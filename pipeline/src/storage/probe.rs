//! The check that a store refuses to create what exists.
//!
//! Some stores that speak S3 ignore `If-None-Match` and answer every put with success. On such a store two writers could both be told that
//! they had written the same version of a table, and rows would be lost. So before a root is written to, one object is created
//! twice under a name of its own, and the second time has to be refused and to change nothing.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use uuid::Uuid;

use super::{Storage, StorageError};

/// Where probes lie while they are tried.
const DIRECTORY: &str = ".highwater-probe";

/// Creates one object twice. `place` names the store in messages.
///
/// # Errors
/// [`StorageError::NoConditionalPut`] where the second creation is not refused; otherwise where the store cannot be reached or refuses us.
pub async fn check(storage: &Storage, place: &str) -> Result<(), StorageError> {
    let objects = storage.objects();
    let path = Path::from_iter([DIRECTORY, &Uuid::new_v4().to_string()]);
    let checked = create_twice(objects.as_ref(), &path, place).await;
    match objects.delete(&path).await {
        Ok(()) | Err(Error::NotFound { .. }) => checked,
        Err(error) if checked.is_err() => {
            tracing::debug!(%error, %path, "the probe could not be removed either");
            checked
        }
        Err(source) => Err(failed(place, source)),
    }
}

async fn create_twice(objects: &dyn ObjectStore, path: &Path, place: &str) -> Result<(), StorageError> {
    const FIRST: &[u8] = b"first";
    const SECOND: &[u8] = b"second";
    match create(objects, path, FIRST).await {
        // The name is new: what exists is ours, and the reply to it was lost.
        Ok(()) | Err(Error::AlreadyExists { .. }) => {}
        Err(source) => return Err(failed(place, source)),
    }
    match create(objects, path, SECOND).await {
        Err(Error::AlreadyExists { .. }) => {}
        Ok(()) => return Err(refused(place, "it let an object be created that exists")),
        Err(source) => return Err(failed(place, source)),
    }
    let there: Bytes = match objects.get(path).await {
        Ok(got) => got.bytes().await.map_err(|source| failed(place, source))?,
        Err(source) => return Err(failed(place, source)),
    };
    if there == FIRST {
        Ok(())
    } else {
        Err(refused(place, "it replaced an object although it said that it would not"))
    }
}

async fn create(objects: &dyn ObjectStore, path: &Path, content: &'static [u8]) -> Result<(), Error> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    objects.put_opts(path, PutPayload::from_static(content), options).await.map(|_| ())
}

fn refused(place: &str, found: &str) -> StorageError {
    StorageError::NoConditionalPut { place: place.to_string(), found: found.to_string() }
}

fn failed(place: &str, source: Error) -> StorageError {
    let place = place.to_string();
    match source {
        Error::NotFound { .. } => StorageError::NoBucket { place, source },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StorageError::Denied { place, source },
        Error::NotImplemented { .. } => StorageError::NoConditionalPut { place, found: source.to_string() },
        // A store that knows the header and cannot do it answers 501.
        source if source.to_string().contains("501 Not Implemented") => {
            StorageError::NoConditionalPut { place, found: source.to_string() }
        }
        source => StorageError::Unreachable { place, source },
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Arc;

    use async_trait::async_trait;
    use futures::stream::BoxStream;
    use object_store::memory::InMemory;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutResult,
        Result,
    };
    use url::Url;

    use super::*;

    /// What a store does with a put that is conditional.
    #[derive(Debug, Clone, Copy)]
    enum Habit {
        Honest,
        /// Takes every put, as stores do that do not know the header.
        Ignores,
        /// Refuses in words, and overwrites all the same.
        Lies,
        /// Loses its first reply.
        Forgets,
        Refuses,
    }

    #[derive(Debug)]
    struct Habitual(InMemory, Habit);

    impl fmt::Display for Habitual {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{:?}", self.1)
        }
    }

    #[async_trait]
    impl ObjectStore for Habitual {
        async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
            let unconditional = PutOptions { mode: PutMode::Overwrite, ..options.clone() };
            match self.1 {
                Habit::Honest => self.0.put_opts(path, payload, options).await,
                Habit::Ignores => self.0.put_opts(path, payload, unconditional).await,
                Habit::Lies => {
                    let result = self.0.put_opts(path, payload.clone(), options).await;
                    self.0.put_opts(path, payload, unconditional).await?;
                    result
                }
                Habit::Forgets => {
                    let result = self.0.put_opts(path, payload.clone(), options.clone()).await;
                    if result.is_ok() { self.0.put_opts(path, payload, options).await } else { result }
                }
                Habit::Refuses => Err(Error::PermissionDenied { path: path.to_string(), source: "403".into() }),
            }
        }

        async fn put_multipart_opts(
            &self,
            path: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.0.put_multipart_opts(path, options).await
        }

        async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
            self.0.get_opts(path, options).await
        }

        fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            self.0.delete_stream(paths)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.0.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.0.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.0.copy_opts(from, to, options).await
        }
    }

    async fn checked(habit: Habit) -> std::result::Result<(), StorageError> {
        let store = Arc::new(Habitual(InMemory::new(), habit));
        let storage = Storage::new(Arc::clone(&store) as _, Url::parse("s3://bucket/prefix").unwrap()).unwrap();
        let checked = check(&storage, "s3://bucket/prefix at test").await;
        let left = store.list_with_delimiter(None).await.unwrap();
        assert!(left.objects.is_empty() && left.common_prefixes.is_empty(), "the probe is gone");
        checked
    }

    #[tokio::test]
    async fn a_store_with_conditional_puts_passes() {
        checked(Habit::Honest).await.unwrap();
        checked(Habit::Forgets).await.unwrap();
    }

    #[tokio::test]
    async fn a_store_without_is_refused_by_name() {
        for habit in [Habit::Ignores, Habit::Lies] {
            let error = checked(habit).await.unwrap_err();
            assert!(matches!(error, StorageError::NoConditionalPut { .. }), "{error}");
            assert!(
                error.to_string().starts_with("storage s3://bucket/prefix at test: the store has no conditional puts")
            );
            assert!(!error.is_retryable());
        }
    }

    #[tokio::test]
    async fn refused_credentials_say_which_to_give() {
        let error = checked(Habit::Refuses).await.unwrap_err();
        assert!(matches!(error, StorageError::Denied { .. }), "{error}");
        assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
    }
}
