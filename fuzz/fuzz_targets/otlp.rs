//! An OTLP request: the first byte says of which signal, and whether it is JSON.
#![no_main]

use highwater_pipeline::sources::{Probe, probe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let json = first & 4 == 4;
    let what = match first & 3 {
        0 => Probe::OtlpLogs(json),
        1 => Probe::OtlpMetrics(json),
        _ => Probe::OtlpTraces(json),
    };
    probe(what, body);
});
