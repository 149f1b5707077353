//! A copy of all that readers could see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_pipeline::log::{Log, StoredRecord};

/// A topic and one of its partitions.
pub type Partition = (Arc<str>, i32);

/// See the module's text.
#[derive(Debug, Default)]
pub struct Mirror {
    partitions: BTreeMap<Partition, Vec<StoredRecord>>,
}

impl Mirror {
    /// Takes over what has become visible since the last time.
    ///
    /// # Errors
    /// Where the log has lost or renumbered records.
    pub async fn catch_up(&mut self, log: &dyn Log) -> Result<(), String> {
        for partition in partitions(log).await? {
            let known = self.partitions.entry(partition.clone()).or_default();
            let new = read_from(log, &partition, known.len()).await?;
            known.extend(new);
        }
        Ok(())
    }

    /// Reads everything again: what was seen before must be as it was.
    ///
    /// # Errors
    /// Where it is not.
    pub async fn verify(&self, log: &dyn Log) -> Result<(), String> {
        for (partition, known) in &self.partitions {
            let now = read_from(log, partition, 0).await?;
            let (topic, number) = partition;
            if now.len() < known.len() {
                return Err(format!(
                    "{topic}/{number}: readers saw {} records, now there are {}",
                    known.len(),
                    now.len()
                ));
            }
            if let Some((was, is)) = known.iter().zip(&now).find(|(was, is)| was != is) {
                return Err(format!("{topic}/{number}: readers saw {was:?}, now it is {is:?}"));
            }
        }
        Ok(())
    }

    /// The records of a partition.
    pub fn records(&self, partition: &Partition) -> &[StoredRecord] {
        self.partitions.get(partition).map_or(&[], Vec::as_slice)
    }

    /// Every partition and its records.
    pub fn partitions(&self) -> impl Iterator<Item = (&Partition, &[StoredRecord])> {
        self.partitions.iter().map(|(partition, records)| (partition, records.as_slice()))
    }
}

async fn partitions(log: &dyn Log) -> Result<Vec<Partition>, String> {
    let topics = log.topics().await.map_err(|e| e.to_string())?;
    let of = |topic: &highwater_pipeline::log::TopicInfo| {
        let name = Arc::clone(&topic.name);
        (0..topic.config.partitions).map(move |partition| (Arc::clone(&name), partition))
    };
    Ok(topics.iter().flat_map(of).collect())
}

async fn read_from(log: &dyn Log, (topic, partition): &Partition, from: usize) -> Result<Vec<StoredRecord>, String> {
    let mut records: Vec<StoredRecord> = Vec::new();
    loop {
        let offset = (from + records.len()) as i64;
        let fetched = log.read(topic, *partition, offset, 1 << 20, Duration::ZERO).await;
        let fetched = fetched.map_err(|e| format!("{topic}/{partition}: {e}"))?;
        if let Some(gap) = fetched.gaps.first() {
            return Err(format!("{topic}/{partition}: {gap:?}"));
        }
        if fetched.next_offset == offset {
            return Ok(records);
        }
        for record in fetched.records {
            let expected = (from + records.len()) as i64;
            if record.offset != expected {
                return Err(format!("{topic}/{partition}: offset {} where {expected} was to come", record.offset));
            }
            records.push(record);
        }
    }
}
