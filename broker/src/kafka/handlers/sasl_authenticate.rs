//! SaslAuthenticate (36), versions 0-2: the token of the mechanism that SaslHandshake chose.
//!
//! A login holds for as long as the connection: the session lifetime is 0, and nobody is asked to log in again. After a failed one
//! the connection is closed.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use kafka_protocol::protocol::StrBytes;

use crate::kafka::Context;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=2;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: SaslAuthenticateRequest,
    _: i16,
) -> SaslAuthenticateResponse {
    let refuse = |error: ResponseError, why: &'static str| {
        SaslAuthenticateResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(why)))
    };
    match cx.session.login(&cx.door.api_keys, &request.auth_bytes) {
        Some(true) => SaslAuthenticateResponse::default(),
        Some(false) => refuse(
            ResponseError::SaslAuthenticationFailed,
            "the login failed: the user name must be the name of an API key, the password its secret",
        ),
        None => refuse(ResponseError::IllegalSaslState, "no login was begun with SaslHandshake on this connection"),
    }
}
