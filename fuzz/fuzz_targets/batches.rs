//! A record batch of a Kafka client, through the check that it must pass to be stored, and through what reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|batch: &[u8]| {
    if let Err(bug) = highwater_broker::batch::probe(batch) {
        panic!("{bug}");
    }
});
