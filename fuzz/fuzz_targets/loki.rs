//! A decompressed Loki push: the first byte says whether it is JSON.
#![no_main]

use highwater_pipeline::sources::{Probe, probe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    probe(Probe::Loki(first & 1 == 1), body);
});
