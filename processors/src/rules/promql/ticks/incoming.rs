//! Samples into the heads: those that come in, and stored ones for rules that look back.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use highwater_pipeline::data::{identity, time};
use highwater_pipeline::runtime::{ProcessorError, StageRows};
use highwater_promql::{Histogram, Labels, METRIC_NAME, STALE_NAN, Sample};

use super::super::head::{Coordinate, Head, NO_RECORD, Pushed};
use super::super::look_back;
use super::{ROWS, Tenant, Ticks};

impl Ticks {
    /// Samples of series that a rule looks at.
    pub(crate) fn rows(&mut self, rows: &StageRows) -> Result<(), ProcessorError> {
        self.take(rows, false)
    }

    /// Samples from before a rule began.
    pub(crate) fn stored(&mut self, rows: &StageRows) -> Result<(), ProcessorError> {
        if !self.look_back.has_asked(rows.definition) {
            return Ok(());
        }
        self.take(rows, true)
    }

    /// A partition has no more samples from before a rule began.
    pub(crate) fn answered(&mut self, fill: &str, source: &str) {
        if self.look_back.answered(fill, source) {
            self.tell();
        }
    }

    /// Puts samples into the heads. Of stored ones those that are not there, or were there before what is.
    fn take(&mut self, rows: &StageRows, is_stored: bool) -> Result<(), ProcessorError> {
        let batch = &rows.batch;
        let missing = |name: &str| ProcessorError::new(format!("rows of {ROWS} have no column {name}"));
        macro_rules! column {
            ($name:expr, $type:ty) => {
                batch.column_by_name($name).and_then(|c| c.as_primitive_opt::<$type>()).ok_or_else(|| missing($name))?
            };
        }
        let text = |name: &str| {
            let column = batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
            column.ok_or_else(|| missing(name))
        };
        let times = column!(time::COLUMN, TimestampMicrosecondType);
        let values = column!("value", Float64Type);
        let ids = column!("series_id", Int64Type);
        let partitions = column!(identity::PARTITION, Int32Type);
        let offsets = column!(identity::OFFSET, Int64Type);
        let stale = batch.column_by_name("stale").and_then(|c| c.as_boolean_opt()).ok_or_else(|| missing("stale"))?;
        // Missing where an earlier version wrote them.
        let histograms = batch.column_by_name("histogram").and_then(|c| c.as_binary_opt::<i32>());
        let (names, labels, tenants) = (text("name")?, text("labels")?, text("tenant")?);
        let oldest_ms = self.reached_ms.map_or(i64::MIN, |reached| reached - self.reach_ms);
        let is_recorded = is_stored && look_back::is_recorded(&rows.source);
        for row in 0..batch.num_rows() {
            let timestamp_ms = times.value(row).div_euclid(1_000);
            if timestamp_ms <= oldest_ms {
                continue;
            }
            let name = tenants.value(row);
            if !self.tenants.contains_key(name) {
                let mut tenant = Tenant::new(Head::new(), &self.plans, &self.watched);
                tenant.tell(&self.plans, &self.look_back);
                self.tenants.insert(name.to_owned(), tenant);
            }
            let message = histograms.filter(|column| column.is_valid(row)).map(|column| column.value(row));
            let sample = if stale.value(row) {
                Sample::Float(STALE_NAN)
            } else if values.is_valid(row) {
                Sample::Float(values.value(row))
            } else if let Some(message) = message {
                match Histogram::from_message(message) {
                    Ok(histogram) => Sample::Histogram(Arc::new(histogram)),
                    Err(error) => {
                        metrics::counter!("highwater_rules_unreadable_histograms_total").increment(1);
                        tracing::warn!(metric = names.value(row), error, "rules do not see a native histogram");
                        continue;
                    }
                }
            } else {
                continue;
            };
            let coordinate = Coordinate { partition: partitions.value(row), offset: offsets.value(row) };
            let from = (!is_recorded).then_some(coordinate);
            let Some(Tenant { head, watch, dropped_ms, .. }) = self.tenants.get_mut(name) else { continue };
            if dropped_ms.is_some_and(|dropped_ms| timestamp_ms <= dropped_ms) {
                continue;
            }
            let id = ids.value(row);
            let pushed = match head.by_id(id) {
                Some(slot) => {
                    // What came in while this was read is newer.
                    let stays = |offset: i64| is_recorded || offset == NO_RECORD || offset >= coordinate.offset;
                    if is_stored && head.offset_at(slot, timestamp_ms).is_some_and(stays) {
                        continue;
                    }
                    head.put_sample_at(slot, timestamp_ms, sample, from);
                    Pushed { slot, is_new: false }
                }
                None => {
                    let series = series_of(names.value(row), labels.value(row));
                    if is_stored
                        && head.by_labels(&series).is_some_and(|slot| head.offset_at(slot, timestamp_ms).is_some())
                    {
                        continue;
                    }
                    let pushed = head.put_sample(&series, timestamp_ms, sample, from);
                    head.name(pushed.slot, id);
                    pushed
                }
            };
            watch.pushed(head, pushed, timestamp_ms);
        }
        for (name, tenant) in &mut self.tenants {
            if tenant.head.len() > self.most_samples {
                let (oldest, newest) = (tenant.head.next_ms(i64::MIN), tenant.head.newest_ms(i64::MAX));
                let half = oldest.unwrap_or(0) / 2 + newest.unwrap_or(0) / 2;
                self.gone_ms = self.gone_ms.max(tenant.prune(half));
                tenant.dropped_ms = tenant.dropped_ms.max(Some(half));
                tenant.tell(&self.plans, &self.look_back);
                metrics::counter!("highwater_rules_head_overflows_total").increment(1);
                tracing::error!(
                    tenant = name,
                    limit = self.most_samples,
                    "rules select too many samples; the older half is dropped, and rules that look back there fail. Use shorter ranges, or recording rules"
                );
            }
        }
        Ok(())
    }
}

/// The labels of a series, from its name and the canonical text of the others.
pub(in crate::rules::promql) fn series_of(name: &str, canonical: &str) -> Labels {
    let labels: BTreeMap<String, String> = serde_json::from_str(canonical).unwrap_or_default();
    Labels::from_pairs(labels.into_iter().chain([(METRIC_NAME.to_owned(), name.to_owned())]))
}
