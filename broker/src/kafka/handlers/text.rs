//! Text between the protocol and us.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

pub(super) fn ours(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}

pub(super) fn ours_if_any(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(ours)
}

pub(super) fn theirs(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn theirs_if_any(text: Option<&Arc<str>>) -> Option<StrBytes> {
    text.map(|text| theirs(text))
}
