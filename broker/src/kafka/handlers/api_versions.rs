//! ApiVersions (18), versions 0-4: which APIs are served, from the table in `apis`.
//!
//! An unknown version is answered with the body of version 0, UNSUPPORTED_VERSION and the whole table, so that a newer client can step
//! down. The header of the answer is always of version 0, because the client does not know yet what we speak.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::kafka::Context;
use crate::kafka::apis::APIS;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=4;

pub(in crate::kafka) async fn handle(_: &Context, request: ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    if version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version)) {
        return ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    answer()
}

/// The answer to a version that we do not know.
pub(in crate::kafka) fn unsupported() -> ApiVersionsResponse {
    answer().with_error_code(ResponseError::UnsupportedVersion.code())
}

fn answer() -> ApiVersionsResponse {
    let keys = APIS.iter().map(|api| {
        let versions = api.advertised();
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(*versions.start())
            .with_max_version(*versions.end())
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

/// Letters, digits, dots and dashes, beginning and ending with a letter or digit.
fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}
