//! gzip, of one or several members.

use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{BatchError, broken, read_capped};

const NAME: &str = "gzip";

pub(super) fn decompress(packed: &[u8], max_size_bytes: usize) -> Result<Vec<u8>, BatchError> {
    read_capped(NAME, decoder(packed), max_size_bytes)
}

pub(super) fn decoder(packed: &[u8]) -> impl Read {
    MultiGzDecoder::new(packed)
}

pub(super) fn compress(block: &[u8]) -> Result<Vec<u8>, BatchError> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(block).and_then(|()| encoder.finish()).map_err(|error| broken(NAME, &error))
}
