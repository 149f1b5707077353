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
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, Int64Type};
    use highwater_broker::{Broker, BrokerConfig, ManualClock, SimFs};
    use highwater_pipeline::log::{Append, CommittedOffset, EmbeddedLog, Guard, Record, TopicConfig};

    use super::*;

    #[tokio::test]
    async fn a_row_says_how_many_records_a_group_has_still_to_read() {
        let (fs, clock) = (SimFs::new(), ManualClock::new(1_000));
        let broker = Broker::open(BrokerConfig::new("/d"), Arc::new(fs), Arc::new(clock)).unwrap();
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(Arc::new(broker)));
        for topic in ["orders", "logs"] {
            log.ensure_topic(topic, TopicConfig::with_partitions(2)).await.unwrap();
        }
        for (topic, partition, count) in [("orders", 0, 5), ("orders", 1, 2), ("logs", 1, 3)] {
            let record = || Record { value: Some("x".into()), ..Record::default() };
            let records = (0..count).map(|_| record()).collect();
            log.append(Append { topic: topic.into(), partition, records, guard: Guard::None }).await.unwrap();
        }
        let at = |topic: &str, partition, offset| CommittedOffset {
            topic: topic.into(),
            partition,
            offset,
            metadata: String::new(),
        };
        log.commit_offsets("billing", &[at("orders", 0, 3), at("orders", 1, 2)], None).await.unwrap();
        let table = highwater_pipeline::tables::table_group("logs");
        log.commit_offsets(&table, &[at("logs", 1, 0)], None).await.unwrap();

        let view = ConsumerLag(log);
        let rows = view.rows(Tenant::DEFAULT).await.unwrap();
        let text = |name: &str| rows.column_by_name(name).unwrap().as_string::<i32>().clone();
        let number = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        let (group, kind, topic) = (text("consumer_group"), text("kind"), text("topic"));
        let partition = rows.column_by_name("partition").unwrap().as_primitive::<Int32Type>();
        let (committed, start) = (number("committed_offset"), number("log_start_offset"));
        let (end, lag) = (number("end_offset"), number("lag"));
        let mut lines: Vec<String> = (0..rows.num_rows())
            .map(|i| {
                let (group, kind, topic, partition) =
                    (group.value(i), kind.value(i), topic.value(i), partition.value(i));
                let (committed, start, end, lag) = (committed.value(i), start.value(i), end.value(i), lag.value(i));
                format!("{group} {kind} {topic}/{partition} {committed} {start} {end} {lag}")
            })
            .collect();
        lines.sort();
        let expected = [
            "__highwater.table.logs table logs/1 0 0 3 3",
            "billing client orders/0 3 0 5 2",
            "billing client orders/1 2 0 2 0",
        ];
        assert_eq!(lines, expected);
        assert_eq!(view.rows("acme").await.unwrap().num_rows(), 0, "it speaks of the whole server");
    }

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
