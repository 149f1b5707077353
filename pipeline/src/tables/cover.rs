//! Which part of the log a commit holds.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{TableError, app_id};

/// The key of `commitInfo` under which a commit's covers stand: a JSON array of [`Cover`].
pub const COVER_KEY: &str = "highwater.cover";
/// The key of `commitInfo` that names the commit: a UUID its writer chose before the first attempt. Finding it in the log is how a writer
/// knows its own commit again after a lost reply.
pub const COMMIT_ID_KEY: &str = "highwater.commit";

/// One commit's share of one partition: the records at `[from, to)`, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cover {
    /// Topic name.
    pub topic: String,
    /// Topic id: a topic made anew under the same name has another.
    pub topic_id: Uuid,
    /// Partition number.
    pub partition: i32,
    /// First offset covered.
    pub from: i64,
    /// One past the last offset covered.
    pub to: i64,
    /// Rows the commit holds from these records. Control records and undecodable ones give none.
    pub rows: u64,
    /// True where the records at `[from, to)` were gone from the log before the table had read them: data lost, stated as such.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
}

impl Cover {
    /// The Delta application id of its partition.
    pub fn app_id(&self) -> String {
        app_id(self.topic_id, self.partition)
    }
}

/// Covers as they stand in `commitInfo`.
pub fn covers_to_json(covers: &[Cover]) -> Value {
    serde_json::json!(covers)
}

/// Reads covers back. `table` and `version` are for the message.
///
/// # Errors
/// Where the value is not an array of covers, or one of them ends before it begins.
pub fn covers_from_json(table: &str, version: u64, value: &Value) -> Result<Vec<Cover>, TableError> {
    let bad = |reason: String| TableError::BadCover { table: table.to_string(), version, reason };
    let covers: Vec<Cover> = Vec::deserialize(value).map_err(|e| bad(e.to_string()))?;
    for cover in &covers {
        if cover.from < 0 || cover.to < cover.from {
            return Err(bad(format!("{}/{} covers {}..{}", cover.topic, cover.partition, cover.from, cover.to)));
        }
    }
    Ok(covers)
}
