//! What a scraped target says, as text, OpenMetrics and protobuf.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|page: &[u8]| {
    highwater_pipeline::sources::scrape::probe(page);
});
