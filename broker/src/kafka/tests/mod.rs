//! The door through real sockets, with `kafka-protocol` on the client's side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{self, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::broker::Broker;
use crate::clock::{Clock, ManualClock};
use crate::config::BrokerConfig;
use crate::fs::SimFs;
use crate::topic_config::TopicConfig;

mod committed;
mod fetching;
mod groups;
mod limits;
mod lookups;
mod producing;
mod security;
mod sessions;
mod topics;
mod transactions;

const NOW: i64 = 1_700_000_000_000;

/// A door and the broker behind it, on a disk in memory.
struct Door {
    broker: Arc<Broker>,
    server: KafkaServer,
}

impl Door {
    async fn open() -> Self {
        Self::with(DoorSettings::default()).await
    }

    async fn with(settings: DoorSettings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
        let broker = Arc::new(Broker::open(BrokerConfig::new("/data"), Arc::new(SimFs::new()), clock).unwrap());
        let settings = DoorSettings { listen: "127.0.0.1:0".parse().unwrap(), ..settings };
        let server = KafkaServer::start(Arc::clone(&broker), settings).await.unwrap();
        Self { broker, server }
    }

    /// A topic as Kafka clients make them.
    async fn topic(&self, name: &str, partitions: i32) {
        self.broker.ensure_topic(name, TopicConfig::kafka(partitions)).await.unwrap();
    }

    async fn dial(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(self.server.address()).await.unwrap();
        // Size and frame are written apart: else each request waits for the acknowledgement of its size.
        stream.set_nodelay(true).unwrap();
        Client::new(stream)
    }
}

struct Client<S> {
    stream: S,
    correlation: i32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    fn new(stream: S) -> Self {
        Self { stream, correlation: 0 }
    }

    async fn send(&mut self, frame: &[u8]) {
        self.stream.write_i32(frame.len() as i32).await.unwrap();
        self.stream.write_all(frame).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next answer, without its size; `None` where the connection was closed.
    async fn receive(&mut self) -> Option<Bytes> {
        let size = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; size as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    /// Waits until the door closes the connection, and says that it did without another answer.
    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.stream.read_to_end(&mut rest)).await;
        // A reset is an end as well.
        ended.expect("the connection stays open").map_or(true, |size| size == 0)
    }

    async fn post<R: Request>(&mut self, request: &R, version: i16) {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(text("tests")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.send(&frame).await;
    }

    async fn answer<R: Request>(&mut self, correlation: i32, version: i16) -> R::Response {
        let answer = self.receive().await.expect("an answer");
        let (answered, response) = decode_answer::<R>(answer, version);
        assert_eq!(answered, correlation);
        response
    }

    async fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.post(request, version).await;
        self.answer::<R>(self.correlation, version).await
    }
}

/// Correlation id and body of an answer, which is decoded to its last byte.
fn decode_answer<R: Request>(mut answer: Bytes, version: i16) -> (i32, R::Response) {
    let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
    let response = R::Response::decode(&mut answer, version).unwrap();
    assert!(!answer.has_remaining(), "{} bytes behind the answer", answer.remaining());
    (header.correlation_id, response)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// What sets one batch apart from another.
#[derive(Clone, Copy)]
struct Stamp {
    timestamp_ms: i64,
    producer_id: i64,
    producer_epoch: i16,
    sequence: i32,
    transactional: bool,
}

impl Default for Stamp {
    fn default() -> Self {
        Self { timestamp_ms: NOW, producer_id: -1, producer_epoch: -1, sequence: -1, transactional: false }
    }
}

/// A batch of these values, as `kafka-protocol` encodes it.
fn stamped(values: &[&str], stamp: Stamp) -> Bytes {
    let records: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(index, value)| records::Record {
            transactional: stamp.transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: stamp.producer_id,
            producer_epoch: stamp.producer_epoch,
            timestamp_type: records::TimestampType::Creation,
            offset: index as i64,
            sequence: if stamp.sequence < 0 { index as i32 } else { stamp.sequence + index as i32 },
            timestamp: stamp.timestamp_ms,
            key: None,
            value: Some(Bytes::from(value.to_string())),
            headers: Default::default(),
        })
        .collect();
    let options = RecordEncodeOptions { version: 2, compression: records::Compression::None };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    bytes.freeze()
}

fn batch(values: &[&str]) -> Bytes {
    stamped(values, Stamp::default())
}

/// Offsets and values of whole batches back to back.
fn values(mut batches: Bytes) -> Vec<(i64, String)> {
    let sets = RecordBatchDecoder::decode_all(&mut batches).unwrap();
    let records = sets.into_iter().flat_map(|set| set.records);
    records.map(|r| (r.offset, String::from_utf8(r.value.unwrap().to_vec()).unwrap())).collect()
}

/// A Produce request with acks -1.
fn produce(parts: &[(&str, i32, Bytes)]) -> ProduceRequest {
    let topics = parts.iter().map(|(topic, partition, batch)| {
        let data = PartitionProduceData::default().with_index(*partition).with_records(Some(batch.clone()));
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data])
    });
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(topics.collect())
}
