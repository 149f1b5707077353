//! The door through real sockets, with kafka-protocol's client side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::broker::Broker;
use crate::clock::ManualClock;
use crate::config::BrokerConfig;
use crate::fs::SimFs;

struct Door {
    server: KafkaServer,
}

impl Door {
    async fn open() -> Self {
        Self::with(DoorSettings::default()).await
    }

    async fn with(settings: DoorSettings) -> Self {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let broker = Broker::open(BrokerConfig::new("/data"), Arc::new(SimFs::new()), clock).unwrap();
        let settings = DoorSettings { listen: "127.0.0.1:0".parse().unwrap(), ..settings };
        Self { server: KafkaServer::start(Arc::new(broker), settings).await.unwrap() }
    }

    async fn dial(&self) -> Client {
        Client { stream: TcpStream::connect(self.server.address()).await.unwrap(), correlation: 0 }
    }
}

struct Client {
    stream: TcpStream,
    correlation: i32,
}

impl Client {
    async fn send(&mut self, frame: &[u8]) {
        self.stream.write_i32(frame.len() as i32).await.unwrap();
        self.stream.write_all(frame).await.unwrap();
    }

    /// The next answer, without its size; `None` where the connection was closed.
    async fn receive(&mut self) -> Option<Bytes> {
        let size = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; size as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    async fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("tests")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.send(&frame).await;
        let mut answer = self.receive().await.expect("an answer");
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation);
        let response = R::Response::decode(&mut answer, version).unwrap();
        assert!(!answer.has_remaining(), "{} bytes behind the answer", answer.remaining());
        response
    }
}

#[tokio::test]
async fn every_version_of_api_versions_tells_what_is_served() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    for version in 0..=4 {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("tests"))
            .with_client_software_version(StrBytes::from_static_str("1.0"));
        let request = if version < 3 { ApiVersionsRequest::default() } else { request };
        let response = client.ask(&request, version).await;
        assert_eq!(response.error_code, 0, "version {version}");
        let told: Vec<_> = response.api_keys.iter().map(|a| (a.api_key, a.min_version, a.max_version)).collect();
        let served: Vec<_> =
            apis::APIS.iter().map(|a| (a.key as i16, *a.advertised().start(), *a.advertised().end())).collect();
        assert_eq!(told, served);
        assert!(told.contains(&(18, 0, 4)));
    }
    door.server.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    let mut frame = BytesMut::new();
    frame.put_i16(ApiKey::ApiVersions as i16);
    frame.put_i16(99);
    frame.put_i32(7);
    frame.put_i16(-1);
    frame.put_slice(b"whatever version 99 has here");
    client.send(&frame).await;
    let mut answer = client.receive().await.unwrap();
    assert_eq!(answer.get_i32(), 7, "the correlation id");
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(response.error_code, 35, "UNSUPPORTED_VERSION");
    assert!(response.api_keys.iter().any(|a| a.api_key == 18 && a.max_version == 4));
    // The client steps down on the same connection.
    assert_eq!(client.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
}
