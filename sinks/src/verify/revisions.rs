//! Rollups' tables hold the newest revision of each row only: what is superseded, and that no window is there in two revisions.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use highwater_pipeline::data::{Control, Decoded, Decoder, content_type, identity, time};
use highwater_pipeline::log::{Log, LogError};
use highwater_pipeline::tables::{Cover, REVISION_COLUMN, Superseded, TableSpec, WINDOW_START_COLUMN};

use super::history::History;
use super::report::{FindingKind, TableReport};
use crate::SinkError;

const FETCH_SIZE_BYTES: usize = 4 << 20;

/// The markers that the log still holds, as far as the table has read it.
pub(super) async fn markers(spec: &TableSpec, log: &dyn Log, history: &History) -> Result<Superseded, SinkError> {
    let mut ends: BTreeMap<String, &Cover> = BTreeMap::new();
    for cover in history.covers.iter().map(|covered| &covered.cover) {
        ends.insert(cover.app_id(), cover);
    }
    let decoder = Decoder::new(spec.kind.clone());
    let mut superseded = Superseded::default();
    for Cover { topic, topic_id, partition, to, .. } in ends.into_values() {
        if log.topic(topic).await?.is_none_or(|found| found.id != *topic_id) {
            continue;
        }
        let mut next = log.offsets(topic, *partition).await?.log_start;
        while next < *to {
            let fetched = match log.read(topic, *partition, next, FETCH_SIZE_BYTES, Duration::ZERO).await {
                Ok(fetched) => fetched,
                Err(LogError::OffsetOutOfRange { log_start, .. }) if log_start > next => {
                    next = log_start;
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            if fetched.next_offset <= next {
                // The log ends before the table does: found, and said, where rows are compared.
                break;
            }
            next = fetched.next_offset;
            for record in fetched.records.iter().filter(|r| r.offset < *to) {
                if content_type::of(record) == Some(content_type::CONTROL)
                    && let Decoded::Control(Control::Superseded { window_start_us, .. }) =
                        decoder.decode(*partition, record)
                {
                    superseded.add(*partition, window_start_us, record.offset);
                }
            }
        }
    }
    Ok(superseded)
}

/// The revisions of each window seen, lowest and highest, by partition and start.
#[derive(Default)]
pub(super) struct Revisions(BTreeMap<(i32, i64), (i32, i32)>);

impl Revisions {
    /// Counts rows of the table.
    pub(super) fn count(&mut self, spec: &TableSpec, rows: &RecordBatch) -> Result<(), SinkError> {
        let column = |name: &str| {
            let missing = || ArrowError::SchemaError(format!("rows have no column {name}"));
            let found = rows.column_by_name(name).ok_or_else(missing);
            found.map_err(|source| SinkError::Arrow { table: spec.name.clone(), source })
        };
        let partitions = column(identity::PARTITION)?.as_primitive::<Int32Type>().values();
        let starts = column(WINDOW_START_COLUMN)?.as_primitive::<TimestampMicrosecondType>().values();
        let revisions = column(REVISION_COLUMN)?.as_primitive::<Int32Type>().values();
        for ((&partition, &start_us), &revision) in partitions.iter().zip(starts).zip(revisions) {
            let (lowest, highest) = self.0.entry((partition, start_us)).or_insert((revision, revision));
            (*lowest, *highest) = (revision.min(*lowest), revision.max(*highest));
        }
        Ok(())
    }

    /// Finds the windows that are there in two revisions.
    pub(super) fn check(&self, report: &mut TableReport) {
        for (&(partition, start_us), (lowest, highest)) in
            self.0.iter().filter(|(_, (lowest, highest))| lowest < highest)
        {
            let start = time::format(start_us);
            let message =
                format!("partition {partition}: the window at {start} is there in revisions {lowest} and {highest}");
            report.find_in_commit(FindingKind::Duplicate, report.version, message);
        }
    }
}
