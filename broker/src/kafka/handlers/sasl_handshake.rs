//! SaslHandshake (17), versions 0-1: the client chooses how it logs in. PLAIN is all there is.
//!
//! After version 1 the token comes in SaslAuthenticate; after version 0 it comes bare, as a frame without a Kafka header. On a connection
//! that needs no login, or has one, it is not time for this: ILLEGAL_SASL_STATE.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;

use crate::kafka::Context;
use crate::kafka::security::{MECHANISM, Token};

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=1;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: SaslHandshakeRequest,
    version: i16,
) -> SaslHandshakeResponse {
    let response = SaslHandshakeResponse::default().with_mechanisms(vec![StrBytes::from_static_str(MECHANISM)]);
    if request.mechanism.as_str() != MECHANISM {
        return response.with_error_code(ResponseError::UnsupportedSaslMechanism.code());
    }
    let token = if version == 0 { Token::Bare } else { Token::Framed };
    if cx.session.choose(token) {
        return response;
    }
    SaslHandshakeResponse::default().with_error_code(ResponseError::IllegalSaslState.code())
}
