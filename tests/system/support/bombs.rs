//! Compressed request bodies: honest ones, and small ones that claim to be a gigabyte.

use std::io::Write;

/// `text` in each content encoding.
pub fn honest(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(text).unwrap();
    vec![
        ("gzip", gzip.finish().unwrap()),
        ("zstd", zstd::bulk::compress(text, 1).unwrap()),
        ("lz4", lz4.finish().unwrap()),
        ("snappy", snap::raw::Encoder::new().compress_vec(text).unwrap()),
    ]
}

/// Bombs by name and content encoding: a gigabyte of zeros (256 MiB for snappy, which shrinks no further than 21 times). Built from
/// repeated blocks, since compressing that much takes an unoptimised build minutes.
pub fn bombs() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        ("gzip bomb", "gzip", gzip()),
        ("deflate bomb", "deflate", deflate()),
        ("zstd bomb", "zstd", zstd_frame()),
        ("lz4 bomb", "lz4", lz4()),
        ("snappy bomb", "snappy", snappy()),
        ("snappy claim", "snappy", snappy_claim()),
    ]
}

/// One block of a MiB of zeros, flushed so that it stands alone, a thousand times.
fn deflated() -> Vec<u8> {
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    let mut block = Vec::with_capacity(1 << 16);
    deflate.compress_vec(&vec![0; 1 << 20], &mut block, flate2::FlushCompress::Full).unwrap();
    block.repeat(1024)
}

fn gzip() -> Vec<u8> {
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255][..], &deflated()].concat()
}

/// The same in zlib's wrapping.
fn deflate() -> Vec<u8> {
    [&[0x78, 0xda][..], &deflated()].concat()
}

/// 8,192 run-length blocks of 128 KiB: four bytes each.
fn zstd_frame() -> Vec<u8> {
    // Magic; no checksum, no content size; a window of 128 KiB.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    let run_length_block = |last: u32| (((128 << 10) << 3) | (1 << 1) | last).to_le_bytes();
    for block in 0..8192 {
        bomb.extend(&run_length_block(u32::from(block == 8191))[..3]);
        bomb.push(0);
    }
    bomb
}

/// The first block of a frame of independent 4 MiB blocks, 256 times.
fn lz4() -> Vec<u8> {
    let info = lz4_flex::frame::FrameInfo::new()
        .block_size(lz4_flex::frame::BlockSize::Max4MB)
        .block_mode(lz4_flex::frame::BlockMode::Independent);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&vec![0; 4 << 20]).unwrap();
    let frame = encoder.finish().unwrap();
    // Magic, flags and header checksum are 7 bytes; the end mark is 4.
    let (header, rest) = frame.split_at(7);
    let (block, end) = rest.split_at(rest.len() - 4);
    [header, &block.repeat(256), end].concat()
}

fn snappy() -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&vec![0; 256 << 20]).unwrap()
}

/// A few bytes that say they are 4 GiB less one.
fn snappy_claim() -> Vec<u8> {
    vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x61]
}
