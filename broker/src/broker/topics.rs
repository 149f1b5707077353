//! Topics on disk. A topic is a directory `topics/<name>` with a `topic.json` and a directory per partition; there is no list
//! of topics to get out of step with them.
//!
//! `topic.json` is a line with the CRC32C of the rest in hex, then JSON: `{"name", "id", "config"}`.
//!
//! A topic is made under the name `~creating~<id>` and renamed when it is whole; it is deleted by renaming it to
//! `~deleted~<id>`. `~` is in no topic's name, so whatever has one was left by a crash and is swept.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::BrokerError;
use crate::fs::Fs;
use crate::fs::file::{create_dir_durably, read_all, write_atomically};
use crate::topic::{TopicInfo, check_name};
use crate::topic_config::TopicConfig;

const TOPIC_FILE: &str = "topic.json";

/// The directory of topics.
pub(super) struct TopicStore {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct TopicFile {
    name: String,
    id: String,
    config: TopicConfig,
}

impl TopicStore {
    pub(super) fn new(fs: Arc<dyn Fs>, data_dir: &Path) -> Self {
        Self { fs, dir: data_dir.join("topics") }
    }

    /// Makes the directory if it is missing and sweeps what crashes left.
    pub(super) fn prepare(&self) -> Result<(), BrokerError> {
        create_dir_durably(self.fs.as_ref(), &self.dir)?;
        for entry in self.list()? {
            if entry.contains('~') {
                let path = self.dir.join(&entry);
                self.fs.remove_dir_all(&path).map_err(|e| BrokerError::io("remove", &path, &e))?;
            }
        }
        Ok(())
    }

    /// All topics, sorted by name.
    pub(super) fn load(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        let names = self.list()?;
        names.iter().filter(|name| !name.contains('~')).map(|name| self.load_one(name)).collect()
    }

    fn list(&self) -> Result<Vec<String>, BrokerError> {
        let entries = self.fs.read_dir(&self.dir).map_err(|e| BrokerError::io("list", &self.dir, &e))?;
        Ok(entries.into_iter().filter(|e| e.is_dir).map(|e| e.name).collect())
    }

    fn load_one(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        let path = self.dir.join(name).join(TOPIC_FILE);
        let corrupt = |reason: String| BrokerError::Corrupt { path: path.clone(), reason };
        let bytes = read_all(self.fs.as_ref(), &path)?.ok_or_else(|| {
            corrupt("it is missing; restore it, or move its directory out of the data directory".into())
        })?;
        let text = String::from_utf8(bytes).map_err(|e| corrupt(e.to_string()))?;
        let (crc, json) = text.split_once('\n').ok_or_else(|| corrupt("it has no checksum line".into()))?;
        if u32::from_str_radix(crc, 16).ok() != Some(crc32c::crc32c(json.as_bytes())) {
            return Err(corrupt("its checksum does not match; restore it from a backup".into()));
        }
        let file: TopicFile = serde_json::from_str(json).map_err(|e| corrupt(e.to_string()))?;
        if file.name != name {
            return Err(corrupt(format!("it describes topic {}, not {name}", file.name)));
        }
        check_name(name)?;
        let id = file.id.parse().map_err(|e: uuid::Error| corrupt(e.to_string()))?;
        Ok(TopicInfo { name: Arc::from(name), id, config: file.config })
    }

    /// Creates a topic, whole or not at all.
    pub(super) fn create(&self, name: &str, id: Uuid, config: TopicConfig) -> Result<TopicInfo, BrokerError> {
        let file = TopicFile { name: name.to_owned(), id: id.to_string(), config };
        let draft = self.dir.join(format!("~creating~{id}"));
        self.write_draft(&draft, &file).inspect_err(|_| self.discard(&draft))?;
        let home = self.dir.join(name);
        self.fs.rename(&draft, &home).map_err(|e| BrokerError::io("rename to", &home, &e))?;
        self.sync()?;
        Ok(TopicInfo { name: Arc::from(name), id, config: file.config })
    }

    /// Writes a topic's settings anew, whole or not at all.
    pub(super) fn rewrite(&self, topic: &TopicInfo) -> Result<(), BrokerError> {
        let file = TopicFile { name: topic.name.to_string(), id: topic.id.to_string(), config: topic.config.clone() };
        self.write_file(&self.dir.join(topic.name.as_ref()), &file)
    }

    /// Makes directories for more partitions of a topic; those that are there already stay as they are.
    pub(super) fn add_partition_dirs(&self, topic: &str, partitions: Range<i32>) -> Result<(), BrokerError> {
        partitions.into_iter().try_for_each(|p| create_dir_durably(self.fs.as_ref(), &self.partition_dir(topic, p)))
    }

    fn write_draft(&self, draft: &Path, file: &TopicFile) -> Result<(), BrokerError> {
        let fs = self.fs.as_ref();
        create_dir_durably(fs, draft)?;
        for partition in 0..file.config.partitions {
            create_dir_durably(fs, &draft.join(partition.to_string()))?;
        }
        self.write_file(draft, file)
    }

    fn write_file(&self, home: &Path, file: &TopicFile) -> Result<(), BrokerError> {
        let json =
            serde_json::to_string_pretty(file).map_err(|e| BrokerError::InvalidConfig { what: e.to_string() })?;
        let text = format!("{:08x}\n{json}", crc32c::crc32c(json.as_bytes()));
        write_atomically(self.fs.as_ref(), &home.join(TOPIC_FILE), text.as_bytes())
    }

    /// Deletes a topic, durably. What cannot be removed now goes with the next start.
    pub(super) fn delete(&self, topic: &TopicInfo) -> Result<(), BrokerError> {
        let home = self.dir.join(topic.name.as_ref());
        let grave = self.dir.join(format!("~deleted~{}", topic.id));
        self.fs.rename(&home, &grave).map_err(|e| BrokerError::io("rename", &home, &e))?;
        self.sync()?;
        self.discard(&grave);
        Ok(())
    }

    fn discard(&self, path: &Path) {
        if let Err(error) = self.fs.remove_dir_all(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove a directory; the next start tries again");
        }
    }

    fn sync(&self) -> Result<(), BrokerError> {
        self.fs.sync_dir(&self.dir).map_err(|e| BrokerError::io("sync the directory", &self.dir, &e))
    }

    /// The directory of a partition.
    pub(super) fn partition_dir(&self, topic: &str, partition: i32) -> PathBuf {
        self.dir.join(topic).join(partition.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Crash, SimFs};

    #[test]
    fn dying_at_any_step_leaves_a_topic_whole_or_not_at_all() {
        let id = Uuid::from_u128;
        let mut steps = 0;
        loop {
            let fs = SimFs::new();
            let store = TopicStore::new(Arc::new(fs.clone()), Path::new("/data"));
            store.prepare().unwrap();
            let kept = store.create("kept", id(1), TopicConfig::with_partitions(2)).unwrap();
            let old = store.create("old", id(2), TopicConfig::default()).unwrap();
            fs.die_after(steps);
            let created = store.create("new", id(3), TopicConfig::with_partitions(3));
            let deleted = store.delete(&old);
            fs.crash(Crash::Tear(steps));
            store.prepare().unwrap();
            let topics = store.load().unwrap();
            assert!(topics.contains(&kept), "step {steps}");
            let new = topics.iter().find(|t| t.name.as_ref() == "new");
            assert!(new.is_some() || created.is_err(), "step {steps}: created, and gone");
            if let Some(new) = new {
                assert_eq!((new.id, new.config.partitions), (id(3), 3));
                assert!((0..3).all(|p| fs.exists(&store.partition_dir("new", p)).unwrap()), "step {steps}");
            }
            assert!(!topics.contains(&old) || deleted.is_err(), "step {steps}: deleted, and back");
            if created.is_ok() && deleted.is_ok() {
                break;
            }
            steps += 1;
        }
        assert!(steps > 15, "{steps}");
    }
}
