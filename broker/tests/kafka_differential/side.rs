//! One of the two brokers: sends it requests over a socket and notes its answers.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, FindCoordinatorRequest, InitProducerIdRequest, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::lines::{self, Lines};

/// The answers, in order, by the names of their steps.
pub type Transcript = Vec<(String, Lines)>;

/// The versions of each API.
#[derive(Clone)]
pub struct Versions(BTreeMap<i16, RangeInclusive<i16>>);

impl Versions {
    pub fn intersection(&self, other: &Self) -> Self {
        let both = |(key, range): (&i16, &RangeInclusive<i16>)| {
            let other = other.0.get(key)?;
            Some((*key, *range.start().max(other.start())..=*range.end().min(other.end())))
        };
        Self(self.0.iter().filter_map(both).collect())
    }

    pub fn of(&self, key: ApiKey) -> RangeInclusive<i16> {
        let range = self.0.get(&(key as i16)).unwrap_or_else(|| panic!("both serve {key:?}")).clone();
        // Both tell of older ones, for the sake of librdkafka, and serve none of them.
        if key == ApiKey::Produce { 3..=*range.end() } else { range }
    }
}

pub struct Side {
    who: &'static str,
    address: String,
    stream: TcpStream,
    correlation: i32,
    versions: Versions,
    /// What the broker chose, and the name that stands for it.
    names: Vec<(String, String)>,
    /// The same for numbers: at the end of which path, the number, and the name.
    numbers: Vec<(&'static str, String, String)>,
    pub transcript: Transcript,
    /// When the last step was noted.
    stepped: Instant,
}

impl Side {
    pub async fn dial(who: &'static str, address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut side = Self {
            who,
            address: address.to_owned(),
            stream,
            correlation: 0,
            versions: Versions(BTreeMap::new()),
            names: Vec::new(),
            numbers: Vec::new(),
            transcript: Vec::new(),
            stepped: Instant::now(),
        };
        let answer = side.ask(&ApiVersionsRequest::default(), 0).await.unwrap();
        let ranges = answer.api_keys.iter().map(|api| (api.api_key, api.min_version..=api.max_version));
        side.versions = Versions(ranges.collect());
        let port = address.rsplit(':').next().unwrap().to_owned();
        side.learn_number("port", port, "<port>");
        side
    }

    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Waits until the coordinators are there, which a new Kafka makes at the first request for them.
    pub async fn settle(&mut self) {
        for kind in [0, 1] {
            let request = FindCoordinatorRequest::default().with_key("settle".into()).with_key_type(kind);
            self.until_right("a coordinator", &request, 1, |answer| answer.error_code).await;
        }
        let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1000);
        let transactional = request.clone().with_transactional_id(Some(StrBytes::from_static_str("settle").into()));
        for request in [request, transactional] {
            self.until_right("a producer id", &request, 1, |answer| answer.error_code).await;
        }
    }

    /// A moment, before it is asked again whether something is so; not for ever.
    pub async fn pause(&mut self) {
        let last = self.transcript.last().map_or("the first step", |(step, _)| step.as_str());
        assert!(self.stepped.elapsed() < Duration::from_secs(60), "{} gets no further after {last}", self.who);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Asks until the answer is no error.
    async fn until_right<R: Request>(
        &mut self,
        what: &str,
        request: &R,
        version: i16,
        code: impl Fn(&R::Response) -> i16,
    ) {
        loop {
            let answer = self.ask(request, version).await;
            let code = answer.as_ref().map(&code);
            if code == Some(0) {
                return;
            }
            assert!(code.is_some(), "{} does not answer who asks for {what}", self.who);
            self.pause().await;
        }
    }

    /// From now on this value is called so.
    pub fn learn(&mut self, value: impl ToString, name: impl Into<String>) {
        let value = value.to_string();
        if !value.is_empty() && !self.names.iter().any(|(known, _)| *known == value) {
            self.names.push((value, name.into()));
        }
    }

    /// From now on this number is called so, where a path ends like this.
    pub fn learn_number(&mut self, path: &'static str, number: impl ToString, name: impl Into<String>) {
        let number = number.to_string();
        if !self.numbers.iter().any(|(at, known, _)| *at == path && *known == number) {
            self.numbers.push((path, number, name.into()));
        }
    }

    /// Sends a request and notes the answer under this name, less what `hide` takes away.
    pub async fn step<R: Request>(
        &mut self,
        name: &str,
        request: &R,
        version: i16,
        hide: impl FnOnce(&mut R::Response),
    ) -> R::Response
    where
        R::Response: Clone + std::fmt::Debug,
    {
        let step = format!("{name} v{version}");
        let answer = self.ask(request, version).await;
        let answer = answer.unwrap_or_else(|| panic!("{} closed the connection at {step}", self.who));
        let mut shown = answer.clone();
        hide(&mut shown);
        self.note(&step, &shown);
        answer
    }

    /// As [`Self::step`], for a request that may be hung up on.
    pub async fn hung_up_or<R: Request>(
        &mut self,
        name: &str,
        request: &R,
        version: i16,
        hide: impl FnOnce(&mut R::Response),
    ) where
        R::Response: Clone + std::fmt::Debug,
    {
        let step = format!("{name} v{version}");
        match self.ask(request, version).await {
            Some(mut answer) => {
                hide(&mut answer);
                self.note(&step, &answer);
            }
            None => {
                self.note(&step, &HungUp { hung_up: true });
                self.stream = TcpStream::connect(&self.address).await.unwrap();
            }
        }
    }

    /// Notes something under this name.
    pub fn note(&mut self, step: &str, shown: &impl std::fmt::Debug) {
        let mut lines = lines::of(shown);
        for (path, value) in &mut lines {
            // Each broker's own, whichever it is.
            if path.ends_with("topic_id") && *value != Uuid::nil().to_string() {
                *value = "<id>".into();
            }
            if let Some((_, _, name)) = self.numbers.iter().find(|(at, known, _)| path.ends_with(at) && value == known)
            {
                value.clone_from(name);
            }
            for (known, name) in &self.names {
                if value == known || (value.starts_with('"') && value.contains(known.as_str())) {
                    *value = value.replace(known.as_str(), name);
                }
            }
        }
        self.stepped = Instant::now();
        self.transcript.push((step.to_owned(), lines));
    }

    /// Sends a request; `None` where the connection was closed instead of an answer.
    pub async fn ask<R: Request>(&mut self, request: &R, version: i16) -> Option<R::Response> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("differential")));
        let mut frame = BytesMut::zeroed(4);
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap_or_else(|error| panic!("key {} v{version}: {error}", R::KEY));
        let size = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.stream.write_all(&frame).await.unwrap();
        let answer = async {
            let size = self.stream.read_i32().await.ok()?;
            let mut frame = vec![0; size as usize];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        let answer = tokio::time::timeout(Duration::from_secs(30), answer).await;
        let mut answer = answer.unwrap_or_else(|_| panic!("{} does not answer key {} v{version}", self.who, R::KEY))?;
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation, "{}", self.who);
        let response = R::Response::decode(&mut answer, version).unwrap();
        assert!(!answer.has_remaining(), "{}: {} bytes behind the answer", self.who, answer.remaining());
        Some(response)
    }
}

#[derive(Debug)]
#[expect(dead_code, reason = "it is printed")]
struct HungUp {
    hung_up: bool,
}
