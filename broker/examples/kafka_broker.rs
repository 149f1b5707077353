//! A broker that Kafka clients can talk to, and nothing else: for development, and for tests with real clients.
//!
//! ```text
//! cargo run -p highwater-broker --example kafka_broker -- --data DIR --listen 127.0.0.1:9092
//!     [--advertised HOST:PORT] [--tls-cert FILE --tls-key FILE] [--api-keys FILE] [--allow-insecure]
//! ```
//!
//! The file of keys has a line per key: its name, its tenant, and the SHA-256 of its secret in hexadecimal.
//!
//! It prints `listening on HOST:PORT` once it can be dialled (port 0 takes a free one), and ends in order on SIGINT or SIGTERM.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::access::{ApiKey, Principal};
use highwater_broker::kafka::{Advertised, DoorSettings, KafkaServer};
use highwater_broker::tls::TlsFiles;
use highwater_broker::{Broker, BrokerConfig, RealFs, SystemClock};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { data, settings } = Arguments::parse()?;
    let broker = Arc::new(Broker::open(BrokerConfig::new(data), Arc::new(RealFs), Arc::new(SystemClock))?);
    let server = KafkaServer::start(Arc::clone(&broker), settings).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", server.address())?;
    out.flush()?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    server.shutdown(Duration::from_secs(5)).await;
    broker.shutdown().await;
    Ok(())
}

struct Arguments {
    data: String,
    settings: DoorSettings,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let (mut data, mut cert, mut key) = (None, None, None);
        let mut settings = DoorSettings::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} wants a value"));
            match name.as_str() {
                "--data" => data = Some(value()?),
                "--listen" => settings.listen = value()?.parse()?,
                "--advertised" => settings.advertised = Some(advertised(&value()?)?),
                "--tls-cert" => cert = Some(value()?.into()),
                "--tls-key" => key = Some(value()?.into()),
                "--api-keys" => settings.api_keys = api_keys(&std::fs::read_to_string(value()?)?)?.into(),
                "--allow-insecure" => settings.allow_insecure = true,
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        settings.tls = match (cert, key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key, client_ca: None }),
            (None, None) => None,
            _ => return Err("--tls-cert and --tls-key come together".into()),
        };
        let data = data.ok_or("say where the data goes: --data DIR")?;
        Ok(Self { data, settings })
    }
}

fn advertised(text: &str) -> Result<Advertised, Box<dyn Error>> {
    let (host, port) = text.rsplit_once(':').ok_or("--advertised wants HOST:PORT")?;
    Ok(Advertised { host: host.to_owned(), port: port.parse()? })
}

fn api_keys(lines: &str) -> Result<Vec<ApiKey>, Box<dyn Error>> {
    let key = |line: &str| {
        let [name, tenant, digits] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(format!("`{line}` is not a name, a tenant and a hash").into());
        };
        let mut sha256 = [0; 32];
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(format!("the hash of `{name}` is not 64 hexadecimal digits").into());
        }
        for (byte, at) in sha256.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16)?;
        }
        Ok(ApiKey { principal: Principal::new(name, tenant), sha256 })
    };
    lines.lines().map(key).collect()
}
