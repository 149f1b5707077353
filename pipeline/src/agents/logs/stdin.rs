//! Standard input, or anything else that can be read once.
//!
//! A thread of its own reads: a blocked read cannot be interrupted, and must not hold up the end of the agent.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::feed::Feed;
use super::follower::Progress;
use super::options::LogsOptions;
use crate::agents::AgentError;
use crate::agents::report::Counters;
use crate::agents::shipping::{Draft, Spool};

const BUFFER_SIZE_BYTES: usize = 64 << 10;
/// Buffers read ahead; beyond that the writer waits.
const BUFFERS: usize = 16;
const LANE: &str = "stdin";

/// Reads a stream to its end and spools its lines.
pub(crate) struct StdinSource {
    chunks: Receiver<std::io::Result<Vec<u8>>>,
    feed: Feed,
    spool: Arc<Spool>,
    wait: Duration,
    ended: bool,
}

impl StdinSource {
    /// Starts reading `input`.
    pub(crate) fn start(
        options: &LogsOptions,
        mut input: Box<dyn Read + Send>,
        spool: Arc<Spool>,
        counters: Arc<Counters>,
    ) -> Result<Self, AgentError> {
        let feed = Feed::new(options, None, 0, counters)?;
        let (sender, chunks) = sync_channel(BUFFERS);
        let read = move || {
            loop {
                let mut buffer = vec![0; BUFFER_SIZE_BYTES];
                let chunk = match input.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => {
                        buffer.truncate(count);
                        Ok(buffer)
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = chunk.is_err();
                if sender.send(chunk).is_err() || failed {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("agent-stdin".to_owned())
            .spawn(read)
            .map_err(AgentError::io("start a thread for", LANE.as_ref()))?;
        Ok(Self { chunks, feed, spool, wait: options.poll_every, ended: false })
    }

    /// Waits for the next bytes, up to the polling interval, and takes all that are there.
    pub(crate) fn step(&mut self, now_ms: i64) -> Result<Progress, AgentError> {
        self.spool_closed()?;
        let mut wait = self.wait;
        let mut caught_up = false;
        while !self.ended && self.spool.wants_more() {
            match self.chunks.recv_timeout(wait) {
                Ok(Ok(bytes)) => self.feed.push(&bytes, now_ms),
                Ok(Err(source)) => return Err(AgentError::io("read", LANE.as_ref())(source)),
                Err(RecvTimeoutError::Timeout) => {
                    caught_up = true;
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
            }
            self.spool_closed()?;
            wait = Duration::ZERO;
        }
        if self.ended {
            self.feed.finish(true, now_ms);
        } else {
            self.feed.tick(caught_up, now_ms);
        }
        self.spool_closed()?;
        Ok(match self.ended {
            true => Progress::Ended,
            false if self.spool.wants_more() => Progress::Busy,
            false => Progress::Full,
        })
    }

    /// Takes what has been written so far, and spools all of it.
    pub(crate) fn finish(&mut self, now_ms: i64) -> Result<(), AgentError> {
        while let Ok(Ok(bytes)) = self.chunks.try_recv() {
            self.feed.push(&bytes, now_ms);
        }
        self.feed.finish(true, now_ms);
        self.spool_closed()
    }

    fn spool_closed(&mut self) -> Result<(), AgentError> {
        let Self { feed, spool, .. } = self;
        feed.drain_closed(|batch| spool.push(Draft { lane: LANE, rows: batch.rows, body: &batch.body, position: None }))
    }
}
