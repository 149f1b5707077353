//! A broker that Kafka clients can talk to, and nothing else: for development, and for tests with real clients.
//!
//! ```text
//! cargo run -p highwater-broker --example kafka_broker -- --data DIR --listen 127.0.0.1:9092
//! ```
//!
//! It prints `listening on HOST:PORT` once it can be dialled (port 0 takes a free one), and ends in order on SIGINT or SIGTERM.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::kafka::{DoorSettings, KafkaServer};
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
        let mut data = None;
        let mut settings = DoorSettings::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} wants a value"));
            match name.as_str() {
                "--data" => data = Some(value()?),
                "--listen" => settings.listen = value()?.parse()?,
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        let data = data.ok_or("say where the data goes: --data DIR")?;
        Ok(Self { data, settings })
    }
}
