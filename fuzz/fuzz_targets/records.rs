//! A record that any client may have written to a topic of ours: the first byte says to which topic and as what, the rest is its value.
#![no_main]

use highwater_broker::{Header, StoredRecord};
use highwater_pipeline::data::{Decoded, Decoder, RowKind, content_type};
use libfuzzer_sys::fuzz_target;

/// libFuzzer's hook ends the process at every panic. Those of Arrow's reader of schemas are expected, and caught where they arise (`data::ipc`): they
/// are no finding, and every other one still is.
fn let_arrow_panic() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|at| at.file().contains("/arrow-ipc-") || at.file().contains("/flatbuffers-"))
        {
            hook(panic);
        }
    }));
}

fuzz_target!(init: let_arrow_panic(), |bytes: &[u8]| {
    let Some((first, value)) = bytes.split_first() else { return };
    let (kind, signal) = match first & 3 {
        0 => (RowKind::Logs, "logs"),
        1 => (RowKind::Metrics, "metrics"),
        2 => (RowKind::Spans, "traces"),
        _ => (RowKind::Alerts, "logs"),
    };
    let content = match first >> 2 & 7 {
        0 => content_type::ARROW.to_owned(),
        1 => content_type::JSON.to_owned(),
        2 => content_type::NDJSON.to_owned(),
        3 => content_type::TEXT.to_owned(),
        4 => content_type::CONTROL.to_owned(),
        _ => format!("{}; otlp={signal}", content_type::PROTOBUF),
    };
    let headers = vec![Header::new(content_type::HEADER, content.into_bytes())];
    let value = Some(bytes::Bytes::copy_from_slice(value));
    let record = StoredRecord { offset: 7, timestamp_ms: 1_714_979_289_123, key: None, value, headers };
    let decoder = Decoder::new(kind);
    if let Decoded::Rows { batch, .. } = decoder.decode(1, &record) {
        assert_eq!(batch.schema(), decoder.schema());
    }
});
