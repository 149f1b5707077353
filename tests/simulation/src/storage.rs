//! Object storage of a history: in memory, slow, and away at times.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

use crate::coverage::Coverage;
use crate::random::Random;
use crate::time::Time;

/// See the module's text. It outlives crashes: it is not on the machine.
pub struct SimStorage {
    inner: InMemory,
    time: Time,
    random: Mutex<Random>,
    /// Calls of a thousand that are refused, and of those carried out, as many whose answer is lost.
    faults: Mutex<u64>,
    coverage: Coverage,
}

impl SimStorage {
    /// Empty, and without faults.
    pub fn new(time: Time, random: Random, coverage: Coverage) -> Arc<Self> {
        Arc::new(Self { inner: InMemory::new(), time, random: Mutex::new(random), faults: Mutex::new(0), coverage })
    }

    /// From now on so many calls of a thousand fail.
    pub fn set_faults(&self, per_mille: u64) {
        *self.faults.lock() = per_mille;
    }

    /// A call: it takes a while, and is perhaps not carried out, or not answered.
    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let ms = self.random.lock().between(0, 20);
        self.time.pause_ms(ms).await;
        if self.fails() {
            self.coverage.met("calls refused by storage");
            return Err(away("503 slow down"));
        }
        let done = call.await?;
        if self.fails() {
            self.coverage.met("storage calls whose answer was lost");
            return Err(away("the connection was reset"));
        }
        Ok(done)
    }

    fn fails(&self) -> bool {
        let per_mille = *self.faults.lock();
        self.random.lock().chance(per_mille)
    }
}

impl fmt::Display for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStorage")
    }
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn away(answer: &'static str) -> Error {
    Error::Generic { store: "SimStorage", source: answer.into() }
}

#[async_trait]
impl ObjectStore for SimStorage {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.call(self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.fails() {
            self.coverage.met("calls refused by storage");
            return Box::pin(futures::stream::once(async { Err(away("503 slow down")) }));
        }
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
