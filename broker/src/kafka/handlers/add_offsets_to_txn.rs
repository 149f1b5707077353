//! AddOffsetsToTxn (25), versions 0-3: the transaction will commit offsets of a group.
//!
//! Before version 2 a fenced producer reads INVALID_PRODUCER_EPOCH. Groups of Highwater's own are refused with GROUP_AUTHORIZATION_FAILED.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use crate::kafka::Context;
use crate::kafka::errors::{group_code, transaction_error};
use crate::transactions::Producer;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=3;

/// From here on clients know PRODUCER_FENCED.
const KNOWS_FENCED: i16 = 2;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: AddOffsetsToTxnRequest,
    version: i16,
) -> AddOffsetsToTxnResponse {
    let answer = AddOffsetsToTxnResponse::default();
    if let Err(error) = cx.groups.check_own(&request.group_id) {
        return answer.with_error_code(group_code(error));
    }
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    match cx.transactions.add_group(&request.transactional_id, producer, &request.group_id).await {
        Ok(()) => answer,
        Err(error) => answer.with_error_code(transaction_error(&error, version >= KNOWS_FENCED).code()),
    }
}
