//! The identity of the log as a whole: made once, kept in `cluster.json`, told to Kafka clients.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Broker;
use crate::error::BrokerError;
use crate::fs::file::{read_all, write_atomically};

const CLUSTER_FILE: &str = "cluster.json";

#[derive(Serialize, Deserialize)]
struct ClusterFile {
    cluster_id: String,
}

impl Broker {
    /// The identity of this log, the same across restarts; made and kept, durably, where there is none yet.
    pub async fn cluster_id(&self) -> Result<Arc<str>, BrokerError> {
        let changes = Arc::clone(&self.topic_changes).lock_owned().await;
        let inner = Arc::clone(&self.inner);
        let writable = self.check_writable("make a cluster id");
        let read_or_make = move || {
            let _changes = changes;
            let path = inner.config.data_dir.join(CLUSTER_FILE);
            if let Some(bytes) = read_all(inner.fs.as_ref(), &path)? {
                let file: ClusterFile = serde_json::from_slice(&bytes).map_err(|error| BrokerError::Corrupt {
                    path,
                    reason: format!("{error}; restore it, or delete it to be given a new cluster id"),
                })?;
                return Ok(Arc::from(file.cluster_id));
            }
            writable?;
            let file = ClusterFile { cluster_id: inner.crew.new_id().simple().to_string() };
            let json = serde_json::to_vec(&file).map_err(|e| BrokerError::InvalidConfig { what: e.to_string() })?;
            write_atomically(inner.fs.as_ref(), &path, &json)?;
            Ok(Arc::from(file.cluster_id))
        };
        self.inner.crew.blocking(read_or_make).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, missing_docs)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::config::BrokerConfig;
    use crate::fs::{Crash, Fs, OpenMode, SimFs};

    fn open(fs: &SimFs) -> Broker {
        Broker::open(BrokerConfig::new("/data"), Arc::new(fs.clone()), Arc::new(ManualClock::new(0))).unwrap()
    }

    #[tokio::test]
    async fn the_cluster_id_is_made_once_and_outlives_a_power_loss() {
        let fs = SimFs::new();
        let id = open(&fs).cluster_id().await.unwrap();
        assert_eq!(id.len(), 32);
        fs.crash(Crash::LoseUnsynced);
        let broker = open(&fs);
        assert_eq!(broker.cluster_id().await.unwrap(), id);
        assert_ne!(open(&SimFs::new()).cluster_id().await.unwrap(), id);
    }

    #[tokio::test]
    async fn a_damaged_one_is_told_and_not_replaced() {
        let fs = SimFs::new();
        let broker = open(&fs);
        broker.cluster_id().await.unwrap();
        fs.open(Path::new("/data/cluster.json"), OpenMode::Create).unwrap().write_all_at(b"{}", 0).unwrap();
        let error = broker.cluster_id().await.unwrap_err();
        assert!(matches!(&error, BrokerError::Corrupt { path, .. } if path.ends_with("cluster.json")), "{error}");
    }

    #[tokio::test]
    async fn a_reader_makes_none() {
        let fs = SimFs::new();
        drop(open(&fs));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
        let reader = Broker::open_read_only("/data", Arc::new(fs.clone()), clock).unwrap();
        assert!(matches!(reader.cluster_id().await, Err(BrokerError::ReadOnly { .. })));
        assert!(!fs.exists(Path::new("/data/cluster.json")).unwrap());
    }
}
