//! The current state of every alert: the newest record per fingerprint.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use highwater_pipeline::log::{Log, LogError, StoredRecord};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::TOPIC;
use crate::SinkError;

/// Bytes asked of the log per read.
const FETCH_SIZE_BYTES: usize = 1 << 20;

/// One alert transition as it stands in the topic.
#[derive(Debug, Clone)]
pub struct AlertRecord {
    /// Partition of the record.
    pub partition: i32,
    /// Offset of the record.
    pub offset: i64,
    /// The alert's fingerprint, 16 hex digits: the record's key.
    pub fingerprint: String,
    /// `pending`, `firing`, `resolved`, `inactive`, `corrected` or `retracted`.
    pub state: String,
    /// Whose alert it is.
    pub tenant: String,
    /// The whole record, JSON.
    pub json: Box<RawValue>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    fingerprint: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    state: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    tenant: Option<std::borrow::Cow<'a, str>>,
}

impl AlertRecord {
    /// Reads a record; `None` where it is no JSON object (a control record, or something a foreign producer put there).
    pub(super) fn of(partition: i32, record: &StoredRecord) -> Option<Self> {
        let value: &Bytes = record.value.as_ref()?;
        let text = std::str::from_utf8(value).ok()?;
        // Control records are JSON too; they have no state.
        let fields: Fields<'_> = serde_json::from_str(text).ok()?;
        if fields.state.is_empty() {
            return None;
        }
        let key = record.key.as_ref().and_then(|k| std::str::from_utf8(k).ok());
        Some(Self {
            partition,
            offset: record.offset,
            fingerprint: key.map(str::to_string).or_else(|| fields.fingerprint.map(Into::into))?,
            state: fields.state.into(),
            tenant: fields.tenant.map_or_else(|| "default".to_string(), Into::into),
            json: RawValue::from_string(text.trim().to_string()).ok()?,
        })
    }
}

/// The newest transition of every alert the topic still knows, sorted by tenant and fingerprint; resolved ones among them. Reads the topic from its start:
/// the cost is that of the topic, the memory that of the distinct alerts.
///
/// # Errors
/// Where the log cannot be read. A topic that does not exist yet has no alerts.
pub async fn current_alerts(log: &dyn Log) -> Result<Vec<AlertRecord>, SinkError> {
    let Some(topic) = log.topic(TOPIC).await? else { return Ok(Vec::new()) };
    let mut newest: BTreeMap<(String, String), AlertRecord> = BTreeMap::new();
    for partition in 0..topic.config.partitions {
        let offsets = log.offsets(TOPIC, partition).await?;
        let mut next = offsets.log_start;
        while next < offsets.high_watermark {
            let fetched = match log.read(TOPIC, partition, next, FETCH_SIZE_BYTES, Duration::ZERO).await {
                Ok(fetched) => fetched,
                // Retention went on while this read.
                Err(LogError::OffsetOutOfRange { log_start, .. }) if log_start > next => {
                    next = log_start;
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            if fetched.next_offset <= next {
                break;
            }
            next = fetched.next_offset;
            for alert in fetched.records.iter().filter_map(|r| AlertRecord::of(partition, r)) {
                newest.insert((alert.tenant.clone(), alert.fingerprint.clone()), alert);
            }
        }
    }
    Ok(newest.into_values().collect())
}
