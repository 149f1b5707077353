//! A store that fails, or stands still, where a test says so. Tests of other crates use this very file:
//! `#[path = ".../sinks/src/testing/fault_store.rs"] mod fault_store;`.

#![allow(dead_code, reason = "each of its users needs a part of it")]

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Notify, Semaphore};

/// What happens to a put.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing is written; the error says the disk is full.
    DiskFull,
    /// It is written, but the reply is an error.
    LostReply,
    /// It is written; once there is a permit, the reply is an error.
    LateLostReply(Arc<Semaphore>),
    /// It waits for a permit, then goes on.
    Hold(Arc<Semaphore>),
}

struct Rule {
    part: String,
    times: usize,
    fault: Fault,
}

pub(crate) struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    rules: Mutex<Vec<Rule>>,
    /// Paths of all puts that were asked for.
    puts: Mutex<Vec<String>>,
    /// Of the puts that no rule is about, this share fails, by turns before and after it is written.
    chaos: Mutex<Option<(SmallRng, f64)>>,
    deletions: Arc<Deletions>,
}

/// Deletions that are still done; the next one stands still for ever, as it does for a process that was killed there.
struct Deletions {
    left: Mutex<usize>,
    stopped: Notify,
}

impl Deletions {
    async fn spend_one(&self) {
        let before = {
            let mut left = self.left.lock();
            let before = *left;
            *left = before.saturating_sub(1);
            before
        };
        if before == 0 {
            self.stopped.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

impl FaultStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        let deletions = Deletions { left: Mutex::new(usize::MAX), stopped: Notify::new() };
        Self {
            inner,
            rules: Mutex::default(),
            puts: Mutex::default(),
            chaos: Mutex::default(),
            deletions: Arc::new(deletions),
        }
    }

    /// From now on so many deletions are done, and the next one stands still.
    pub(crate) fn stop_after_deletions(&self, deletions: usize) {
        *self.deletions.left.lock() = deletions;
    }

    /// Waits until one stands still.
    pub(crate) async fn stopped(&self) {
        self.deletions.stopped.notified().await;
    }

    /// From now on each put fails with this probability: half of them before it is written, half after.
    pub(crate) fn chaos(&self, seed: u64, probability: f64) {
        *self.chaos.lock() = Some((SmallRng::seed_from_u64(seed), probability));
    }

    /// The next `times` puts whose path contains `part` suffer this.
    pub(crate) fn inject(&self, part: &str, times: usize, fault: Fault) {
        self.rules.lock().push(Rule { part: part.to_string(), times, fault });
    }

    pub(crate) fn heal(&self) {
        self.rules.lock().clear();
        *self.chaos.lock() = None;
    }

    pub(crate) fn puts(&self, part: &str) -> usize {
        self.puts.lock().iter().filter(|p| p.contains(part)).count()
    }

    fn fault(&self, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock();
        if let Some(rule) = rules.iter_mut().find(|r| r.times > 0 && path.contains(&r.part)) {
            rule.times -= 1;
            return Some(rule.fault.clone());
        }
        let mut chaos = self.chaos.lock();
        let (random, probability) = chaos.as_mut()?;
        if !random.random_bool(*probability) {
            return None;
        }
        Some(if random.random_bool(0.5) { Fault::DiskFull } else { Fault::LostReply })
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn error(kind: std::io::ErrorKind) -> Error {
    Error::Generic { store: "FaultStore", source: Box::new(std::io::Error::from(kind)) }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.puts.lock().push(location.to_string());
        match self.fault(location.as_ref()) {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::DiskFull) => Err(error(std::io::ErrorKind::StorageFull)),
            Some(Fault::LostReply) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(error(std::io::ErrorKind::ConnectionReset))
            }
            Some(Fault::LateLostReply(gate)) => {
                self.inner.put_opts(location, payload, opts).await?;
                gate.acquire().await.unwrap().forget();
                Err(error(std::io::ErrorKind::ConnectionReset))
            }
            Some(Fault::Hold(gate)) => {
                gate.acquire().await.unwrap().forget();
                self.inner.put_opts(location, payload, opts).await
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, deletions) = (Arc::clone(&self.inner), Arc::clone(&self.deletions));
        let delete = move |location: Result<Path>| {
            let (inner, deletions) = (Arc::clone(&inner), Arc::clone(&deletions));
            async move {
                let location = location?;
                deletions.spend_one().await;
                inner.delete(&location).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
