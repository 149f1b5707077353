//! A local object store whose puts are durable when they return.
//!
//! A put goes: write a staging file beside the target (`<name>#<number>`, the form object_store's local store keeps out of
//! listings) -> fsync it -> link (create) or rename (overwrite) it to its name -> fsync the directory. Only then does it count. The
//! content is synced before the name exists, so a crash never shows a name with half its content. Directories made on
//! the way are synced into their parents first.
//!
//! Reads, listings and deletions are object_store's own. A deletion is not synced: what comes back after power loss is
//! swept again.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result, UploadPart,
};
use parking_lot::Mutex;

const STORE: &str = "DurableLocal";
/// How many directories are remembered as durable before the memory is emptied (and they are synced once more).
const MAX_KNOWN_DIRECTORIES: usize = 16_384;

/// object_store's local file system, rooted at `/`, with durable puts.
#[derive(Debug, Clone)]
pub struct DurableLocal {
    files: LocalFileSystem,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Directories whose own entries, up to `/`, this process knows to be on disk.
    durable: Mutex<HashSet<PathBuf>>,
    /// Makes staging names unique within the process.
    staged: AtomicU64,
}

impl DurableLocal {
    /// The whole file system, paths from `/`.
    pub fn new() -> Self {
        Self { files: LocalFileSystem::new(), shared: Arc::default() }
    }
}

impl Default for DurableLocal {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DurableLocal(file:///)")
    }
}

impl Shared {
    /// Makes the directory, where missing, and syncs it and those above it into their parents.
    fn make_durable(&self, directory: &FsPath) -> io::Result<()> {
        if self.durable.lock().contains(directory) {
            return Ok(());
        }
        create_dir_durably(directory)?;
        let mut durable = self.durable.lock();
        if durable.len() >= MAX_KNOWN_DIRECTORIES {
            durable.clear();
        }
        durable.insert(directory.to_path_buf());
        Ok(())
    }

    /// A new staging file beside `target`, in a durable directory.
    fn stage(&self, target: &FsPath) -> io::Result<(File, PathBuf)> {
        let directory = target.parent().ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        self.make_durable(directory)?;
        loop {
            let number = self.staged.fetch_add(1, Ordering::Relaxed);
            let mut name = target.as_os_str().to_owned();
            // Process id first: two processes may write the same object at the same time.
            name.push(format!("#{}{number:06}", std::process::id()));
            let path = PathBuf::from(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    // Somebody removed the directory since: what was known of it is void.
                    self.durable.lock().clear();
                    self.make_durable(directory)?;
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// Gives a synced staging file its name and syncs the directory. The staging name is gone afterwards in any case.
fn publish(staged: &FsPath, target: &FsPath, create: bool) -> io::Result<()> {
    let named = if create {
        // A link fails where the name exists: that is the atomic "create".
        fs::hard_link(staged, target)
    } else {
        fs::rename(staged, target)
    };
    if create || named.is_err() {
        discard(staged);
    }
    named?;
    sync_parent(target)
}

/// Removes a staging file. If that fails it stays behind: listings do not show it, and nothing refers to it.
fn discard(staged: &FsPath) {
    if let Err(error) = fs::remove_file(staged) {
        tracing::debug!(path = %staged.display(), %error, "a staging file could not be removed");
    }
}

fn sync_directory(directory: &FsPath) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn sync_parent(path: &FsPath) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes a directory and whatever is missing above it, and syncs the new entries. Where the directory is there already, its own entry is
/// synced all the same: another process may have made it a moment ago.
pub(super) fn create_dir_durably(directory: &FsPath) -> io::Result<()> {
    let mut unsynced = Vec::new();
    let mut at = Some(directory);
    while let Some(path) = at.filter(|p| !p.as_os_str().is_empty()) {
        unsynced.push(path);
        if path.is_dir() {
            break;
        }
        at = path.parent();
    }
    fs::create_dir_all(directory)?;
    for path in unsynced {
        match path.parent() {
            // A directory above the storage root may be closed to us (search permission only). It was there before us.
            Some(parent) if parent.as_os_str().is_empty() => sync_directory(FsPath::new("."))?,
            Some(parent) => match sync_directory(parent) {
                Err(e) if e.kind() == ErrorKind::PermissionDenied => {}
                other => other?,
            },
            None => {}
        }
    }
    Ok(())
}

fn failed(operation: &str, path: &FsPath, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::AlreadyExists => Error::AlreadyExists { path: path.display().to_string(), source: Box::new(source) },
        ErrorKind::NotFound => Error::NotFound { path: path.display().to_string(), source: Box::new(source) },
        kind => {
            let message = format!("{operation} {}: {source}", path.display());
            Error::Generic { store: STORE, source: Box::new(io::Error::new(kind, message)) }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn refuse_attributes(empty: bool) -> Result<()> {
    if empty {
        Ok(())
    } else {
        Err(Error::NotImplemented { operation: "object attributes".to_string(), implementer: STORE.to_string() })
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        refuse_attributes(opts.attributes.is_empty())?;
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "a put conditional on a version".to_string(),
                    implementer: STORE.to_string(),
                });
            }
        };
        let target = self.files.path_to_filesystem(location)?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let (mut file, staged) = shared.stage(&target).map_err(|e| failed("creating", &target, e))?;
            let written = payload.iter().try_for_each(|part| file.write_all(part)).and_then(|()| file.sync_all());
            drop(file);
            if let Err(e) = written {
                discard(&staged);
                return Err(failed("writing", &target, e));
            }
            publish(&staged, &target, create).map_err(|e| failed("naming", &target, e))?;
            Ok(PutResult { e_tag: None, version: None })
        })
        .await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        refuse_attributes(opts.attributes.is_empty())?;
        let target = self.files.path_to_filesystem(location)?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let (file, staged) = shared.stage(&target).map_err(|e| failed("creating", &target, e))?;
            let upload: Box<dyn MultipartUpload> =
                Box::new(Upload { target, staged: Some(staged), file: Arc::new(file), offset: 0 });
            Ok(upload)
        })
        .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    /// A second name for the same content: what was put durably needs only its new name synced.
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let source = self.files.path_to_filesystem(from)?;
        let target = self.files.path_to_filesystem(to)?;
        let create = matches!(options.mode, CopyMode::Create);
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let (file, staged) = shared.stage(&target).map_err(|e| failed("creating", &target, e))?;
            drop(file);
            let linked = fs::remove_file(&staged).and_then(|()| fs::hard_link(&source, &staged));
            linked.map_err(|e| failed("copying", &source, e))?;
            publish(&staged, &target, create).map_err(|e| failed("naming", &target, e))
        })
        .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let mode = match options.target_mode {
            RenameTargetMode::Create => CopyMode::Create,
            RenameTargetMode::Overwrite => CopyMode::Overwrite,
        };
        // The new name is durable before the old one goes.
        self.copy_opts(from, to, CopyOptions { mode, extensions: options.extensions }).await?;
        let source = self.files.path_to_filesystem(from)?;
        blocking(move || {
            fs::remove_file(&source)
                .and_then(|()| sync_parent(&source))
                .map_err(|e| failed("removing the old name of", &source, e))
        })
        .await
    }
}

/// An upload in parts, to a staging file; durable at `complete`.
#[derive(Debug)]
struct Upload {
    target: PathBuf,
    staged: Option<PathBuf>,
    file: Arc<File>,
    offset: u64,
}

impl Upload {
    fn take_staged(&mut self) -> Result<PathBuf> {
        self.staged.take().ok_or_else(|| {
            let ended = io::Error::other("this upload was completed or aborted already");
            failed("writing", &self.target, ended)
        })
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.offset;
        self.offset += data.content_length() as u64;
        let (file, target) = (Arc::clone(&self.file), self.target.clone());
        blocking(move || {
            use std::os::unix::fs::FileExt;
            for part in &data {
                file.write_all_at(part, offset).map_err(|e| failed("writing", &target, e))?;
                offset += part.len() as u64;
            }
            Ok(())
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.take_staged()?;
        let (file, target) = (Arc::clone(&self.file), self.target.clone());
        blocking(move || {
            if let Err(e) = file.sync_all() {
                discard(&staged);
                return Err(failed("syncing", &target, e));
            }
            publish(&staged, &target, false).map_err(|e| failed("naming", &target, e))?;
            Ok(PutResult { e_tag: None, version: None })
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = self.take_staged()?;
        blocking(move || fs::remove_file(&staged).map_err(|e| failed("removing", &staged, e))).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(staged) = self.staged.take() {
            discard(&staged);
        }
    }
}
