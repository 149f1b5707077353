//! InitProducerId (22), versions 0-4: a producer id for an idempotent producer, or the seat of a transactional id.
//!
//! With a transactional id the caller takes over: the epoch rises and whoever had it is fenced. Where a transaction is open it is aborted
//! first, and CONCURRENT_TRANSACTIONS is answered meanwhile. From version 3 a producer may name the id and epoch it has, to go on from there
//! after an error (KIP-360). Before version 4 a fenced producer reads INVALID_PRODUCER_EPOCH, since it does not know PRODUCER_FENCED.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::kafka::Context;
use crate::kafka::errors::transaction_error;
use crate::transactions::Producer;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=4;

/// From here on clients know PRODUCER_FENCED.
const KNOWS_FENCED: i16 = 4;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: InitProducerIdRequest,
    version: i16,
) -> InitProducerIdResponse {
    let current = match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => None,
        (-1, _) | (_, -1) => return refuse(ResponseError::InvalidRequest),
        (id, epoch) => Some(Producer { id, epoch }),
    };
    let id = request.transactional_id.as_ref().map(|id| id.0.as_str());
    match cx.transactions.init_producer(id, request.transaction_timeout_ms, current).await {
        Ok(Producer { id, epoch }) => {
            InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(epoch)
        }
        Err(error) => refuse(transaction_error(&error, version >= KNOWS_FENCED)),
    }
}

fn refuse(error: ResponseError) -> InitProducerIdResponse {
    let none = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    none.with_error_code(error.code())
}
