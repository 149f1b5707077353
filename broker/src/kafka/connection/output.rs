//! Answers to a socket: the size, then the pieces of the answer as they are, gathered by the system and not by us.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::end::Closed;
use super::transfer_time;
use crate::kafka::settings::DoorSettings;

/// The writing side of a connection.
pub(super) struct Output<'a, W> {
    stream: W,
    settings: &'a DoorSettings,
}

impl<'a, W: AsyncWrite + Unpin> Output<'a, W> {
    pub(super) fn new(stream: W, settings: &'a DoorSettings) -> Self {
        Self { stream, settings }
    }

    /// Sends an answer.
    pub(super) async fn send(&mut self, answer: Vec<Bytes>) -> Result<(), Closed> {
        let mut pieces = Pieces::with_size(answer)?;
        let time = transfer_time(self.settings, pieces.remaining());
        let write = async {
            self.stream.write_all_buf(&mut pieces).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(time, write).await {
            Ok(written) => written.map_err(Closed::Io),
            Err(_) => Err(Closed::Slow { what: "taking an answer", timeout_ms: time.as_millis() as u64 }),
        }
    }
}

/// Bytes in pieces, read one after the other.
struct Pieces {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Pieces {
    /// The pieces with their common size in front, as an i32.
    fn with_size(answer: Vec<Bytes>) -> Result<Self, Closed> {
        let size_bytes: usize = answer.iter().map(Bytes::len).sum();
        let too_large = |_| Closed::Io(std::io::Error::other("an answer above 2 GiB"));
        let size = i32::try_from(size_bytes).map_err(too_large)?;
        let mut pieces = VecDeque::with_capacity(answer.len() + 1);
        pieces.push_back(Bytes::copy_from_slice(&size.to_be_bytes()));
        pieces.extend(answer.into_iter().filter(|piece| !piece.is_empty()));
        Ok(Self { pieces, remaining: size_bytes + 4 })
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.pieces);
        filled.map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining -= count;
        while let Some(front) = self.pieces.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.pieces.pop_front();
        }
    }
}
