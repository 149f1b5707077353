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
            let file = ClusterFile { cluster_id: inner.crew.new_id().simple().to_string() };
            let json = serde_json::to_vec(&file).map_err(|e| BrokerError::InvalidConfig { what: e.to_string() })?;
            write_atomically(inner.fs.as_ref(), &path, &json)?;
            Ok(Arc::from(file.cluster_id))
        };
        self.inner.crew.blocking(read_or_make).await
    }
}
