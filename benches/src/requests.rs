//! Requests of push protocols: remote write, OTLP logs, Loki.

use std::fmt::Write;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::protobuf::{put_bytes, put_fixed64, put_message, put_varint};

/// Words that messages are made of.
const WORDS: [&str; 16] = [
    "payment", "order", "customer", "accepted", "timeout", "retry", "upstream", "cache", "miss", "hit", "queue",
    "shard", "replica", "commit", "rollback", "latency",
];

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// Prometheus remote write 1.0.
    RemoteWrite,
    /// Prometheus remote write 2.0.
    #[value(name = "remote-write-2")]
    RemoteWrite2,
    /// OTLP/HTTP logs in protobuf.
    OtlpLogs,
    /// Loki push in protobuf.
    Loki,
}

impl Protocol {
    /// The path it is sent to.
    pub fn path(self) -> &'static str {
        match self {
            Self::RemoteWrite | Self::RemoteWrite2 => "/api/v1/write",
            Self::OtlpLogs => "/v1/logs",
            Self::Loki => "/loki/api/v1/push",
        }
    }

    /// Headers that go with it.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::RemoteWrite => &[("content-type", "application/x-protobuf"), ("content-encoding", "snappy")],
            Self::RemoteWrite2 => &[
                ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
                ("content-encoding", "snappy"),
            ],
            Self::OtlpLogs | Self::Loki => &[("content-type", "application/x-protobuf")],
        }
    }

    /// True where the body is one block of snappy.
    pub fn is_snappy(self) -> bool {
        self != Self::OtlpLogs
    }
}

/// Makes the requests of one run: the same numbers make the same bytes.
#[derive(Debug, Clone)]
pub struct Requests {
    /// What they speak.
    pub protocol: Protocol,
    /// Distinct series of metrics, or of services by hosts.
    pub series: u64,
    /// Size of a log's body, in bytes.
    pub message_size_bytes: usize,
    /// Time of the first row, Unix milliseconds.
    pub start_ms: u64,
    /// Milliseconds between two samples of a series.
    pub interval_ms: u64,
}

impl Requests {
    /// The rows `from..to` as one request, before compression.
    pub fn encode(&self, from: u64, to: u64) -> Vec<u8> {
        let mut request = Vec::with_capacity(1 << 16);
        match self.protocol {
            Protocol::RemoteWrite => {
                let mut text = String::new();
                for row in from..to {
                    put_message(1, &mut request, |series| {
                        for (name, value) in labels(row % self.series, &mut text) {
                            put_message(1, series, |label| {
                                put_bytes(1, name.as_bytes(), label);
                                put_bytes(2, value.as_bytes(), label);
                            });
                        }
                        put_message(2, series, |sample| self.sample(row, sample));
                    });
                }
            }
            Protocol::RemoteWrite2 => self.symbols(from, to, &mut request),
            Protocol::OtlpLogs => self.otlp(from, to, &mut request),
            Protocol::Loki => self.loki(from, to, &mut request),
        }
        request
    }

    fn sample(&self, row: u64, sample: &mut Vec<u8>) {
        let scrape = row / self.series;
        put_fixed64(1, ((row % 1_000) as f64 + scrape as f64 * 0.5).to_bits(), sample);
        put_varint(2, self.start_ms + scrape * self.interval_ms, sample);
    }

    fn symbols(&self, from: u64, to: u64, request: &mut Vec<u8>) {
        let (mut known, mut text) = (std::collections::HashMap::from([(String::new(), 0u64)]), String::new());
        put_bytes(4, b"", request);
        for row in from..to {
            let mut references = Vec::with_capacity(32);
            for (name, value) in labels(row % self.series, &mut text) {
                for symbol in [name, value] {
                    let next = known.len() as u64;
                    let reference = *known.entry(symbol.to_owned()).or_insert_with(|| {
                        put_bytes(4, symbol.as_bytes(), request);
                        next
                    });
                    let mut varint = Vec::new();
                    put_varint(0, reference, &mut varint);
                    references.extend_from_slice(&varint[1..]);
                }
            }
            put_message(5, request, |series| {
                put_bytes(1, &references, series);
                put_message(2, series, |sample| self.sample(row, sample));
            });
        }
    }

    fn otlp(&self, from: u64, to: u64, request: &mut Vec<u8>) {
        let text = |key: &str, value: &str, out: &mut Vec<u8>, number: u32| {
            put_message(number, out, |attribute| {
                put_bytes(1, key.as_bytes(), attribute);
                put_message(2, attribute, |any| put_bytes(1, value.as_bytes(), any));
            });
        };
        let mut random = SmallRng::seed_from_u64(from);
        // One resource a request, as from one SDK.
        let origin = from / (to - from).max(1) % self.series;
        put_message(1, request, |resource_logs| {
            put_message(1, resource_logs, |resource| {
                text("service.name", &format!("service-{}", origin % 50), resource, 1);
                text("host.name", &format!("host-{origin}"), resource, 1);
            });
            put_message(2, resource_logs, |scope_logs| {
                for row in from..to {
                    put_message(2, scope_logs, |record| {
                        put_fixed64(1, (self.start_ms + row / 100) * 1_000_000, record);
                        put_varint(2, 9, record);
                        put_bytes(3, b"INFO", record);
                        put_message(5, record, |any| put_bytes(1, self.message(row, &mut random).as_bytes(), any));
                        text("http.method", "GET", record, 6);
                        text("http.route", "/api/v2/orders", record, 6);
                        text("request_id", &format!("{:016x}", random.random::<u64>()), record, 6);
                    });
                }
            });
        });
    }

    fn loki(&self, from: u64, to: u64, request: &mut Vec<u8>) {
        let mut random = SmallRng::seed_from_u64(from);
        let origin = from / (to - from).max(1) % self.series;
        put_message(1, request, |stream| {
            let labels = format!(r#"{{app="service-{}", host="host-{origin}", level="info"}}"#, origin % 50);
            put_bytes(1, labels.as_bytes(), stream);
            for row in from..to {
                put_message(2, stream, |entry| {
                    put_message(1, entry, |timestamp| {
                        put_varint(1, (self.start_ms + row / 100) / 1_000, timestamp);
                        put_varint(2, (self.start_ms + row / 100) % 1_000 * 1_000_000, timestamp);
                    });
                    put_bytes(2, self.message(row, &mut random).as_bytes(), entry);
                });
            }
        });
    }

    fn message(&self, row: u64, random: &mut SmallRng) -> String {
        let mut message = format!("row {row}");
        while message.len() < self.message_size_bytes {
            // Writing to a string cannot fail.
            let word = WORDS[random.random_range(0..WORDS.len())];
            write!(message, " {word}={}", random.random::<u16>()).unwrap_or_default();
        }
        message
    }
}

/// A name and ten labels, sorted, as of a pod in a cluster.
fn labels(series: u64, text: &mut String) -> impl Iterator<Item = (&'static str, &str)> {
    text.clear();
    let parts = [
        ("__name__", format!("http_server_requests_{}_total", series % 100)),
        ("cluster", format!("prod-{}", series % 3)),
        ("code", ["200", "404", "500"][(series / 7 % 3) as usize].to_owned()),
        ("container", "app".to_owned()),
        ("endpoint", format!("/api/v2/resource-{}", series % 20)),
        ("instance", format!("10.{}.{}.{}:9090", series >> 16 & 255, series >> 8 & 255, series & 255)),
        ("job", format!("service-{}", series % 50)),
        ("method", "GET".to_owned()),
        ("namespace", format!("team-{}", series % 12)),
        ("pod", format!("service-{}-{:08x}", series % 50, series)),
        ("region", "eu-central-1".to_owned()),
    ];
    let mut ends = Vec::with_capacity(parts.len());
    for (name, value) in &parts {
        text.push_str(value);
        ends.push((*name, text.len()));
    }
    let text = text.as_str();
    let mut from = 0;
    ends.into_iter().map(move |(name, to)| (name, &text[std::mem::replace(&mut from, to)..to]))
}
