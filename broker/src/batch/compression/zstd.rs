//! zstd, of one or several frames.

use std::io::Read;

use zstd::stream::read::Decoder;

use super::{BatchError, broken, read_capped};

const NAME: &str = "zstd";
/// Level 1: Highwater compresses for the wire and the page cache; tables compress for keeps.
const LEVEL: i32 = 1;
/// Windows above 128 MiB are what even zstd itself refuses by default.
const MAX_WINDOW_LOG: u32 = 27;
const MIN_WINDOW_LOG: u32 = 10;

pub(super) fn decompress(packed: &[u8], max_size_bytes: usize) -> Result<Vec<u8>, BatchError> {
    read_capped(NAME, decoder(packed, max_size_bytes)?, max_size_bytes)
}

pub(super) fn decoder(packed: &[u8], max_size_bytes: usize) -> Result<impl Read, BatchError> {
    let mut decoder = Decoder::with_buffer(packed).map_err(|error| broken(NAME, &error))?;
    // The decoder allocates the frame's window, so the window is held to what may come out at all.
    let window_log = usize::BITS - max_size_bytes.leading_zeros();
    decoder.window_log_max(window_log.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG)).map_err(|error| broken(NAME, &error))?;
    Ok(decoder)
}

pub(super) fn compress(block: &[u8]) -> Result<Vec<u8>, BatchError> {
    zstd::bulk::compress(block, LEVEL).map_err(|error| broken(NAME, &error))
}
