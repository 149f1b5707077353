//! Stage 1 of PromQL rules: of the rows of one partition of `metrics`, those that a rule looks at go to the rules task, and behind them how far the
//! partition has come.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Int64Type;
use highwater_pipeline::data::Control;
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::watermark::CLOCK_PERIOD_US;
use highwater_pipeline::runtime::{At, Effects, Input, Processor, ProcessorError, Rows, StageRows};
use highwater_promql::{Labels, METRIC_NAME};
use serde::{Deserialize, Serialize};

use super::plan::Selectors;
use super::ticks::{READ, ROWS, ROWS_VERSION};
use crate::rollups::filling::hex;

/// Most rows of one record.
const MAX_ROWS: usize = 8_192;
/// Most series whose answer is remembered; beyond, all are forgotten and asked again.
const MAX_KNOWN: usize = 1_000_000;
const SECTION: &str = "promql/router";
const SECTION_VERSION: u64 = 1;

/// What an input partition has besides `inner`: the routing of what rules look at.
pub(crate) struct Router {
    inner: Box<dyn Processor>,
    source: Arc<str>,
    topic: Arc<str>,
    selectors: Option<Arc<Selectors>>,
    progress: Progress,
    /// Per series id, whether a rule looks at it. Only a memory: what it says follows from the selectors.
    known: HashMap<i64, bool>,
}

/// What has been passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    watermark_us: Option<i64>,
    idle: bool,
    reported: bool,
    /// Whose samples are passed on: [`Selectors::rules`].
    #[serde(default)]
    rules: Option<u64>,
}

impl Router {
    /// For the task `source` (e.g. `metrics/2`), writing to partition 0 of `topic`. Without selectors nothing is written.
    pub(crate) fn new(inner: Box<dyn Processor>, source: &str, topic: &str, selectors: Option<Arc<Selectors>>) -> Self {
        let (source, topic) = (source.into(), topic.into());
        Self { inner, source, topic, selectors, progress: Progress::default(), known: HashMap::new() }
    }

    fn rows(&mut self, at: At, rows: Rows<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        let Some(selectors) = self.selectors.as_ref().map(Arc::clone) else { return Ok(()) };
        let batch = rows.batch;
        let missing = || ProcessorError::new("rows of metrics have no series");
        let text = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).ok_or_else(missing);
        let (names, labels) = (text("name")?, text("labels")?);
        let ids =
            batch.column_by_name("series_id").and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(missing)?;
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let mut wanted: Vec<u32> = Vec::new();
        for (row, id) in (0_u32..).zip(ids.values()) {
            let at = row as usize;
            let is_wanted = match self.known.get(id) {
                Some(known) => *known,
                None => {
                    let is_wanted = selectors.may_want(names.value(at)) && {
                        let others: std::collections::BTreeMap<String, String> =
                            serde_json::from_str(labels.value(at)).unwrap_or_default();
                        let name = (METRIC_NAME.to_owned(), names.value(at).to_owned());
                        selectors.wants(&Labels::from_pairs(others.into_iter().chain([name])))
                    };
                    self.known.insert(*id, is_wanted);
                    is_wanted
                }
            };
            if is_wanted {
                wanted.push(row);
            }
        }
        let read: Vec<usize> = READ.iter().filter_map(|name| batch.schema_ref().index_of(name).ok()).collect();
        let read = batch.project(&read).map_err(|e| ProcessorError::caused("samples for rules cannot be taken", e))?;
        for chunk in wanted.chunks(MAX_ROWS) {
            let batch = take_record_batch(&read, &UInt32Array::from(chunk.to_vec()))
                .map_err(|e| ProcessorError::caused("samples for rules cannot be taken", e))?;
            let rows =
                StageRows { name: ROWS.into(), definition: ROWS_VERSION, source: Arc::clone(&self.source), batch };
            effects.push(&self.topic, 0, rows.to_record()?);
        }
        self.report(at, effects);
        Ok(())
    }

    /// Says how far the partition has come, where that is another second, or it has fallen idle or woken, or with this record other rules get samples.
    fn report(&mut self, at: At, effects: &mut Effects) {
        let Some(selectors) = &self.selectors else { return };
        let second = |us: Option<i64>| us.map(|us| us.div_euclid(CLOCK_PERIOD_US));
        let next =
            Progress { watermark_us: at.watermark_us, idle: at.idle, reported: true, rules: Some(selectors.rules) };
        let news = second(next.watermark_us) > second(self.progress.watermark_us)
            || next.idle != self.progress.idle
            || next.rules != self.progress.rules
            || !self.progress.reported;
        if !news {
            return;
        }
        self.progress = next;
        let control = Control::Progress {
            source: self.source.to_string(),
            position: at.position,
            watermark_us: at.watermark_us,
            idle: at.idle,
            rules: Some(hex(selectors.rules)),
        };
        effects.push(&self.topic, 0, control.to_record());
    }
}

impl Processor for Router {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Rows(rows) => {
                self.inner.process(at, Input::Rows(rows), effects)?;
                self.rows(at, rows, effects)
            }
            Input::Control(control) => {
                self.inner.process(at, Input::Control(control), effects)?;
                if matches!(control, Control::Clock { .. }) {
                    self.report(at, effects);
                }
                Ok(())
            }
            input @ (Input::Stage(_) | Input::Slice(..)) => self.inner.process(at, input, effects),
            Input::Barrier(writer) => {
                self.write(writer)?;
                self.inner.process(at, Input::Barrier(writer), effects)
            }
        }
    }

    fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        if let Some(body) = state.get(SECTION, SECTION_VERSION) {
            self.progress = serde_json::from_slice(body)
                .map_err(|e| ProcessorError::caused("section promql/router of the snapshot is unreadable", e))?;
        }
        self.inner.restore(state)
    }

    fn merged_watermark_us(&self) -> Option<i64> {
        self.inner.merged_watermark_us()
    }
}

impl Router {
    fn write(&self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        let body = serde_json::to_vec(&self.progress)
            .map_err(|e| ProcessorError::caused("the state of the router cannot be written", e))?;
        writer.put(SECTION, SECTION_VERSION, body);
        Ok(())
    }
}
