//! Who works on this log: every process says so every few seconds, as records of one topic, so that any of them can be asked for all.
//!
//! Records of `__highwater.members`: key = the process's name, value = its [`Status`] as JSON. What is older than [`GONE_AFTER`] is of a
//! process that has stopped. A process that does everything on its own log is alone and says nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_broker::{Clock, SystemClock};
use highwater_pipeline::log::{Append, Guard, Log, LogError, Record, TopicConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::readiness::Health;
use super::status;
use super::workers::WorkersView;
use crate::cli::Status;
use crate::config::{Config, LogKind};
use crate::error::Error;

pub(crate) const TOPIC: &str = "__highwater.members";
/// How often a process says how it stands.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(3);
/// What was said longer ago than this is no longer so.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// Announcements are of no use for long.
const RETENTION: Duration = Duration::from_secs(3_600);

/// This process among its like.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    name: Arc<str>,
    roles: Arc<str>,
    alone: bool,
}

impl Members {
    /// This process, by the address it listens on; makes the topic where there may be others.
    pub(crate) async fn open(config: &Config, address: SocketAddr, log: &Arc<dyn Log>) -> Result<Self, Error> {
        let alone = config.log.kind == LogKind::Embedded && config.roles.are_all();
        if !alone {
            let topic = TopicConfig {
                retention_ms: Some(i64::try_from(RETENTION.as_millis()).unwrap_or(i64::MAX)),
                ..TopicConfig::with_partitions(1)
            };
            log.ensure_topic(TOPIC, topic)
                .await
                .map_err(|error| Error::failed(&format!("creating topic {TOPIC}"), error))?;
        }
        let name = format!("{}/{address}", highwater_pipeline::agents::host_name());
        Ok(Self { name: name.into(), roles: config.roles.to_string().into(), alone })
    }

    /// Its name: host and address.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// True where there are no others on its log.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Its roles, with commas between.
    pub(crate) fn roles(&self) -> &str {
        &self.roles
    }

    /// Starts to say how this process stands, until `shutdown`.
    pub(crate) fn announce(
        &self,
        health: Health,
        view: WorkersView,
        log: Arc<dyn Log>,
        shutdown: &CancellationToken,
    ) -> Option<JoinHandle<()>> {
        if self.alone {
            return None;
        }
        let (me, shutdown) = (self.clone(), shutdown.clone());
        Some(tokio::spawn(async move {
            loop {
                let status = status::own(&health, &view, &me, log.as_ref()).await;
                if let Err(error) = me.append(log.as_ref(), &status).await {
                    tracing::warn!(%error, "other processes are not told how this one stands");
                }
                if shutdown.run_until_cancelled(tokio::time::sleep(ANNOUNCE_EVERY)).await.is_none() {
                    return;
                }
            }
        }))
    }

    async fn append(&self, log: &dyn Log, status: &Status) -> Result<(), LogError> {
        let value = serde_json::to_vec(status).unwrap_or_default();
        let record =
            Record { key: Some(self.name.as_bytes().to_vec().into()), value: Some(value.into()), ..Record::default() };
        log.append(Append { topic: TOPIC.into(), partition: 0, records: vec![record], guard: Guard::None }).await?;
        Ok(())
    }

    /// What the others last said of themselves, by name.
    pub(crate) async fn others(&self, log: &dyn Log) -> Result<Vec<Status>, LogError> {
        if self.alone {
            return Ok(Vec::new());
        }
        let since_ms = SystemClock.now_ms() - i64::try_from(GONE_AFTER.as_millis()).unwrap_or(i64::MAX);
        let Some(mut offset) = log.offset_for_time(TOPIC, 0, since_ms).await? else { return Ok(Vec::new()) };
        let end = log.offsets(TOPIC, 0).await?.high_watermark;
        let mut newest = std::collections::BTreeMap::new();
        while offset < end {
            let fetched = log.read(TOPIC, 0, offset, 1 << 20, Duration::from_millis(200)).await?;
            if fetched.next_offset <= offset {
                break;
            }
            offset = fetched.next_offset;
            for record in fetched.records {
                let (Some(key), Some(value)) = (record.key, record.value) else { continue };
                if let Ok(status) = serde_json::from_slice::<Status>(&value) {
                    newest.insert(key, status);
                }
            }
        }
        newest.remove(self.name.as_bytes());
        Ok(newest.into_values().collect())
    }
}
