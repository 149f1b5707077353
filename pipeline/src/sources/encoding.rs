//! Content encodings: what a body is compressed with, and undoing it within limits.

use std::io::Read;

use bytes::Bytes;

use super::IngestError;
use super::budget::Reservation;

#[cfg(test)]
mod tests;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Not at all.
    Identity,
    /// gzip, one or more members.
    Gzip,
    /// zlib, as HTTP says, or bare deflate, as some senders do.
    Deflate,
    /// zstd frames, with windows up to the 8 MiB that HTTP allows (RFC 9659).
    Zstd,
    /// LZ4 frames.
    Lz4,
    /// Snappy, framed or one raw block.
    Snappy,
    /// One raw block of snappy, which is never empty.
    SnappyBlock,
}

const WANTED: &str = "gzip, zstd, lz4 (frame), snappy, deflate or none";
/// What a framed snappy stream starts with.
const SNAPPY_MAGIC: &[u8] = b"\xff\x06\x00\x00sNaPpY";
/// Binary logarithm of the largest zstd window.
const ZSTD_WINDOW_LOG: u32 = 23;

impl Encoding {
    /// The encoding of this name; one only, since nobody compresses twice for good reason.
    pub(super) fn named(name: &str) -> Result<Self, IngestError> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            "lz4" => Ok(Self::Lz4),
            "snappy" | "x-snappy-framed" => Ok(Self::Snappy),
            _ => Err(IngestError::UnknownEncoding { encoding: name.to_owned(), wanted: WANTED }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Snappy | Self::SnappyBlock => "snappy",
        }
    }

    /// Decompresses a body. It stops at `limit_bytes`, whatever the body says of itself, and what it makes counts against the
    /// reservation.
    pub(super) fn decode(
        self,
        body: Bytes,
        limit_bytes: usize,
        reservation: &mut Reservation,
    ) -> Result<Bytes, IngestError> {
        let mut output = Output { encoding: self, bytes: Vec::new(), limit_bytes, reservation };
        match self {
            Self::SnappyBlock => output.raw_snappy(&body)?,
            // Nothing is nothing in the others; some frames need a header even so.
            _ if body.is_empty() => {}
            Self::Identity => return Ok(body),
            Self::Gzip => output.read(flate2::bufread::MultiGzDecoder::new(&body[..]))?,
            Self::Deflate if is_zlib(&body) => output.read(flate2::bufread::ZlibDecoder::new(&body[..]))?,
            Self::Deflate => output.read(flate2::bufread::DeflateDecoder::new(&body[..]))?,
            Self::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(|e| output.corrupt(&e))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|e| output.corrupt(&e))?;
                output.read(decoder)?;
            }
            Self::Lz4 => {
                let mut rest = &body[..];
                while !rest.is_empty() {
                    output.read(lz4_flex::frame::FrameDecoder::new(&mut rest))?;
                }
            }
            Self::Snappy if body.starts_with(SNAPPY_MAGIC) => output.read(snap::read::FrameDecoder::new(&body[..]))?,
            Self::Snappy => output.raw_snappy(&body)?,
        }
        Ok(Bytes::from(output.bytes))
    }
}

/// The header of zlib: method 8, and as a number a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

/// What a decoder makes, within limits.
struct Output<'r> {
    encoding: Encoding,
    bytes: Vec<u8>,
    limit_bytes: usize,
    reservation: &'r mut Reservation,
}

impl Output<'_> {
    fn read(&mut self, mut decoder: impl Read) -> Result<(), IngestError> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            match decoder.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(size_bytes) => {
                    self.reserve(size_bytes)?;
                    self.bytes.extend_from_slice(&chunk[..size_bytes]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.corrupt(&error)),
            }
        }
    }

    /// One raw block says its size in front; it is believed only within the limits.
    fn raw_snappy(&mut self, body: &[u8]) -> Result<(), IngestError> {
        let size_bytes = snap::raw::decompress_len(body).map_err(|error| self.corrupt(&error))?;
        self.reserve(size_bytes)?;
        self.bytes = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| self.corrupt(&error))?;
        Ok(())
    }

    fn reserve(&mut self, size_bytes: usize) -> Result<(), IngestError> {
        if size_bytes > self.limit_bytes - self.bytes.len() {
            return Err(IngestError::TooLarge { limit_bytes: self.limit_bytes, decompressed: true });
        }
        self.reservation.grow(size_bytes)
    }

    fn corrupt(&self, error: &dyn std::fmt::Display) -> IngestError {
        IngestError::Undecompressable { encoding: self.encoding.name(), reason: error.to_string() }
    }
}
