//! The log that the config names, opened.

use std::sync::Arc;

use highwater_broker::{Broker, BrokerConfig, RealFs, SystemClock};
use highwater_pipeline::log::kafka::KafkaLog;
use highwater_pipeline::log::{EmbeddedLog, Log};

use crate::config::{Config, Durability, LogKind};
use crate::error::Error;

/// Largest batch that is taken: a record as large as `log.kafka.max_record_size_bytes` makes them by default, with its framing, so that
/// workers that reach this log over its Kafka port write what those in this process do.
const MAX_BATCH_SIZE_BYTES: usize = 33 << 20;

/// An open log, and what has to be closed behind it.
pub(crate) struct OpenLog {
    log: Arc<dyn Log>,
    broker: Option<Arc<Broker>>,
}

impl OpenLog {
    /// Opens the log of this config. The embedded one recovers here; the other is a cluster that has to answer.
    pub(crate) async fn open(config: &Config) -> Result<Self, Error> {
        match config.log.kind {
            LogKind::Embedded => {
                let broker = open_broker(config).await?;
                Ok(Self { log: Arc::new(EmbeddedLog::new(Arc::clone(&broker))), broker: Some(broker) })
            }
            LogKind::Kafka => {
                let log = KafkaLog::open(config.log.kafka.clone(), Arc::new(SystemClock))
                    .map_err(|error| Error::failed("opening the Kafka log", error))?;
                Ok(Self { log: Arc::new(log), broker: None })
            }
        }
    }

    /// The log.
    pub(crate) fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// The broker of this process; `None` where the log is elsewhere.
    pub(crate) fn broker(&self) -> Option<&Arc<Broker>> {
        self.broker.as_ref()
    }

    /// Closes it cleanly.
    pub(crate) async fn close(self) {
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
    }
}

/// Opens the embedded log with what the config says of it; recovery happens here.
async fn open_broker(config: &Config) -> Result<Arc<Broker>, Error> {
    let mut broker = BrokerConfig::new(config.data_dir.join("log"));
    broker.durability = match config.durability {
        Durability::Sync => highwater_broker::Durability::Sync,
        Durability::Relaxed => highwater_broker::Durability::Relaxed,
    };
    broker.max_batch_size_bytes = MAX_BATCH_SIZE_BYTES;
    broker.segment_size_bytes = config.log.segment_size_bytes;
    broker.disk_limit_bytes = config.log.disk_limit_bytes;
    let opened = tokio::task::spawn_blocking(move || Broker::open(broker, Arc::new(RealFs), Arc::new(SystemClock)))
        .await
        .map_err(|error| Error::failed("opening the log", error))?;
    opened.map(Arc::new).map_err(|error| Error::failed("opening the log", error))
}
