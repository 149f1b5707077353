//! From the log into a table, one commit at a time and when the test says so, by the real sink's own parts.

use highwater_pipeline::data::{Decoded, Decoder};
use highwater_pipeline::log::Log;
use highwater_pipeline::tables::{Cover, TableSpec, stored_batch, table_path};
use highwater_sinks::tables::TablesConfig;
use highwater_sinks::tables::delta::{Attempt, DeltaLog};
use highwater_sinks::tables::encode::encode;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::fixture::{APPENDED_MS, Fixture};

impl<L: Log> Fixture<L> {
    /// Commits everything that is in the log now to the table, as the sink does: encoded files, then one Delta commit.
    pub(crate) async fn commit(&self, spec: &TableSpec) {
        let mut delta = DeltaLog::open(spec, &self.storage, APPENDED_MS).await.unwrap();
        let mut topics = Vec::new();
        for topic in &spec.topics {
            topics.push(self.log.topic(topic).await.unwrap().unwrap());
        }
        delta.load_positions(&topics).await.unwrap();
        let decoder = Decoder::new(spec.kind.clone());
        let (mut covers, mut batches) = (Vec::new(), Vec::new());
        for topic in topics {
            for partition in 0..topic.config.partitions {
                let held = self.log.offsets(&topic.name, partition).await.unwrap();
                let from = delta.position(topic.id, partition).unwrap_or(held.log_start);
                let (mut at, mut rows) = (from, 0);
                while at < held.high_watermark {
                    let fetched =
                        self.log.read(&topic.name, partition, at, 1 << 20, std::time::Duration::ZERO).await.unwrap();
                    for record in fetched.records.iter().filter(|r| r.offset < held.high_watermark) {
                        if let Decoded::Rows { batch, .. } = decoder.decode(partition, record) {
                            rows += batch.num_rows() as u64;
                            batches.push(stored_batch(spec, &topic.name, &batch).unwrap());
                        }
                    }
                    at = fetched.next_offset.min(held.high_watermark);
                }
                if at > from {
                    let (topic, topic_id) = (topic.name.to_string(), topic.id);
                    covers.push(Cover { topic, topic_id, partition, from, to: at, rows, gap: false });
                }
            }
        }
        if covers.is_empty() {
            return;
        }
        let files = encode(spec, &TablesConfig::default(), &batches).unwrap();
        for file in &files {
            let path = table_path(&spec.name).parts().chain(Path::from(file.path.as_str()).parts()).collect();
            self.storage.objects().put(&path, file.bytes.clone().into()).await.unwrap();
        }
        let commit = delta.begin(covers, files).unwrap();
        assert!(matches!(delta.try_commit(&commit, APPENDED_MS).await.unwrap(), Attempt::Done(_)));
    }
}
