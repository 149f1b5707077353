//! Frames from a socket.
//!
//! ```text
//! i32 size of what follows · i16 API key · ...
//! ```
//!
//! The size is checked before a byte is allocated for it: Produce may be as large as the door's budget for all connections, any other
//! request is smaller by far. Then that many permits are taken, and only then is there a buffer.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::end::Closed;
use super::transfer_time;
use crate::kafka::settings::DoorSettings;

/// Key, version, correlation id and the length of the client id.
const MIN_SIZE_BYTES: usize = 10;
/// Largest frame of a client that has not logged in.
const STRANGERS_SIZE_BYTES: usize = 64 << 10;
/// Small requests that came together are read together.
const BUFFER_SIZE_BYTES: usize = 8 << 10;

/// A request, without its size in front.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// Its size in the budget of bytes on their way; given back once it is answered.
    pub(super) permit: OwnedSemaphorePermit,
}

/// The reading side of a connection.
pub(super) struct Input<'a, R> {
    stream: BufReader<R>,
    settings: &'a DoorSettings,
}

impl<'a, R: AsyncRead + Unpin> Input<'a, R> {
    pub(super) fn new(stream: R, settings: &'a DoorSettings) -> Self {
        Self { stream: BufReader::with_capacity(BUFFER_SIZE_BYTES, stream), settings }
    }

    /// The next frame; `None` where the client left between two. Waits for the first byte as long as an idle client may take, longer while
    /// `is_busy` says that it waits for us.
    pub(super) async fn next(
        &mut self,
        in_flight: &Arc<Semaphore>,
        is_busy: impl Fn() -> bool,
    ) -> Result<Option<Frame>, Closed> {
        let timeout_ms = self.settings.idle_timeout_ms;
        loop {
            match tokio::time::timeout(Duration::from_millis(timeout_ms), self.stream.fill_buf()).await {
                Ok(filled) => {
                    if filled.map_err(Closed::Io)?.is_empty() {
                        return Ok(None);
                    }
                    break;
                }
                Err(_) if is_busy() => {}
                Err(_) => return Err(Closed::Idle { timeout_ms }),
            }
        }
        let mut start = [0; 6];
        within(transfer_time(self.settings, 0), self.stream.read_exact(&mut start)).await?;
        let [a, b, c, d, key @ ..] = start;
        let size_bytes = self.check_size(i32::from_be_bytes([a, b, c, d]), i16::from_be_bytes(key))?;
        let permits = u32::try_from(size_bytes).unwrap_or(u32::MAX);
        // The budget is never closed, so this waits until there is room.
        let closed = |_| Closed::Io(std::io::ErrorKind::NotConnected.into());
        let permit = Arc::clone(in_flight).acquire_many_owned(permits).await.map_err(closed)?;
        let bytes = within(transfer_time(self.settings, size_bytes), self.fill(&key, size_bytes)).await?;
        Ok(Some(Frame { bytes, permit }))
    }

    /// The next frame of a client that has not logged in, which may be no Kafka request; `None` where the client left between two. The
    /// caller limits the time.
    pub(super) async fn next_of_stranger(&mut self) -> Result<Option<Bytes>, Closed> {
        if self.stream.fill_buf().await.map_err(Closed::Io)?.is_empty() {
            return Ok(None);
        }
        let size_bytes = self.stream.read_i32().await.map_err(broken)?;
        let size = usize::try_from(size_bytes).ok().filter(|size| *size <= STRANGERS_SIZE_BYTES);
        let size = size.ok_or(Closed::Size { size_bytes, least: 0, most: STRANGERS_SIZE_BYTES })?;
        self.fill(&[], size).await.map(Some).map_err(broken)
    }

    /// A frame of this size, of which the start was read.
    async fn fill(&mut self, start: &[u8], size_bytes: usize) -> std::io::Result<Bytes> {
        let mut bytes = BytesMut::with_capacity(size_bytes);
        bytes.extend_from_slice(start);
        let mut rest = (&mut self.stream).take((size_bytes - start.len()) as u64);
        while bytes.len() < size_bytes {
            if rest.read_buf(&mut bytes).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(bytes.freeze())
    }

    fn check_size(&self, size_bytes: i32, key: i16) -> Result<usize, Closed> {
        let most = if key == ApiKey::Produce as i16 {
            self.settings.max_in_flight_bytes
        } else {
            self.settings.max_request_size_bytes.min(self.settings.max_in_flight_bytes)
        };
        let size = usize::try_from(size_bytes).ok().filter(|size| (MIN_SIZE_BYTES..=most).contains(size));
        size.ok_or(Closed::Size { size_bytes, least: MIN_SIZE_BYTES, most })
    }
}

/// Reads within a time.
async fn within<T>(time: Duration, read: impl Future<Output = std::io::Result<T>>) -> Result<T, Closed> {
    match tokio::time::timeout(time, read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(broken(error)),
        Err(_) => Err(Closed::Slow { what: "a request", timeout_ms: time.as_millis() as u64 }),
    }
}

fn broken(error: std::io::Error) -> Closed {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Closed::Half,
        _ => Closed::Io(error),
    }
}
