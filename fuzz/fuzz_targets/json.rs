//! A decompressed body of `POST /logs` or `POST /metrics`: the first byte says which, and whether it is one entry per line.
#![no_main]

use highwater_pipeline::sources::{Probe, probe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let lines = first & 2 == 2;
    probe(if first & 1 == 1 { Probe::JsonMetrics(lines) } else { Probe::JsonLogs(lines) }, body);
});
