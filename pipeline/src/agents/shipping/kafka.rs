//! The other way out: batches as records of a Kafka topic (a cluster's, or a Highwater server's Kafka port).
//!
//! A batch is one record, or several where it is large, each with one entry per line and the content type that says so; the lane is their key, so a file's rows
//! keep their order. An acknowledgement is that of all replicas. A retry that librdkafka makes writes nothing twice; one after a kill of the agent may.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

use super::door::{Answer, Later};
use super::options::ShippingOptions;
use crate::agents::AgentError;
use crate::data::content_type;

/// Begins servers that are clusters: `kafka://HOST:PORT,HOST:PORT`.
pub(crate) const SCHEME: &str = "kafka://";
/// A record holds at most this much, unless a row has more: brokers take 1 MiB unless told otherwise.
const RECORD_SIZE_BYTES: usize = 768 << 10;

/// Produces to one topic.
pub(crate) struct KafkaDoor {
    producer: FutureProducer,
    brokers: String,
    topic: String,
    timeout: Duration,
    headers: OwnedHeaders,
}

impl KafkaDoor {
    /// `topic` is `logs` or `metrics`. Nothing is sent yet.
    pub(crate) fn new(options: &ShippingOptions, brokers: &str, topic: &str) -> Result<Self, AgentError> {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "highwater-agent")
            .set("enable.idempotence", "true")
            .set("compression.type", "zstd")
            .set("linger.ms", "5")
            .set("message.timeout.ms", options.request_timeout.as_millis().to_string());
        for (name, value) in &options.kafka {
            config.set(name, value);
        }
        config.set("bootstrap.servers", brokers);
        let producer = config.create().map_err(|error: KafkaError| AgentError::Option {
            option: "--server",
            reason: format!("{SCHEME}{brokers}: {error}"),
        })?;
        let mut headers =
            OwnedHeaders::new().insert(Header { key: content_type::HEADER, value: Some(content_type::NDJSON) });
        if let Some(tenant) = &options.tenant {
            headers = headers.insert(Header { key: "tenant", value: Some(tenant) });
        }
        let (brokers, topic, timeout) = (brokers.to_owned(), topic.to_owned(), options.request_timeout);
        Ok(Self { producer, brokers, topic, timeout, headers })
    }

    /// Sends a compressed body.
    pub(crate) async fn post(&self, lane: &str, body: Bytes) -> Result<Answer, Later> {
        let text = match zstd::decode_all(&body[..]) {
            Ok(text) => text,
            Err(error) => return Ok(Answer::Refused { reason: format!("the batch does not decompress: {error}") }),
        };
        let sent = pieces(&text).map(|piece| {
            let record = FutureRecord::to(&self.topic).key(lane).payload(piece).headers(self.headers.clone());
            self.producer.send(record, Timeout::After(self.timeout))
        });
        for delivered in futures::future::join_all(sent).await {
            if let Err((error, _)) = delivered {
                let reason = format!("{SCHEME}{}, topic {}: {error}", self.brokers, self.topic);
                return match error.rdkafka_error_code() {
                    Some(Code::MessageSizeTooLarge | Code::InvalidMessage | Code::InvalidRecord) => {
                        Ok(Answer::Refused { reason })
                    }
                    _ => Err(Later { reason, wait: None, away: true }),
                };
            }
        }
        Ok(Answer::Taken { refused_rows: 0, refused: Vec::new() })
    }
}

/// A body in pieces of whole lines.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = if rest.len() <= RECORD_SIZE_BYTES {
            rest.len()
        } else {
            let fitting = memchr::memrchr(b'\n', &rest[..RECORD_SIZE_BYTES]);
            fitting.or_else(|| memchr::memchr(b'\n', rest)).map_or(rest.len(), |at| at + 1)
        };
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_lines_and_lose_nothing() {
        let line = |size: usize| [vec![b'x'; size], vec![b'\n']].concat();
        let text = [line(10), line(RECORD_SIZE_BYTES - 20), line(10), line(2 * RECORD_SIZE_BYTES), line(1)].concat();
        let all: Vec<&[u8]> = pieces(&text).collect();
        assert_eq!(all.concat(), text);
        assert!(all.iter().all(|piece| piece.ends_with(b"\n")));
        let sizes: Vec<_> = all.iter().map(|piece| piece.len()).collect();
        assert_eq!(sizes, [11 + RECORD_SIZE_BYTES - 19, 11, 2 * RECORD_SIZE_BYTES + 1, 2]);
        assert_eq!(pieces(b"").count(), 0);
    }
}
