//! Content encodings of a request body.

use std::io::{self, Write};

/// How a body is compressed on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// As it is.
    None,
    /// RFC 1952.
    Gzip,
    /// One Zstandard frame, level 1.
    Zstd,
    /// One LZ4 frame.
    Lz4,
    /// One raw Snappy block.
    Snappy,
}

impl Compression {
    /// The value of `Content-Encoding`.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::Lz4 => Some("lz4"),
            Self::Snappy => Some("snappy"),
        }
    }

    /// The body as it is sent.
    ///
    /// # Errors
    /// What the compressor says.
    pub fn compress(self, body: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(body),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&body)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(&body, 1),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(&body)?;
                encoder.finish().map_err(io::Error::other)
            }
            Self::Snappy => snap::raw::Encoder::new().compress_vec(&body).map_err(io::Error::other),
        }
    }
}
