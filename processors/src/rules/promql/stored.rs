//! Stored samples for rules that look back ([`look_back`](super::look_back)): of a slice of the table, what their selectors find goes to the task that asked.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use highwater_pipeline::data::{Control, time};
use highwater_pipeline::runtime::{Effects, ProcessorError, SeriesRequest, Slice, SliceRequest};
use highwater_promql::Matcher;
use highwater_promql::parser::parse_selector;

use super::look_back::source;
use super::selector_index::SelectorIndex;
use super::taken::{Addressed, Taken};
use super::ticks::{ROWS, STORED_ROWS, series_of};

/// Sends what was asked for, and word of how far that is; `next_us`: where the slices go on, if they do.
pub(crate) fn send(
    request: &SliceRequest,
    series: &SeriesRequest,
    slice: &Slice,
    next_us: Option<i64>,
    effects: &mut Effects,
) -> Result<(), ProcessorError> {
    let fill = u64::from_str_radix(&series.fill, 16)
        .map_err(|e| ProcessorError::caused(format!("a request for stored samples names {:?}", series.fill), e))?;
    let wanted = Wanted::new(series)?;
    let source: Arc<str> = source(request).into();
    let topic: Arc<str> = series.to_topic.as_str().into();
    let to = Addressed {
        topic: &topic,
        partition: series.to_partition,
        name: STORED_ROWS,
        definition: fill,
        source: &source,
    };
    let mut sent = 0;
    for batch in &slice.batches {
        let rows = wanted.rows(batch)?;
        Taken::of(batch)?.send(&rows, &to, effects)?;
        sent += rows.len();
    }
    metrics::counter!("highwater_rules_stored_rows_total", "source" => source.to_string()).increment(sent as u64);
    let filled = Control::Filled {
        rollup: ROWS.to_owned(),
        definition: series.fill.clone(),
        source: source.to_string(),
        from_us: None,
        until_us: next_us,
        done: next_us.is_none(),
    };
    effects.push(&topic, series.to_partition, filled.to_record());
    Ok(())
}

/// What is asked for.
struct Wanted {
    index: SelectorIndex,
    /// By selector.
    from_us: Vec<i64>,
    until_us: i64,
}

impl Wanted {
    fn new(series: &SeriesRequest) -> Result<Self, ProcessorError> {
        let cannot = |e| ProcessorError::caused("a request for stored samples has a selector that cannot be read", e);
        let matchers = series.selectors.iter().map(|one| parse_selector(&one.selector));
        let matchers: Vec<Vec<Matcher>> = matchers.collect::<Result<_, _>>().map_err(cannot)?;
        let index = SelectorIndex::new(matchers.iter().map(Vec::as_slice)).map_err(cannot)?;
        let from_us = series.selectors.iter().map(|one| one.from_us).collect();
        Ok(Self { index, from_us, until_us: series.until_us.unwrap_or(i64::MAX) })
    }

    /// The rows of a batch that are wanted.
    fn rows(&self, batch: &RecordBatch) -> Result<Vec<u32>, ProcessorError> {
        let missing = || ProcessorError::new("stored rows of metrics have no series");
        let text = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).ok_or_else(missing);
        let (names, labels) = (text("name")?, text("labels")?);
        let ids = batch.column_by_name("series_id").and_then(|c| c.as_primitive_opt::<Int64Type>());
        let times = batch.column_by_name(time::COLUMN).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        let (ids, times) = (ids.ok_or_else(missing)?, times.ok_or_else(missing)?);
        // Per series since when it is wanted.
        let mut known: HashMap<i64, Option<i64>> = HashMap::new();
        let mut wanted = Vec::new();
        for (row, (id, at_us)) in (0_u32..).zip(ids.values().iter().zip(times.values())) {
            let from_us = *known.entry(*id).or_insert_with(|| {
                let name = names.value(row as usize);
                if !self.index.may_find(name) {
                    return None;
                }
                let series = series_of(name, labels.value(row as usize));
                let finding = self.index.finding(&series).map(|selector| self.from_us[selector as usize]);
                finding.min()
            });
            if from_us.is_some_and(|from_us| from_us <= *at_us) && *at_us < self.until_us {
                wanted.push(row);
            }
        }
        Ok(wanted)
    }
}
