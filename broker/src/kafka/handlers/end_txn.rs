//! EndTxn (26), versions 0-3: commits or aborts the transaction.
//!
//! The outcome is durable when it is answered. The answer waits a moment for the markers, so that readers of committed records see the
//! transaction and the next one can begin at once; where that takes longer they follow. Asked again, the same outcome is answered the same
//! way. Before version 2 a fenced producer reads INVALID_PRODUCER_EPOCH. From version 5 on EndTxn would raise the epoch (transactions
//! version 2).

use std::ops::RangeInclusive;

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse};

use crate::kafka::Context;
use crate::kafka::errors::transaction_error;
use crate::transactions::Producer;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=3;

/// From here on clients know PRODUCER_FENCED.
const KNOWS_FENCED: i16 = 2;

pub(in crate::kafka) async fn handle(cx: &Context, request: EndTxnRequest, version: i16) -> EndTxnResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    match cx.transactions.end(&request.transactional_id, producer, request.committed).await {
        Ok(()) => EndTxnResponse::default(),
        Err(error) => {
            let error = transaction_error(&error, version >= KNOWS_FENCED);
            EndTxnResponse::default().with_error_code(error.code())
        }
    }
}
