//! A frame of a Kafka client, without its size, up to the decoded request.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    highwater_broker::kafka::probe(bytes::Bytes::copy_from_slice(frame));
});
