//! A body as it comes: the first byte says how it is compressed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let encodings = ["gzip", "deflate", "zstd", "lz4", "snappy", "identity"];
    highwater_pipeline::sources::probe_encoding(encodings[usize::from(*first) % encodings.len()], body);
});
