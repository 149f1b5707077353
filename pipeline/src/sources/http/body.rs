//! Reading a body within its limits.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::timeout;

use super::super::budget::Reservation;
use super::super::{IngestConfig, IngestError};

/// Reads all of a body; where it fails, `body` is the rest. What has arrived counts against the reservation, not what the sender
/// announces, so an announcement alone holds no memory.
pub(super) async fn collect(
    body: &mut Body,
    headers: &HeaderMap,
    config: &IngestConfig,
    reservation: &mut Reservation,
) -> Result<Bytes, IngestError> {
    let limit_bytes = config.max_body_size_bytes;
    let too_large = IngestError::TooLarge { limit_bytes, decompressed: false };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|size_bytes| size_bytes > limit_bytes as u64) {
        return Err(too_large);
    }
    let mut frames = std::mem::take(body).into_data_stream();
    let pause = Duration::from_millis(config.body_timeout_ms);
    // Most bodies are one frame, which then needs no copy.
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    let result = loop {
        let frame = match timeout(pause, frames.next()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => break Err(IngestError::Incomplete { reason: error.to_string() }),
            Ok(None) => break Ok(()),
            Err(_) => return Err(IngestError::TooSlow { timeout_ms: config.body_timeout_ms }),
        };
        if whole.len() + pieces.len() + frame.len() > limit_bytes {
            break Err(too_large);
        }
        if let Err(busy) = reservation.grow(frame.len()) {
            break Err(busy);
        }
        if whole.is_empty() && pieces.is_empty() {
            whole = frame;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut whole));
            pieces.extend_from_slice(&frame);
        }
    };
    *body = Body::from_stream(frames);
    result.map(|()| if pieces.is_empty() { whole } else { pieces.freeze() })
}

/// Reads on and forgets, so that a sender gets to its answer; not for ever.
pub(crate) async fn discard(body: Body) {
    const MAX_SIZE_BYTES: usize = 256 << 20;
    const MAX_TIME: Duration = Duration::from_secs(10);
    let drain = async {
        let mut frames = body.into_data_stream();
        let mut size_bytes = 0;
        while let Some(Ok(frame)) = frames.next().await {
            size_bytes += frame.len();
            if size_bytes > MAX_SIZE_BYTES {
                break;
            }
        }
    };
    // Whether it ended by itself makes no difference to the answer.
    timeout(MAX_TIME, drain).await.unwrap_or_default();
}
