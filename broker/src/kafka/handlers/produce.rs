//! Produce (0), versions 3-11: record batches into partitions.
//!
//! - A batch is stored as it came, but for the tenant of who produced it (see [`Context::tenant_header`]). There is exactly one per partition, of format 2; zstd may be in it from version 7 on.
//! - Partitions are checked and written side by side, each with its own error; a bad one does not hold the others up. Requests of one
//!   connection are handed to the log in the order in which they came ([`Turns`]), and wait for their sync together.
//! - `acks` 1 and -1 are answered after the sync, 0 not at all. Where something went wrong under 0 the connection is closed, which
//!   is how such a client learns that it should look again.
//! - A transactional batch needs the transactional id of its producer in the request.
//!
//! ApiVersions says 0-11 (see `apis`); versions 0-2 carry older formats and are refused.

use std::ops::RangeInclusive;

use bytes::Bytes;
use futures::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use crate::batch::{BatchError, BatchHeader, Compression};
use crate::broker::Prepared;
use crate::error::BrokerError;
use crate::kafka::Context;
use crate::kafka::apis::{self, Reply};
use crate::kafka::errors;
use crate::kafka::frame::{FrameError, RequestHead};
use crate::raw::Produced;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 3..=11;

/// The first version in which a batch may be compressed with zstd.
const ZSTD: i16 = 7;
/// The first version in which an answer has room for words and for errors of records.
const WITH_WORDS: i16 = 8;

/// What becomes of a request.
pub(in crate::kafka) enum Outcome {
    /// The client waits for this.
    Answer(ProduceResponse),
    /// It does not wait, and all is well.
    Quiet,
    /// It does not wait, and something is wrong.
    Wrong,
}

/// Makes the reply of an outcome.
pub(in crate::kafka) fn reply(head: &RequestHead, outcome: Outcome) -> Result<Reply, FrameError> {
    match outcome {
        Outcome::Answer(response) => apis::encode(head, response),
        Outcome::Quiet => Ok(Reply::Silence),
        Outcome::Wrong => Ok(Reply::HangUp),
    }
}

pub(in crate::kafka) async fn handle(cx: &Context, request: ProduceRequest, version: i16) -> Outcome {
    let turn = cx.turns.take();
    let acks = request.acks;
    let rules =
        Rules { version, valid_acks: (-1..=1).contains(&acks), transactional: request.transactional_id.is_some() };
    let names: Vec<_> = request.topic_data.iter().map(|t| (t.name.clone(), t.partition_data.len())).collect();
    let asked =
        request.topic_data.into_iter().flat_map(|t| t.partition_data.into_iter().map(move |p| (t.name.clone(), p)));
    let checks = asked.map(|(topic, partition)| {
        let rules = &rules;
        async move {
            let index = partition.index;
            (index, rules.prepare(cx, &topic, partition).await)
        }
    });
    let prepared = join_all(checks).await;

    // From here to the end of the turn in order: that of the requests, and within this one that of its partitions.
    turn.come().await;
    let mut written = Vec::with_capacity(prepared.len());
    for (index, prepared) in prepared {
        let submitted = match prepared {
            Ok(prepared) => cx.broker.submit(prepared).await.map_err(Refusal::Broker),
            Err(refusal) => Err(refusal),
        };
        written.push(async move {
            match submitted {
                Ok(answer) => (index, answer.await.map_err(Refusal::Broker)),
                Err(refusal) => (index, Err(refusal)),
            }
        });
    }
    turn.end();
    let written = join_all(written).await;

    if acks == 0 {
        let is_well = written.iter().all(|(_, result)| result.is_ok());
        return if is_well { Outcome::Quiet } else { Outcome::Wrong };
    }
    let mut answers = written.into_iter().map(|(index, result)| answer(index, result, version));
    let topics = names.into_iter().map(|(name, partitions)| {
        TopicProduceResponse::default()
            .with_name(name)
            .with_partition_responses(answers.by_ref().take(partitions).collect())
    });
    Outcome::Answer(ProduceResponse::default().with_responses(topics.collect()))
}

/// Why a batch was not written.
enum Refusal {
    /// The request is at fault.
    Request(ResponseError, &'static str),
    /// The broker refused it.
    Broker(BrokerError),
}

/// What holds for every batch of a request.
struct Rules {
    version: i16,
    valid_acks: bool,
    transactional: bool,
}

impl Rules {
    /// Checks a batch, as far as that goes before its turn comes.
    async fn prepare(&self, cx: &Context, topic: &str, partition: PartitionProduceData) -> Result<Prepared, Refusal> {
        use Refusal::Request;
        if !self.valid_acks {
            return Err(Request(ResponseError::InvalidRequiredAcks, "acks must be 0, 1 or -1 (all)"));
        }
        if !cx.may_write(topic) {
            let why = "the topic is written by Highwater itself; clients may only read it";
            return Err(Request(ResponseError::TopicAuthorizationFailed, why));
        }
        let batch = partition.records.unwrap_or_default();
        self.check(&batch)?;
        let batch = match cx.tenant_header(topic) {
            Some(header) => {
                let stamped = cx.broker.with_header(topic, partition.index, batch, header).await;
                stamped.map_err(Refusal::Broker)?
            }
            None => batch,
        };
        cx.broker.prepare(topic, partition.index, batch).await.map_err(Refusal::Broker)
    }

    /// What a batch may be in this request.
    fn check(&self, batch: &Bytes) -> Result<(), Refusal> {
        if batch.is_empty() {
            let why = "there must be exactly one record batch per partition";
            return Err(Refusal::Request(ResponseError::InvalidRecord, why));
        }
        // What is no header is refused by the broker, with better words.
        let Ok(header) = BatchHeader::parse(batch) else { return Ok(()) };
        if header.size_bytes < batch.len() {
            let why = "there must be exactly one record batch per partition";
            return Err(Refusal::Request(ResponseError::InvalidRecord, why));
        }
        if header.compression == Compression::Zstd && self.version < ZSTD {
            let why = "zstd needs version 7 of Produce or later";
            return Err(Refusal::Request(ResponseError::UnsupportedCompressionType, why));
        }
        if header.is_transactional() && !self.transactional {
            let why = "a transactional batch needs the transactional id in the request";
            return Err(Refusal::Request(ResponseError::TransactionalIdAuthorizationFailed, why));
        }
        Ok(())
    }
}

fn answer(index: i32, result: Result<Produced, Refusal>, version: i16) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    let (error, message) = match result {
        Ok(produced) => {
            return answer
                .with_base_offset(produced.base_offset)
                .with_log_append_time_ms(produced.append_time_ms.unwrap_or(-1))
                .with_log_start_offset(produced.log_start);
        }
        Err(Refusal::Request(error, why)) => (error.code(), why.to_owned()),
        Err(Refusal::Broker(ref error)) => (errors::code(error), error.to_string()),
    };
    let answer =
        answer.with_error_code(error).with_base_offset(-1).with_log_append_time_ms(-1).with_log_start_offset(-1);
    if version < WITH_WORDS {
        return answer;
    }
    let message = StrBytes::from_string(message);
    answer.with_record_errors(bad_records(&result, &message)).with_error_message(Some(message))
}

/// The record that a batch was refused for, where it is known.
fn bad_records(result: &Result<Produced, Refusal>, message: &StrBytes) -> Vec<BatchIndexAndErrorMessage> {
    match result {
        Err(Refusal::Broker(BrokerError::InvalidBatch { source: BatchError::Timestamp { index, .. }, .. })) => {
            let index = i32::try_from(*index).unwrap_or(i32::MAX);
            let error = BatchIndexAndErrorMessage::default().with_batch_index(index);
            vec![error.with_batch_index_error_message(Some(message.clone()))]
        }
        _ => Vec::new(),
    }
}
