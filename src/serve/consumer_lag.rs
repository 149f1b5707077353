//! How far behind consumers are, as a SQL table: one row per consumer group and partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use highwater_pipeline::data::Tenant;
use highwater_pipeline::log::{Log, LogError, PartitionOffsets, TASKS_GROUP};
use highwater_sql::View;

/// The table's name.
pub(crate) const TABLE: &str = "consumer_lag";
/// What the groups of Highwater's own parts begin with.
const OWN: &str = "__highwater.";
/// That of a table, and of what follows a topic to tell others.
const OWN_KINDS: [(&str, &str); 2] = [("table.", "table"), ("notify.", "notifier")];

/// The lag of all groups. It speaks of the whole installation, so only the default tenant has rows.
pub(crate) struct ConsumerLag(pub(crate) Arc<dyn Log>);

/// What a group is for.
fn kind(group: &str) -> &'static str {
    if group == TASKS_GROUP {
        return "tasks";
    }
    match group.strip_prefix(OWN) {
        Some(own) => OWN_KINDS.iter().find(|(begin, _)| own.starts_with(begin)).map_or("internal", |(_, kind)| kind),
        None => "client",
    }
}

/// One row.
struct Lag {
    group: String,
    topic: Arc<str>,
    partition: i32,
    committed: i64,
    log: PartitionOffsets,
}

impl ConsumerLag {
    async fn lags(&self) -> Result<Vec<Lag>, LogError> {
        let mut ends: BTreeMap<(Arc<str>, i32), Option<PartitionOffsets>> = BTreeMap::new();
        let mut lags = Vec::new();
        for group in self.0.groups().await? {
            for at in self.0.committed(&group).await? {
                let place = (Arc::clone(&at.topic), at.partition);
                let log = match ends.get(&place) {
                    Some(log) => *log,
                    None => {
                        let log = match self.0.offsets(&at.topic, at.partition).await {
                            Ok(log) => Some(log),
                            // A topic that is gone, or a name that stands for something else: nothing to be behind of.
                            Err(LogError::UnknownTopicOrPartition { .. }) => None,
                            Err(error) => return Err(error),
                        };
                        ends.insert(place, log);
                        log
                    }
                };
                let Some(log) = log else { continue };
                let (topic, partition, committed) = (at.topic, at.partition, at.offset);
                lags.push(Lag { group: group.clone(), topic, partition, committed, log });
            }
        }
        Ok(lags)
    }
}

#[async_trait]
impl View for ConsumerLag {
    fn schema(&self) -> SchemaRef {
        let text = |name| Field::new(name, DataType::Utf8, false);
        let number = |name| Field::new(name, DataType::Int64, false);
        let fields = vec![
            text("consumer_group"),
            text("kind"),
            text("topic"),
            Field::new("partition", DataType::Int32, false),
            number("committed_offset"),
            number("log_start_offset"),
            number("end_offset"),
            number("lag"),
        ];
        Arc::new(Schema::new(fields))
    }

    async fn rows(&self, tenant: &str) -> Result<RecordBatch, Box<dyn std::error::Error + Send + Sync>> {
        let lags = if tenant == Tenant::DEFAULT { self.lags().await? } else { Vec::new() };
        let text = |of: fn(&Lag) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(lags.iter().map(of))) };
        let number = |of: fn(&Lag) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(lags.iter().map(of))) };
        let columns = vec![
            text(|lag| &lag.group),
            text(|lag| kind(&lag.group)),
            text(|lag| &lag.topic),
            Arc::new(Int32Array::from_iter_values(lags.iter().map(|lag| lag.partition))),
            number(|lag| lag.committed),
            number(|lag| lag.log.log_start),
            number(|lag| lag.log.high_watermark),
            // What retention has taken before it was read counts, too: it was not read.
            number(|lag| (lag.log.high_watermark - lag.committed).max(0)),
        ];
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_says_what_it_is_for() {
        for (group, expected) in [
            (TASKS_GROUP.to_owned(), "tasks"),
            (highwater_pipeline::tables::table_group("logs"), "table"),
            ("__highwater.snapshots".to_owned(), "internal"),
            ("billing".to_owned(), "client"),
        ] {
            assert_eq!(kind(&group), expected, "{group}");
        }
    }
}
